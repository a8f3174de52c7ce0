"""A channel that is closed, or becomes another one, while a call of what it made is under way."""

from __future__ import annotations

import sys
import textwrap
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

import commands
import shmtrace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from shmtrace.reader import Record

PROGRAM = """
import sys
import shmtrace

channel = shmtrace.open_channel(sys.argv[1])
request = channel.tracepoint("request", status="u16", latency="f64", path="str")
load = channel.span("load", shard="u16", path="str")
depth = channel.counter("depth")


class Closing:
    def close(self):
        channel.close()
        return 7

    def __float__(self):
        return float(self.close())

    __index__ = close


def use(value):
    with load(value, "x"):
        pass


request(1, 0.5, "first")
print({call})
print(request(2, 0.5, "last"))
"""
CALLS = (
    'request(Closing(), 1.0, "x")', 'request(1, Closing(), "é")', 'load.begin(Closing(), "x")', "use(Closing())",
    "depth(Closing())",
)  # fmt: skip
TELLING = """
import sys
import shmtrace

channel, other = map(shmtrace.open_channel, sys.argv[1:])
load, request = channel.span("load", shard="u8"), channel.tracepoint("request")


class Closing:
    said = 0

    def __repr__(self):
        self.said += 1
        if self.said == 2:
            channel.close()
        return "closing"


other.context(what=Closing())
{call}
"""


@pytest.fixture
def recorder(new_name: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., shmtrace.Channel]]:
    """Makes flight recorders: channels that record without a reader."""
    monkeypatch.setenv("SHMTRACE_STRICT", "0")
    made: list[str] = []

    def make(page_size: int = 65536) -> shmtrace.Channel:
        made.append(new_name())
        return shmtrace.create_channel(made[-1], mode="overwrite", page_size=page_size)

    yield make
    for name in made:
        shmtrace.remove_channel(name)


def records_of(channel: shmtrace.Channel, directory: Path) -> list[Record]:
    channel.snapshot(directory)
    return list(shmtrace.read(directory))


@contextmanager
def repeated(work: Callable[[], object]) -> Iterator[None]:
    """Two threads do it again and again beside the block."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            work()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def begun(channel: shmtrace.Channel, directory: Path) -> list[str]:
    """What the spans are about."""
    return [str(record.fields["path"]) for record in records_of(channel, directory) if record.kind == "begin"]


@pytest.mark.parametrize("call", CALLS)
def test_an_argument_may_close_the_channel(
    call: str, recorder: Callable[..., shmtrace.Channel], tmp_path: Path
) -> None:
    channel = recorder()
    result = commands.run("-c", PROGRAM.replace("{call}", call), channel.name, command=[sys.executable])
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split()[-1] == "False"
    assert [record.fields["path"] for record in records_of(channel, tmp_path / "trace")] == ["first"]
    assert channel.missed == 0


@pytest.mark.parametrize("call", ["with load(1): pass", "load.begin(1)", "request()", "channel.log('x', a=1)"])
def test_the_users_context_may_close_the_channel_that_is_told_of_it(
    call: str, recorder: Callable[..., shmtrace.Channel], tmp_path: Path
) -> None:
    channel, other = recorder(), recorder()
    program = TELLING.replace("{call}", call)
    result = commands.run("-c", program, channel.name, other.name, command=[sys.executable])
    assert (result.returncode, result.stderr) == (0, "")
    assert not records_of(channel, tmp_path / "trace")


def test_kernels_go_on_while_their_channel_is_closed(recorder: Callable[..., shmtrace.Channel], tmp_path: Path) -> None:
    pytest.importorskip("numba")
    program = """
    import sys, threading, time
    import numba, shmtrace

    @numba.njit(nogil=True)
    def kernel(request, load, depth, event, count):
        for number in range(count):
            request(number, 0.5)
            load.begin(number)
            depth(number)
            event(b"abc")
            load.end()

    for turn in range(100):
        channel = shmtrace.open_channel(sys.argv[1])
        made = [channel.tracepoint("request", number="u32", half="f64"), channel.span("load", number="u32")]
        made += channel.counter("depth"), channel.event
        kernel(*made, 1)
        stop = []

        def work():
            while not stop:
                kernel(*made, 1000)

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(0.001)
        channel.close()
        time.sleep(0.0005)
        stop.append(True)
        for thread in threads:
            thread.join()
    """
    channel = recorder(4096)
    result = commands.run("-c", textwrap.dedent(program), channel.name, command=[sys.executable])
    assert (result.returncode, result.stderr) == (0, "")
    names = {record.name for record in records_of(channel, tmp_path / "trace")}
    assert names <= {"request", "load", "depth", "blob", "loss"}


def test_a_kernel_whose_channel_becomes_another_one_writes_its_own_class_into_both(
    recorder: Callable[..., shmtrace.Channel], tmp_path: Path
) -> None:
    numba = pytest.importorskip("numba")
    first, second = recorder(), recorder()
    for channel, others in ((first, 3), (second, 8)):
        for number in range(others):
            channel.tracepoint(f"other {number}", value="u64")
    follower = shmtrace.open_channel(first.name)
    request = follower.tracepoint("request", value="u64")

    def emit(count: int) -> None:
        for _ in range(count):
            request(2005)

    kernel = numba.njit(nogil=True)(emit)
    kernel(1)
    with repeated(lambda: kernel(200_000)):
        for number in range(300):
            follower.follow((first, second)[number % 2].state())
            time.sleep(0.0002)  # it would keep the GIL, for which those two wait, too
    follower.close()
    for channel in (first, second):
        records = records_of(channel, tmp_path / channel.name)
        assert {(record.name, *record.fields.values()) for record in records if record.kind == "event"} == {
            ("request", 2005)
        }


def test_a_span_with_fields_that_are_too_long_for_another_channel_is_refused_there(
    recorder: Callable[..., shmtrace.Channel], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large, small = recorder(), recorder(4096)
    follower = shmtrace.open_channel(large.name)
    load = follower.span("load", path="str")
    long = load("x" * 10_000)

    def generate() -> Iterator[int]:
        yield 1

    call, steps = load("y" * 10_000)(int), load("z" * 10_000)(generate)

    def use_all() -> None:
        with long:
            pass
        call()
        list(steps())

    use_all()
    follower.follow(small.state())
    use_all()
    with load("short"):
        pass
    follower.close()
    assert sorted(begun(large, tmp_path / "a")) == [letter * 10_000 for letter in "xyz"]
    assert begun(small, tmp_path / "b") == ["short"]
    assert (large.missed, small.stats()["missed"]["bad_arguments"]) == (0, 3)
    said = capsys.readouterr().err
    assert said.count(f"{__file__}:") == said.count("load: a record of 10017 bytes: this channel takes at most ") == 3
