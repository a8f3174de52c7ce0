"""`with channel.reserve(n) as view`: the bytes of a record, written where they stay.

Most channels here are flight recorders with one cpu slot: they record at once, and every lane is a lane of that cpu.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import itertools
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import commands
import shmtrace
from recording import collected, end, recorded
from shmtrace.channel import LANES_PER_CPU
from shmtrace.layout import CONTROL, LANE, LANE_BYTES
from shmtrace.reservation import _Exporter
from shmtrace.segment import open_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE_SIZE = 4096
LIMIT = PAGE_SIZE - 16
pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def make_channel(
    monkeypatch: pytest.MonkeyPatch, new_name: Callable[[], str]
) -> Iterator[Callable[..., shmtrace.Channel]]:
    """Makes channels with one cpu slot; what is left of them after the test is removed."""
    monkeypatch.setenv("SHMTRACE_CPUS", "1")
    made: list[shmtrace.Channel] = []

    def make(**options: Any) -> shmtrace.Channel:  # noqa: ANN401
        made.append(shmtrace.create_channel(new_name(), **{"page_size": PAGE_SIZE, "pages": 32, **options}))
        return made[-1]

    yield make
    for channel in made:
        with suppress(shmtrace.ChannelNotFound):
            shmtrace.remove_channel(channel.name, drain=True)


@pytest.fixture
def channel(make_channel: Callable[..., shmtrace.Channel]) -> shmtrace.Channel:
    """A flight recorder: it records from its creation on."""
    return make_channel(mode="overwrite")


@pytest.fixture
def streamed(make_channel: Callable[..., shmtrace.Channel]) -> shmtrace.Channel:
    """A channel that records while somebody reads."""
    return make_channel(flush_ms=20)


@pytest.fixture
def contents(tmp_path: Path) -> Callable[[shmtrace.Channel], list[Any]]:
    """What is in a channel's pages: the blobs, in order of time."""
    numbers = itertools.count()

    def snapshot(channel: shmtrace.Channel) -> list[Any]:
        directory = tmp_path / f"snapshot-{next(numbers)}"
        channel.snapshot(directory)
        return [record.fields["blob"] for record in shmtrace.read(directory) if record.name == "blob"]

    return snapshot


def lanes_taken(channel: shmtrace.Channel) -> int:
    """How many lanes somebody holds."""
    attachment = channel._attachment
    assert attachment is not None
    lanes, segment = attachment.segment.geometry.lanes, attachment.segment
    return sum(segment.u64(segment.lane_at(lane) + LANE.owner) != 0 for lane in range(lanes))


def exporters() -> int:
    gc.collect()
    return sum(type(thing) is _Exporter for thing in gc.get_objects())


def in_child(function: Callable[[], object]) -> Any:  # noqa: ANN401
    """What a function gives in a forked child, or the exception that it raises."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001
            result = error
        with os.fdopen(write, "wb") as stream:
            pickle.dump(result, stream)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        answer = stream.read()
    assert os.waitpid(child, 0)[1] == 0
    return pickle.loads(answer)


@contextmanager
def python(program: str, channel: shmtrace.Channel) -> Iterator[subprocess.Popen[str]]:
    """A program beside the block, of which SHMTRACE names the channel; what is left of it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "SHMTRACE": channel.name},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


# -- the view and the record


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 100, LIMIT])
def test_the_view_is_that_many_writable_contiguous_bytes(channel: shmtrace.Channel, size: int) -> None:
    with channel.reserve(size) as view:
        assert (view.nbytes, len(view), view.format, view.itemsize) == (size, size, "B", 1)
        assert view.c_contiguous
        assert not view.readonly


def test_the_bytes_are_recorded_as_they_were_left(channel: shmtrace.Channel, contents: Callable[..., Any]) -> None:
    random.seed(1)
    expected = [random.randbytes(random.choice([0, 1, 7, 8, 9, 100, 1000])) for _ in range(40)]
    for blob in expected:
        with channel.reserve(len(blob)) as view:
            view[:] = blob
    assert contents(channel) == expected


def test_the_longest_one_is_recorded(channel: shmtrace.Channel, contents: Callable[..., Any]) -> None:
    blob = random.Random(2).randbytes(LIMIT)
    reservation = channel.reserve(LIMIT)
    with reservation as view:
        view[:] = blob
    assert reservation.recorded
    assert contents(channel) == [blob]


