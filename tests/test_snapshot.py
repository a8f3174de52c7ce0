"""Snapshots from inside, of channels of any mode and in any state; and on occasion (`Channel.snapshot_at`)."""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import re
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections import Counter
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import commands
import shmtrace
from judge import judge
from shmtrace import layout
from shmtrace.layout import CONTROL, LANE, PAGE, WRITER
from shmtrace.reader import DirectoryNotEmpty

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from shmtrace.segment import Segment

PAGE_SIZE, PAGES = 4096, 32
PIPE = 1 << 16
pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def make_channel(
    monkeypatch: pytest.MonkeyPatch, new_name: Callable[[], str]
) -> Iterator[Callable[..., shmtrace.Channel]]:
    """Makes channels with one cpu slot; what is left of them after the test is removed."""
    monkeypatch.setenv("SHMTRACE_CPUS", "1")
    made: list[shmtrace.Channel] = []

    def make(**options: Any) -> shmtrace.Channel:  # noqa: ANN401
        sizes = {"page_size": PAGE_SIZE, "pages": PAGES, "flush_ms": 20, "block_ms": 200, **options}
        made.append(shmtrace.create_channel(new_name(), **sizes))
        return made[-1]

    yield make
    for channel in made:
        with suppress(shmtrace.ChannelNotFound):
            shmtrace.remove_channel(channel.name, drain=True)


@pytest.fixture
def channel(make_channel: Callable[..., shmtrace.Channel]) -> shmtrace.Channel:
    """A flight recorder."""
    return make_channel(mode="overwrite")


@pytest.fixture
def segment(channel: shmtrace.Channel) -> Segment:
    return segment_of(channel)


def segment_of(channel: shmtrace.Channel) -> Segment:
    """The segment as this process has it mapped."""
    attachment = channel._attachment
    assert attachment is not None
    return attachment.segment


def numbers(trace: Path) -> list[int]:
    """The blobs that are numbers; the end of a stream may have been cut off."""
    found = shmtrace.read(trace, warn=lambda _: None)
    return [int(str(record.fields["blob"], "ascii")) for record in found if record.name == "blob"]  # type: ignore[call-overload]


# -- what has not been sent


class Stuck:
    """A channel whose reader takes nothing, and whose pages are full: the events that were accepted."""

    def __init__(self, channel: shmtrace.Channel, collector: subprocess.Popen[str], reader: int) -> None:
        self.channel = channel
        self.collector = collector
        self.reader = reader
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, PIPE)
        self.accepted: list[int] = []
        quiet, limit = 0, time.monotonic() + commands.LIMIT_S
        for number in itertools.count():
            if channel.event(b"%d" % number):
                self.accepted.append(number)
                quiet = 0
                continue
            quiet += 1
            if quiet > 3000 and is_full(channel.fifo):
                break
            assert time.monotonic() < limit, "it is never full"

    def rest_of_the_stream(self, output: Path) -> list[int]:
        """What has been sent, when there is no collector any more that sends more."""
        with output.open("wb") as file:
            while data := os.read(self.reader, PIPE):
                file.write(data)
        return numbers(output)


def is_full(fifo: Path) -> bool:
    """Nothing more can be written into a FIFO that somebody reads."""
    end = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    try:
        return not select.select([], [end], [], 0)[1]
    finally:
        os.close(end)


@pytest.fixture(params=["drop", "block"])
def stuck(request: pytest.FixtureRequest, make_channel: Callable[..., shmtrace.Channel]) -> Iterator[Stuck]:
    channel = make_channel(mode=request.param)
    with commands.running("collect", channel.name) as collector:
        reader = os.open(channel.fifo, os.O_RDONLY | os.O_NONBLOCK)
        try:
            commands.until(lambda: channel.enabled)
            yield Stuck(channel, collector, reader)
        finally:
            os.close(reader)


def test_of_a_channel_that_is_read_it_has_what_was_not_sent(stuck: Stuck, tmp_path: Path) -> None:
    os.kill(stuck.collector.pid, signal.SIGSTOP)
    count = stuck.channel.snapshot(tmp_path / "trace")
    found = numbers(tmp_path / "trace")
    assert len(found) == count == len(stuck.accepted) - stuck.channel.stats()["delivered"] > 0
    assert found == stuck.accepted[-count:]


