"""The mode block: a producer waits for a page, at most so long, and nobody waits for what will not come.

`reader` in these tests is the FIFO, open for reading; it takes nothing unless it is told to.
"""

from __future__ import annotations

import ctypes
import fcntl
import itertools
import os
import select
import signal
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import commands
import emit
import shmtrace
from judge import judge
from recording import recorded
from shmtrace import place
from shmtrace.layout import CONTROL, LANE
from shmtrace.native.loader import libc
from shmtrace.segment import open_semaphore

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

PAGES = 8
PIPE = 1 << 16
BLOB = bytes(4000)  # one a page
LONG_MS, SHORT_MS = 60_000, 200
LONG_S = 20  # far below LONG_MS, far above what a busy machine takes for anything here
pytestmark = pytest.mark.timeout(100)


@pytest.fixture
def make_channel(
    monkeypatch: pytest.MonkeyPatch, new_name: Callable[[], str]
) -> Iterator[Callable[..., shmtrace.Channel]]:
    """Makes small channels with two cpu slots, the first of which is this process'."""
    monkeypatch.setenv("SHMTRACE_CPUS", "2")
    monkeypatch.setenv("SHMTRACE_CPU", "1")
    made: list[shmtrace.Channel] = []

    def make(**options: Any) -> shmtrace.Channel:  # noqa: ANN401
        sizes = {"page_size": 4096, "pages": PAGES, "flush_ms": 20, **options}
        made.append(shmtrace.create_channel(new_name(), mode="block", **sizes))
        return made[-1]

    yield make
    for channel in made:
        with suppress(shmtrace.ChannelNotFound):
            shmtrace.remove_channel(channel.name, drain=True)


class Stream:
    """A collector beside the test, and the FIFO's other end, which this process has."""

    def __init__(self, channel: shmtrace.Channel, collector: subprocess.Popen[str], reader: int) -> None:
        self.channel = channel
        self.collector = collector
        self.reader = reader

    def fill(self) -> None:
        """Write until pipe and pages are full: the next event waits."""
        attachment = self.channel._attachment
        assert attachment is not None
        limit = time.monotonic() + commands.LIMIT_S
        quiet = 0
        while quiet < 5:  # what is less than a page may still go into the pipe
            assert time.monotonic() < limit, "it is never full"
            if attachment.segment.waiting_pages():
                assert self.channel.event(BLOB)
                quiet = 0
            else:
                quiet = quiet + 1 if is_full(self.channel.fifo) else 0
                time.sleep(0.01)

    def take(self, pages: int = 1) -> None:
        """Read as much as that many pages, so that as many come back."""
        left = pages * 4200
        while left > 0:
            with suppress(BlockingIOError):
                left -= len(os.read(self.reader, left))

    @contextmanager
    def taking_after(self, seconds: float, pages: int = 4) -> Iterator[None]:
        """Beside the block, the reader sleeps and then reads."""

        def work() -> None:
            time.sleep(seconds)
            self.take(pages)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            thread.join()

    def timeouts(self) -> list[int]:
        """What was given up, by cpu."""
        return [counts["missed"]["timeout"] for counts in self.channel.stats()["cpus"]]


def is_full(fifo: Path) -> bool:
    """Nothing more can be written into a FIFO that somebody reads."""
    end = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    try:
        return not select.select([], [end], [], 0)[1]
    finally:
        os.close(end)


@contextmanager
def streaming(channel: shmtrace.Channel) -> Iterator[Stream]:
    """Recording is on in the block."""
    with commands.running("collect", channel.name) as collector:
        reader = os.open(channel.fifo, os.O_RDONLY | os.O_NONBLOCK)
        try:
            commands.until(lambda: channel.enabled)
            fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, PIPE)  # smaller than the collector makes it: it is full earlier
            yield Stream(channel, collector, reader)
        finally:
            os.close(reader)


@pytest.fixture
def full(make_channel: Callable[..., shmtrace.Channel]) -> Iterator[Stream]:
    """A stream that is full, of a channel with a long limit."""
    with streaming(make_channel(block_ms=LONG_MS)) as stream:
        stream.fill()
        yield stream


@pytest.fixture
def impatient(make_channel: Callable[..., shmtrace.Channel]) -> Iterator[Stream]:
    """A stream that is full, of a channel with a short limit."""
    with streaming(make_channel(block_ms=SHORT_MS)) as stream:
        stream.fill()
        yield stream