@pytest.mark.parametrize("size", [-1, LIMIT + 1, 1 << 40])
def test_a_size_that_does_not_fit_is_an_error_that_names_the_limit(channel: shmtrace.Channel, size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} bytes.* 0 to {LIMIT} "):
        channel.reserve(size)


@pytest.mark.parametrize("size", [1.5, "3", None, b"3"])
def test_a_size_that_is_no_integer_is_an_error(channel: shmtrace.Channel, size: Any) -> None:  # noqa: ANN401
    with pytest.raises(TypeError):
        channel.reserve(size)


def test_whatever_is_an_index_is_a_size(channel: shmtrace.Channel) -> None:
    class Five:
        def __index__(self) -> int:
            return 5

    with channel.reserve(Five()) as view:  # type: ignore[arg-type]
        assert len(view) == 5


def test_before_the_end_of_the_block_nothing_is_in_the_channel(
    channel: shmtrace.Channel, contents: Callable[..., Any]
) -> None:
    with channel.reserve(4) as view:
        view[:] = b"soon"
        assert contents(channel) == []
    assert contents(channel) == [b"soon"]


def test_the_record_has_the_time_of_the_end_of_the_block(channel: shmtrace.Channel, tmp_path: Path) -> None:
    with channel.reserve(4) as view:
        view[:] = b"late"
        channel.event(b"early")
    channel.snapshot(tmp_path / "trace")
    assert [record.fields["blob"] for record in shmtrace.read(tmp_path / "trace") if record.kind == "event"] == [
        b"early",
        b"late",
    ]


def test_a_reservation_is_for_one_block(channel: shmtrace.Channel) -> None:
    reservation = channel.reserve(4)
    with reservation:
        pass
    with pytest.raises(RuntimeError, match="one block"), reservation:
        pass
    assert lanes_taken(channel) == 0


def test_a_reservation_that_is_never_entered_holds_nothing(channel: shmtrace.Channel) -> None:
    channel.reserve(4)
    assert lanes_taken(channel) == 0


def test_the_view_ends_with_the_block(channel: shmtrace.Channel) -> None:
    with channel.reserve(4) as view:
        pass
    with pytest.raises(ValueError, match="released"):
        view[0] = 1


def test_references_and_memory_stay_as_they_were(channel: shmtrace.Channel) -> None:
    def reserve(count: int) -> None:
        for _ in range(count):
            with channel.reserve(8) as view:
                view[:] = b"12345678"

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    reserve(1000)
    before, references, memory = exporters(), sys.getrefcount(channel), resident()
    reserve(10_000)
    assert (exporters(), sys.getrefcount(channel)) == (before, references)
    assert resident() - memory < 1 << 20
    assert lanes_taken(channel) == 0


# -- nothing is recorded


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, BaseException])
def test_after_an_exception_nothing_is_recorded_and_nothing_counted(
    channel: shmtrace.Channel, contents: Callable[..., Any], error: type[BaseException]
) -> None:
    reservation = channel.reserve(4)

    def fail() -> None:
        with reservation as view:
            view[:] = b"none"
            raise error

    with pytest.raises(error):
        fail()
    assert not reservation.recorded
    assert (contents(channel), channel.missed, lanes_taken(channel)) == ([], 0, 0)
    assert channel.event(b"after")
    assert contents(channel) == [b"after"]


def test_a_generator_that_is_closed_in_the_block_records_nothing(
    channel: shmtrace.Channel, contents: Callable[..., Any]
) -> None:
    def generate() -> Iterator[int]:
        with channel.reserve(4) as view:
            view[:] = b"none"
            yield 1

    generator = generate()
    next(generator)
    assert lanes_taken(channel) == 1
    del generator
    assert (contents(channel), lanes_taken(channel)) == ([], 0)


@pytest.mark.parametrize("why", ["no reader", "closed", "no channel"])
def test_where_nothing_is_recorded_the_view_is_writable_all_the_same(streamed: shmtrace.Channel, why: str) -> None:
    channel = streamed
    if why == "closed":
        channel.close()
    elif why == "no channel":
        channel = shmtrace.attach()
    reservation = channel.reserve(100)
    with reservation as view:
        view[:] = bytes(range(100))
        assert bytes(view) == bytes(range(100))
    assert not reservation.recorded
    assert streamed.missed == 0


