"""What `top` tells of a channel: the counts of `stats()`, and estimates that are near what was written."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import pytest

import commands
import recording
import shmtrace
from shmtrace.live.look import Watch
from shmtrace.segment import open_segment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from shmtrace.segment import Segment

pytestmark = pytest.mark.timeout(100)
ADDED = {"pages_in_use", "lag_ms", "interval_s", "rates", "estimates"}


@pytest.fixture
def channel(channel_name: str) -> Iterator[shmtrace.Channel]:
    """A channel, removed afterwards."""
    with shmtrace.create_channel(channel_name, pages=64, page_size=8192) as made:
        yield made
    shmtrace.remove_channel(channel_name)


@pytest.fixture
def segment(channel: shmtrace.Channel) -> Iterator[Segment]:
    """Its segment, mapped once more."""
    opened = open_segment(channel.name)
    yield opened
    opened.unmap()


def test_once_as_json_is_stats_and_more(channel: shmtrace.Channel, tmp_path: Path) -> None:
    with recording.recorded(channel, tmp_path / "trace") as recorder:
        for _ in range(5000):
            channel.event(b"x" * 40)
        recorder.finish()
        (found,) = json.loads(commands.run("top", channel.name, "--once", "--json", "--interval", "0.1").stdout)[
            "channels"
        ]
        assert found.keys() - channel.stats().keys() == ADDED
        assert {key: found[key] for key in found.keys() - ADDED} == channel.stats()
    assert found["pages_in_use"] == found["pages"] - found["pages_waiting"]
    assert found["rates"] == {"delivered": 0, "overwritten": 0, "missed": 0, "lost": 0}


def test_what_is_written_slowly_is_estimated_exactly(
    channel: shmtrace.Channel, segment: Segment, tmp_path: Path
) -> None:
    request, depth = channel.tracepoint("request", status="u16"), channel.counter("depth")
    with recording.recorded(channel, tmp_path / "trace") as recorder:
        request(1)
        watch = Watch(segment)
        for number in range(60):
            request(200)
            if number % 3 == 0:
                depth(number)
            watch.sample()
        found = watch.report()
        recorder.finish()
    counts = {event["name"]: event["rate"] * found["interval_s"] for event in found["estimates"]["events"]}
    assert counts == {"request": pytest.approx(60, abs=2), "depth": pytest.approx(20, abs=2)}
    (process,) = found["estimates"]["processes"]
    assert process["pid"] == os.getpid()


def test_what_is_written_fast_is_split_by_what_was_seen(
    channel: shmtrace.Channel, segment: Segment, tmp_path: Path
) -> None:
    one, other = channel.tracepoint("one", number="u32"), channel.tracepoint("other", number="u32")
    with recording.recorded(channel, tmp_path / "trace") as recorder:
        one(0)
        commands.until(lambda: channel.stats()["delivered"])
        watch = Watch(segment)
        before = channel.stats()["delivered"]
        for round_ in range(20):
            for number in range(400):
                one(number)
                if number % 4 == 0:
                    other(number)
            time.sleep(0.005)
            watch.sample()
            assert round_ >= 0
        commands.until(lambda: channel.stats()["delivered"] - before == 10_000)
        found = watch.report()
        recorder.finish()
    rates = {event["name"]: event["rate"] for event in found["estimates"]["events"]}
    assert found["rates"]["delivered"] * found["interval_s"] == pytest.approx(10_000)
    assert rates["one"] / rates["other"] == pytest.approx(4, rel=0.25)
    total = sum(rates.values()) + found["estimates"]["not_seen"]
    assert total * found["interval_s"] == pytest.approx(10_000, rel=0.05)


def test_lag_is_the_age_of_what_was_not_sent(channel: shmtrace.Channel, segment: Segment, tmp_path: Path) -> None:
    watch = Watch(segment)
    with recording.recorded(channel, tmp_path / "trace") as recorder:
        assert watch.lag_ms() is None
        with recorder.slow_reader():
            blob = b"x" * 4000
            for _ in range(20):  # until the pipe and then all pages are full
                while channel.event(blob):
                    pass
                time.sleep(0.02)
            lag = watch.lag_ms()
            assert lag is not None
            assert 50 < lag < 60_000
            assert watch.report()["rates"]["missed"] > 0
        recorder.finish()
    assert watch.lag_ms() is None


def test_a_flight_recorder_is_estimated_by_its_bytes(channel_name: str) -> None:
    with shmtrace.create_channel(channel_name, page_size=8192, mode="overwrite") as channel:
        segment = open_segment(channel_name)
        channel.event(b"first")
        watch = Watch(segment)
        for _ in range(50):
            for _ in range(100):
                channel.event(b"x" * 16)
            watch.sample()
        found = watch.report()
        segment.unmap()
    shmtrace.remove_channel(channel_name)
    (event,) = found["estimates"]["events"]
    assert event["name"] == "blob"
    assert event["rate"] * found["interval_s"] == pytest.approx(5000, rel=0.1)
    assert found["lag_ms"] is None


def test_once_is_text_too_and_all_channels_without_a_name(channel: shmtrace.Channel) -> None:
    done = commands.run("top", "--once", "--interval", "0.1")
    assert done.returncode == 0
    assert f"{channel.name}: 0/s delivered, 0/s missed" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status"), [(["--json"], 2), (["no-such-channel", "--once"], 1), (["nothing"], 1)]
)
def test_what_cannot_be_shown_is_one_line(arguments: list[str], status: int) -> None:
    done = commands.run("top", *arguments)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (status, "", 1)