def timed(function: Callable[[], object]) -> tuple[float, object]:
    """Seconds that a call took, and its result."""
    began = time.monotonic()
    result = function()
    return time.monotonic() - began, result


@contextmanager
def forked(function: Callable[[], object]) -> Iterator[int]:
    """A forked process beside the block that exits with what a function returns; it is killed at the end of it."""
    child = os.fork()
    if child == 0:
        status = 99
        with suppress(BaseException):
            status = int(bool(function()))
        os._exit(status)
    try:
        yield child
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def status_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# -- it waits


@pytest.mark.peers
def test_nothing_is_missed_while_a_reader_reads_slowly(
    make_channel: Callable[..., shmtrace.Channel],
    tmp_path: Path,
    peer: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    babeltrace2, channel = peer("babeltrace2"), make_channel(block_ms=LONG_MS)
    monkeypatch.delenv("SHMTRACE_CPU")
    attachment = channel._attachment
    assert attachment is not None
    segment = attachment.segment
    was_full = 0
    with recorded(channel, tmp_path / "trace") as recording:
        fifo = os.open(channel.fifo, os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(fifo, fcntl.F_SETPIPE_SZ, PIPE)
        os.close(fifo)
        with emit.started(channel.name, "processes", count=4, events=1500, sizes=[500]) as finish:
            commands.until(lambda: channel.stats()["delivered"])
            for _ in range(6):
                with recording.slow_reader(), suppress(AssertionError):  # they may have ended
                    commands.until(lambda: segment.waiting_pages() == 0, 0.5)
                    time.sleep(0.05)
                    was_full += 1
            tallies = finish()
    assert was_full > 1
    assert [tally.accepted for tally in tallies] == [1500] * 4
    assert sum(channel.stats()["missed"].values()) == 0
    assert channel.stats()["delivered"] == 6000
    assert judge(babeltrace2, tmp_path / "trace") == (emit.by_pid(tallies), 0)


def test_an_event_waits_until_a_page_comes(full: Stream) -> None:
    with full.taking_after(0.3):
        seconds, recorded = timed(lambda: full.channel.event(BLOB))
    assert recorded is True
    assert 0.2 < seconds < LONG_S
    assert full.timeouts() == [0, 0]


def test_a_reservation_waits_until_a_page_comes(full: Stream) -> None:
    reservation = full.channel.reserve(len(BLOB))
    with full.taking_after(0.3):
        seconds, view = timed(reservation.__enter__)
    assert isinstance(view, memoryview)
    view[:] = BLOB
    del view
    reservation.__exit__(None, None, None)
    assert reservation.recorded
    assert 0.2 < seconds < LONG_S


def test_several_that_wait_all_go_on(full: Stream) -> None:
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(full.channel.event(BLOB))) for _ in range(5)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    assert results == []
    full.take(12)
    for thread in threads:
        thread.join(LONG_S)
    assert results == [True] * 5


def test_other_threads_run_while_one_waits(full: Stream) -> None:
    with full.taking_after(0.5):
        ticks: list[float] = []
        waiting = threading.Thread(target=lambda: full.channel.event(BLOB))
        waiting.start()
        while waiting.is_alive():
            ticks.append(time.monotonic())
            time.sleep(0.005)
    assert len(ticks) > 10
    assert max(after - before for before, after in itertools.pairwise(ticks)) < 0.4


def test_an_event_that_fits_into_the_lanes_page_does_not_wait(make_channel: Callable[..., shmtrace.Channel]) -> None:
    channel = make_channel(block_ms=LONG_MS)
    with streaming(channel) as stream:
        stream.fill()
        seconds, recorded = timed(lambda: channel.event(b"small"))
    assert recorded is True
    assert seconds < LONG_S


# -- at most so long


def test_it_waits_at_most_the_limit_and_is_counted_by_cpu(impatient: Stream) -> None:
    seconds, recorded = timed(lambda: impatient.channel.event(BLOB))
    assert recorded is False
    assert SHORT_MS / 1000 * 0.95 < seconds < SHORT_MS / 1000 + 5
    assert impatient.timeouts() == [0, 1]
    assert impatient.channel.stats()["missed"] == {"no_page": 0, "timeout": 1, "no_lane": 0, "bad_arguments": 0}


def test_a_reservation_waits_at_most_the_limit_and_its_view_is_writable(impatient: Stream) -> None:
    reservation = impatient.channel.reserve(len(BLOB))
    began = time.monotonic()
    with reservation as view:
        assert time.monotonic() - began > SHORT_MS / 1000 * 0.95
        view[:] = BLOB
    assert not reservation.recorded
    assert impatient.timeouts() == [0, 1]


def test_after_one_limit_events_are_dropped_at_once_until_a_page_has_come(impatient: Stream) -> None:
    channel = impatient.channel
    assert not channel.event(BLOB)
    seconds, results = timed(lambda: [channel.event(BLOB) for _ in range(200)])
    assert results == [False] * 200
    assert seconds < 200 * SHORT_MS / 1000 / 10
    assert impatient.timeouts() == [0, 201]
    impatient.take(6)
    commands.until(lambda: channel.event(BLOB))
    impatient.fill()
    seconds, recorded = timed(lambda: channel.event(BLOB))
    assert recorded is False
    assert seconds > SHORT_MS / 1000 * 0.95, "it makes sense to wait again"


# -- signals


class Alarm(Exception):
    """What a handler raises."""


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGUSR1, Alarm)])
def test_a_signal_handler_that_raises_ends_the_wait_and_the_event_is_counted(
    full: Stream, number: int, error: type[BaseException]
) -> None:
    def handle(*_: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGUSR1, handle)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), number))
    timer.start()
    began = time.monotonic()
    try:
        with pytest.raises(error):
            full.channel.event(BLOB)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
    assert time.monotonic() - began < LONG_S
    assert full.timeouts() == [0, 1]