def test_without_a_page_nothing_is_recorded_and_one_is_counted(streamed: shmtrace.Channel) -> None:
    attachment = streamed._attachment
    assert attachment is not None
    attachment.segment.set_u32(CONTROL.recording, 1)
    while streamed.event(bytes(LIMIT)):
        pass
    missed = streamed.missed
    reservation = streamed.reserve(LIMIT)
    with reservation as view:
        view[:] = bytes(LIMIT)
    assert not reservation.recorded
    assert (streamed.missed, lanes_taken(streamed)) == (missed + 1, 0)


def test_a_kill_in_the_block_records_nothing_and_lane_and_page_come_back(
    streamed: shmtrace.Channel, tmp_path: Path
) -> None:
    program = """
    import shmtrace, sys
    channel = shmtrace.attach()
    assert channel.event(b"before")
    with channel.reserve(4000) as view:
        view[:] = b"x" * 4000
        print("held", flush=True)
        sys.stdin.read()
    """
    with recorded(streamed, tmp_path / "trace"):
        for _ in range(3):
            with python(program, streamed) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "held\n"
                assert lanes_taken(streamed) == 1
                process.kill()
            commands.until(lambda: lanes_taken(streamed) == 0)
        assert streamed.event(b"after")
    blobs = [record.fields["blob"] for record in shmtrace.read(tmp_path / "trace") if record.name == "blob"]
    assert blobs == [b"before"] * 3 + [b"after"]
    assert streamed.stats()["pages_waiting"] == 32


# -- others meanwhile


def test_one_that_is_held_long_delays_nobody_and_is_recorded(streamed: shmtrace.Channel, tmp_path: Path) -> None:
    with recorded(streamed, tmp_path / "trace"), streamed.reserve(11) as view:
        accepted = 0
        for round_number in range(20):
            accepted += sum(streamed.event(b"%d" % number) for number in range(500))
            commands.until(lambda enough=accepted: streamed.stats()["delivered"] >= enough)  # type: ignore[misc]
            view[round_number % 11] = ord("x")
        view[:] = b"at long last"[:11]
    blobs = [record.fields["blob"] for record in shmtrace.read(tmp_path / "trace") if record.name == "blob"]
    assert accepted == 10_000
    assert len(blobs) == accepted + 1
    assert blobs[-1] == b"at long las"
    assert streamed.missed == 0


def test_reservations_and_events_nest(channel: shmtrace.Channel, contents: Callable[..., Any]) -> None:
    with channel.reserve(5) as outer:
        outer[:] = b"outer"
        with channel.reserve(6) as middle:
            middle[:] = b"middle"
            with channel.reserve(5) as inner:
                inner[:] = b"inner"
                assert channel.event(b"event")
                assert lanes_taken(channel) == 3
    assert contents(channel) == [b"event", b"inner", b"middle", b"outer"]


def test_blocks_may_end_in_any_order(channel: shmtrace.Channel, contents: Callable[..., Any]) -> None:
    reservations = [channel.reserve(1) for _ in range(5)]
    for number, reservation in enumerate(reservations):
        reservation.__enter__()[:] = b"%d" % number
    for number in (2, 0, 4, 1, 3):
        reservations[number].__exit__(None, None, None)
    assert contents(channel) == [b"2", b"0", b"4", b"1", b"3"]


def test_the_last_free_lane_of_the_cpu_is_never_taken_and_the_record_arrives_at_the_end(
    channel: shmtrace.Channel, contents: Callable[..., Any]
) -> None:
    count = LANES_PER_CPU + 3
    with ExitStack() as stack:
        for number in range(count):
            stack.enter_context(channel.reserve(2))[:] = b"%02d" % number
        assert lanes_taken(channel) == LANES_PER_CPU - 1
        assert channel.event(b"there is room")
    assert contents(channel) == [b"there is room", *(b"%02d" % number for number in reversed(range(count)))]
    assert (channel.missed, lanes_taken(channel)) == (0, 0)