def test_when_the_collector_was_killed_it_has_what_was_not_sent_and_nothing_else(stuck: Stuck, tmp_path: Path) -> None:
    stuck.collector.kill()
    stuck.collector.wait(30)
    result = commands.run("snapshot", stuck.channel.name, "-o", tmp_path / "trace")
    assert result.returncode == 0, result.stderr
    found = numbers(tmp_path / "trace")
    sent = stuck.rest_of_the_stream(tmp_path / "stream")
    assert sent + found == stuck.accepted
    assert min(len(sent), len(found)) > 0


def test_it_takes_nothing_away_from_the_reader(stuck: Stuck, tmp_path: Path) -> None:
    stuck.channel.snapshot(tmp_path / "trace")
    stuck.collector.terminate()
    os.set_blocking(stuck.reader, True)
    assert stuck.rest_of_the_stream(tmp_path / "stream") == stuck.accepted


@pytest.mark.peers
def test_babeltrace2_reads_what_was_not_sent(stuck: Stuck, tmp_path: Path, peer: Callable[[str], str]) -> None:
    count = stuck.channel.snapshot(tmp_path / "trace")
    verdict = judge(peer("babeltrace2"), tmp_path / "trace")
    assert verdict.by_pid == {os.getpid(): count}
    assert verdict.discarded == stuck.channel.missed


def test_while_everything_was_sent_it_is_empty(make_channel: Callable[..., shmtrace.Channel], tmp_path: Path) -> None:
    channel = make_channel()
    with commands.running("collect", channel.name):
        reader = os.open(channel.fifo, os.O_RDONLY | os.O_NONBLOCK)
        commands.until(lambda: channel.enabled)
        for number in range(1000):
            assert channel.event(b"%d" % number)
        commands.until(lambda: channel.stats()["delivered"] == 1000)
        assert channel.snapshot(tmp_path / "trace") == 0
        os.close(reader)
    assert numbers(tmp_path / "trace") == []


def test_while_producers_and_collector_run_it_is_in_order_and_whole(
    make_channel: Callable[..., shmtrace.Channel], tmp_path: Path
) -> None:
    channel = make_channel()
    stop = threading.Event()

    def produce() -> None:
        for number in itertools.count():
            channel.event(b"%d" % number)
            if stop.is_set():
                return

    with (
        commands.running("collect", channel.name),
        commands.running(command=["sh", "-c", 'exec cat < "$0" > /dev/null', str(channel.fifo)]),
    ):
        commands.until(lambda: channel.enabled)
        thread = threading.Thread(target=produce)
        thread.start()
        try:
            for turn in range(10):
                channel.snapshot(tmp_path / str(turn))
                found = numbers(tmp_path / str(turn))
                assert found == sorted(set(found))
        finally:
            stop.set()
            thread.join()
    assert channel.stats()["damaged_words"] == 0


def test_the_events_that_were_refused_are_told(stuck: Stuck, tmp_path: Path) -> None:
    stuck.channel.snapshot(tmp_path / "trace")
    told = [record.fields for record in shmtrace.read(tmp_path / "trace") if record.kind == "loss"]
    assert sum(fields["count"] for fields in told) == stuck.channel.missed > 0  # type: ignore[misc]


# -- where to


