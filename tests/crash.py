"""Crash points: producers and collectors that are killed or stopped ahead of each step of the protocol.

`python tests/crash.py KIND --mode MODE [--every N]` runs a family of scenarios against one channel and says how many
there were, and at which steps a process was killed or stopped.  KIND is

    single     one producer, killed at each occurrence of each step
    starved    the same while the collector is stopped, until the producer waits for a page (block) or is done (drop)
    pairs      one producer stopped at a step, another killed at a step; then the first is killed, or goes on
    collector  a collector killed at each step, and its successor, and so on
    ending     a collector killed while it ends, or while its reader leaves
    both       a producer stopped at a step and the collector killed at one; then the producer is killed, or goes on

The jitted code is compiled so that it calls `Watch` ahead of each step, in a program of its own because that must be
before any other.  Each child keeps a `Board` in memory that outlives it: which events it committed is known from the
steps that it passed, so the expected content of the trace is exact.  After each scenario what the dead held must have
been given back; at the end the trace must have each committed event once, and nothing else.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import mmap
import operator
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

os.environ["SHMTRACE_CPUS"] = "1"  # ahead of the channel; all use the same lanes

import commands
import emit
import judge
import shmtrace
from shmtrace import layout
from shmtrace.layout import CONTROL, LANE, PAGE
from shmtrace.native import functions, loader, steps
from shmtrace.segment import open_semaphore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

LIMIT_S = 30.0  # whatever takes longer hangs
TRIES = 25  # of a scenario: some steps are passed only now and then, as P9a if the collector sleeps
FLUSH_MS, BLOCK_MS = 5, 60_000
PAGE_SIZE = 4096
SIZE, SMALL = 600, 32  # bytes of a payload: a page has room for 6 of the first kind
NESTING, NESTED, DISCARDED, NUMBERS = 3, 4, 5, 10  # of a producer's events
MORE = 60  # events for which the pages do not suffice
FED, FIRST = 0, 1  # producers: the driver, and the first child
PAD = b"."
PR_SET_PDEATHSIG = 1

NAMES = steps.STEPS
P5, P6, P11, P12 = (NAMES.index(name) for name in ("P5", "P6", "P11", "P12"))
STREAMED_STEPS = tuple(step for step in steps.PRODUCER_STEPS if step[0] in "VP")
STEPS_OF_MODE = {
    "drop": STREAMED_STEPS,
    "block": (*STREAMED_STEPS, "B1", "B2"),
    "overwrite": ("V1", "V2", "P2", "P3", "O1", "O2", "P9", "P10", "P10a", "P11", "P12", "P13"),
}
ONCE = ("V1", "V2")  # in the life of a producer
FRESH = {"drop": ("P5", "P6", "P8", "P9"), "overwrite": ("O1", "P9")}  # a lane's first page is taken
FRESH["block"] = FRESH["drop"]
AGAIN = ("P2", "P3", "P5", "P12", "P13")  # passed after each flush interval by a producer that waits for a page
SENDING = ("C5", "C6", "C4", "C7", "C8", "C9", "C10")

Plan = tuple[str, ...]  # steps that are to be passed in this order; it happens at the last one
Scenario = TypeVar("Scenario")


class Board:
    """What a child does, in memory that its parent sees whatever becomes of the child."""

    ARMED, REACHED, LAST, NUMBER, MISSED, COUNTS = range(6)
    RESULTS = COUNTS + len(NAMES)
    COMMITTED, ACCEPTED, REFUSED = 1, 2, 4  # of an event

    def __init__(self) -> None:
        self._words = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")

    def clear(self, *, armed: bool) -> None:
        for at in range(self.RESULTS + NUMBERS + MORE):
            self._words[at] = 0
        self._words[self.ARMED] = armed
        self._words[self.LAST] = -1

    def arm(self) -> None:
        """From now on the plan counts."""
        self._words[self.ARMED] = 1

    # by the child

    def passed(self, step: int) -> None:
        """The child is ahead of a step: what the step before was to store has been stored."""
        words = self._words
        words[self.COUNTS + step] += 1
        if step == P12 and words[self.LAST] == P11:
            words[self.RESULTS + words[self.NUMBER]] |= self.COMMITTED
        elif step == P12 and words[self.LAST] in (P5, P6):
            words[self.MISSED] += 1
        words[self.LAST] = step

    def begin(self, number: int) -> None:
        """What is committed next is the event of this number."""
        self._words[self.NUMBER] = number

    def returned(self, number: int, *, recorded: bool) -> None:
        self._words[self.RESULTS + number] |= self.ACCEPTED if recorded else self.REFUSED

    def reach(self) -> None:
        self._words[self.REACHED] = 1

    # by anybody

    @property
    def is_armed(self) -> bool:
        return bool(self._words[self.ARMED])

    @property
    def is_reached(self) -> bool:
        return bool(self._words[self.REACHED])

    @property
    def missed(self) -> int:
        """Events that were counted as missed under a lane."""
        return self._words[self.MISSED]

    def count(self, step: str) -> int:
        """How often the child came to a step."""
        return self._words[self.COUNTS + NAMES.index(step)]

    def having(self, mark: int) -> set[int]:
        """Numbers of events."""
        return {number for number in range(NUMBERS + MORE) if self._words[self.RESULTS + number] & mark}


class Watch:
    """What the jitted code calls ahead of each step; in a child that has a plan, something happens there."""

    def __init__(self) -> None:
        self._board: Board | None = None
        self._plan: Plan = ()
        self._signal = signal.SIGKILL

    def __call__(self, step: int) -> None:
        board = self._board
        if board is None:
            return
        board.passed(step)
        if self._plan and board.is_armed and NAMES[step] == self._plan[0]:
            self._plan = self._plan[1:]
            if not self._plan:
                board.reach()
                os.kill(os.getpid(), self._signal)

    def follow(self, board: Board, plan: Plan, signal_number: signal.Signals) -> None:
        self._board, self._plan, self._signal = board, plan, signal_number


def wait_until(condition: Callable[[], object], state: Callable[[], str], limit_s: float = LIMIT_S) -> None:
    """Wait for a condition, for a limited time."""
    limit = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < limit, f"waited in vain: {state()}"
        time.sleep(0.0005)


class Ledger:
    """What must be in the trace, and what must have been counted; and what was done for it."""

    def __init__(self) -> None:
        self.committed: set[tuple[int, int]] = set()  # producer and number
        self.pads = 0
        self.missed = 0
        self.kills = 0
        self.scenarios = 0
        self.reached = set[str]()

    @property
    def events(self) -> int:
        return len(self.committed) + self.pads

    def enter(self, board: Board, producer: int, *, killed: bool, missed: int) -> None:
        """A producer has ended.  What it accepted is committed, and at most one event more if it was killed."""
        committed, accepted = board.having(Board.COMMITTED), board.having(Board.ACCEPTED)
        assert accepted <= committed, (accepted, committed)
        assert len(committed - accepted) <= killed, (accepted, committed)
        assert not committed & {DISCARDED, *board.having(Board.REFUSED)}, committed
        self.committed |= {(producer, number) for number in committed}
        self.missed += missed
        self.kills += killed

    def reach(self, plans: Iterable[Plan]) -> None:
        """A scenario came about."""
        self.scenarios += 1
        self.reached.update(plan[-1] for plan in plans)

    def compare(self, blobs: Iterable[bytes], *, lost: int) -> None:
        """The trace has each event that was committed once, but for as many as were lost."""
        found = Counter[tuple[int, int]]()
        pads = 0
        for blob in blobs:
            if blob.strip(PAD):
                found[emit.read_payload(blob)] += 1
            else:
                pads += 1
        twice = {event: count for event, count in found.items() if count > 1}
        assert not twice, f"more than once: {twice}"
        assert not found.keys() - self.committed, f"never committed: {sorted(found.keys() - self.committed)}"
        missing = self.events - len(found) - pads
        assert missing == lost, f"{missing} missing: {sorted(self.committed - found.keys())}; {self.pads - pads} pads"


class Rig:
    """One channel, the children that use it, and what is expected of its trace."""

    def __init__(self, watch: Watch, channel: shmtrace.Channel, directory: Path) -> None:
        assert channel._attachment is not None
        self.channel = channel
        self.segment = channel._attachment.segment
        self.mode = layout.MODE_NAMES[self.segment.u32(CONTROL.mode)]
        self.directory = directory
        self.ledger = Ledger()
        self._watch = watch
        self._producers = itertools.count(FIRST)
        self._fed = itertools.count()
        self._children: set[int] = set()
        self._waiting = open_semaphore(channel.name, "waiting")

    # -- children

    def fork(self, board: Board, plan: Plan, by: signal.Signals, work: Callable[[], int], *, armed: bool = True) -> int:
        """A child that works, and gets a signal when it has passed the steps of its plan."""
        board.clear(armed=armed)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # what the driver does then is not the child's to do
        pid = os.fork()
        if pid == 0:
            self._watch.follow(board, plan, by)
            self._live(work)
        self._children.add(pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        return pid

    @staticmethod
    def _live(work: Callable[[], int]) -> NoReturn:
        status = 1
        try:
            loader.libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
            signal.signal(signal.SIGINT, signal.default_int_handler)
            status = work()
        except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on as a second driver
            traceback.print_exc()
        finally:
            os._exit(status)

    def wait(self, pid: int, meanwhile: Callable[[], object] = lambda: None) -> int:
        """Wait until a child is stopped or has ended; its status."""
        limit = time.monotonic() + LIMIT_S
        while True:
            done, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
            if done:
                if not os.WIFSTOPPED(status):
                    self._children.discard(pid)
                return status
            assert time.monotonic() < limit, f"process {pid} hangs: {self.state()}"
            meanwhile()
            time.sleep(0.0003)

    def end(self) -> None:
        """No child survives."""
        for pid in self._children:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def producer(
        self, board: Board, plan: Plan = (), by: signal.Signals = signal.SIGKILL, *, numbers: int = NUMBERS
    ) -> Producer:
        return Producer(self, board, plan, by, producer=next(self._producers), numbers=numbers)

    # -- the driver's own events

    def feed(self, count: int) -> None:
        """Events that are accepted, or counted as missed."""
        for _ in range(count):
            number = next(self._fed)
            if self.channel.event(emit.payload(FED, number, SIZE)):
                self.ledger.committed.add((FED, number))
            else:
                self.ledger.missed += self.channel.enabled

    def fill(self) -> None:
        """Fill the page that the first lane has, so that each scenario begins at the same place."""
        position = self.segment.u64(self.segment.lane_at(0) + LANE.position)
        room = self.segment.geometry.page_size - (position & layout.COMMITTED_MASK)
        if page_of(position) != layout.NO_PAGE and room >= 16:
            assert self.channel.event(PAD * (room - 16))
            self.ledger.pads += 1

    # -- what is in the segment

    def lanes(self) -> list[tuple[int, int, int]]:
        """Owner, position and progress of each lane."""
        starts = map(self.segment.lane_at, range(self.segment.geometry.lanes))
        fields = (LANE.owner, LANE.position, LANE.progress)
        return [(at[0], at[1], at[2]) for start in starts if (at := [self.segment.u64(start + f) for f in fields])]

    def _owners_of_pages(self) -> list[int]:
        start = self.segment.geometry.descriptors_at + PAGE.owner
        return [self.segment.u64(start + page * layout.PAGE_BYTES) for page in range(self.segment.geometry.pages)]

    def _tokens(self) -> int:
        count = ctypes.c_int()
        loader.libc.sem_getvalue(self._waiting, ctypes.byref(count))
        return count.value

    def state(self) -> str:
        lanes = [tuple(map(hex, lane)) for lane in self.lanes() if lane[0] or lane[1] >> layout.SEQUENCE_SHIFT]
        pages = [*map(hex, self._owners_of_pages())]
        return f"lanes (owner, position, progress) {lanes}, pages {pages}, {self._tokens()} tokens"

    def _is_settled(self, living: int | None, spare: int) -> bool:
        """The dead hold no lane, all is sent, and each page waits or is the current one of its lane.

        `living` may hold lanes, and a page to which it is about to switch.
        """
        expected, tolerated = [], set[int]()
        for number, (owner, position, progress) in enumerate(self.lanes()):
            if owner and pid_of(owner) != living:
                return False
            if (position ^ progress) & (1 << layout.SEQUENCE_SHIFT) - 1:
                return False
            tag = (number + 1) << layout.SEQUENCE_BITS | position >> layout.SEQUENCE_SHIFT
            if page_of(position) != layout.NO_PAGE:
                expected.append(tag)
            if owner:
                tolerated.add(tag + 1)
        owners = self._owners_of_pages()
        taken = sorted(owner for owner in owners if owner and owner not in tolerated)
        return taken == sorted(expected) and 0 <= self._tokens() - owners.count(0) <= spare

    def settle(self, living: int | None = None, *, spare: int = 0) -> None:
        """Wait until what the dead held has been given back; there may be some tokens too many."""
        if self.mode != "overwrite":
            wait_until(lambda: self._is_settled(living, spare), self.state)


def page_of(position: int) -> int:
    return position >> layout.PAGE_SHIFT & layout.PAGE_MASK


def pid_of(owner: int) -> int:
    return owner >> layout.OWNER_PID_SHIFT & layout.OWNER_PID_MASK


class Producer:
    """A child that writes some events: one of them in reserved space and one meanwhile; a reservation is given up."""

    def __init__(self, rig: Rig, board: Board, plan: Plan, by: signal.Signals, *, producer: int, numbers: int) -> None:
        self.board = board
        self._rig = rig
        self._producer = producer
        self._numbers = numbers
        self.pid = rig.fork(board, plan, by, self._work)
        self.is_stopped = False

    def _work(self) -> int:
        with suppress(KeyboardInterrupt):
            for number in range(NESTING):
                self._event(number)
            reservation = self._rig.channel.reserve(SIZE)
            with reservation as view:
                view[:] = emit.payload(self._producer, NESTING, SIZE)
                self._event(NESTED, SMALL)
                self.board.begin(NESTING)
            self.board.returned(NESTING, recorded=reservation.recorded)
            with suppress(KeyError), self._rig.channel.reserve(SIZE) as view:
                view[:] = emit.payload(self._producer, DISCARDED, SIZE)
                self.board.begin(DISCARDED)
                raise KeyError
            for number in range(DISCARDED + 1, self._numbers):
                self._event(number)
        return 0

    def _event(self, number: int, size: int = SIZE) -> None:
        blob = emit.payload(self._producer, number, size)
        self.board.begin(number)
        try:
            recorded = self._rig.channel.event(blob)
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            self.board.returned(number, recorded=False)
            raise
        self.board.returned(number, recorded=recorded)

    def wait(self, meanwhile: Callable[[], object] = lambda: None) -> bool:
        """Wait until it is stopped or has ended; True if what was planned has happened."""
        status = self._rig.wait(self.pid, meanwhile)
        self.is_stopped = os.WIFSTOPPED(status)
        if not self.is_stopped:
            assert os.WIFSIGNALED(status) or status == 0, status
            refused = len(self.board.having(Board.REFUSED))
            missed = refused if self._rig.mode == "block" else self.board.missed
            self._rig.ledger.enter(self.board, self._producer, killed=os.WIFSIGNALED(status), missed=missed)
        return self.board.is_reached

    def go_on(self) -> None:
        """It was stopped; now it goes on to its end, and loses nothing."""
        os.kill(self.pid, signal.SIGCONT)
        self.wait()
        accepted = self.board.having(Board.ACCEPTED)
        assert accepted == {*range(self._numbers)} - {DISCARDED}, accepted

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    @property
    def committed(self) -> set[tuple[int, int]]:
        return {(self._producer, number) for number in self.board.having(Board.COMMITTED)}


# -- collectors and readers


class Recorders:
    """The recorders of a channel, real ones, one after the other; and what they have written."""

    def __init__(self, rig: Rig, stack: ExitStack) -> None:
        self._rig = rig
        self._stack = stack
        self._directories: list[Path] = []
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start a recorder, if there is none."""
        if self._process is None:
            directory = self._rig.directory / f"trace{len(self._directories)}"
            self._process = self._stack.enter_context(
                commands.running("record", self._rig.channel.name, "-o", directory)
            )
            self._directories.append(directory)

    def finish(self, signal_number: int = 0) -> None:
        """Wait until the recorder has ended."""
        process, self._process = self._process, None
        assert process is not None
        end(process, signal_number)

    def check(self, *, may_lose: bool = False) -> None:
        """Compare all that was written with what was committed, by shmtrace's reader and by babeltrace2.

        If events may be lost, they are counted, and packets are missing.
        """
        ledger, stats = self._rig.ledger, self._rig.channel.stats()
        lost = stats["lost"]["unread"]
        assert stats["delivered"] + lost == ledger.events, (stats, ledger.events)
        assert stats["lost"]["damaged"] == stats["damaged_words"] == 0, stats
        assert sum(stats["missed"].values()) == ledger.missed, (stats, ledger.missed)
        assert may_lose or not lost, stats
        ledger.compare(itertools.chain(*map(blobs_in, self._directories)), lost=lost)
        program = shutil.which("babeltrace2")
        if program and not may_lose:
            events = [event for directory in self._directories for event in judge.events(program, directory)]
            ledger.compare((event.blob for event in events if isinstance(event, judge.Event)), lost=0)
            assert sum(event for event in events if isinstance(event, int)) == ledger.missed
        elif program:
            for directory in self._directories:
                check_loosely(program, directory)