def test_it_may_begin_in_one_thread_and_end_in_another(channel: shmtrace.Channel, tmp_path: Path) -> None:
    reservation = channel.reserve(4)
    begin = threading.Thread(target=lambda: reservation.__enter__().__setitem__(slice(0, 4), b"both"), name="begins")
    end = threading.Thread(target=lambda: reservation.__exit__(None, None, None), name="ends")
    for thread in (begin, end):
        thread.start()
        thread.join()
    channel.snapshot(tmp_path / "trace")
    records = [record for record in shmtrace.read(tmp_path / "trace") if record.name == "blob"]
    assert [(record.fields["blob"], record.thread) for record in records] == [(b"both", "begins")]
    assert lanes_taken(channel) == 0


def test_a_signal_handler_emits_in_the_block(channel: shmtrace.Channel, contents: Callable[..., Any]) -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: channel.event(b"from the handler"))
    try:
        with channel.reserve(5) as view:
            signal.raise_signal(signal.SIGUSR1)
            view[:] = b"block"
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert contents(channel) == [b"from the handler", b"block"]


def test_threads_that_reserve_at_once_never_see_each_others_bytes(
    channel: shmtrace.Channel, contents: Callable[..., Any]
) -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(150):
            with channel.reserve(200) as view:
                view[:] = bytes([number]) * 200
                time.sleep(0)
                if bytes(view) != bytes([number]) * 200:
                    wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    blobs = contents(channel)
    assert not wrong
    assert all(len(blob) == 200 and len(set(blob)) == 1 for blob in blobs)
    assert len(blobs) + channel.stats()["overwritten"] == 1500
    assert (channel.missed, lanes_taken(channel)) == (0, 0)


# -- views that outlive their block


def leak_slice(view: memoryview) -> object:
    return view[2:]


def leak_memoryview(view: memoryview) -> object:
    return memoryview(view)


def leak_array(view: memoryview) -> object:
    numpy = pytest.importorskip("numpy")
    return numpy.frombuffer(view, dtype="u1")


def leak_ctypes(view: memoryview) -> object:
    return (ctypes.c_ubyte * len(view)).from_buffer(view)


@pytest.mark.parametrize("leak", [leak_slice, leak_memoryview, leak_array, leak_ctypes])
def test_a_view_that_outlives_its_block_is_an_error_and_holds_the_space_until_it_is_gone(
    channel: shmtrace.Channel, contents: Callable[..., Any], leak: Callable[[memoryview], object]
) -> None:
    leaked: list[object] = []

    def work() -> None:
        with channel.reserve(8) as view:
            view[:] = b"leakleak"
            leaked.append(leak(view))

    with pytest.raises(BufferError, match="nothing is recorded"):
        work()
    gc.collect()  # the frames that the exception named
    assert lanes_taken(channel) == 1
    for number in range(2000):  # the pages of all others are used again and again
        assert channel.event(b"%04d" % number)
    assert bytes(leaked[0])[-6:] == b"akleak"  # type: ignore[call-overload]
    memoryview(leaked[0]).cast("B")[-1] = 0xFF  # type: ignore[arg-type]
    leaked.clear()
    gc.collect()
    assert lanes_taken(channel) == 0
    assert all(b"leak" not in blob and b"\xff" not in blob for blob in contents(channel))


def test_the_space_comes_back_when_the_last_view_is_gone_though_the_reservation_is_not(
    channel: shmtrace.Channel,
) -> None:
    reservation = channel.reserve(8)
    leaked = [leak_slice(reservation.__enter__())]
    with pytest.raises(BufferError):
        reservation.__exit__(None, None, None)
    gc.collect()
    assert lanes_taken(channel) == 1
    leaked.clear()
    assert lanes_taken(channel) == 0
    assert not reservation.recorded


def test_a_leaked_view_of_a_block_that_raises_does_not_hide_the_exception(channel: shmtrace.Channel) -> None:
    leaked: list[object] = []

    def fail() -> None:
        with channel.reserve(8) as view:
            leaked.append(view[1:])
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    gc.collect()
    assert lanes_taken(channel) == 1
    leaked.clear()
    gc.collect()
    assert lanes_taken(channel) == 0