def test_a_directory_that_is_not_empty_is_refused(channel: shmtrace.Channel, tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    with pytest.raises(DirectoryNotEmpty, match=re.escape(str(tmp_path))):
        channel.snapshot(tmp_path)


def test_a_disabled_channel_has_no_snapshot(tmp_path: Path) -> None:
    with pytest.raises(shmtrace.ChannelError, match="closed or disabled"):
        shmtrace.attach().snapshot(tmp_path / "trace")


def test_it_leaves_no_memory_and_no_descriptor_behind(channel: shmtrace.Channel, tmp_path: Path) -> None:
    def mappings_and_files() -> tuple[int, int]:
        with open("/proc/self/maps") as file:  # noqa: PTH123 - as few calls as can be
            return len(file.readlines()), len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    for number in range(2000):
        channel.event(b"%d" % number)
    channel.snapshot(tmp_path / "first")
    mappings, files = mappings_and_files()
    for turn in range(20):
        channel.snapshot(tmp_path / str(turn))
    assert mappings_and_files()[1] == files
    assert mappings_and_files()[0] - mappings < 5


# -- segments that somebody wrote nonsense into


def test_a_lane_whose_position_is_nonsense_is_left_out_and_said(
    channel: shmtrace.Channel, segment: Segment, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with channel.reserve(4) as view:  # in the first lane
        view[:] = b"1000"
        channel.event(b"2000")  # in the second one
    segment.set_u64(segment.lane_at(0) + LANE.position, PAGES << layout.PAGE_SHIFT)
    assert channel.snapshot(tmp_path / "trace") == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"shmtrace: snapshot of {channel.name!r}: ")
    assert " lane 0 " in line
    assert line.endswith("left out")
    assert numbers(tmp_path / "trace") == [2000]


@pytest.mark.parametrize("word", ["size", "id", "cycles"])
def test_what_is_behind_a_record_that_is_none_is_left_out_and_told(
    channel: shmtrace.Channel, segment: Segment, tmp_path: Path, word: str
) -> None:
    for number in range(10):
        channel.event(b"%d" % number)
    at = segment.geometry.pages_at + 24 * 5  # the sixth record
    nonsense = {"size": (14, b"\xff\xff"), "id": (8, b"\xfe\xff"), "cycles": (0, b"\xff" * 7 + b"\x7f")}
    offset, data = nonsense[word]
    segment.write(at + offset, data)
    channel.snapshot(tmp_path / "trace")
    assert numbers(tmp_path / "trace") == [0, 1, 2, 3, 4]
    told = [record.fields["reason"] for record in shmtrace.read(tmp_path / "trace") if record.kind == "loss"]
    assert told == ["damaged"]


@pytest.mark.parametrize("field", ["owner", "length"])
def test_a_page_whose_descriptor_is_nonsense_is_a_gap(
    channel: shmtrace.Channel, segment: Segment, tmp_path: Path, field: str
) -> None:
    total = 170 * 4
    for number in range(total):
        assert channel.event(b"%d" % number)
    at = segment.geometry.descriptors_at + 1 * layout.PAGE_BYTES
    if field == "owner":
        segment.set_u64(at + PAGE.owner, 1 << 63)
    else:
        segment.set_u32(at + PAGE.length, PAGE_SIZE + 1)
    channel.snapshot(tmp_path / "trace")
    found = numbers(tmp_path / "trace")
    assert found == sorted(set(found))
    assert set(range(total)) - set(found) == set(range(170, 340)), "the second page"
    told: list[str] = []
    list(shmtrace.read(tmp_path / "trace", warn=told.append))
    losses = [record for record in shmtrace.read(tmp_path / "trace", warn=told.append) if record.kind == "loss"]
    assert told or losses


def scramble(channel: shmtrace.Channel, seed: int) -> None:
    """Write nonsense over words of the segment that a snapshot looks at."""
    segment, dice = segment_of(channel), random.Random(seed)
    geometry = segment.geometry

    def word() -> int:
        near = dice.choice([0, 1, PAGE_SIZE, PAGES, 1 << 20, 1 << 28, 1 << 36, 1 << 63, (1 << 64) - 1])
        return dice.choice([dice.getrandbits(64), (near + dice.randrange(-2, 3)) % (1 << 64), 0])

    def lane() -> int:
        return segment.lane_at(dice.randrange(3))

    places = [
        lambda: lane() + LANE.position,
        lambda: lane() + LANE.progress,
        lambda: lane() + LANE.totals + 8 * dice.randrange(16),
        lambda: lane() + LANE.taken,
        lambda: geometry.descriptors_at + 8 * dice.randrange(2 * PAGES),
        lambda: geometry.pages_at + 8 * dice.randrange(512 * PAGES),
        lambda: geometry.writers_at + WRITER.identity + 8 * dice.randrange(64),
        lambda: geometry.classes_at + 8 * dice.randrange(8),
        lambda: CONTROL.classes_count,
        lambda: geometry.cpus_at + 8 * dice.randrange(3),
    ]
    for _ in range(dice.choice([1, 3, 30])):
        segment.set_u64(dice.choice(places)(), word())


@pytest.mark.parametrize("mode", ["overwrite", "drop"])
def test_whatever_is_in_the_segment_a_snapshot_ends_and_can_be_read(
    make_channel: Callable[..., shmtrace.Channel], tmp_path: Path, mode: str
) -> None:
    channel = make_channel(mode=mode)
    segment = segment_of(channel)
    segment.set_u32(CONTROL.recording, 1)
    for number in range(1500):
        with channel.reserve(6) as view:
            view[:] = b"%06d" % number
            channel.event(b"%d" % number)
    begin = CONTROL.classes_count
    size = segment.geometry.segment_bytes - begin
    good = segment.read(begin, size)
    outcomes = Counter[str]()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        status = 1
        with suppress(BaseException):
            for seed in range(80):
                segment.write(begin, good)
                scramble(channel, seed)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    outcomes[snapshot_and_read(channel, tmp_path / str(seed))] += 1
            status = 0 if outcomes["read"] > 50 and not set(outcomes) - {"read", "refused"} else 2
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    segment.write(begin, good)


def snapshot_and_read(channel: shmtrace.Channel, trace: Path) -> str:
    try:
        channel.snapshot(trace)
    except shmtrace.ShmtraceError:
        return "refused"
    for _ in shmtrace.read(trace, warn=lambda _: None):
        pass
    return "read"


# -- on occasion


@contextmanager
def python(program: str, channel: shmtrace.Channel, directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A program beside the block, of which SHMTRACE names the channel; what is left of it is killed."""
    beginning = "import os, shmtrace, signal, sys, threading\nchannel = shmtrace.attach()\nchannel.event(b'1')\n"
    with subprocess.Popen(
        [sys.executable, "-c", beginning + textwrap.dedent(program), str(directory)],
        env={**os.environ, "SHMTRACE": channel.name},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Outcome:
    """What became of a program: exit status, stdout, stderr, and the snapshots that it left."""

    def __init__(self, program: str, channel: shmtrace.Channel, directory: Path) -> None:
        with python(program, channel, directory) as process:
            self.stdout, self.stderr = process.communicate(timeout=50)
        self.status = process.returncode
        self.snapshots = sorted(directory.iterdir()) if directory.is_dir() else []
        self.said = [line for line in self.stderr.splitlines() if line.startswith("shmtrace: ")]


@pytest.fixture
def run(channel: shmtrace.Channel, tmp_path: Path) -> Callable[[str], Outcome]:
    """Runs a program to its end; its first argument is a directory for snapshots."""
    return partial(_run, channel, tmp_path / "snapshots")


def _run(channel: shmtrace.Channel, directory: Path, program: str) -> Outcome:
    return Outcome(program, channel, directory)


def test_an_exception_that_nobody_handles_takes_a_snapshot_and_ends_the_program_as_ever(
    run: Callable[[str], Outcome], channel: shmtrace.Channel
) -> None:
    outcome = run("channel.snapshot_at(sys.argv[1], exceptions=True)\nraise ValueError('my own trouble')")
    assert outcome.status == 1
    assert outcome.stderr.endswith("ValueError: my own trouble\n")
    (trace,) = outcome.snapshots
    assert outcome.said == [
        f"shmtrace: unhandled ValueError: snapshot of {channel.name!r}, 1 events -> {trace}",
    ]
    assert numbers(trace) == [1]


def test_the_hook_of_before_is_called(run: Callable[[str], Outcome]) -> None:
    outcome = run(
        """
        sys.excepthook = lambda kind, error, traceback: print("mine:", kind.__name__, error)
        channel.snapshot_at(sys.argv[1], exceptions=True)
        raise LookupError("lost")
        """
    )
    assert (outcome.status, outcome.stdout) == (1, "mine: LookupError lost\n")
    assert len(outcome.snapshots) == 1


def test_an_exception_of_a_thread_takes_a_snapshot_and_the_program_goes_on(run: Callable[[str], Outcome]) -> None:
    outcome = run(
        """
        threading.excepthook = lambda arguments: print("mine:", arguments.exc_type.__name__)
        channel.snapshot_at(sys.argv[1], exceptions=True)
        def fail():
            raise LookupError
        for target in (fail, sys.exit):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        print("goes on")
        """
    )
    assert (outcome.status, outcome.stdout.splitlines()[0], outcome.stdout.splitlines()[-1]) == (
        0,
        "mine: LookupError",
        "goes on",
    )
    assert len(outcome.snapshots) == 1
    assert "unhandled LookupError in a thread: " in outcome.said[0]


@pytest.mark.parametrize("end", ["sys.exit(7)", "os._exit(7)"])
def test_the_ordinary_end_of_a_program_takes_none(run: Callable[[str], Outcome], end: str) -> None:
    outcome = run(f"channel.snapshot_at(sys.argv[1], exceptions=True)\n{end}")
    assert (outcome.status, outcome.snapshots, outcome.stderr) == (7, [], "")


def test_a_signal_takes_a_snapshot_each_time_and_the_program_goes_on(run: Callable[[str], Outcome]) -> None:
    outcome = run(
        """
        channel.snapshot_at(sys.argv[1], signal=signal.SIGUSR1)
        for number in range(3):
            os.kill(os.getpid(), signal.SIGUSR1)
            channel.event(b"2")
        print("goes on")
        """
    )
    assert (outcome.status, outcome.stdout) == (0, "goes on\n")
    assert [numbers(trace) for trace in outcome.snapshots] == [[1], [1, 2], [1, 2, 2]]
    assert len(outcome.said) == 3


def test_the_handler_of_before_is_called(run: Callable[[str], Outcome]) -> None:
    outcome = run(
        """
        signal.signal(signal.SIGTERM, lambda number, frame: print("mine:", number, frame.f_code.co_name))
        channel.snapshot_at(sys.argv[1], signal=signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        print("goes on")
        """
    )
    assert (outcome.status, outcome.stdout) == (0, f"mine: {signal.SIGTERM:d} <module>\ngoes on\n")
    assert len(outcome.snapshots) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGALRM])
def test_a_signal_that_would_have_ended_the_program_ends_it(run: Callable[[str], Outcome], number: int) -> None:
    outcome = run(
        f"""
        channel.snapshot_at(sys.argv[1], signal={number:d})
        os.kill(os.getpid(), {number:d})
        print("goes on")
        """
    )
    assert (outcome.status, outcome.stdout) == (-number, "")
    assert len(outcome.snapshots) == 1


def test_a_signal_that_would_have_done_nothing_does_nothing_each_time(run: Callable[[str], Outcome]) -> None:
    outcome = run(
        """
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (signal.SIGHUP, signal.SIGWINCH):
            channel.snapshot_at(sys.argv[1], signal=number)
            for _ in range(2):
                os.kill(os.getpid(), number)
        print("goes on")
        """
    )
    assert (outcome.status, outcome.stdout) == (0, "goes on\n")
    assert len(outcome.snapshots) == 4


def test_ctrl_c_is_a_keyboard_interrupt_as_ever(run: Callable[[str], Outcome]) -> None:
    outcome = run(
        """
        channel.snapshot_at(sys.argv[1], signal=signal.SIGINT)
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    assert (outcome.status, outcome.stdout) == (0, "interrupted\n")
    assert len(outcome.snapshots) == 1


@pytest.mark.parametrize("trouble", ["no directory", "closed"])
def test_a_snapshot_that_fails_is_one_line_and_changes_nothing(
    channel: shmtrace.Channel, tmp_path: Path, trouble: str
) -> None:
    directory = tmp_path / "snapshots"
    if trouble == "no directory":
        directory.touch()
    outcome = Outcome(
        f"""
        sys.excepthook = lambda *_: print("mine")
        channel.snapshot_at(sys.argv[1], exceptions=True, signal=signal.SIGUSR1)
        if {trouble == "closed"}:
            channel.close()
        os.kill(os.getpid(), signal.SIGUSR1)
        raise ValueError
        """,
        channel,
        directory,
    )
    assert (outcome.status, outcome.stdout) == (1, "mine\n")
    assert outcome.stderr.splitlines() == outcome.said
    first, second = outcome.said
    assert first.startswith(f"shmtrace: signal {signal.SIGUSR1:d}: no snapshot of {channel.name!r}: ")
    assert second.startswith(f"shmtrace: unhandled ValueError: no snapshot of {channel.name!r}: ")


def test_a_program_that_changes_its_directory_finds_its_snapshots_where_it_asked_for_them(
    channel: shmtrace.Channel, tmp_path: Path
) -> None:
    program = """
        os.chdir(sys.argv[1])
        channel.snapshot_at("here", exceptions=True)
        os.chdir("/")
        raise ValueError
        """
    outcome = Outcome(program, channel, tmp_path)
    assert [path.name for path in outcome.snapshots] == ["here"]