def test_a_signal_handler_that_raises_ends_the_wait_of_a_reservation(full: Stream) -> None:
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    reservation = full.channel.reserve(len(BLOB))
    with pytest.raises(KeyboardInterrupt), reservation:
        pytest.fail("the block was entered")
    timer.join()
    assert full.timeouts() == [0, 1]


@pytest.mark.parametrize(
    "begin",
    [
        lambda load: load("x" * 200).__enter__(),
        lambda load: load.begin("x" * 200),
        lambda load: load.begin("\ud800" * 200),
    ],
    ids=["with", "by hand", "encoded by Python"],
)
def test_a_span_that_an_interrupt_keeps_from_beginning_is_not_around_what_follows(
    full: Stream, begin: Callable[[Any], object]
) -> None:
    load = full.channel.span("load", path="str")
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        begin(load)
    timer.join()
    assert place.numbers()[0] == 0
    assert full.timeouts() == [0, 1]


def test_after_a_signal_handler_that_returns_the_wait_goes_on(full: Stream) -> None:
    handled: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _frame: handled.append(number))
    timers = [threading.Timer(0.05 * (n + 1), os.kill, (os.getpid(), signal.SIGUSR1)) for n in range(3)]
    try:
        for timer in timers:
            timer.start()
        with full.taking_after(0.4):
            seconds, recorded = timed(lambda: full.channel.event(BLOB))
    finally:
        for timer in timers:
            timer.join()
        signal.signal(signal.SIGUSR1, before)
    assert (recorded, handled) == (True, [signal.SIGUSR1] * 3)
    assert seconds > 0.3


# -- nobody waits for what will not come


def test_without_a_reader_an_event_does_not_wait_and_is_not_counted(
    make_channel: Callable[..., shmtrace.Channel],
) -> None:
    channel = make_channel(block_ms=LONG_MS)
    seconds, results = timed(lambda: [channel.event(BLOB) for _ in range(3 * PAGES)])
    assert results == [False] * 3 * PAGES
    assert seconds < LONG_S
    assert channel.missed == 0


def test_when_the_reader_leaves_the_wait_ends_and_nothing_is_counted(full: Stream) -> None:
    own = os.dup(full.reader)
    os.close(full.reader)
    full.reader = own  # the last descriptor of the FIFO
    timer = threading.Timer(0.3, os.close, (own,))
    timer.start()
    seconds, recorded = timed(lambda: full.channel.event(BLOB))
    timer.join()
    full.reader = os.open(os.devnull, os.O_RDONLY)
    assert seconds < LONG_S
    assert recorded is False
    assert full.channel.missed == 0


