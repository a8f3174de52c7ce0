"""The FIFO: when a recorder or tail begins, waits, refuses and ends."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from reader.build import Trace, small_trace, whole
from reader.fifo import Channel
from shmtrace.errors import ChannelError, ChannelForeign, RecorderRunning
from shmtrace.layout import CONTROL
from shmtrace.reader.source import FifoSource, Stop, stop_on_signals

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shmtrace.reader.stream import Item

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def channel(tmp_path: Path) -> Channel:
    return Channel(tmp_path / "app")


class Reading:
    """A source that is read in a thread of its own."""

    def __init__(self, source: FifoSource) -> None:
        self.items: list[Item] = []
        self.thread = threading.Thread(target=self._run, args=(source,), daemon=True)
        self.thread.start()

    def _run(self, source: FifoSource) -> None:
        for batch in source.batches():
            self.items += batch

    def until(self, condition: Callable[[], object]) -> None:
        limit = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < limit
            time.sleep(0.005)

    def end(self) -> list[Item]:
        self.thread.join(10)
        assert not self.thread.is_alive()
        return self.items

    @property
    def is_over(self) -> bool:
        self.thread.join(0.4)  # longer than the grace
        return not self.thread.is_alive()


def test_it_ends_with_the_goodbye_when_the_fifo_is_empty(channel: Channel) -> None:
    trace = small_trace()
    with FifoSource(channel) as source:
        with channel.collector() as sink:
            os.write(sink, trace.stream)
        assert whole(Reading(source).end()) == trace.parts[1:]


def test_it_waits_for_the_first_collector(channel: Channel) -> None:
    trace = small_trace()
    with FifoSource(channel) as source:
        reading = Reading(source)
        assert not reading.is_over
        with channel.collector() as sink:
            os.write(sink, trace.stream)
        assert whole(reading.end()) == trace.parts[1:]


def test_a_packet_comes_while_the_collector_is_silent(channel: Channel) -> None:
    trace = small_trace()
    with FifoSource(channel) as source:
        with channel.collector() as sink:
            reading = Reading(source)
            os.write(sink, trace.metadata + trace.parts[1])
            reading.until(lambda: whole(reading.items) == [trace.parts[1]])
            channel.numbers[CONTROL.goodbyes] += 1  # not the end while it has the FIFO open
            assert not reading.is_over
            os.write(sink, trace.parts[2])
            reading.until(lambda: whole(reading.items) == trace.parts[1:3])
        assert len(reading.end()) == 3


def test_a_removed_channel_is_the_end_when_the_fifo_is_empty(channel: Channel) -> None:
    trace = small_trace()
    with FifoSource(channel) as source:
        reading = Reading(source)
        with channel.collector(goodbye=False) as sink:
            channel.numbers[CONTROL.removed] = 2
            os.write(sink, trace.stream)
            assert not reading.is_over
        assert whole(reading.end()) == trace.parts[1:]


def test_a_killed_collector_is_told_once_and_the_next_one_awaited(channel: Channel) -> None:
    trace = small_trace()
    lines: list[str] = []
    with FifoSource(channel, say=lines.append) as source:
        reading = Reading(source)
        with channel.collector(goodbye=False) as sink:
            os.write(sink, trace.metadata + trace.parts[1] + trace.parts[2][:50])
        assert not reading.is_over
        assert whole(reading.items) == [trace.parts[1]]
        assert lines == ["the collector of channel app was killed: waiting for the next one"]
        with channel.collector() as sink:
            os.write(sink, trace.metadata + b"".join(trace.parts[2:]))
        assert whole(reading.end()) == trace.parts[1:]
    assert len(lines) == 1


def test_a_killed_collector_is_the_end_for_once(channel: Channel) -> None:
    trace = small_trace()
    lines: list[str] = []
    with FifoSource(channel, once=True, say=lines.append) as source:
        with channel.collector(goodbye=False) as sink:
            os.write(sink, trace.stream)
        assert whole(Reading(source).end()) == trace.parts[1:]
    assert lines == ["the collector of channel app was killed: ending"]


def test_the_next_collector_may_come_before_anybody_noticed(channel: Channel) -> None:
    trace = small_trace()
    lines: list[str] = []
    with FifoSource(channel, say=lines.append) as source:
        with channel.collector(goodbye=False) as first:
            os.write(first, trace.metadata + trace.parts[1] + trace.parts[2][:50])
        with channel.collector() as second:
            os.write(second, trace.metadata + b"".join(trace.parts[2:]))
        assert whole(Reading(source).end()) == trace.parts[1:]
    assert lines == []


def test_a_request_to_stop_still_reads_what_is_there(channel: Channel) -> None:
    trace = small_trace()
    stop = Stop()
    with FifoSource(channel, stopping=stop) as source, channel.collector() as sink:
        os.write(sink, trace.stream)
        stop.requested = True
        assert whole(Reading(source).end()) == trace.parts[1:]


def test_a_request_to_stop_waits_for_the_end_of_a_packet(channel: Channel) -> None:
    trace = small_trace()
    stop = Stop()
    with FifoSource(channel, stopping=stop) as source, channel.collector() as sink:
        os.write(sink, trace.metadata + trace.parts[1] + trace.parts[2][:30])
        stop.requested = True
        reading = Reading(source)
        time.sleep(0.05)
        os.write(sink, trace.parts[2][30:] + trace.parts[3])
        assert whole(reading.end()) == trace.parts[1:3]


def test_a_request_to_stop_is_not_held_up_for_long(channel: Channel) -> None:
    trace = small_trace()
    stop = Stop()
    with FifoSource(channel, stopping=stop) as source, channel.collector() as sink:
        os.write(sink, trace.metadata + trace.parts[1] + trace.parts[2][:30])
        stop.requested = True
        begin = time.monotonic()
        assert whole(Reading(source).end()) == [trace.parts[1]]
        assert time.monotonic() - begin < 3


def test_a_request_to_stop_ends_while_somebody_writes_on_and_on(channel: Channel) -> None:
    stop = Stop()
    done = threading.Event()

    def write(sink: int) -> None:
        trace = Trace()
        while not done.is_set():
            data = trace.metadata + trace.lane().blob(b"x" * 60_000).packet()
            while data and not done.is_set():
                with contextlib.suppress(BlockingIOError):
                    data = data[os.write(sink, data) :]

    with FifoSource(channel, stopping=stop) as source, channel.collector() as sink:
        writer = threading.Thread(target=write, args=(sink,))
        writer.start()
        try:
            reading = Reading(source)
            reading.until(lambda: len(whole(reading.items)) > 5)
            stop.requested = True
            reading.end()
        finally:
            done.set()
            writer.join()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_ask_for_the_end(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop()
    assert signal.getsignal(number) is before


def test_a_second_reader_is_refused_by_name(channel: Channel) -> None:
    with FifoSource(channel), pytest.raises(RecorderRunning, match="channel app is being read"):
        FifoSource(channel)
    FifoSource(channel).close()


def test_a_missing_fifo_is_an_error_that_names_it(channel: Channel) -> None:
    channel.fifo.unlink()
    with pytest.raises(ChannelError, match="cannot be opened"):
        FifoSource(channel)


def test_something_else_in_place_of_the_fifo_is_refused(channel: Channel) -> None:
    channel.fifo.unlink()
    channel.fifo.touch()
    with pytest.raises(ChannelForeign, match="is no FIFO"):
        FifoSource(channel)


def test_waiting_costs_next_to_nothing(channel: Channel) -> None:
    stop = Stop()
    with FifoSource(channel, stopping=stop) as source:
        for collector in (contextlib.nullcontext(), channel.collector(goodbye=False)):
            with collector:
                reading = Reading(source)
                begin = time.process_time()
                time.sleep(0.4)
                assert time.process_time() - begin < 0.1
                stop.requested = True
                reading.end()
                stop.requested = False
