"""The collector as a process: it comes, waits, serves, is killed, and goes; nothing gets stuck or is left behind."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import commands
import shmtrace
from recording import collected, end
from shmtrace import layout
from shmtrace.collector.loop import Collector
from shmtrace.creation import runtime_directory
from shmtrace.layout import CONTROL, LANE
from shmtrace.native.loader import libc
from shmtrace.segment import open_segment, open_semaphore, segment_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shmtrace.segment import Segment

PAGES = 16


@pytest.fixture
def make_channel(new_name: Callable[[], str]) -> Iterator[Callable[..., shmtrace.Channel]]:
    """Makes small channels; what is left of them after the test is removed."""
    made: list[shmtrace.Channel] = []

    def make(**options: int) -> shmtrace.Channel:
        sizes: dict[str, Any] = {"page_size": 4096, "pages": PAGES, **options}
        made.append(shmtrace.create_channel(new_name(), **sizes))
        return made[-1]

    yield make
    for channel in made:
        with suppress(shmtrace.ChannelNotFound):
            shmtrace.remove_channel(channel.name, drain=True)


@pytest.fixture
def channel(make_channel: Callable[..., shmtrace.Channel]) -> shmtrace.Channel:
    return make_channel(flush_ms=20)


@pytest.fixture
def segment(channel: shmtrace.Channel) -> Iterator[Segment]:
    """The segment of the channel, which stays mapped when the name is gone."""
    opened = open_segment(channel.name)
    yield opened
    opened.unmap()


@contextmanager
def cat(channel: shmtrace.Channel, output: Path | str = os.devnull) -> Iterator[subprocess.Popen[str]]:
    """A plain `cat` of the FIFO beside the block; what is left of it is killed."""
    with commands.running(command=["sh", "-c", 'exec cat < "$0" > "$1"', str(channel.fifo), str(output)]) as process:
        yield process


@contextmanager
def child(function: Callable[[], object]) -> Iterator[int]:
    """A forked process that runs a function, beside the block; it is killed at the end of it."""
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            function()
        os._exit(0)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def flood(channel: shmtrace.Channel, sizes: list[int]) -> None:
    """Write events for ever."""
    for size in itertools.cycle(sizes):
        channel.event(bytes(size))


def fill(channel: shmtrace.Channel) -> tuple[int, int]:
    """Write until a reader that takes nothing has its pipe full, and no page is left; events accepted and refused."""
    accepted = refused = in_a_row = 0
    while in_a_row < 60:
        if channel.event(bytes(4000)):
            accepted += 1
            in_a_row = 0
        else:
            refused += 1
            in_a_row += 1
            time.sleep(0.001 * in_a_row)
    return accepted, refused


def until_collected(channel: shmtrace.Channel, collector: subprocess.Popen[str]) -> None:
    commands.until(lambda: channel.stats()["collector"] == collector.pid)


def until_delivered(channel: shmtrace.Channel, count: int) -> None:
    commands.until(lambda: channel.stats()["delivered"] >= count)


def until_in(stream: Path, text: bytes) -> None:
    """Wait until a `cat` has written, lately, what it read."""

    def is_there() -> bool:
        if not stream.exists():  # the channel is read before the shell has made the file
            return False
        with stream.open("rb") as file:
            file.seek(max(stream.stat().st_size - 100_000, 0))
            return text in file.read()

    commands.until(is_there)


def blobs(stream: Path) -> list[object]:
    """What a `cat` got, the end of which may be cut off."""
    records = shmtrace.read(stream, warn=lambda _: None)
    return [record.fields["blob"] for record in records if record.name == "blob"]


def owners(segment: Segment) -> list[int]:
    """The pids in the owner words of the lanes that are taken."""
    words = [segment.u64(segment.lane_at(lane) + LANE.owner) for lane in range(segment.geometry.lanes)]
    return [word >> layout.OWNER_PID_SHIFT & layout.OWNER_PID_MASK for word in words if word]


def tokens(channel: shmtrace.Channel) -> int:
    """What the semaphore of waiting pages says."""
    count = ctypes.c_int()
    libc.sem_getvalue(open_semaphore(channel.name, "waiting"), ctypes.byref(count))
    return count.value


def is_at_rest(channel: shmtrace.Channel, segment: Segment) -> bool:
    """Nobody holds a lane, and every page waits."""
    return not owners(segment) and channel.stats()["pages_waiting"] == channel.stats()["pages"] <= tokens(channel)


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def is_asleep(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def one_line(said: str) -> str:
    assert said.count("\n") == 1, said
    return said


# -- waiting and serving


def test_without_a_reader_it_waits_and_costs_little(channel: shmtrace.Channel) -> None:
    with collected(channel) as collector:
        until_collected(channel, collector)
        began, before = time.monotonic(), cpu_ticks(collector.pid)
        time.sleep(0.5)
        spent = (cpu_ticks(collector.pid) - before) / os.sysconf("SC_CLK_TCK")
        assert spent < 0.1 * (time.monotonic() - began)
        assert not channel.enabled
        assert channel.event(b"x") is False


def test_with_an_idle_reader_it_costs_little(channel: shmtrace.Channel) -> None:
    with collected(channel) as collector, cat(channel):
        commands.until(lambda: channel.enabled)
        began, before = time.monotonic(), cpu_ticks(collector.pid)
        time.sleep(0.5)
        spent = (cpu_ticks(collector.pid) - before) / os.sysconf("SC_CLK_TCK")
        assert spent < 0.1 * (time.monotonic() - began)


def test_recording_is_on_exactly_while_somebody_reads(
    channel: shmtrace.Channel, segment: Segment, tmp_path: Path
) -> None:
    with collected(channel):
        for turn in range(3):
            assert channel.event(b"off") is False
            with cat(channel, tmp_path / str(turn)) as reader:
                commands.until(lambda: channel.enabled)
                assert channel.stats()["reader"]
                assert channel.event(b"turn %d" % turn)
                until_delivered(channel, turn + 1)
                until_in(tmp_path / str(turn), b"turn %d" % turn)
                reader.kill()
            commands.until(lambda: not channel.enabled and is_at_rest(channel, segment))
            assert blobs(tmp_path / str(turn)) == [b"turn %d" % turn]
    assert channel.stats()["lost"] == {"unread": 0, "damaged": 0}
    assert channel.missed == 0


def test_a_page_that_is_not_full_is_sent_at_the_flush_interval(channel: shmtrace.Channel, tmp_path: Path) -> None:
    with collected(channel), cat(channel, tmp_path / "stream"):
        commands.until(lambda: channel.enabled)
        for number in range(5):
            assert channel.event(b"number %d" % number)
            until_delivered(channel, number + 1)
            until_in(tmp_path / "stream", b"number %d" % number)
    assert blobs(tmp_path / "stream") == [b"number %d" % number for number in range(5)]


def test_a_lane_begins_again_in_its_own_page_when_that_one_waits(channel: shmtrace.Channel, segment: Segment) -> None:
    def current() -> dict[int, int]:
        positions = (segment.u64(segment.lane_at(lane) + LANE.position) for lane in range(segment.geometry.lanes))
        pages = {lane: position >> layout.PAGE_SHIFT & layout.PAGE_MASK for lane, position in enumerate(positions)}
        return {lane: page for lane, page in pages.items() if page != layout.NO_PAGE}

    used: dict[int, set[int]] = {}
    with collected(channel), cat(channel):
        commands.until(lambda: channel.enabled)
        for number in range(PAGES):
            assert channel.event(bytes(4000))  # a page of its own
            for lane, page in current().items():
                used.setdefault(lane, set()).add(page)
            until_delivered(channel, number + 1)
            commands.until(lambda: channel.stats()["pages_waiting"] == PAGES - len(current()))
    assert used
    assert all(len(pages) <= 2 for pages in used.values()), used


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_with_what_is_committed_sent_and_a_report(
    make_channel: Callable[..., shmtrace.Channel], tmp_path: Path, number: int
) -> None:
    channel = make_channel(flush_ms=60_000)
    with commands.running("collect", channel.name) as collector, cat(channel, tmp_path / "stream") as reader:
        commands.until(lambda: channel.enabled)
        assert channel.event(b"not flushed yet")
        said = end(collector, signal_number=number)
        assert end(reader) == ""
    assert one_line(said) == f"shmtrace: {channel.name}: 1 events delivered, 0 missed, 0 lost\n"
    assert blobs(tmp_path / "stream") == [b"not flushed yet"]
    stats = channel.stats()
    assert (stats["collector"], stats["reader"], stats["recording"], stats["pages_waiting"]) == (None, False, False, 16)
    with collected(channel), cat(channel):  # the channel stays, for the next one
        commands.until(lambda: channel.event(b"x"))


def test_a_signal_ends_a_collector_that_waits(channel: shmtrace.Channel) -> None:
    with commands.running("collect", channel.name) as collector:
        commands.until(lambda: channel.stats()["collector"])
        assert "0 events delivered" in one_line(end(collector, signal_number=signal.SIGTERM))


@pytest.mark.parametrize("flush_ms", [20, 60_000])
def test_a_signal_ends_a_collector_whose_reader_takes_nothing(
    make_channel: Callable[..., shmtrace.Channel], flush_ms: int
) -> None:
    """Long before a long flush interval is over, too."""
    channel = make_channel(flush_ms=flush_ms)
    with commands.running("collect", channel.name) as collector:
        reader = os.open(channel.fifo, os.O_RDONLY | os.O_NONBLOCK)
        commands.until(lambda: channel.enabled)
        accepted, _ = fill(channel)
        collector.terminate()
        commands.until(lambda: collector.poll() is not None, limit_s=15)
        said = end(collector)
        os.close(reader)
    assert f"the reader of channel {channel.name!r} takes nothing any more" in said
    stats = channel.stats()
    assert stats["delivered"] + stats["lost"]["unread"] == accepted
    assert stats["pages_waiting"] == PAGES


def test_a_second_collector_is_refused_by_channel_and_pid(channel: shmtrace.Channel) -> None:
    with collected(channel) as first:
        until_collected(channel, first)
        for stopped in (False, True):  # one that is stopped is reported, never replaced
            if stopped:
                first.send_signal(signal.SIGSTOP)
            result = commands.run("collect", channel.name)
            assert (result.returncode, result.stdout) == (1, "")
            assert one_line(result.stderr) == (
                f"shmtrace: the channel {channel.name!r} has a collector already: pid {first.pid}\n"
            )
        first.send_signal(signal.SIGCONT)
        assert channel.stats()["collector"] == first.pid


def test_one_process_collects_several_channels(make_channel: Callable[..., shmtrace.Channel], tmp_path: Path) -> None:
    channels = [make_channel(flush_ms=20) for _ in range(3)]
    with (
        commands.running("collect", *(channel.name for channel in channels)) as collector,
        cat(channels[0], tmp_path / "0") as first,
        cat(channels[2], tmp_path / "2") as last,
    ):
        commands.until(lambda: channels[0].enabled and channels[2].enabled)
        assert [channel.event(channel.name.encode()) for channel in channels] == [True, False, True]
        shmtrace.remove_channel(channels[1].name)
        commands.until(lambda: channels[0].event(b"x"))
        said = end(collector, signal_number=signal.SIGTERM)
        end(first)
        end(last)
    assert blobs(tmp_path / "0")[0] == channels[0].name.encode()
    assert blobs(tmp_path / "2") == [channels[2].name.encode()]
    assert sorted(line.split(":")[1].strip() for line in said.splitlines()) == sorted(c.name for c in channels)


@pytest.mark.parametrize(("name", "status"), [("no-such-channel", 1), ("../x", 2)], ids=["missing", "no name"])
def test_a_channel_that_cannot_be_collected_is_one_line(name: str, status: int) -> None:
    result = commands.run("collect", name)
    assert (result.returncode, result.stdout) == (status, "")
    one_line(result.stderr)


# -- readers that do not read


def test_a_full_pipe_blocks_no_producer_and_what_finds_no_page_is_counted(
    channel: shmtrace.Channel, segment: Segment
) -> None:
    with collected(channel) as collector:
        reader = os.open(channel.fifo, os.O_RDONLY | os.O_NONBLOCK)
        commands.until(lambda: channel.enabled)
        accepted, refused = fill(channel)
        assert accepted > PAGES
        assert channel.missed == refused > 0
        began, before = time.monotonic(), cpu_ticks(collector.pid)
        time.sleep(0.3)
        spent = (cpu_ticks(collector.pid) - before) / os.sysconf("SC_CLK_TCK")
        assert spent < 0.2 * (time.monotonic() - began), "it polls a full pipe hard"
        assert channel.stats()["delivered"] < accepted
        while channel.stats()["delivered"] < accepted:
            with suppress(BlockingIOError):
                os.read(reader, 1 << 16)
        assert channel.event(b"x")
        os.close(reader)
        commands.until(lambda: not channel.enabled and is_at_rest(channel, segment))
    stats = channel.stats()
    assert stats["delivered"] + stats["lost"]["unread"] == accepted + 1
    assert channel.missed == refused


def test_that_the_reader_left_is_seen_long_before_a_long_flush_interval_is_over(
    make_channel: Callable[..., shmtrace.Channel],
) -> None:
    """Else the next reader would get the stream from the middle of a packet, without its description."""
    channel = make_channel(flush_ms=60_000)
    with collected(channel):
        for _ in range(2):
            with cat(channel):
                commands.until(lambda: channel.enabled)
                assert channel.event(b"x")
            commands.until(lambda: not channel.enabled, limit_s=15)


# -- killed and stopped


def test_a_killed_collector_is_succeeded_and_no_page_is_lost(channel: shmtrace.Channel, segment: Segment) -> None:
    random.seed(7)
    with child(lambda: flood(channel, [0, 10, 700, 4080])):
        for _ in range(12):
            with commands.running("collect", channel.name) as collector, cat(channel):
                until_collected(channel, collector)
                until_delivered(channel, channel.stats()["delivered"] + 1)
                time.sleep(random.uniform(0, 0.03))
                collector.kill()
                collector.wait(30)
    with collected(channel):
        commands.until(lambda: not channel.enabled and is_at_rest(channel, segment))
        with cat(channel):
            commands.until(lambda: channel.enabled)
            assert all(channel.event(bytes(4000)) for _ in range(PAGES // 2))
    stats = channel.stats()
    assert (stats["damaged_words"], stats["lost"]["damaged"], stats["pages_waiting"]) == (0, 0, PAGES)


def test_killed_producers_leave_no_lane_taken_and_no_page_and_no_token(
    channel: shmtrace.Channel, segment: Segment
) -> None:
    random.seed(8)
    found_in_lane = 0
    with collected(channel):
        with cat(channel) as reader:
            commands.until(lambda: channel.enabled)
            until, pause = time.monotonic() + 4, 0.02
            while time.monotonic() < until or (not found_in_lane and time.monotonic() < until + 40):
                if time.monotonic() > until:
                    pause = min(1.5 * pause, 1.0)  # they start slowly here
                with (
                    child(lambda: flood(channel, [4080, 0, 4080, 2000])) as first,
                    child(lambda: flood(channel, [1])) as second,
                ):
                    time.sleep(random.uniform(0, pause))
                    os.kill(first, signal.SIGKILL)
                    os.kill(second, signal.SIGKILL)
                    found_in_lane += bool({first, second} & set(owners(segment)))
            commands.until(lambda: not owners(segment))
            before = channel.stats()["delivered"]
            commands.until(lambda: channel.event(b"still here"))
            until_delivered(channel, before + 1)
            reader.kill()
        commands.until(lambda: not channel.enabled and is_at_rest(channel, segment))
    stats = channel.stats()
    assert found_in_lane > 0, "no kill hit an event"
    assert (stats["damaged_words"], stats["lost"]["damaged"]) == (0, 0)


def test_tokens_that_died_with_their_holders_are_mended(channel: shmtrace.Channel, segment: Segment) -> None:
    semaphore = open_semaphore(channel.name, "waiting")
    with collected(channel), cat(channel):
        commands.until(lambda: channel.enabled)
        for _ in range(10):
            assert libc.sem_trywait(ctypes.c_void_p(semaphore)) == 0
        commands.until(lambda: tokens(channel) == PAGES)
        assert all(channel.event(bytes(4000)) for _ in range(PAGES // 2))


def test_too_many_tokens_do_no_harm(channel: shmtrace.Channel, segment: Segment) -> None:
    semaphore = open_semaphore(channel.name, "waiting")
    with collected(channel), cat(channel):
        commands.until(lambda: channel.enabled)
        for _ in range(50):
            libc.sem_post(semaphore)
        results = [channel.event(bytes(4000)) for _ in range(2000)]
        assert channel.missed == results.count(False)
        commands.until(lambda: channel.stats()["delivered"] == results.count(True))


def test_a_producer_stopped_in_the_middle_of_an_event_holds_up_nobody(
    channel: shmtrace.Channel, segment: Segment, tmp_path: Path
) -> None:
    with collected(channel), cat(channel, tmp_path / "stream") as reader:
        commands.until(lambda: channel.enabled)
        with child(lambda: flood(channel, [4080])) as stopped:
            for _ in range(2000):
                os.kill(stopped, signal.SIGSTOP)
                os.waitpid(stopped, os.WUNTRACED)
                if stopped in owners(segment):
                    break
                os.kill(stopped, signal.SIGCONT)
                time.sleep(0.0005)
            else:
                pytest.fail("it was never stopped inside an event")
            commands.until(lambda: tokens(channel) >= PAGES // 2)
            for number in range(200):
                commands.until(partial(channel.event, b"number %d" % number))
            until_in(tmp_path / "stream", b"number 199")
            assert owners(segment) == [stopped], "a living process keeps its lane"
            reader.kill()
            reader.wait(30)
            commands.until(lambda: not channel.stats()["reader"])
            with cat(channel):
                commands.until(lambda: channel.enabled)
                assert channel.event(b"for the next reader")
                os.kill(stopped, signal.SIGCONT)
                before = channel.stats()["delivered"]
                commands.until(lambda: channel.stats()["delivered"] > before + 100)
        commands.until(lambda: is_at_rest(channel, segment))
    assert channel.stats()["lost"]["damaged"] == channel.stats()["damaged_words"] == 0


# -- removing


def test_a_channel_that_is_read_is_busy_and_goes_on(channel: shmtrace.Channel, tmp_path: Path) -> None:
    with collected(channel), cat(channel, tmp_path / "stream"):
        commands.until(lambda: channel.enabled)
        with pytest.raises(shmtrace.ChannelBusy, match=f"{channel.name!r}") as raised:
            shmtrace.remove_channel(channel.name)
        assert "\n" not in str(raised.value)
        assert channel.event(b"still here")
        shmtrace.open_channel(channel.name).close()
        until_in(tmp_path / "stream", b"still here")
    assert blobs(tmp_path / "stream") == [b"still here"]


def test_busy_is_not_said_of_a_reader_whose_collector_was_killed(channel: shmtrace.Channel) -> None:
    with commands.running("collect", channel.name) as collector, cat(channel) as reader:
        commands.until(lambda: channel.enabled)
        collector.kill()
        collector.wait(30)
        reader.wait(30)
        shmtrace.remove_channel(channel.name)
    assert not channel.enabled
    assert not Path(segment_path(channel.name)).exists()


def test_a_channel_without_a_reader_goes_and_its_collector_with_it(channel: shmtrace.Channel) -> None:
    with commands.running("collect", channel.name) as collector:
        commands.until(lambda: channel.stats()["collector"])
        shmtrace.remove_channel(channel.name)
        assert not channel.fifo.exists()
        one_line(end(collector))
    assert channel.event(b"x") is False
    with pytest.raises(shmtrace.ChannelNotFound):
        shmtrace.open_channel(channel.name)


def test_drain_gives_the_reader_the_rest_and_then_the_end(
    make_channel: Callable[..., shmtrace.Channel], tmp_path: Path
) -> None:
    channel = make_channel(flush_ms=60_000)
    with commands.running("collect", channel.name) as collector, cat(channel, tmp_path / "stream") as reader:
        commands.until(lambda: channel.enabled)
        os.kill(reader.pid, signal.SIGSTOP)
        numbers = [b"%d" % number for number in range(1000) if channel.event(b"%d" % number)]
        shmtrace.remove_channel(channel.name, drain=True)
        assert not Path(segment_path(channel.name)).exists()
        assert not channel.fifo.exists()
        commands.until(lambda: not channel.enabled)
        assert channel.event(b"too late") is False
        with shmtrace.create_channel(channel.name, page_size=4096, pages=4) as anew:  # the name is free
            assert anew.event(b"x") is False
        os.kill(reader.pid, signal.SIGCONT)
        end(reader)
        end(collector)
    assert len(numbers) > 100
    assert blobs(tmp_path / "stream") == numbers
    shmtrace.remove_channel(channel.name)


@pytest.mark.parametrize("drain", [False, True])
@pytest.mark.parametrize("with_collector", [False, True])
def test_a_cat_that_waits_when_the_channel_is_removed_ends(
    channel: shmtrace.Channel, *, drain: bool, with_collector: bool
) -> None:
    with cat(channel) as reader:
        commands.until(lambda: is_asleep(reader.pid))
        if with_collector:
            with commands.running("collect", channel.name) as collector:
                commands.until(lambda: channel.stats()["collector"])
                shmtrace.remove_channel(channel.name, drain=True)
                end(collector)
        else:
            shmtrace.remove_channel(channel.name, drain=drain)
        assert reader.wait(30) == 0


def create(name: str, choose: random.Random) -> None:
    shmtrace.create_channel(name, page_size=4096, pages=8, flush_ms=choose.randint(1, 20)).close()


def remove(name: str, choose: random.Random) -> None:
    time.sleep(choose.random() * 0.03)
    shmtrace.remove_channel(name, drain=choose.random() < 0.5)


def write(name: str, choose: random.Random) -> None:
    with shmtrace.open_channel(name) as channel:
        for _ in range(choose.randint(1, 300)):
            channel.event(bytes(choose.randint(0, 4080)))
        channel.stats()


def read(name: str, choose: random.Random) -> None:
    try:
        stream = (runtime_directory() / name).open("rb")
    except FileNotFoundError:
        raise shmtrace.ChannelNotFound from None
    with stream:
        for _ in range(choose.randint(1, 200)):
            if not stream.read(4096):
                break


def collect(name: str, _choose: random.Random) -> None:
    segment = open_segment(name)
    try:
        Collector(segment, lambda _: None).run()
    finally:
        segment.unmap()


ACTORS = (create, create, remove, remove, write, write, read, read, collect, collect)


def act(name: str, number: int, until: float, directory: Path) -> None:
    """Do what an actor does, over and over; leave what came of it in a file."""
    choose, outcomes = random.Random(number), Counter[str]()
    while time.monotonic() < until:
        try:
            ACTORS[number](name, choose)
        except BaseException as error:  # noqa: BLE001
            outcomes[type(error).__name__] += 1
            time.sleep(0.0005)
        else:
            outcomes["done"] += 1
    (directory / "new").mkdir(exist_ok=True)
    (directory / "new" / str(number)).write_text(json.dumps(outcomes))
    (directory / "new" / str(number)).rename(directory / str(number))


def test_removing_races_with_everything_and_every_order_is_right(
    channel_name: str, runtime_directory: Path, tmp_path: Path
) -> None:
    """Creators, removers, openers that write, readers and collectors of one name, in random order."""
    until = time.monotonic() + 4
    with ExitStack() as stack:
        actors = [
            stack.enter_context(child(partial(act, channel_name, number, until, tmp_path)))
            for number in range(len(ACTORS))
        ]

        def have_ended() -> bool:
            if time.monotonic() > until + 0.5:  # whoever waits for the other end, or for the channel's, is let go
                with suppress(shmtrace.ShmtraceError):
                    create(channel_name, random.Random())
                with suppress(shmtrace.ShmtraceError):
                    shmtrace.remove_channel(channel_name, drain=True)
            return all((tmp_path / str(number)).exists() for number in range(len(actors)))

        commands.until(have_ended, limit_s=30)
    with suppress(shmtrace.ChannelNotFound):
        shmtrace.remove_channel(channel_name, drain=True)
    named = {name for name in shmtrace.__all__ if name.startswith(("Channel", "Collector"))}
    for number, actor in enumerate(ACTORS):
        outcomes = json.loads((tmp_path / str(number)).read_text())
        assert set(outcomes) <= named | {"done"}, actor.__name__
        assert outcomes["done"] > 0, actor.__name__
    assert not list(Path("/dev/shm").glob(f"*{channel_name}*"))
    assert not (runtime_directory / channel_name).exists()


# -- ends that nobody asked for


@pytest.mark.parametrize("with_reader", [False, True])
def test_when_the_program_of_the_session_is_killed_the_rest_is_sent_and_the_channel_goes(
    make_channel: Callable[..., shmtrace.Channel], tmp_path: Path, *, with_reader: bool
) -> None:
    channel = make_channel(flush_ms=60_000)
    with (
        commands.running(command=["sleep", "100"]) as program,
        commands.running("collect", channel.name, "--session", str(program.pid)) as collector,
    ):
        commands.until(lambda: channel.stats()["collector"])
        if with_reader:
            with cat(channel, tmp_path / "stream") as reader:
                commands.until(lambda: channel.event(b"last words"))
                program.kill()
                end(collector)
                end(reader)
            assert blobs(tmp_path / "stream") == [b"last words"]
        else:
            program.kill()
            end(collector)
    assert not Path(segment_path(channel.name)).exists()
    assert not channel.fifo.exists()


def test_a_session_whose_program_is_gone_already_ends_at_once(channel: shmtrace.Channel) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait(30)
    result = commands.run("collect", channel.name, "--session", str(gone.pid))
    assert result.returncode == 0
    assert not Path(segment_path(channel.name)).exists()


def test_a_fifo_that_is_deleted_while_nobody_reads_is_said_and_ends_the_collector(channel: shmtrace.Channel) -> None:
    with commands.running("collect", channel.name) as collector:
        commands.until(lambda: channel.stats()["collector"])
        channel.fifo.unlink()
        said = end(collector)
    assert f"the FIFO {channel.fifo} is gone" in said
    assert channel.stats()["collector"] is None
    shmtrace.remove_channel(channel.name)


def test_a_fifo_that_is_deleted_under_a_reader_is_read_to_the_end(channel: shmtrace.Channel, tmp_path: Path) -> None:
    with commands.running("collect", channel.name) as collector, cat(channel, tmp_path / "stream") as reader:
        commands.until(lambda: channel.enabled)
        channel.fifo.unlink()
        assert channel.event(b"x")
        commands.until(lambda: channel.stats()["delivered"] == 1)
        reader.kill()
        assert f"the FIFO {channel.fifo} is gone" in end(collector)
    assert not channel.enabled


@pytest.mark.parametrize("kind", ["file", "symlink", "directory"])
def test_what_is_put_in_the_place_of_the_fifo_is_not_written_to(
    channel: shmtrace.Channel, tmp_path: Path, kind: str
) -> None:
    with commands.running("collect", channel.name) as collector:
        commands.until(lambda: channel.stats()["collector"])
        (tmp_path / "target").touch()
        channel.fifo.unlink()
        if kind == "file":
            os.link(tmp_path / "target", channel.fifo)
        elif kind == "symlink":
            channel.fifo.symlink_to(tmp_path / "target")
        else:
            channel.fifo.mkdir()
        said = end(collector)
    assert str(channel.fifo) in said
    assert not (tmp_path / "target").read_bytes()
    if kind == "directory":
        channel.fifo.rmdir()


# -- all channels of a user, in a /dev/shm of one's own


@pytest.fixture
def alone(tmp_path: Path) -> Callable[[str], Any]:
    """Runs a program where no other channels are: `collect --all` would take those of everybody else's tests."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "--mount", "true"], capture_output=True).returncode:
        pytest.skip("needs leave to make a mount namespace")

    def run(program: str) -> subprocess.CompletedProcess[str]:
        mount = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'
        command = [str(unshare), "--mount", "sh", "-c", mount, "sh", sys.executable, "-c"]
        text = textwrap.dedent(HEAD) + textwrap.dedent(program)
        return commands.run(text, command=command, SHMTRACE_DIR=str(tmp_path / "fifos"))

    return run


