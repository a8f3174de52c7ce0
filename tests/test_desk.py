"""Where a thread wrote last (native/desk.py): what is written from there is as right as what looks for its place."""

from __future__ import annotations

import ctypes
import os
import random
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numba
import pytest

import commands
import shmtrace
from recording import recorded
from shmtrace import attachment, layout
from shmtrace.layout import CONTEXT, CONTROL, LANE
from shmtrace.native.loader import libc
from shmtrace.native.tables import DESK
from shmtrace.segment import open_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from shmtrace.segment import Segment

Writers = dict[str, "Callable[[], object]"]


def field(channel: shmtrace.Channel, at: int) -> int:
    """Of a channel's CONTEXT."""
    return int.from_bytes(channel._context[at : at + 8], "little")


def word(address: int) -> ctypes.c_uint64:
    return ctypes.c_uint64.from_address(address)


def block() -> int:
    """This thread's."""
    threads = attachment._threads[0]
    libc.pthread_getspecific.restype = ctypes.c_size_t
    return int(libc.pthread_getspecific(threads.key))


def key_at_desk(channel: shmtrace.Channel) -> ctypes.c_uint64:
    return word(block() + field(channel, CONTEXT.desk) + DESK.key)


def here(channel: shmtrace.Channel) -> int:
    """What stands at the desk of a thread that has written into the channel, and is where it was."""
    return field(channel, CONTEXT.reader) + min(os.sched_getaffinity(0)) + 1


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """This thread stays where it is."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    yield
    os.sched_setaffinity(0, allowed)


@pytest.fixture
def make_channel(new_name: Callable[[], str]) -> Iterator[Callable[[], shmtrace.Channel]]:
    """Makes channels whose switch is on without a collector, so that what is written stays where it is."""
    with ExitStack() as stack:

        def make() -> shmtrace.Channel:
            channel = shmtrace.create_channel(new_name(), page_size=4096, pages=512)
            stack.callback(shmtrace.remove_channel, channel.name)
            segment = open_segment(channel.name)
            stack.callback(segment.unmap)
            segment.set_u32(CONTROL.recording, 1)
            stack.callback(segment.set_u32, CONTROL.recording, 0)
            assert channel.event(b"first")
            if not field(channel, CONTEXT.plain):
                pytest.skip("the clock is not the counter, or the kernel does not tell a thread its cpu")
            return channel

        yield make


def writers(channel: shmtrace.Channel) -> Writers:
    """All that writes one record, or a begin and an end, with the names of what is recorded."""
    request, depth = channel.tracepoint("request", status="u16", path="str"), channel.counter("depth")
    load, plain, event = channel.span("load", shard="u32"), channel.span("plain"), channel.event
    njit: Any = numba.njit

    @njit  # type: ignore[untyped-decorator]  # numba has no types for it
    def kernel() -> None:
        depth(17)

    def span() -> None:
        with plain:
            pass

    def use() -> None:
        with load(3):
            pass

    kernel()
    return {
        "event": lambda: event(b"blob"),
        "tracepoint": lambda: request(200, "/index"),
        "counter": lambda: depth(17),
        "log": lambda: channel.log("cache miss", tried=3),
        "kernel": kernel,
        "span": span,
        "use": use,
    }


KINDS = ["event", "tracepoint", "counter", "log", "kernel", "span", "use"]


@pytest.mark.usefixtures("one_cpu")
@pytest.mark.parametrize("kind", KINDS)
def test_after_any_record_the_thread_is_at_its_desk(make_channel: Callable[[], shmtrace.Channel], kind: str) -> None:
    channel = make_channel()
    write = writers(channel)[kind]
    key = key_at_desk(channel)
    key.value = 0
    write()
    assert key.value == here(channel)


@pytest.mark.usefixtures("one_cpu")
@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_at_the_desk_is_what_is_written(channel_name: str, tmp_path: Path, kind: str) -> None:
    """So the short way is taken, which nothing else would show."""
    channel = shmtrace.create_channel(channel_name)
    elsewhere = 77
    with recorded(channel, tmp_path / "trace"):
        write = writers(channel)[kind]
        write()
        if not field(channel, CONTEXT.plain):
            pytest.skip("the clock is not the counter, or the kernel does not tell a thread its cpu")
        at_desk = word(block() + field(channel, CONTEXT.desk) + DESK.words)
        at_desk.value |= elsewhere << 16
        write()
    found = [record.cpu for record in shmtrace.read(tmp_path / "trace")]
    each = 2 if kind in {"span", "use"} else 1
    assert found[-each:] == [elsewhere | min(os.sched_getaffinity(0))] * each


@pytest.mark.usefixtures("one_cpu")
def test_channels_that_are_attached_one_after_another_have_desks_of_their_own(
    make_channel: Callable[[], shmtrace.Channel],
) -> None:
    channels = [make_channel() for _ in range(layout.DESKS)]
    assert [key_at_desk(channel).value for channel in channels] == [here(channel) for channel in channels]


@pytest.mark.usefixtures("one_cpu")
def test_channels_that_share_a_desk_take_it_in_turn(make_channel: Callable[[], shmtrace.Channel]) -> None:
    channels = [make_channel() for _ in range(layout.DESKS + 1)]
    first, last = channels[0], channels[-1]
    for _ in range(3):
        for channel in (first, last, last):
            assert channel.event(b"blob")
            assert key_at_desk(channel).value == here(channel)
    counts = [open_segment(channel.name) for channel in (first, last)]
    committed = [segment.u64(segment.lane_at(0) + LANE.position) & layout.COMMITTED_MASK for segment in counts]
    for segment in counts:
        segment.unmap()
    if min(os.sched_getaffinity(0)) == 0:
        assert committed == [(1 + 3) * 24, (1 + 6) * 24]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one cpu")
@pytest.mark.parametrize("kind", KINDS)
def test_a_thread_that_moves_tells_each_time_on_which_cpu_it_is(channel_name: str, tmp_path: Path, kind: str) -> None:
    channel = shmtrace.create_channel(channel_name)
    allowed = os.sched_getaffinity(0)
    cpus = sorted(allowed)[:2] * 10
    with recorded(channel, tmp_path / "trace"):
        write = writers(channel)[kind]
        channel.event(b"begin")
        try:
            for cpu in cpus:
                os.sched_setaffinity(0, {cpu})
                for _ in range(3):  # the first one looks where it is, the others find it
                    write()
        finally:
            os.sched_setaffinity(0, allowed)
    found = [record.cpu for record in shmtrace.read(tmp_path / "trace")]
    each = 6 if kind in {"span", "use"} else 3
    assert found[-each * len(cpus) :] == [cpu for cpu in cpus for _ in range(each)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_position_that_somebody_scribbles_over_is_not_believed(
    make_channel: Callable[[], shmtrace.Channel], kind: str
) -> None:
    """The program goes on, and nothing is written but into pages."""
    channel = make_channel()
    write = writers(channel)[kind]
    segment = open_segment(channel.name)
    geometry = segment.geometry

    def heads() -> list[bytes]:
        ranges = ((0, 64), (geometry.writers_at, 4096), (geometry.classes_at, 512))
        return [segment.read(at, size) for at, size in ranges]

    write()
    before = heads()
    draw = random.Random(1)
    for _ in range(300):
        write()
        for lane in range(geometry.lanes):
            scribble(segment, segment.lane_at(lane) + LANE.position, draw)
        write()
    assert heads() == before
    segment.unmap()


def scribble(segment: Segment, at: int, draw: random.Random) -> None:
    position = segment.u64(at)
    draws = (
        draw.getrandbits(64),
        position ^ 1 << draw.randrange(64),
        position - draw.randrange(1, 64),
        position | 0xFFFFF,
    )
    segment.set_u64(at, draw.choice(draws) % (1 << 64))


def test_a_page_that_was_filled_by_another_thread_of_the_cpu_is_left(channel_name: str, tmp_path: Path) -> None:
    """Two threads take turns on one lane, page after page: each finds that the page has changed."""
    channel = shmtrace.create_channel(channel_name, page_size=4096, pages=64, mode="block")
    turns = [threading.Semaphore(1), threading.Semaphore(0)]

    def write(number: int) -> None:
        for count in range(500):
            turns[number].acquire()
            channel.event(b"%d %d" % (number, count))
            turns[1 - number].release()

    with recorded(channel, tmp_path / "trace"):
        threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(commands.LIMIT_S)
    found = [record.fields["blob"] for record in shmtrace.read(tmp_path / "trace")]
    assert found == [b"%d %d" % (number, count) for count in range(500) for number in range(2)]


def test_a_desk_goes_with_its_thread(make_channel: Callable[[], shmtrace.Channel]) -> None:
    """Its block may be another thread's next."""
    channel = make_channel()
    keys: list[ctypes.c_uint64] = []
    before: list[int] = []

    def write() -> None:
        channel.event(b"blob")
        keys.append(key_at_desk(channel))
        before.append(keys[0].value)

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    assert before[0] != 0
    commands.until(lambda: keys[0].value == 0)  # Python's part of the thread ends before libc's


def test_a_forked_child_without_a_block_has_not_its_parents(make_channel: Callable[[], shmtrace.Channel]) -> None:
    """All blocks are taken: also that which the child's thread had as the parent's is another thread's by now."""
    channel = make_channel()
    blocks, mine = attachment._threads[0].blocks, block()
    assert mine
    child = os.fork()
    if child == 0:
        for number in range(layout.BLOCKS):
            word(blocks + number * layout.BLOCK_BYTES + layout.BLOCK.tid).value = 1
        good = channel.event(b"blob") and block() == 0 and channel.event(b"blob")
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
