"""Channels in which nothing happens: they cost their collector next to nothing; what then happens is seen in time."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import commands
import shmtrace
from bench.usage import usage
from recording import end, reading, recorded
from shmtrace.collector.living import FRESH_S, has_left, is_dead
from shmtrace.collector.loop import QUIET_S, UPKEEP_LATER_S, UPKEEP_S
from shmtrace.collector.watch import Watch
from shmtrace.process import start_ticks
from shmtrace.segment import segment_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHANNELS = 50


@pytest.fixture
def quiet(channel_name: str) -> Iterator[shmtrace.Channel]:
    """A channel that is flushed every 50 ms."""
    yield shmtrace.create_channel(channel_name, page_size=4096, pages=16, flush_ms=50)
    with suppress(shmtrace.ChannelNotFound):
        shmtrace.remove_channel(channel_name, drain=True)


def test_channels_that_nobody_reads_do_not_wake_the_collector_one_by_one(new_name: Callable[[], str]) -> None:
    """One thread looks at them all, every 20 ms; each thread has something to look after once a second."""
    made = [shmtrace.create_channel(new_name(), page_size=4096, pages=16) for _ in range(CHANNELS)]
    with commands.running("collect", *(channel.name for channel in made)) as collector:
        commands.until(lambda: all(channel.stats()["collector"] == collector.pid for channel in made))
        before = usage(collector.pid).wakes
        time.sleep(2)
        assert usage(collector.pid).wakes - before < 2 * 50 * CHANNELS / 3, "looking by themselves they wake for each"
        end(collector, signal_number=signal.SIGTERM)
    for channel in made:
        shmtrace.remove_channel(channel.name)


def test_an_event_in_a_quiet_channel_is_sent_at_the_next_flush(quiet: shmtrace.Channel, tmp_path: Path) -> None:
    waited = []
    with recorded(quiet, tmp_path / "trace"):
        for sent in range(3):
            time.sleep(QUIET_S + 0.3)
            begin = time.monotonic()
            assert quiet.event(b"x")
            while quiet.stats()["delivered"] == sent:
                time.sleep(0.005)
                assert time.monotonic() - begin < commands.LIMIT_S
            waited.append(time.monotonic() - begin)
    assert min(waited) < UPKEEP_S / 2
    assert len([record for record in shmtrace.read(tmp_path / "trace") if record.kind == "event"]) == 3


def test_a_reader_that_leaves_a_quiet_channel_is_seen_at_once(quiet: shmtrace.Channel, tmp_path: Path) -> None:
    with commands.running("collect", quiet.name) as collector:
        with reading(quiet, "cat", tmp_path / "stream") as cat:
            time.sleep(QUIET_S + 0.3)
            begin = time.monotonic()
            cat.kill()
            commands.until(lambda: not quiet.enabled)
            assert time.monotonic() - begin < UPKEEP_S
        end(collector, signal_number=signal.SIGTERM)


def test_a_quiet_channel_is_removed_at_once(quiet: shmtrace.Channel, tmp_path: Path) -> None:
    with commands.running("collect", quiet.name) as collector, reading(quiet, "cat", tmp_path / "stream") as cat:
        time.sleep(QUIET_S + 0.3)
        begin = time.monotonic()
        shmtrace.remove_channel(quiet.name, drain=True)
        end(collector)
        assert cat.wait(commands.LIMIT_S) == 0
        assert time.monotonic() - begin < UPKEEP_LATER_S / 2


def test_the_collector_raises_the_limit_of_open_files(quiet: shmtrace.Channel) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard - 1), hard))
    try:
        with commands.running("collect", quiet.name) as collector:
            commands.until(lambda: quiet.stats()["collector"] == collector.pid)
            assert resource.prlimit(collector.pid, resource.RLIMIT_NOFILE) == (hard, hard)
            end(collector, signal_number=signal.SIGTERM)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_look_is_called_until_it_is_true() -> None:
    calls = itertools.count(1)
    done = threading.Event()

    def look() -> bool:
        if next(calls) < 3:
            return False
        done.set()
        return True

    watch = Watch()
    watch.every(0.01, look)
    assert done.wait(10)
    time.sleep(0.1)
    assert next(calls) == 4


def test_a_look_that_was_taken_back_is_not_called() -> None:
    calls: list[float] = []

    def look() -> bool:
        calls.append(time.monotonic())
        return False

    watch = Watch()
    watch.every(0.01, look)
    commands.until(lambda: calls)
    watch.take_back(0.01, look)
    count = len(calls)
    time.sleep(0.1)
    assert len(calls) == count


def test_looks_that_take_long_are_made_less_often() -> None:
    calls: list[float] = []

    def look() -> bool:
        calls.append(time.monotonic())
        time.sleep(0.05)
        return False

    watch = Watch()
    watch.every(0.01, look)
    time.sleep(0.8)
    watch.take_back(0.01, look)
    assert len(calls) == 1, "a twentieth of the time is theirs"


def test_who_died_counts_as_dead_a_second_later_at_most() -> None:
    pid = os.fork()
    if pid == 0:
        time.sleep(100)
        os._exit(0)
    start = start_ticks(pid)
    assert start is not None
    assert not is_dead(pid, start)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    begin = time.monotonic()
    commands.until(lambda: is_dead(pid, start))
    assert time.monotonic() - begin < 10 * FRESH_S


def test_a_process_that_attached_just_now_has_not_left(new_name: Callable[[], str]) -> None:
    """What it mapped a moment ago is remembered, and does not have the new segment."""
    for _ in range(3):
        name = new_name()
        with shmtrace.create_channel(name, page_size=4096, pages=16):
            status = Path(segment_path(name)).stat()
            assert not has_left(os.getpid(), status.st_dev, status.st_ino)
        shmtrace.remove_channel(name)