@pytest.mark.parametrize("when", ["before", "in the middle"])
def test_when_the_collector_is_killed_the_wait_ends_and_the_event_is_counted(full: Stream, when: str) -> None:
    def kill() -> None:
        full.collector.kill()
        full.collector.wait(LONG_S)

    timer = threading.Timer(0.3 if when == "in the middle" else 0, kill)
    timer.start()
    if when == "before":
        timer.join()
    seconds, recorded = timed(lambda: full.channel.event(BLOB))
    timer.join()
    assert recorded is False
    assert seconds < LONG_S
    assert full.timeouts() == [0, 1]


def test_when_a_collector_is_replaced_producers_go_on_and_wait_again(full: Stream) -> None:
    channel = full.channel
    full.collector.kill()
    full.collector.wait(LONG_S)
    assert not channel.event(BLOB)
    with commands.running("collect", channel.name):
        commands.until(lambda: channel.stats()["collector"] not in (None, full.collector.pid))
        full.take(4)
        commands.until(lambda: channel.event(BLOB))
        full.fill()
        missed = channel.missed
        with full.taking_after(0.3):
            seconds, recorded = timed(lambda: channel.event(BLOB))
        assert recorded is True
        assert seconds > 0.2
        assert channel.missed == missed


def test_who_waits_while_the_collector_is_stopped_goes_on_with_it(full: Stream) -> None:
    os.kill(full.collector.pid, signal.SIGSTOP)
    stat = Path(f"/proc/{full.collector.pid}/stat")
    commands.until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
    full.take(6)
    timer = threading.Timer(0.4, os.kill, (full.collector.pid, signal.SIGCONT))
    timer.start()
    seconds, recorded = timed(lambda: full.channel.event(BLOB))
    timer.join()
    assert recorded is True
    assert 0.2 < seconds < LONG_S


# -- forks and kills


def test_a_process_forked_while_a_thread_waits_emits_and_the_thread_goes_on(full: Stream) -> None:
    results: list[bool] = []
    waiting = threading.Thread(target=lambda: results.append(full.channel.event(BLOB)))
    waiting.start()
    time.sleep(0.2)
    with forked(lambda: full.channel.event(BLOB)) as child:
        time.sleep(0.2)
        full.take(8)
        assert status_of(child) == 1
    waiting.join(LONG_S)
    assert results == [True]


def tokens(channel: shmtrace.Channel) -> int:
    count = ctypes.c_int()
    semaphore = open_semaphore(channel.name, "waiting")
    libc.sem_getvalue(semaphore, ctypes.byref(count))
    libc.sem_close(semaphore)
    return count.value


def test_waiters_that_are_killed_lose_no_page_and_no_token(full: Stream) -> None:
    channel = full.channel
    attachment = channel._attachment
    assert attachment is not None
    segment = attachment.segment

    def emit_for_ever() -> bool:
        while True:
            channel.event(BLOB)

    for _ in range(15):
        with forked(emit_for_ever) as first, forked(emit_for_ever) as second, forked(emit_for_ever) as third:
            full.take(3)
            for child in (first, second, third):
                os.kill(child, signal.SIGKILL)
    os.close(full.reader)
    full.reader = os.open(os.devnull, os.O_RDONLY)

    def at_rest() -> bool:
        lanes = [segment.u64(segment.lane_at(lane) + LANE.owner) for lane in range(segment.geometry.lanes)]
        return not any(lanes) and segment.waiting_pages() == PAGES

    commands.until(at_rest)
    reader = os.open(channel.fifo, os.O_RDONLY | os.O_NONBLOCK)
    commands.until(lambda: channel.enabled and tokens(channel) == PAGES)
    os.close(reader)
    assert channel.stats()["damaged_words"] == 0


def test_a_dead_waiters_token_is_mended_for_the_others(full: Stream) -> None:
    """As if a waiter had been killed between its wake and its posting back."""
    semaphore = open_semaphore(full.channel.name, "waiting")
    full.take(8)
    commands.until(lambda: tokens(full.channel) > 0)
    while libc.sem_trywait(ctypes.c_void_p(semaphore)) == 0:
        pass
    libc.sem_close(semaphore)
    assert full.channel.event(BLOB)


def test_that_one_has_waited_in_vain_is_forgotten_with_the_first_page(impatient: Stream) -> None:
    attachment = impatient.channel._attachment
    assert attachment is not None
    assert not impatient.channel.event(BLOB)
    assert attachment.segment.u32(CONTROL.impatient) == 1
    impatient.take(4)
    commands.until(lambda: impatient.channel.event(BLOB))
    assert attachment.segment.u32(CONTROL.impatient) == 0
