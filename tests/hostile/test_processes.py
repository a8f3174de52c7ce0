"""A real collector, some of whose channels are hostile: the others notice nothing, and it ends when it is told to."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import commands
import shmtrace
from hostile.rig import GEOMETRY, make_channel, repair, set_semaphore
from recording import end
from shmtrace import layout
from shmtrace.classes import define
from shmtrace.layout import CONTROL, LANE, PAGE
from shmtrace.reader.description import describe
from shmtrace.reader.recorder import Recorder
from shmtrace.reader.records import Decoder
from shmtrace.reader.stream import Parser
from shmtrace.segment import open_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shmtrace.segment import Segment

    Damage = Callable[[Segment], object]

pytestmark = pytest.mark.timeout(120)
LIMIT_S = 10
LANE_AT = GEOMETRY.lanes_at
PAGES_AT = GEOMETRY.descriptors_at


class Watched:
    """A channel that is collected, and its reader, which is this process."""

    def __init__(self, name: str, damage: Damage | None = None) -> None:
        make_channel(name)
        self.channel = shmtrace.open_channel(name)
        self.segment = open_segment(name)
        self.pristine = b""
        self.damage = damage
        self.stream = b""
        self.accepted: list[bytes] = []
        self._emitted = self._repaired_at = self._accepted_before = 0
        self._file = os.open(self.channel.fifo, os.O_RDONLY | os.O_NONBLOCK)

    def emit(self, count: int) -> None:
        for number in range(self._emitted, self._emitted + count):
            blob = b"%d " % number + bytes(300)
            if self.channel.event(blob):
                self.accepted.append(blob)
        self._emitted += count

    def repair(self) -> None:
        repair(self.segment, self.pristine)
        self._repaired_at, self._accepted_before = len(self.stream), len(self.accepted)

    def drain(self) -> None:
        with suppress(BlockingIOError):
            while data := os.read(self._file, 1 << 20):
                self.stream += data

    def blobs(self) -> list[object]:
        """What the reader makes of the stream; whatever came, that goes without an error."""
        parser = Parser()
        items = parser.feed(self.stream) + parser.end()
        records = Decoder(lambda _: None).records(items, "stream")
        return [record.fields["blob"] for record in records if record.name == "blob"]

    @property
    def flows(self) -> bool:
        """Whether anything comes out that was written since the repair.  Asked again and again."""
        self.emit(1)
        self.drain()
        return any(blob in self.stream[self._repaired_at :] for blob in self.accepted[self._accepted_before :])

    def close(self) -> None:
        os.close(self._file)
        self.segment.unmap()


@contextmanager
def collected(watched: list[Watched]) -> Iterator[subprocess.Popen[str]]:
    """A collector of all of them; it is ended in order."""
    try:
        with commands.running("collect", *(one.channel.name for one in watched)) as collector:
            commands.until(lambda: all(one.channel.enabled for one in watched))  # a cold cache is compiled
            for one in watched:
                one.pristine = one.segment.read(0, layout.CONTROL_BYTES)
            yield collector
            collector.send_signal(signal.SIGTERM)
            commands.until(lambda: drained(watched) and collector.poll() is not None, LIMIT_S)
            assert "Traceback" not in end(collector)
    finally:
        for one in watched:
            one.close()


def drained(watched: list[Watched]) -> bool:
    for one in watched:
        one.drain()
    return True


def keep_writing(watched: list[Watched], seconds: float) -> None:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        for one in watched:
            one.emit(3)
            one.drain()
        time.sleep(0.01)


def suffer(names: Callable[[], str], damages: list[Damage], limit_s: float = LIMIT_S) -> list[Watched]:
    """Channels that are damaged while they are collected, and mended; the last one is innocent, and was not harmed."""
    victims = [Watched(names(), damage) for damage in damages]
    innocent = Watched(names())
    watched = [*victims, innocent]
    with collected(watched) as collector:
        keep_writing(watched, 0.05)
        for victim in victims:
            assert victim.damage is not None
            victim.damage(victim.segment)
        keep_writing(watched, 0.3)
        assert collector.poll() is None
        assert innocent.segment.u64(CONTROL.damaged) == 0
        for victim in victims:
            victim.repair()
        for victim in victims:
            commands.until(lambda victim=victim: victim.flows, limit_s)  # type: ignore[misc]
    check_innocent(innocent)
    return victims


def check_innocent(innocent: Watched) -> None:
    assert innocent.blobs() == innocent.accepted
    stats = innocent.channel.stats()
    assert (stats["delivered"], stats["lost"]) == (len(innocent.accepted), {"unread": 0, "damaged": 0})


def put(at: int, value: int, width: int = 8) -> Damage:
    return lambda segment: segment.write(at, (value & (1 << 8 * width) - 1).to_bytes(width, "little"))


def count(which: str, value: int) -> Damage:
    return lambda segment: set_semaphore(segment, which, value)


def many(*damages: Damage) -> Damage:
    return lambda segment: [damage(segment) for damage in damages]


DAMAGES: dict[str, Damage] = {
    "asleep": put(CONTROL.asleep, -1, 4),
    "classes that are not there": many(put(CONTROL.classes_count, 5, 4), put(CONTROL.classes_used, -1, 4)),
    "collector's pid": many(put(CONTROL.collector_pid, 1, 4), put(CONTROL.collector_start, 1)),
    "count of waiting pages 0": count("waiting", 0),
    "count of waiting pages at most": count("waiting", (1 << 31) - 1),
    "count of waiting pages negative": count("waiting", 1 << 31),
    "lane held by init": put(LANE_AT + LANE.owner, 1 << layout.OWNER_PID_SHIFT),
    "lane held by nobody knows whom": put(LANE_AT + LANE.owner, 1),
    "lane held by somebody dead": put(LANE_AT + LANE.owner, -1),
    "missed far ahead and back": many(put(LANE_AT + LANE.missed_no_page, -1), put(LANE_AT + LANE.missed_no_page, 0)),
    "note of no records": put(LANE_AT + LANE.note, layout.NO_PAGE_POSITION | layout.NO_RECORDS),
    "number of a packet": put(LANE_AT + LANE.totals, 1 << 40),
    "owners of pages": many(*(put(PAGES_AT + page * 16 + PAGE.owner, 77 << 28) for page in range(8))),
    "position beyond the pages": put(LANE_AT + LANE.position, 9 << layout.PAGE_SHIFT),
    "position in another's page": put(LANE_AT + LANE.position, 7 << layout.PAGE_SHIFT | 16),
    "progress in another's page": put(LANE_AT + LANE.progress, 7 << layout.PAGE_SHIFT | 16),
    "progress beyond the page": put(LANE_AT + LANE.progress, 4097),
    "recording off": put(CONTROL.recording, 0, 4),
    "records of zeros": lambda segment: segment.write(GEOMETRY.pages_at, bytes(8 * 4096)),
    "stamp far ahead": put(LANE_AT + LANE.last_stamp, (1 << 63) - 1),
    "writers that never were": lambda segment: segment.write(GEOMETRY.writers_at, b"\xff" * 8 * layout.WRITER_BYTES),
}


def test_a_hostile_channel_harms_no_other_and_is_as_good_as_before_when_it_was_repaired(
    new_name: Callable[[], str],
) -> None:
    for victim in suffer(new_name, list(DAMAGES.values())):
        assert set(victim.blobs()) <= {*victim.accepted}


# -- words that concern the channel as a whole


def test_a_count_of_full_pages_beyond_all_pages_holds_nobody_up(new_name: Callable[[], str]) -> None:
    suffer(new_name, [count("full", (1 << 31) - 1)], limit_s=2)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(put(CONTROL.clock_kind, 7, 4), id="no clock"),
        pytest.param(put(CONTROL.clock_monotonic_ns, 1 << 62), id="the future"),
    ],
)
def test_a_clock_that_makes_no_sense_is_measured_anew(new_name: Callable[[], str], damage: Damage) -> None:
    watched = Watched(new_name())
    damage(watched.segment)
    with commands.running("collect", watched.channel.name):
        try:
            commands.until(lambda: watched.channel.enabled, 1)
            commands.until(lambda: watched.flows, 1)
        finally:
            watched.close()


def test_a_lane_that_can_be_neither_sent_nor_mended_costs_no_cpu_time(new_name: Callable[[], str]) -> None:
    watched = Watched(new_name())
    with collected([watched]) as collector:
        watched.emit(3)
        keep_writing([watched], 0.05)
        idle = _cpu_seconds(collector.pid, 0.3)
        unused = GEOMETRY.pages - 1
        put(LANE_AT + LANE.owner, 1)(watched.segment)
        put(LANE_AT + LANE.progress, unused << layout.PAGE_SHIFT | 77)(watched.segment)
        stuck = _cpu_seconds(collector.pid, 0.3)
        watched.repair()
    assert stuck < 2 * idle + 0.02


def _cpu_seconds(pid: int, seconds: float) -> float:
    """What a process uses in so long."""

    def used() -> float:
        threads = Path(f"/proc/{pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9

    before = used()
    time.sleep(seconds)
    return used() - before


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ('x"; };\ntrace {', "a:u8"),
        ("event", "a;}b:u8"),
        ("event", "a:u8 a:u8"),
        ("event", "a:complex"),
        ("event", "a"),
    ],
)
def test_a_class_that_nobody_can_define_does_not_spoil_the_description(
    new_name: Callable[[], str], peer: Callable[[str], str], tmp_path: Path, kind: str, fields: str
) -> None:
    watched = Watched(new_name())
    define(watched.segment, "odd", kind=kind, fields=fields)
    with collected([watched]):
        commands.until(lambda: watched.flows, LIMIT_S)
    record(watched.stream, tmp_path / "trace")
    describe((tmp_path / "trace" / "metadata").read_text())
    assert listen(peer("babeltrace2"), tmp_path / "trace") == 0


def test_counts_that_go_back_and_forth_do_not_spoil_the_stream(
    new_name: Callable[[], str], peer: Callable[[str], str], tmp_path: Path
) -> None:
    watched = Watched(new_name())
    missed = LANE_AT + LANE.missed_no_page
    with collected([watched]):
        for value in (0, 1000, 5, 1 << 63, 0):
            watched.emit(3)
            put(missed, value)(watched.segment)
            keep_writing([watched], 0.05)
    record(watched.stream, tmp_path / "trace")
    assert listen(peer("babeltrace2"), tmp_path / "trace") == 0


def record(stream: bytes, directory: Path) -> None:
    parser = Parser()
    with Recorder(directory, delivered=lambda: 0) as recorder:
        recorder.add(parser.feed(stream) + parser.end())


def listen(babeltrace2: str, directory: Path) -> int:
    """What babeltrace2 ends with."""
    return subprocess.run([babeltrace2, directory], capture_output=True, timeout=LIMIT_S).returncode


# -- everything at once

ENDS_IT = range(CONTROL.recording, CONTROL.asleep)  # recording off, and removed: that is an order


def scribble(segment: Segment, seconds: float, seed: int) -> None:
    """Write nonsense all over a segment, at full speed."""
    chance = random.Random(seed)
    words = [at for at in range(CONTROL.recording, GEOMETRY.classes_at, 8) if at not in ENDS_IT]
    words = [at for at in words if not CONTROL.fifo <= at < layout.CONTROL_BYTES]
    words += range(GEOMETRY.descriptors_at, GEOMETRY.segment_bytes, 8)
    busy = words[: len(words) // 8]  # the words of lanes are few, and pages large
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        for _ in range(100):
            at = chance.choice(busy if chance.random() < 0.7 else words)
            kind = chance.randrange(4)
            if kind == 0:
                value = chance.getrandbits(64)
            elif kind == 1:
                value = chance.getrandbits(4) << 36 | chance.getrandbits(4) << 20 | chance.getrandbits(13)
            elif kind == 2:
                value = segment.u64(chance.choice(words))
            else:
                value = segment.u64(at) + chance.choice((-8, -1, 1, 8))
            segment.set_u64(at, value & (1 << 64) - 1)


@contextmanager
def forked(function: Callable[[], object]) -> Iterator[int]:
    """A process that runs a function beside the block; it is waited for, and must have ended well."""
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            function()
            os._exit(0)
        os._exit(1)
    try:
        yield pid
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    assert os.waitpid(pid, 0)[1] == 0


def write_until(channel: shmtrace.Channel, limit: float) -> None:
    while time.monotonic() < limit:
        for size in (0, 10, 1000, 4080):
            channel.event(bytes(size))


@pytest.mark.parametrize(
    ("seconds", "seed"), [(1, 1), *(pytest.param(10, seed, marks=pytest.mark.heavy) for seed in range(2, 7))]
)
def test_a_segment_that_is_scribbled_over_at_full_speed(new_name: Callable[[], str], seconds: int, seed: int) -> None:
    victim, innocent = Watched(new_name()), Watched(new_name())
    with collected([victim, innocent]) as collector:
        keep_writing([victim, innocent], 0.05)
        limit = time.monotonic() + seconds
        with (
            forked(lambda: scribble(victim.segment, seconds, seed)),
            forked(lambda: write_until(victim.channel, limit)),
        ):
            while time.monotonic() < limit:
                keep_writing([innocent], 0.05)
                victim.drain()
        assert collector.poll() is None
        assert innocent.segment.u64(CONTROL.damaged) == 0
        assert victim.segment.u64(CONTROL.damaged) != 0
        victim.repair()
        commands.until(lambda: drained([innocent]) and victim.flows, LIMIT_S)
    check_innocent(innocent)
    victim.blobs()
