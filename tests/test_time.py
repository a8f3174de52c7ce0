"""A record's time is the time of the call: for our reader within 20 us, for babeltrace2 within 20 ppm."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import time
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import pytest

import commands
import emit
import shmtrace
from judge import Event, events
from recording import collected, end, reading, recorded
from shmtrace import clock, layout
from shmtrace.context import CLOCK_LIMIT
from shmtrace.layout import CONTROL, LANE
from shmtrace.reader.stream import Packet, Parser, heads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HOUR_S = 3600
SECOND_NS = 10**9
READER_NS = 20_000
PPM = 20
STOPPED_AHEAD_OF_P2 = """
import os, signal, sys
from shmtrace.native import functions, steps

armed = False

def watch(step):
    global armed
    if armed and steps.STEPS[step] == "P2":
        armed = False
        os.kill(os.getpid(), signal.SIGSTOP)

steps.watch(watch)
functions("producer")

import shmtrace

channel = shmtrace.open_channel(sys.argv[1])
assert channel.event(b"first")
armed = True
assert channel.event(b"stopped")
"""
EVENTS, PAUSE_S = 300, 0.007  # more than two seconds: two intervals between clock records, and the ends


def set_birth(channel: shmtrace.Channel, clocks: tuple[int, int, int]) -> None:
    """Say that the channel was made when its clocks showed this."""
    assert channel._attachment is not None
    segment = channel._attachment.segment
    for offset, value in zip(
        (CONTROL.clock_cycles, CONTROL.clock_monotonic_ns, CONTROL.clock_realtime_ns), clocks, strict=True
    ):
        segment.set_u64(offset, value)


def measured_frequency(span_s: float) -> tuple[float, tuple[int, int, int]]:
    """Cycles a second, and a reading of the clocks."""
    before = clock.read_clocks(layout.CLOCK_TSC)
    time.sleep(span_s)
    after = clock.read_clocks(layout.CLOCK_TSC)
    return (after[0] - before[0]) / (after[1] - before[1]) * SECOND_NS, after


def an_hour_old(channel: shmtrace.Channel) -> None:
    """The channel was made an hour ago."""
    frequency, (cycles, monotonic_ns, realtime_ns) = measured_frequency(1)
    # the clocks start at boot, which may be less than an hour ago
    ago_s = min(HOUR_S, cycles / frequency * 0.9, monotonic_ns / SECOND_NS * 0.9)
    ago_ns = int(ago_s * SECOND_NS)
    set_birth(channel, (cycles - int(ago_s * frequency), monotonic_ns - ago_ns, realtime_ns - ago_ns))


def as_made(channel: shmtrace.Channel) -> None:
    """Nothing is changed."""


class Timed(NamedTuple):
    """A trace of numbered events, and the wall clock before and after each."""

    trace: Path
    started_ns: int
    calls: dict[int, tuple[int, int]]


needs_tsc = pytest.mark.skipif(
    clock.choose_clock() != layout.CLOCK_TSC, reason="this machine's time stamp counter is not invariant"
)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("tsc", as_made), id="tsc", marks=needs_tsc),
        pytest.param(("tsc", an_hour_old), id="tsc-an-hour-old", marks=needs_tsc),
        pytest.param(("monotonic", as_made), id="monotonic"),
    ],
)
def timed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Timed]:
    kind, age = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHMTRACE_CLOCK", kind)
        channel = shmtrace.create_channel(f"t{os.getpid()}-time", page_size=4096, pages=64)
    try:
        age(channel)
        trace = tmp_path_factory.mktemp("time") / "trace"
        calls = {}
        started_ns = time.time_ns()
        with recorded(channel, trace):
            for number in range(EVENTS):
                blob = number.to_bytes(4, "little")
                before = time.time_ns()
                accepted = channel.event(blob)
                calls[number] = before, time.time_ns()
                assert accepted
                time.sleep(PAUSE_S)
        yield Timed(trace, started_ns, calls)
    finally:
        shmtrace.remove_channel(channel.name, drain=True)


def off_by(time_ns: int, call: tuple[int, int]) -> int:
    """How far a time lies outside of a call."""
    before, after = call
    return max(before - time_ns, time_ns - after, 0)


def assert_reader_agrees(trace: Path, calls: dict[int, tuple[int, int]]) -> None:
    read = {}
    for record in shmtrace.read(trace):
        blob = record.fields["blob"]
        assert isinstance(blob, bytes)
        read[int.from_bytes(blob, "little")] = record.time_ns
    assert read.keys() == calls.keys()
    assert max(off_by(read[number], call) for number, call in calls.items()) <= READER_NS


def babeltrace_times(babeltrace2: str, trace: Path) -> dict[int, int]:
    return {
        int.from_bytes(event.blob, "little"): event.time_ns
        for event in events(babeltrace2, trace)
        if isinstance(event, Event)
    }


def test_our_reader_agrees_with_the_wall_clock(timed: Timed) -> None:
    assert_reader_agrees(timed.trace, timed.calls)


@pytest.mark.peers
def test_babeltrace2_agrees_with_the_wall_clock(timed: Timed, peer: Callable[[str], str]) -> None:
    times = babeltrace_times(peer("babeltrace2"), timed.trace)
    assert times.keys() == timed.calls.keys()
    for number, call in timed.calls.items():
        drift_ns = (call[1] - timed.started_ns) * PPM // 10**6
        assert off_by(times[number], call) <= drift_ns + READER_NS


class Description(NamedTuple):
    """The clock in a trace's metadata: the time is offset_s + (offset + cycles) / frequency."""

    frequency: int
    offset_s: int
    offset: int