HEAD = """
    import os, shmtrace, subprocess, sys, time

    def until(condition):
        limit = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < limit, "waited in vain"
            time.sleep(0.01)

    def make(name):
        return shmtrace.create_channel(name, page_size=4096, pages=16, flush_ms=20)

    def cat(channel):
        return subprocess.Popen(["cat", channel.fifo], stdout=subprocess.DEVNULL)

    collect = [sys.executable, "-m", "shmtrace", "collect", "--all"]
"""


def test_all_picks_up_channels_that_come_later_and_lets_go_of_those_that_go(alone: Callable[[str], Any]) -> None:
    result = alone(
        """
        first = make("first")
        collector = subprocess.Popen(collect)
        until(lambda: first.stats()["collector"] == collector.pid)
        second = make("second")
        reader = cat(second)
        until(lambda: second.event(b"x"))
        shmtrace.remove_channel("first")
        shmtrace.remove_channel("second", drain=True)
        reader.wait(20)
        anew = make("first")
        until(lambda: anew.stats()["collector"] == collector.pid)
        collector.terminate()
        assert collector.wait(20) == 0
        assert anew.stats()["collector"] is None
        shmtrace.remove_channel("first")
        print(os.listdir("/dev/shm"), os.listdir(os.environ["SHMTRACE_DIR"]))
        """
    )
    assert (result.returncode, result.stdout) == (0, "[] []\n"), result.stderr
    lines = sorted(result.stderr.splitlines())
    assert [re.sub(r"\d+ events", "n events", line) for line in lines] == [
        "shmtrace: first: n events delivered, 0 missed, 0 lost",
        "shmtrace: first: n events delivered, 0 missed, 0 lost",
        "shmtrace: second: n events delivered, 0 missed, 0 lost",
    ]