def end(process: subprocess.Popen[str], signal_number: int = 0) -> None:
    """A command ends in order, after a signal if one is given."""
    if signal_number:
        process.send_signal(signal_number)
    _, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, said


def blobs_in(directory: Path) -> Iterator[bytes]:
    """The blobs of a trace, of which shmtrace's reader finds all well-formed."""
    warnings: list[str] = []
    for record in shmtrace.read(directory, warn=warnings.append):
        if record.name == "blob":
            blob = record.fields["blob"]
            assert isinstance(blob, bytes)
            yield blob
    assert not warnings, warnings


def check_loosely(program: str, directory: Path) -> None:
    """babeltrace2 reads a trace to its end, and complains of nothing but what the trace itself says is missing."""
    done = subprocess.run([program, directory], capture_output=True, text=True, timeout=LIMIT_S)
    complaints = [line for line in done.stderr.splitlines() if not re.match(r"WARNING: Tracer (discarded|lost)", line)]
    assert done.returncode == 0, done.stderr
    assert not complaints, complaints


class Stoppable:
    """A collector, the real one, that can be stopped for a while."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._pid = process.pid
        self._is_stopped = False

    def stop(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self._pid, os.WSTOPPED)
        self._is_stopped = True

    def go_on(self) -> None:
        if self._is_stopped:
            os.kill(self._pid, signal.SIGCONT)
            self._is_stopped = False

    def wait(self, producer: Producer, plan: Plan) -> bool:
        """Wait for a producer, and go on when it waits for a page; or when it is there, whether it waited or not."""
        waits = max(plan.count("B1"), 1)

        def look() -> None:
            if producer.board.count("B1") >= waits:
                self.go_on()

        reached = producer.wait(look)
        self.go_on()
        return reached


@contextmanager
def collected(rig: Rig) -> Iterator[Stoppable]:
    """Collector and recorder beside the block; then the trace is checked."""
    with ExitStack() as stack:
        recorders = Recorders(rig, stack)
        collector = stack.enter_context(commands.running("collect", rig.channel.name))
        recorders.start()
        wait_until(lambda: rig.channel.enabled, rig.state, commands.LIMIT_S)
        yield Stoppable(collector)
        rig.settle(spare=len(NAMES))
        end(collector, signal.SIGTERM)
        recorders.finish()
        recorders.check()


class Collectors:
    """Collectors that are children of the driver and may have a plan; one after the other."""

    def __init__(self, rig: Rig, *, pipe_bytes: int | None = None) -> None:
        self._rig = rig
        self._pipe_bytes = pipe_bytes
        self._board = Board()
        self._log = rig.directory / "collectors.log"
        self._pid = 0
        self._period = 0

    def start(self, plan: Plan = (), *, armed: bool = True) -> None:
        self._period = self._rig.segment.u32(CONTROL.period)
        self._pid = self._rig.fork(self._board, plan, signal.SIGKILL, self._work, armed=armed)

    def _work(self) -> int:
        from shmtrace.collector import fifo, loop, service

        loop.CENSUS_EVERY_S = 0.02
        if self._pipe_bytes is not None:
            fifo.PIPE_BYTES = self._pipe_bytes
        with self._log.open("a") as log:
            os.dup2(log.fileno(), 2)
        return service.main([self._rig.channel.name])

    def serve(self, plan: Plan = ()) -> None:
        """Start one, and wait until it has a reader."""
        self.start(plan, armed=False)
        segment = self._rig.segment
        wait_until(lambda: segment.u32(CONTROL.period) != self._period and self._rig.channel.enabled, self._rig.state)

    def arm(self) -> None:
        self._board.arm()

    def send(self, signal_number: int) -> None:
        os.kill(self._pid, signal_number)

    def wait(self, meanwhile: Callable[[], object] = lambda: None) -> bool:
        """Wait for its end; True if it was killed where that was planned, False if it ended in order."""
        status = self._rig.wait(self._pid, meanwhile)
        killed = self._board.is_reached
        assert os.WIFSIGNALED(status) == killed, self._log.read_text()
        assert killed or status == 0, self._log.read_text()
        self._rig.ledger.kills += killed
        return killed

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self._rig.wait(self._pid)
        self._rig.ledger.kills += 1

    def finish(self, recorders: Recorders) -> None:
        """A last one: what is left is sent, it ends in order, and with it the recorder."""
        recorders.start()
        self.serve()
        self._rig.settle(spare=len(NAMES))
        self.send(signal.SIGTERM)
        assert not self.wait()
        recorders.finish()


# -- the kinds of scenarios


class Kind:
    """A family of scenarios."""

    def __init__(self, rig: Rig, every: int) -> None:
        self.rig = rig
        self.every = every
        self.board = Board()

    def run(self) -> None:
        raise NotImplementedError

    def some(self, scenarios: Iterable[Scenario]) -> list[Scenario]:
        """One in so many of the scenarios, in order: at random, but always the same ones."""
        everything = [*scenarios]
        chosen = random.Random(2005).sample(range(len(everything)), -(-len(everything) // self.every))
        return [everything[number] for number in sorted(chosen)]

    def until_reached(self, attempt: Callable[..., bool], *plans: Plan, **options: Any) -> None:  # noqa: ANN401
        """Try a scenario until each process came to its step."""
        assert any(attempt(*plans, **options) for _ in range(TRIES)), f"never reached: {plans}"
        self.rig.ledger.reach(plans)

    def feed_orphans(self) -> None:
        """There is no collector: now and then producers use the pages that it may have given back, or all that wait."""
        self.rig.feed(self.rig.ledger.scenarios % 3 * 60)

    def occurrences(self, runs: int, run: Callable[[Plan], object], chance: dict[str, str | int]) -> list[Plan]:
        """Each occurrence of each step of a producer, as often as it came there in each of some runs without a plan.

        `chance`: steps that are a matter of chance are to be tried so often, or as often as others.
        """
        least: dict[str, int] = {}
        for _ in range(runs):
            run(())
            counts = {step: self.board.count(step) for step in STEPS_OF_MODE[self.rig.mode]}
            for step in AGAIN if "P5" in counts else ():  # how often depends on how long it waited
                counts[step] -= max(self.board.count("B1") - 1, 0)
            least = {step: min(count, least.get(step, count)) for step, count in counts.items()}
        for step, often in chance.items():
            if step in least:
                least[step] = least[often] if isinstance(often, str) else often
        return [(step,) * number for step, count in least.items() for number in range(1, count + 1)]


def early_and_late(names: Iterable[str], once: Sequence[str] = ONCE) -> list[Plan]:
    """The first occurrence of each step; and the first after three events, which is often inside of a reservation."""
    early = [(step,) for step in names]
    return [*early, *(("P13",) * NESTING + plan for plan in early if plan[0] not in once)]


class Single(Kind):
    """One producer, killed at each occurrence of each step; at first in lanes that never had a page."""

    def run(self) -> None:
        with collected(self.rig):
            self.scenarios()

    def scenarios(self) -> None:
        for step in FRESH[self.rig.mode]:
            self.until_reached(self.attempt, (step,))
        self.attempt_in_full_page(())
        for plan in self.some(self.occurrences(2, self.attempt_in_full_page, {"P9a": "P9"})):
            self.until_reached(self.attempt_in_full_page, plan)

    def attempt(self, plan: Plan) -> bool:
        producer = self.rig.producer(self.board, plan)
        reached = producer.wait()
        self.rig.settle()
        return reached

    def attempt_in_full_page(self, plan: Plan) -> bool:
        self.rig.fill()
        return self.attempt(plan)


class SingleOverwrite(Single):
    """The same without a collector, and whoever gives the lane of the dead back is killed, too."""

    def run(self) -> None:
        self.scenarios()
        for plan in (("R2",), ("R2", "P12"), ("R2", "P13")):
            self.until_reached(self.attempt_rescue, plan)
        check_snapshot(self.rig)

    def attempt(self, plan: Plan) -> bool:
        producer = self.rig.producer(self.board, plan)
        reached = producer.wait()
        look(self.rig, whole=producer)
        return reached

    def attempt_rescue(self, plan: Plan) -> bool:
        victim = self.rig.producer(self.board, ("P11",))
        assert victim.wait()
        rescuer = Board()
        self.rig.wait(self.rig.fork(rescuer, plan, signal.SIGKILL, self._rescue))
        self.rig.ledger.kills += rescuer.is_reached
        look(self.rig, whole=victim)
        return rescuer.is_reached

    def _rescue(self) -> int:
        return self.rig.channel.snapshot(self.rig.directory / "rescued")


def look(rig: Rig, living: Producer | None = None, whole: Producer | None = None) -> None:
    """Mode overwrite: each event that was committed is in a snapshot, or was overwritten and is counted then.

    All of `whole` is there, and after the snapshot the dead hold no lane.
    """
    with tempfile.TemporaryDirectory(dir=rig.directory) as directory:
        rig.channel.snapshot(directory)
        blobs = [*blobs_in(Path(directory))]
    stats = rig.channel.stats()
    found = [emit.read_payload(blob) for blob in blobs if blob.strip(PAD)]
    committed = rig.ledger.committed | (living.committed if living else set())
    assert len(blobs) + stats["overwritten"] == len(committed) + rig.ledger.pads, (stats, len(blobs), rig.state())
    assert len(found) == len({*found} & committed), sorted(found)
    assert {*found} >= (whole.committed if whole else set()), (sorted(found), rig.state())
    assert {0, living.pid if living else 0} >= {pid_of(owner) for owner, _, _ in rig.lanes()}, rig.state()
    assert sum(stats["missed"].values()) == 0, stats


def check_snapshot(rig: Rig) -> None:
    """Mode overwrite, at the end: babeltrace2 finds in a snapshot what is there."""
    look(rig)
    rig.channel.snapshot(rig.directory / "last")
    program = shutil.which("babeltrace2")
    if program:
        events = judge.events(program, rig.directory / "last")
        found = sum(isinstance(event, judge.Event) for event in events)
        assert found + rig.channel.stats()["overwritten"] == rig.ledger.events


class Starved(Kind):
    """One producer for which there are not enough pages, killed at each occurrence of each step; and Ctrl-C."""

    def run(self) -> None:
        with collected(self.rig) as self.collector:
            self.attempt(())
            for plan in self.some(self.occurrences(2, self.attempt, {"P9a": 0, "B1": 2, "B2": 1})):
                self.until_reached(self.attempt, plan)
            if self.rig.mode == "block":
                self.until_reached(self.interrupt, ("B1",))

    def attempt(self, plan: Plan) -> bool:
        reached = self.collector.wait(self._start(plan), plan)
        self.rig.settle()
        return reached

    def _start(self, plan: Plan) -> Producer:
        self.rig.fill()
        self.rig.settle()
        self.collector.stop()
        return self.rig.producer(self.board, plan)

    def interrupt(self, _plan: Plan) -> bool:
        """Ctrl-C while it waits for a page."""
        producer = self._start(())
        again = 0.0

        def press() -> None:
            nonlocal again
            if self.board.count("B1") and time.monotonic() > again and is_asleep(producer.pid):
                again = time.monotonic() + 0.2
                os.kill(producer.pid, signal.SIGINT)

        producer.wait(press)
        self.collector.go_on()
        self.rig.settle()
        return len(self.board.having(Board.REFUSED)) == 1


def is_asleep(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


class Pairs(Kind):
    """One producer is stopped at a step, another one killed at a step; then the first is killed, or goes on."""

    def run(self) -> None:
        with collected(self.rig) as self.collector:
            self.scenarios(early_and_late(STEPS_OF_MODE[self.rig.mode]))

    def scenarios(self, plans: Sequence[Plan]) -> None:
        self.other = Board()
        for _ in range(2):  # the lanes have pages
            self.rig.fill()
            self.rig.producer(self.board).wait()
        for first, second, killed in self.some(itertools.product(plans, plans, (True, False))):
            self.until_reached(self.attempt, first, second, killed=killed)

    def attempt(self, first: Plan, second: Plan, *, killed: bool) -> bool:
        self.rig.fill()
        self.settle()
        one = self.start(self.board, first, signal.SIGSTOP)
        if not one.is_stopped:
            return False
        two = self.start(self.other, second, signal.SIGKILL)
        self.settle(one, two)
        if killed:
            one.kill()
        else:
            one.go_on()
        self.settle()
        return two.board.is_reached

    def start(self, board: Board, plan: Plan, by: signal.Signals) -> Producer:
        """A producer that is where it is to be."""
        waits = plan[-1] in ("B1", "B2")
        if waits:
            self.collector.stop()
        producer = self.rig.producer(board, plan, by, numbers=NUMBERS + MORE if waits else NUMBERS)
        self.collector.wait(producer, plan)
        return producer

    def settle(self, living: Producer | None = None, _dead: Producer | None = None) -> None:
        # a token that was posted for a producer stopped between P5 and P6 is one too many when that one goes on
        self.rig.settle(living.pid if living else None, spare=len(NAMES))


class PairsOverwrite(Pairs):
    """The same without a collector."""

    def run(self) -> None:
        self.scenarios(early_and_late(STEPS_OF_MODE["overwrite"]))
        check_snapshot(self.rig)

    def start(self, board: Board, plan: Plan, by: signal.Signals) -> Producer:
        producer = self.rig.producer(board, plan, by, numbers=NUMBERS + 6)  # more than a page
        producer.wait()
        return producer

    def settle(self, living: Producer | None = None, dead: Producer | None = None) -> None:
        look(self.rig, living, dead)


class CollectorKilled(Kind):
    """A collector killed at each step while producers go on; its successor mends all, and is killed in its turn.

    Then the same at once: the successor is killed while it does what is left to do.  The pipe is so short that packets
    leave in parts.
    """

    def run(self) -> None:
        self.collectors = Collectors(self.rig, pipe_bytes=PAGE_SIZE)
        sending = [(step,) * number for step in SENDING for number in (1, 2, 3)]
        orphan = [("R2",), ("R2", "C8"), ("R2", "C9"), ("R2", "P12"), ("R2", "P13")]
        with ExitStack() as stack:
            recorders = Recorders(self.rig, stack)
            recorders.start()
            for _ in range(2):
                self.until_reached(self.attempt_at_once, ("C2",))
            for plan in self.some([*sending, *orphan, ("W2",), ("W2", "W2")]):
                self.until_reached(self.attempt, plan)
            for plan in self.some(sending):
                self.until_reached(self.attempt_at_once, plan)
            for plan in self.some([("Q1",), ("Q1", "C8"), ("Q1", "C9")]):
                self.until_reached(self.attempt_at_once, ("C8",))
                self.until_reached(self.attempt_at_once, plan)
            self.collectors.finish(recorders)
            recorders.check()

    def attempt(self, plan: Plan) -> bool:
        self.collectors.serve(plan)
        self.rig.settle()
        self.collectors.arm()
        victim = self.rig.producer(self.board, ("P8",))  # leaves a lane, a page and a writer's number
        assert victim.wait()
        return self._wait()

    def attempt_at_once(self, plan: Plan) -> bool:
        self.collectors.start(plan)
        return self._wait()

    def _wait(self) -> bool:
        """There is something to send until the collector is dead."""
        due = 0.0

        def feed() -> None:
            nonlocal due
            if time.monotonic() > due:
                due = time.monotonic() + FLUSH_MS / 1000
                self.rig.feed(4)

        reached = self.collectors.wait(feed)
        self.feed_orphans()
        return reached


class CollectorEnding(Kind):
    """A collector killed while it ends, all being sent or some events left; or while its reader leaves."""

    def run(self) -> None:
        self.collectors = Collectors(self.rig)
        settling: list[Plan] = [("D1",), ("D2",), ("D2", "D2"), ("D2", "P12"), ("D2", "P13")]
        sealing: list[Plan] = [("E1",), ("E2",), ("E3",), ("E4",)]
        sealed = [("E4", step) for step in ("P12", "P13", "C7", "C8", "C9", "C10")]
        with ExitStack() as stack:
            self.recorders = Recorders(self.rig, stack)
            attempts = (self.attempt_quiet, self.attempt_reader, self.attempt_busy)
            scenarios = self.some(itertools.product(attempts, [*settling, *sealing, *sealed]))
            for attempt, some in itertools.groupby(scenarios, operator.itemgetter(0)):
                for _, plan in some:
                    self.until_reached(attempt, plan)
                self.collectors.finish(self.recorders)
                self.recorders.check(may_lose=attempt == self.attempt_busy)

    def attempt_quiet(self, plan: Plan) -> bool:
        self._start(plan)
        return self._end()

    def attempt_busy(self, plan: Plan) -> bool:
        self._start(plan)
        self.rig.feed(9)
        return self._end()

    def attempt_reader(self, plan: Plan) -> bool:
        self._start(plan)
        self.recorders.finish(signal.SIGTERM)
        return self.collectors.wait()

    def _start(self, plan: Plan) -> None:
        self.recorders.start()
        self.collectors.serve(plan)
        self.rig.feed(9)
        self.rig.settle()
        self.collectors.arm()

    def _end(self) -> bool:
        self.collectors.send(signal.SIGTERM)
        reached = self.collectors.wait()
        if not reached:
            self.recorders.finish()
        return reached


class Both(Kind):
    """A producer is stopped at a step and the collector killed at one; then the producer is killed, or goes on."""

    def run(self) -> None:
        self.collectors = Collectors(self.rig)
        with ExitStack() as stack:
            recorders = Recorders(self.rig, stack)
            recorders.start()
            plans = early_and_late(STREAMED_STEPS)
            for first, second, killed in self.some(itertools.product(plans, SENDING, (True, False))):
                self.until_reached(self.attempt, first, (second,), killed=killed)
            self.collectors.finish(recorders)
            recorders.check()

    def attempt(self, first: Plan, second: Plan, *, killed: bool) -> bool:
        self.collectors.serve(second)
        self.rig.settle(spare=len(NAMES))
        self.rig.fill()
        one = self.rig.producer(self.board, first, signal.SIGSTOP)
        if not one.wait():
            self.collectors.kill()
            return False
        self.collectors.arm()
        assert self.collectors.wait(lambda: self.rig.feed(1))
        self.feed_orphans()
        if killed:
            one.kill()
        self.collectors.serve()
        if not killed:
            self.rig.settle(one.pid, spare=len(NAMES))
            one.go_on()
        self.rig.settle(spare=len(NAMES))
        self.collectors.kill()
        return True


# with pages and page size; the rings of the mode overwrite have room for what a producer writes
KINDS: dict[str, dict[str, tuple[type[Kind], int, int]]] = {
    "single": {"drop": (Single, 16, 1), "block": (Single, 16, 1), "overwrite": (SingleOverwrite, 18, 1)},
    "starved": {"drop": (Starved, 3, 1), "block": (Starved, 3, 1)},
    "pairs": {"drop": (Pairs, 16, 1), "block": (Pairs, 8, 1), "overwrite": (PairsOverwrite, 18, 2)},
    "collector": {"drop": (CollectorKilled, 16, 1)},
    "ending": {"drop": (CollectorEnding, 16, 1)},
    "both": {"drop": (Both, 16, 1)},
}


def compile_watched(watch: Watch) -> None:
    """Have both halves of the jitted code, with `watch` in them."""
    steps.watch(watch)
    for unit in ("producer", "collector"):
        functions(unit)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--mode", choices=layout.MODES, default="drop")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only one in N scenarios")
    parser.add_argument("--name", default=f"crash-{os.getpid()}", help="of the channel")
    options = parser.parse_args()
    if options.mode not in KINDS[options.kind]:
        parser.error(f"{options.kind} is for the modes {', '.join(KINDS[options.kind])}")
    kind, pages, page_size = KINDS[options.kind][options.mode]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    watch = Watch()
    compile_watched(watch)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        channel = shmtrace.create_channel(
            options.name, mode=options.mode, page_size=page_size * PAGE_SIZE, pages=pages, flush_ms=FLUSH_MS,
            block_ms=BLOCK_MS,
        )  # fmt: skip
        rig = Rig(watch, channel, Path(directory))
        try:
            kind(rig, options.every).run()
        finally:
            rig.end()
            shmtrace.remove_channel(options.name, drain=True)
    ledger = rig.ledger
    print(
        f"{options.kind} {options.mode}: {ledger.scenarios} scenarios, {ledger.kills} kills, {ledger.events} events, "
        f"{time.monotonic() - began:.1f} s, at {' '.join(sorted(ledger.reached, key=NAMES.index))}"
    )


if __name__ == "__main__":
    main()
