"""A process that becomes another program by `exec`: it keeps pid and start time, and what it held is held by nobody.

What it holds in these tests is the lane of a reservation: nothing else is held while Python can run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

import commands
import shmtrace
from recording import end
from shmtrace import layout
from shmtrace.layout import LANE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PAGES = 32
pytestmark = pytest.mark.timeout(60)

BEFORE = """
    import os, shmtrace, sys
    channel = shmtrace.attach()
    assert channel.event(b"before")
    reservations = [channel.reserve(4) for _ in range(3)]
    for reservation in reservations:
        reservation.__enter__()
    print("held", flush=True)
    sys.stdin.readline()
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
ANOTHER = """
    import sys
    print("another", flush=True)
    sys.stdin.readline()
"""
TRACED = """
    import shmtrace, sys
    channel = shmtrace.attach()
    print("attached", flush=True)
    sys.stdin.readline()
    assert channel.event(b"after")
    print("emitted", flush=True)
    sys.stdin.readline()
"""


COLLECT = """
    import sys
    from shmtrace.cli import main
    from shmtrace.collector import loop
    loop.CENSUS_EVERY_S = 0.1  # it asks ten times as often as it would
    main(["collect", sys.argv[1]])
"""


@contextmanager
def collected(channel: shmtrace.Channel) -> Iterator[subprocess.Popen[str]]:
    """An impatient collector beside the block."""
    command = [sys.executable, "-c", textwrap.dedent(COLLECT)]
    with commands.running(channel.name, command=command) as collector:
        yield collector


@contextmanager
def recorded(channel: shmtrace.Channel, trace: Path) -> Iterator[None]:
    """An impatient collector and a recorder beside the block; they end in order."""
    with collected(channel) as collector, commands.running("record", channel.name, "-o", trace) as recorder:
        commands.until(lambda: channel.enabled)
        yield
        end(collector, signal_number=signal.SIGTERM)
        end(recorder)


@pytest.fixture
def make_channel(
    monkeypatch: pytest.MonkeyPatch, new_name: Callable[[], str]
) -> Iterator[Callable[..., shmtrace.Channel]]:
    """Makes channels with one cpu slot; what is left of them after the test is removed."""
    monkeypatch.setenv("SHMTRACE_CPUS", "1")
    made: list[shmtrace.Channel] = []

    def make(**options: Any) -> shmtrace.Channel:  # noqa: ANN401
        sizes = {"page_size": 4096, "pages": PAGES, "flush_ms": 20, **options}
        made.append(shmtrace.create_channel(new_name(), **sizes))
        return made[-1]

    yield make
    for channel in made:
        with suppress(shmtrace.ChannelNotFound):
            shmtrace.remove_channel(channel.name, drain=True)


def owners(channel: shmtrace.Channel) -> list[int]:
    """Pids of those that hold lanes."""
    attachment = channel._attachment
    assert attachment is not None
    segment = attachment.segment
    words = (segment.u64(segment.lane_at(lane) + LANE.owner) for lane in range(segment.geometry.lanes))
    return [word >> layout.OWNER_PID_SHIFT & layout.OWNER_PID_MASK for word in words if word]


def blobs(trace: Path) -> list[tuple[object, int | None]]:
    """What is in a trace, and of which process."""
    return [(record.fields["blob"], record.pid) for record in shmtrace.read(trace) if record.name == "blob"]