def test_an_array_that_is_gone_before_the_end_of_the_block_does_no_harm(
    channel: shmtrace.Channel, contents: Callable[..., Any]
) -> None:
    numpy = pytest.importorskip("numpy")
    with channel.reserve(16) as view:
        array = numpy.frombuffer(view, dtype="<u8")
        array[:] = [1, 2]
        del array
    assert contents(channel) == [(1).to_bytes(8, "little") + (2).to_bytes(8, "little")]


# -- forks


def test_what_a_forked_child_writes_into_the_view_does_not_reach_the_page(
    channel: shmtrace.Channel, contents: Callable[..., Any]
) -> None:
    with channel.reserve(6) as view:
        view[:] = b"parent"

        def write() -> bytes:
            view[:] = b"child!"
            return bytes(view)

        assert in_child(write) == b"child!"
        assert bytes(view) == b"parent"
    assert contents(channel) == [b"parent"]


@pytest.mark.parametrize("outcome", ["ends", "raises"])
def test_a_forked_child_that_leaves_the_block_does_nothing(
    channel: shmtrace.Channel, contents: Callable[..., Any], outcome: str
) -> None:
    reservation = channel.reserve(6)
    with reservation as view:
        view[:] = b"parent"

        def leave() -> bool:
            error = LookupError() if outcome == "raises" else None
            reservation.__exit__(type(error) if error else None, error, None)
            return reservation.recorded

        assert in_child(leave) is False
        assert lanes_taken(channel) == 1
        assert contents(channel) == []
    assert contents(channel) == [b"parent"]


def test_a_forked_child_that_leaves_the_block_of_one_without_a_lane_does_nothing(
    channel: shmtrace.Channel, contents: Callable[..., Any]
) -> None:
    with ExitStack() as stack:
        for _ in range(LANES_PER_CPU - 1):
            stack.enter_context(channel.reserve(0))
        reservation = channel.reserve(6)
        with reservation as view:
            view[:] = b"parent"
            in_child(lambda: reservation.__exit__(None, None, None))
            assert contents(channel) == []
        assert contents(channel) == [b"parent"]


def test_a_child_forked_in_the_block_reserves_and_emits_itself(
    channel: shmtrace.Channel, contents: Callable[..., Any]
) -> None:
    with channel.reserve(6) as view:
        view[:] = b"parent"

        def work() -> None:
            with channel.reserve(5) as mine:
                mine[:] = b"child"
            assert channel.event(b"event")

        assert in_child(work) is None
    assert contents(channel) == [b"child", b"event", b"parent"]


def test_a_child_forked_in_the_block_that_ends_leaves_the_lane_to_its_parent(
    streamed: shmtrace.Channel, tmp_path: Path
) -> None:
    with recorded(streamed, tmp_path / "trace"), streamed.reserve(6) as view:
        view[:] = b"parent"
        in_child(lambda: None)
        time.sleep(0.2)  # some flushes: the collector looks for lanes of the dead
        assert lanes_taken(streamed) == 1
    assert [record.fields["blob"] for record in shmtrace.read(tmp_path / "trace")] == [b"parent"]


def test_a_child_forked_while_a_thread_makes_the_mapping_reserves_itself(
    channel: shmtrace.Channel, contents: Callable[..., Any]
) -> None:
    attachment = channel._attachment
    assert attachment is not None

    def work() -> None:
        with channel.reserve(5) as view:
            view[:] = b"child"

    with attachment.pages._lock:  # as that thread has it
        assert in_child(work) is None
    assert contents(channel) == [b"child"]


def test_where_nothing_more_can_be_mapped_the_bytes_are_copied_at_the_end(
    channel: shmtrace.Channel, contents: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_pages: object, _address: int) -> int:
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr("shmtrace.reservation.Pages.view_of", refuse)
    with channel.reserve(6) as view:
        assert lanes_taken(channel) == 0
        view[:] = b"copied"
    assert contents(channel) == [b"copied"]


# -- the channel's ends, and the program's


def test_a_channel_that_is_closed_in_the_block_gives_its_lane_back(channel: shmtrace.Channel) -> None:
    other = shmtrace.open_channel(channel.name)
    with channel.reserve(4) as view:
        view[:] = b"open"
        channel.close()
    assert lanes_taken(other) == 0
    assert not channel.event(b"closed")


