"""A round of torture: a channel from its creation to its removal, and what must hold then."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import shmtrace
from shmtrace import layout
from shmtrace.layout import LANE
from shmtrace.native.loader import libc
from shmtrace.segment import open_segment, open_semaphore
from shmtrace.stats import segment_stats

from . import Broken
from .books import Books, demand_between, demand_equal, look_with_babeltrace2
from .consumers import Recorded, Snapshots
from .crew import Crew, until
from .ledger import Ledger
from .producers import FAMILY, Producers

if TYPE_CHECKING:
    import random

    from shmtrace.segment import Segment

    from .consumers import Consumer

ROUND_S = 3.0  # of torment
ROUND_EVENTS, ROUND_BYTES = 50_000, 15_000_000  # delivered: to read them back takes longer than to write them
TICK_S = 0.0005
COUNT_S = 0.1
PRODUCERS = 5  # at a time
STORMS = 2
BLOCK_MS = 200
# counted by a crew under the name of the role
ROLES = {"producers": "producer", "collectors": "collector", "readers": "reader", "stops": "stops"}
# why events may be refused, by mode
REASONS = {"drop": {"no_page", "no_lane"}, "block": {"timeout", "no_lane"}, "overwrite": {"no_lane"}}


class Shape(NamedTuple):
    """A channel's sizes, and the sizes of the blobs that it gets."""

    blobs: tuple[int, ...]  # used over and over
    page_size: int = 0  # 0: the default, of pages too
    pages: int = 0
    cpus: int = 0  # slots; 0: the machine's
    flush_ms: int = 10

    @property
    def most_events(self) -> int:
        """How many a round may deliver."""
        return min(ROUND_EVENTS, ROUND_BYTES * len(self.blobs) // sum(self.blobs))


SMALL = (12, 13, 20, 31, 40, 64, 100, 300)
SHAPES = (
    Shape(blobs=(*SMALL * 3, 4080, 12, 2000), page_size=4096, pages=8, cpus=4),
    Shape(blobs=(*SMALL * 2, 4079), page_size=4096, pages=3, cpus=1),
    Shape(blobs=(*SMALL * 2, 1500, 4080), page_size=4096, pages=64, cpus=2, flush_ms=50),
    Shape(blobs=(4080, 3000, 4000), page_size=4096, pages=16, cpus=2),  # a page an event
    Shape(blobs=(*SMALL * 40, 60_000)),
)


class Kind(NamedTuple):
    """A kind of torment: mean lifetimes of processes, and mean times between stops of each, in seconds."""

    producer: float = math.inf
    collector: float = math.inf
    reader: float = math.inf
    stop: float = math.inf
    forks: bool = False
    aim: tuple[str, ...] = ("producers",)  # whose kills --kills counts


KINDS = {
    "producers": Kind(producer=0.02),
    "collectors": Kind(collector=0.04, aim=("collectors",)),
    "readers": Kind(reader=0.15, aim=("readers",)),
    "everything": Kind(producer=0.04, collector=0.2, reader=0.4, aim=("producers", "collectors", "readers")),
    "stops": Kind(stop=0.05, aim=("stops",)),
    "forks": Kind(producer=0.1, forks=True),
}


class Cast(NamedTuple):
    """Who takes part in a round."""

    segment: Segment
    staff: Crew  # the consumer's processes
    crew: Crew  # the producers' processes
    producers: Producers
    consumer: Consumer


class Round:
    """One round.

    Args:
        kind: of torment.
        mode: of the channel.
        choose: everything that is left to chance, but for what the machine makes of it.
        name: of the channel.
        scratch: a directory for whatever is written.
    """

    def __init__(self, kind: Kind, mode: str, choose: random.Random, name: str, scratch: Path) -> None:
        self._kind = kind
        self._mode = mode
        self._choose = choose
        self._name = name
        self._scratch = scratch
        self._inherits = choose.random() < 0.3
        self._shape = choose.choice(SHAPES)
        if mode == "overwrite" and self._shape.pages:  # each lane has two at least
            self._shape = self._shape._replace(pages=max(self._shape.pages, 16 * self._shape.cpus))
        self._ledger = Ledger()
        self._tokens = 0
        self.counts = Counter[str]()

    def __str__(self) -> str:
        shape = ", ".join(f"{key} {value}" for key, value in self._shape._asdict().items() if key != "blobs")
        return f"{shape}, channel {'inherited' if self._inherits else 'attached'}"

    def run(self, seconds: float, kills: float) -> None:
        """Torment for so long, or until there were so many kills; check.  Raises Broken."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._ledger.close)
            stack.callback(self._remove)
            log = self._scratch / "log"
            staff = stack.enter_context(Crew(log, self._choose, self._kind.stop))
            crew = stack.enter_context(Crew(log, self._choose, self._kind.stop))
            segment = self._create(staff)
            stack.callback(segment.unmap)
            cast = Cast(segment, staff, crew, self._producers(), self._consumer(staff, segment))
            cast.consumer.begin()
            self._torment(cast, time.monotonic() + seconds, kills)
            self._settle(cast)
            self._remove()
            self._check(cast)
            for name, role in ROLES.items():
                self.counts[name] += crew.counts[role] + staff.counts[role]
        left = [path.name for path in Path("/dev/shm").iterdir() if self._name in path.name]
        if left or Path(segment.fifo).exists():
            raise Broken(f"left behind: {left or segment.fifo}")

    def _remove(self) -> None:
        with contextlib.suppress(shmtrace.ChannelNotFound):
            shmtrace.remove_channel(self._name, drain=True)

    def _create(self, staff: Crew) -> Segment:
        """In another process: this one does not attach the channel unless it is to be inherited."""
        shape = self._shape
        options = ["--mode", self._mode, "--flush-ms", str(shape.flush_ms), "--block-ms", str(BLOCK_MS)]
        if shape.pages:
            options += ["--page-size", str(shape.page_size), "--pages", str(shape.pages)]
        os.environ["SHMTRACE_CPUS"] = str(shape.cpus or "")
        staff.wait(staff.command("creator", "create", self._name, *options))
        return open_segment(self._name)

    def _consumer(self, staff: Crew, segment: Segment) -> Consumer:
        kind = self._kind
        if self._mode == "overwrite":
            return Snapshots(staff, segment, self._scratch, self._choose, lifetime=kind.reader)
        return Recorded(staff, segment, self._scratch, self._choose, collector=kind.collector, reader=kind.reader)

    def _producers(self) -> Producers:
        return Producers(
            self._ledger,
            self._name,
            inherited=shmtrace.open_channel(self._name) if self._inherits else None,
            cpus=self._shape.cpus,
            blobs=self._shape.blobs,
            in_haste=self._kills_producers,
        )

    @property
    def _kills_producers(self) -> bool:
        return self._kind.producer != math.inf

    # -- torment

    def _torment(self, cast: Cast, end: float, kills: float) -> None:
        next_count = 0.0
        while (now := time.monotonic()) < end:
            cast.crew.tend()
            cast.staff.tend()
            cast.consumer.tend()
            self._snipe(cast)
            if not self._refill(cast):
                break
            if now > next_count:
                next_count = now + COUNT_S
                killed = sum(cast.crew.counts[ROLES[aim]] + cast.staff.counts[ROLES[aim]] for aim in self._kind.aim)
                if killed >= kills or cast.segment.delivered() > self._shape.most_events:
                    break
            time.sleep(TICK_S)

    def _refill(self, cast: Cast) -> bool:
        """Start producers in place of those that ended; False if the ledger is full."""
        wanted = STORMS if self._kind.forks else PRODUCERS
        for _ in range(wanted - len(cast.crew.alive("producer"))):
            slots = self._ledger.take(FAMILY if self._kind.forks else 1)
            if slots is None:
                return False
            self._start(cast, slots)
        return True

    def _start(self, cast: Cast, slots: range) -> None:
        def live() -> None:
            if self._kind.forks:
                cast.producers.storm(slots)
            else:
                cast.producers.write(slots[0])

        cast.crew.fork("producer", live, lifetime=self._kind.producer)

    def _snipe(self, cast: Cast) -> None:
        """Kill producers that are seen to hold a lane, and count the kills that hit one: whose lane is still taken.

        Events are short, so few of the other kills do.
        """
        held = set(owners(cast.segment))
        self.counts["inside"] += sum(member.pid in held for member in cast.crew.killed)
        cast.crew.killed.clear()
        if self._kills_producers:
            for member in cast.crew.alive("producer"):
                if member.pid in held:
                    cast.crew.kill(member)

    def _settle(self, cast: Cast) -> None:
        segment, staff = cast.segment, cast.staff
        self._ledger.stop()
        cast.crew.calm()
        if self._kills_producers:
            for member in cast.crew.alive("producer"):
                cast.crew.kill(member)
        cast.crew.dismiss()
        cast.consumer.settle()
        slots = self._ledger.take(1)
        if slots is not None:
            staff.wait(staff.fork("last producer", lambda: cast.producers.last(slots[0])))
        if segment.is_streamed:
            until(lambda: staff.reap() and not owners(segment), "a lane of a dead process stays taken")
            until(
                lambda: staff.reap() and tokens(self._name) >= segment.waiting_pages(),
                "the semaphore stays below the number of pages that wait",
            )
        cast.consumer.end()
        self._tokens = tokens(self._name)

    # -- what must hold

    def _check(self, cast: Cast) -> None:
        segment, consumer = cast.segment, cast.consumer
        stats = segment_stats(segment)
        demand_equal("lanes that are taken at rest, and none", len(owners(segment)), 0)
        demand_equal("damaged words, and none", stats["damaged_words"] + stats["lost"]["damaged"], 0)
        reasons = {reason for reason, count in stats["missed"].items() if count}
        if not reasons <= REASONS[self._mode]:
            raise Broken(f"refused for reasons that the mode {self._mode} does not have: {stats['missed']}")
        if segment.is_streamed:
            demand_equal("pages that wait at rest, and all", stats["pages_waiting"], stats["pages"])
            demand_between("tokens at rest", stats["pages"], self._tokens, 2 * stats["pages"])
        books = self._read(segment, consumer)
        self._balance(stats, books, consumer)
        if consumer.loses_nothing and self._shape.cpus and not self._inherits:
            self._balance_groups(stats, books)

    def _read(self, segment: Segment, consumer: Consumer) -> Books:
        """Read all traces.  The books that come back are of all together, or, if they may repeat, of the last."""
        babeltrace2 = shutil.which("babeltrace2")
        entries = {entry.slot: entry for entry in self._ledger.entries()}
        books = Books(entries)
        for trace in consumer.traces():
            if consumer.may_repeat:
                books = Books(entries)
            books.read(trace)
            self.counts["traces"] += 1
            if babeltrace2 and trace.is_whole:
                look_with_babeltrace2(babeltrace2, trace.place, segment.uuid)
        return books

    def _balance(self, stats: dict[str, Any], books: Books, consumer: Consumer) -> None:
        """Accepted = delivered + lost, refused = missed; for each process that was killed, one event is open."""
        entries = books.entries.values()
        accepted = sum(entry.accepted for entry in entries)
        refused = sum(entry.refused for entry in entries)
        is_open = sum(not entry.ended for entry in entries)
        missed, lost = sum(stats["missed"].values()), sum(stats["lost"].values())
        overwritten = stats.get("overwritten", 0)
        delivered = books.delivered if self._mode == "overwrite" else stats["delivered"]
        demand_between("delivered + lost", accepted, delivered + lost + overwritten, accepted + is_open)
        always_on = consumer.loses_nothing or self._mode == "overwrite"
        demand_between("missed", refused if always_on else 0, missed, refused + is_open - books.extra())
        if consumer.knows_all:
            demand_equal("delivered, and in the traces", delivered, books.delivered)
        if consumer.loses_nothing:
            if missing := books.missing():
                raise Broken(f"accepted and not delivered, by process: {str(missing)[:500]}")
            demand_equal("lost, and none", lost, 0)
            demand_equal("missed, and told to be in the stream", missed, books.told["missed"])
        if self._mode == "overwrite":
            demand_equal("overwritten, and told to be in the snapshot", overwritten, books.told["overwritten"])
        self.counts += Counter(
            accepted=accepted, delivered=delivered, lost=lost + overwritten, missed=missed, extra=books.extra()
        )
        if self._kind.forks:
            forked = [entry for entry in entries if entry.slot % FAMILY]
            self.counts += Counter(forks=len(forked), producers=sum(not entry.ended for entry in forked))

    def _balance_groups(self, stats: dict[str, Any], books: Books) -> None:
        """The same for each group of cpus."""
        cpus = stats["cpus"]
        for group in range((len(cpus) + 1) // 2):
            of_group = cpus[2 * group : 2 * group + 2]
            entries = [entry for entry in books.entries.values() if entry.group == group]
            refused = sum(entry.refused for entry in entries)
            missed = sum(sum(cpu["missed"].values()) for cpu in of_group)
            delivered = sum(cpu["delivered"] for cpu in of_group)
            demand_equal(f"delivered by cpu group {group}, and in the trace", delivered, books.by_group[group])
            demand_between(
                f"missed by cpu group {group}", refused, missed, refused + sum(not entry.ended for entry in entries)
            )


def owners(segment: Segment) -> list[int]:
    """The pids in the owner words of the lanes that are taken."""
    words = (segment.u64(segment.lane_at(lane) + LANE.owner) for lane in range(segment.geometry.lanes))
    return [word >> layout.OWNER_PID_SHIFT & layout.OWNER_PID_MASK for word in words if word]


def tokens(name: str) -> int:
    """What the semaphore of waiting pages says."""
    semaphore, count = open_semaphore(name, "waiting"), ctypes.c_int()
    libc.sem_getvalue(semaphore, ctypes.byref(count))
    libc.sem_close(semaphore)
    return count.value