class Program:
    """A process that goes on when it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid

    def go_on(self, until: str) -> None:
        """Let it go on, and wait until it says a word."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.await_word(until)

    def await_word(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{word}\n"


@contextmanager
def program(text: str, channel: shmtrace.Channel, *arguments: str) -> Iterator[Program]:
    """A program beside the block, of which SHMTRACE names the channel; what is left of it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text), *map(textwrap.dedent, arguments)],
        env={**os.environ, "SHMTRACE": channel.name},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Program(process)
        finally:
            process.kill()


def test_from_one_that_is_another_program_now_the_collector_takes_lanes_pages_and_number_back(
    make_channel: Callable[..., shmtrace.Channel], tmp_path: Path
) -> None:
    channel = make_channel()
    with recorded(channel, tmp_path / "trace"), program(BEFORE, channel, ANOTHER) as holder:
        holder.await_word("held")
        assert owners(channel) == [holder.pid] * 3
        holder.go_on("another")
        commands.until(lambda: owners(channel) == [])
        commands.until(lambda: not channel.writers())
        assert holder.process.poll() is None, "it lives"
        assert channel.event(b"of others")
    assert blobs(tmp_path / "trace") == [(b"before", holder.pid), (b"of others", os.getpid())]
    assert channel.stats()["pages_waiting"] == PAGES
    assert channel.stats()["damaged_words"] == 0


def test_without_a_reader_the_collector_takes_them_back_too(make_channel: Callable[..., shmtrace.Channel]) -> None:
    channel = make_channel()
    with collected(channel):
        reader = os.open(channel.fifo, os.O_RDONLY | os.O_NONBLOCK)
        commands.until(lambda: channel.enabled)
        with program(BEFORE, channel, ANOTHER) as holder:
            holder.await_word("held")
            os.close(reader)
            commands.until(lambda: not channel.stats()["reader"])
            holder.go_on("another")
            commands.until(lambda: owners(channel) == [])
            assert holder.process.poll() is None, "it lives"


def test_one_that_has_not_become_another_program_keeps_its_lanes(
    make_channel: Callable[..., shmtrace.Channel], tmp_path: Path
) -> None:
    channel = make_channel(flush_ms=1)
    with recorded(channel, tmp_path / "trace"), program(BEFORE, channel, ANOTHER) as holder:
        holder.await_word("held")
        with program(TRACED, channel) as other:  # and another one's attaching does not take them
            other.await_word("attached")
            other.go_on("emitted")
        with pytest.raises(AssertionError, match="in vain"):  # the collector asks whether it left
            commands.until(lambda: owners(channel) != [holder.pid] * 3, 1)


def test_when_it_attaches_again_its_older_lanes_are_given_back_at_once(
    make_channel: Callable[..., shmtrace.Channel], tmp_path: Path
) -> None:
    channel = make_channel()
    trace = tmp_path / "trace"
    with (
        commands.running("collect", channel.name) as collector,
        commands.running("record", channel.name, "-o", trace) as recorder,
    ):
        commands.until(lambda: channel.enabled)
        with program(BEFORE, channel, TRACED) as holder:
            holder.await_word("held")
            os.kill(collector.pid, signal.SIGSTOP)  # so that it is not the collector that does it
            holder.go_on("attached")
            assert owners(channel) == []
            os.kill(collector.pid, signal.SIGCONT)
            holder.go_on("emitted")
            end(collector, signal_number=signal.SIGTERM)
            end(recorder)
    assert blobs(trace) == [(b"before", holder.pid), (b"after", holder.pid)]
    assert channel.stats()["damaged_words"] == 0


def test_in_the_mode_overwrite_its_older_lanes_are_given_back_when_it_attaches_again(
    make_channel: Callable[..., shmtrace.Channel], tmp_path: Path
) -> None:
    channel = make_channel(mode="overwrite")
    with program(BEFORE, channel, TRACED) as holder:
        holder.await_word("held")
        assert owners(channel) == [holder.pid] * 3
        holder.go_on("attached")
        assert owners(channel) == []
        holder.go_on("emitted")
        channel.snapshot(tmp_path / "trace")
    assert blobs(tmp_path / "trace") == [(b"before", holder.pid), (b"after", holder.pid)]


def test_its_writers_of_before_have_ended_when_it_attaches_again(
    make_channel: Callable[..., shmtrace.Channel],
) -> None:
    channel = make_channel(mode="overwrite")
    attachment = channel._attachment
    assert attachment is not None
    segment = attachment.segment

    def ended() -> list[bool]:
        entries = [segment.u64(segment.geometry.writers_at + n * layout.WRITER_BYTES) for n in range(1, 4096)]
        return [bool(entry & layout.IDENTITY_ENDED) for entry in entries if entry]

    with program(BEFORE, channel, TRACED) as holder:
        holder.await_word("held")
        assert ended() == [False]
        holder.go_on("attached")
        assert ended() == [True]
        holder.go_on("emitted")
        assert sorted(ended()) == [False, True]


def test_a_program_may_become_another_again_and_again(
    make_channel: Callable[..., shmtrace.Channel], tmp_path: Path
) -> None:
    text = """
    import os, shmtrace, sys
    channel = shmtrace.attach()
    number = int(sys.argv[2])
    assert channel.event(b"%d" % number)
    reservation = channel.reserve(4)
    reservation.__enter__()
    if number < 12:  # more often than there are lanes
        os.execv(sys.executable, [sys.executable, "-c", sys.argv[1], sys.argv[1], str(number + 1)])
    """
    channel = make_channel(mode="overwrite")
    with program(text, channel, text, "0") as chain:
        assert chain.process.wait(50) == 0
    channel.snapshot(tmp_path / "trace")
    assert blobs(tmp_path / "trace") == [(b"%d" % number, chain.pid) for number in range(13)]
    assert (owners(channel), channel.missed) == ([], 0)


def test_a_child_forked_while_its_parent_holds_a_lane_takes_nothing_from_it(
    make_channel: Callable[..., shmtrace.Channel],
) -> None:
    """The child is another process, and attaching tells it so."""
    channel = make_channel(mode="overwrite")
    with channel.reserve(4), program(TRACED, channel) as other:
        other.await_word("attached")
        assert owners(channel) == [os.getpid()]
    assert owners(channel) == []