CLOCK = re.compile(r"freq = (\d+); offset_s = (\d+); offset = (\d+);")


def described(trace: Path) -> Description:
    match = CLOCK.search((trace / "metadata").read_text())
    assert match
    return Description(*map(int, match.groups()))


@pytest.mark.peers
def test_an_hour_into_a_recording(timed: Timed, tmp_path: Path, peer: Callable[[str], str]) -> None:
    """The description is an hour old, and its frequency 10 ppm wrong, as after a short calibration.

    Our reader goes by the clock records and is as exact as ever; babeltrace2 has drifted.
    """
    trace = tmp_path / "trace"
    shutil.copytree(timed.trace, trace)
    frequency, offset_s, offset = described(trace)
    first = min(record.cycles for record in shmtrace.read(trace))
    then = first - HOUR_S * frequency
    then_in_cycles = offset_s * frequency + offset + then  # the wall clock, an hour ago
    wrong = frequency + frequency // 100_000
    new_s, new = divmod(then_in_cycles * wrong // frequency - then, wrong)
    metadata = trace / "metadata"
    metadata.write_text(CLOCK.sub(f"freq = {wrong}; offset_s = {new_s}; offset = {new};", metadata.read_text()))

    assert_reader_agrees(trace, timed.calls)
    times = babeltrace_times(peer("babeltrace2"), trace)
    most_ns = (HOUR_S * SECOND_NS) * PPM // 10**6
    worst = max(off_by(times[number], call) for number, call in timed.calls.items())
    assert most_ns // 4 < worst <= most_ns


@needs_tsc
def test_a_description_is_within_20_ppm_after_the_shortest_calibration(channel_name: str, tmp_path: Path) -> None:
    channel = shmtrace.create_channel(channel_name, page_size=4096, pages=16)
    frequency, _ = measured_frequency(1)
    with collected(channel):
        commands.until(lambda: channel.stats()["collector"])
        set_birth(channel, clock.read_clocks(layout.CLOCK_TSC))
        with commands.running("record", channel.name, "-o", tmp_path / "trace") as recorder:
            commands.until((tmp_path / "trace" / "metadata").exists)
            recorder.terminate()
    assert abs(described(tmp_path / "trace").frequency / frequency - 1) * 10**6 <= PPM


def test_a_clock_that_runs_back_does_not_take_a_lane_with_it(
    monkeypatch: pytest.MonkeyPatch, channel_name: str, tmp_path: Path
) -> None:
    """The lane was written last by a cpu whose clock is ahead: that is how long time stands still in it."""
    monkeypatch.setenv("SHMTRACE_CPU", "0")  # one lane
    channel = shmtrace.create_channel(channel_name, page_size=4096, pages=16)
    assert channel._attachment is not None
    segment = channel._attachment.segment
    with recorded(channel, tmp_path / "trace"):
        assert channel.event(b"before")
        ahead = segment.u64(segment.lane_at(0) + LANE.last_stamp) + (1 << 30)
        segment.set_u64(segment.lane_at(0) + LANE.last_stamp, ahead)
        assert channel.event(b"ahead")
        assert channel.event(b"still ahead")
    cycles = [record.cycles for record in shmtrace.read(tmp_path / "trace")]
    assert cycles[0] < cycles[1] == cycles[2] == ahead
    assert channel.stats()["damaged_words"] == 0


@pytest.mark.timeout(120)  # a cold cache is filled with code that is compiled for this
def test_who_was_stopped_ahead_of_a_lane_does_not_take_its_time_into_it(
    monkeypatch: pytest.MonkeyPatch, channel_name: str, tmp_path: Path
) -> None:
    """It has read the clock, and for longer than any last stamp may be ahead of that others write, and are sent."""
    monkeypatch.setenv("SHMTRACE_CPU", "0")  # one lane
    channel = shmtrace.create_channel(channel_name, page_size=4096, pages=16, flush_ms=10)
    kind = clock.choose_clock()
    with recorded(channel, tmp_path / "trace"):
        with commands.running(channel.name, command=[sys.executable, "-c", STOPPED_AHEAD_OF_P2]) as stopped:
            assert os.WIFSTOPPED(os.waitpid(stopped.pid, os.WUNTRACED)[1])
            limit = clock.read_clocks(kind)[0] + CLOCK_LIMIT
            assert channel.event(b"meanwhile")
            commands.until(lambda: clock.read_clocks(kind)[0] > limit)
            assert channel.event(b"long after")
            commands.until(lambda: channel.stats()["delivered"] == 3)
            stopped.send_signal(signal.SIGCONT)
            assert end(stopped) == ""
        assert channel.event(b"last")
    records = list(shmtrace.read(tmp_path / "trace"))
    assert [record.fields["blob"] for record in records] == [b"first", b"meanwhile", b"long after", b"stopped", b"last"]
    assert sorted(record.cycles for record in records) == [record.cycles for record in records]
    assert channel.stats()["damaged_words"] == 0


@pytest.mark.parametrize("kind", [pytest.param("tsc", marks=needs_tsc), "monotonic"])
def test_time_never_runs_backwards_within_a_lane(
    kind: str, monkeypatch: pytest.MonkeyPatch, channel_name: str, tmp_path: Path
) -> None:
    monkeypatch.setenv("SHMTRACE_CLOCK", kind)
    channel = shmtrace.create_channel(channel_name, page_size=4096, pages=512, flush_ms=10)
    with commands.running("collect", channel.name) as collector, reading(channel, "cat", tmp_path / "stream") as cat:
        tallies = emit.run(channel.name, "processes", count=8, events=10_000, sizes=[12, 0, 40])
        end(collector, signal_number=signal.SIGTERM)
        end(cat)

    newest: dict[int, int] = defaultdict(int)
    parser = Parser()
    for item in (*parser.feed((tmp_path / "stream").read_bytes()), *parser.end()):
        if isinstance(item, Packet):
            assert newest[item.lane] <= item.begin
            newest[item.lane] = item.begin
            for head in heads(item):
                assert newest[item.lane] <= head.cycles
                newest[item.lane] = head.cycles
            assert newest[item.lane] <= item.end
            newest[item.lane] = item.end
    records = list(shmtrace.read(tmp_path / "stream"))
    assert sum(record.name == "blob" for record in records) == sum(tally.accepted for tally in tallies)
    for lane in {record.lane for record in records}:
        times = [record.time_ns for record in records if record.lane == lane]
        assert times == sorted(times)