@pytest.mark.parametrize("trouble", ["fifo", "garbage", "collected"])
def test_all_names_a_channel_that_it_cannot_collect_once_and_collects_the_others(
    alone: Callable[[str], Any], trouble: str
) -> None:
    result = alone(
        f"""
        trouble = {trouble!r}
        bad, good = make("bad"), make("good")
        other = None
        if trouble == "fifo":
            bad.fifo.unlink()
        elif trouble == "garbage":
            os.truncate(f"/dev/shm/shmtrace.{{os.getuid()}}.bad", 5)
        else:
            other = subprocess.Popen([*collect[:-1], "bad"], stderr=subprocess.DEVNULL)
            until(lambda: bad.stats()["collector"])
        collector = subprocess.Popen(collect)
        reader = cat(good)
        until(lambda: good.event(b"x"))
        time.sleep(1.7)
        assert good.event(b"x")
        reader.kill()
        reader.wait()
        collector.terminate()
        collector.wait(20)
        if other:
            other.terminate()
            other.wait()
        """
    )
    assert result.returncode == 0, result.stderr
    complaints = [line for line in result.stderr.splitlines() if "good: " not in line]
    assert len([line for line in complaints if " events delivered" not in line]) == 1, result.stderr


def test_priority_and_cpus_are_options(channel: shmtrace.Channel) -> None:
    cpu = min(os.sched_getaffinity(0))
    with commands.running("collect", channel.name, "--nice", "7", "--cpus", str(cpu)) as collector:
        commands.until(lambda: channel.stats()["collector"] == collector.pid)
        assert os.sched_getaffinity(collector.pid) == {cpu}
        assert os.getpriority(os.PRIO_PROCESS, collector.pid) == 7


@pytest.mark.parametrize("cpus", ["", "x", "1-", "60000"])
def test_cpus_that_are_none_are_wrong_usage(channel: shmtrace.Channel, cpus: str) -> None:
    result = commands.run("collect", channel.name, "--cpus", cpus)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1


def test_a_reader_that_a_killed_collector_had_not_yet_struck_out_keeps_nobody_from_removing_the_channel(
    channel: shmtrace.Channel, segment: Segment
) -> None:
    segment.set_u32(CONTROL.reader, 1)  # killed between switching off and this
    with commands.running("collect", channel.name) as collector:
        commands.until(lambda: channel.stats()["collector"] == collector.pid)
        commands.until(lambda: not channel.stats()["reader"])
        collector.terminate()
        collector.wait(commands.LIMIT_S)