def test_a_channel_that_is_removed_in_the_block_records_nothing_and_gives_its_lane_back(
    streamed: shmtrace.Channel,
) -> None:
    with collected(streamed):
        reader = os.open(streamed.fifo, os.O_RDONLY | os.O_NONBLOCK)
        commands.until(lambda: streamed.enabled)
        reservation = streamed.reserve(4)
        with reservation as view:
            shmtrace.remove_channel(streamed.name, drain=True)
            commands.until(lambda: not streamed.enabled)
            view[:] = b"gone"
        os.close(reader)
    assert not reservation.recorded
    assert lanes_taken(streamed) == 0


def test_when_recording_went_off_in_the_block_nothing_is_recorded(streamed: shmtrace.Channel, tmp_path: Path) -> None:
    with collected(streamed):
        reader = os.open(streamed.fifo, os.O_RDONLY | os.O_NONBLOCK)
        commands.until(lambda: streamed.enabled)
        reservation = streamed.reserve(4)
        with reservation as view:
            view[:] = b"none"
            os.close(reader)
            commands.until(lambda: not streamed.enabled)
        assert not reservation.recorded
        commands.until(lambda: not streamed.stats()["reader"])
    assert (streamed.missed, lanes_taken(streamed)) == (0, 0)


def test_one_that_is_held_from_one_reader_to_the_next_holds_nobody_up_and_is_the_next_ones(
    streamed: shmtrace.Channel, tmp_path: Path
) -> None:
    reservation = streamed.reserve(4)
    with commands.running("collect", streamed.name) as collector:
        reader = os.open(streamed.fifo, os.O_RDONLY | os.O_NONBLOCK)
        commands.until(lambda: streamed.enabled)
        view = reservation.__enter__()
        assert streamed.event(b"first")
        os.close(reader)
        commands.until(lambda: not streamed.stats()["reader"])
        with commands.running("record", streamed.name, "-o", tmp_path / "trace") as recorder:
            commands.until(lambda: streamed.enabled)
            assert streamed.event(b"second")
            view[:] = b"kept"
            reservation.__exit__(None, None, None)
            end(collector, signal_number=signal.SIGTERM)
            end(recorder)
    assert [record.fields["blob"] for record in shmtrace.read(tmp_path / "trace")] == [b"second", b"kept"]


def test_the_end_of_the_program_in_the_block_is_survived(
    channel: shmtrace.Channel, contents: Callable[..., Any]
) -> None:
    program = """
    import shmtrace, sys
    channel = shmtrace.attach()
    reservation = channel.reserve(4)
    view = reservation.__enter__()
    view[:] = b"none"
    channel.event(b"event")
    """
    with python(program, channel) as process:
        assert process.wait(30) == 0
    assert contents(channel) == [b"event"]
    assert lanes_taken(channel) == 0


def test_a_channel_that_was_not_there_at_attach_is_attached_by_a_reservation(
    monkeypatch: pytest.MonkeyPatch, make_channel: Callable[..., shmtrace.Channel], new_name: Callable[[], str]
) -> None:
    name = new_name()
    monkeypatch.setenv("SHMTRACE", name)
    pending = shmtrace.attach()
    made = shmtrace.create_channel(name, page_size=PAGE_SIZE, pages=32, mode="overwrite")
    try:
        with pytest.raises(ValueError, match=str(LIMIT)):
            pending.reserve(LIMIT + 1)
        reservation = pending.reserve(4)
        with reservation as view:
            view[:] = b"late"
        assert reservation.recorded
    finally:
        made.close()
        shmtrace.remove_channel(name)


def test_a_lane_word_in_the_segment_is_not_trusted_at_the_end_of_the_block(channel: shmtrace.Channel) -> None:
    """The bytes go where they were reserved, whatever somebody wrote into the position meanwhile."""
    segment = open_segment(channel.name)
    with channel.reserve(4) as view:
        view[:] = b"good"
        for lane in range(segment.geometry.lanes):
            segment.set_u64(segment.geometry.lanes_at + lane * LANE_BYTES + LANE.position, (1 << 64) - 1)
    assert lanes_taken(channel) == 0
    segment.unmap()
