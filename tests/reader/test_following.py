"""Several sources that are being recorded become one timeline, whatever comes late and whoever says nothing."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import shmtrace
from reader.build import FREQUENCY
from reader.test_merging import save, trace
from shmtrace.reader import following
from shmtrace.reader.following import FollowedDirectory, FollowedStream, Timeline
from shmtrace.reader.source import PipeSource
from shmtrace.reader.stream import Parser

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from reader.build import Trace
    from shmtrace.reader import Record
    from shmtrace.reader.stream import Item

pytestmark = pytest.mark.timeout(60)
some = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LATE_S = 0.1
SECOND = FREQUENCY


class Feed:
    """A stream of which a test says when something comes."""

    def __init__(self, made: Trace) -> None:
        self.trace = made
        self._parser = Parser()
        self._sent = 0
        self.ended = False

    def pieces(self) -> Iterator[list[Item]]:
        while not self.ended or self._sent < len(self.trace.parts):
            new, self._sent = self.trace.parts[self._sent :], len(self.trace.parts)
            yield [item for part in new for item in self._parser.feed(part)] + self._parser.idle()
        yield self._parser.end()


class Clock:
    """Seconds that pass as a test says."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def empty(channel: str, *, host: str = "one", boot: int = 1) -> Trace:
    made = trace([0], host=host, boot=boot, channel=channel)
    made.parts.pop()
    made.lane().writer(1, pid=7)
    return made


def tick(made: Trace, at: float, number: int = 0) -> None:
    """A packet with a tick at a second."""
    made.lane().at(int(at * SECOND)).add(16, number.to_bytes(12, "big")).packet()


def timeline(*traces: Trace) -> tuple[list[Feed], Timeline, Clock]:
    feeds, clock = [Feed(made) for made in traces], Clock()
    followed = [FollowedStream(f"{n}", n, print, feed.pieces(), LATE_S) for n, feed in enumerate(feeds)]
    return feeds, Timeline(followed, clock), clock


def times(records: Sequence[Record]) -> list[tuple[str | None, float]]:
    return [(record.channel, record.cycles / SECOND) for record in records]


def test_a_record_waits_until_nothing_older_is_to_be_expected() -> None:
    (one, two), merged, clock = timeline(empty("a"), empty("b"))
    tick(one.trace, 10.0)
    tick(two.trace, 9.0)
    assert merged.step() == ([], True)
    tick(one.trace, 9.5)  # of another lane, let us say
    tick(one.trace, 20.0)
    assert times(merged.step()[0]) == []  # the other one may have something yet
    tick(two.trace, 20.0)
    assert times(merged.step()[0]) == [("b", 9.0), ("a", 9.5), ("a", 10.0)]
    clock.seconds += LATE_S / 2
    merged.step()
    clock.seconds += LATE_S
    assert times(merged.step()[0]) == [("a", 20.0), ("b", 20.0)]


def test_a_source_that_says_nothing_holds_nothing_up() -> None:
    (one, _), merged, clock = timeline(empty("a"), empty("b"))
    tick(one.trace, 10.0)
    assert merged.step() == ([], True)
    tick(one.trace, 11.0)
    clock.seconds += 2 * LATE_S
    assert times(merged.step()[0]) == [("a", 10.0)]


def test_a_source_that_has_ended_holds_nothing_up() -> None:
    (one, two), merged, _ = timeline(empty("a"), empty("b"))
    tick(one.trace, 10.0)
    two.ended = one.ended = True
    given = [record for records in merged for record in records]
    assert times(given) == [("a", 10.0)]


def test_hosts_are_merged_by_their_wall_clocks() -> None:
    (one, two), merged, _ = timeline(
        empty("a"),
        trace([5 * SECOND, 9 * SECOND], host="two", boot=2, channel="b", ahead_s=15),
    )
    for at in (10.0, 30.0):
        tick(one.trace, at)
    one.ended = two.ended = True
    given = [record for records in merged for record in records if record.name == "tick"]
    assert [(record.host, record.channel) for record in given] == [
        ("one", "a"),
        ("two", "b"),
        ("two", "b"),
        ("one", "a"),
    ]


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "MOST_HELD", 10)
    (one, _), merged, _ = timeline(empty("a"), empty("b"))
    for number in range(30):
        tick(one.trace, 1.0, number)
    assert len(merged.step()[0]) == 20


def test_spans_that_the_reader_numbers_are_apart() -> None:
    (one, two), merged, _ = timeline(empty("a"), empty("b", host="two", boot=2))
    for feed in (one, two):
        feed.trace.lane().at(SECOND).add(17, b"\xff\xff\xff\xff" + bytes(16)).packet()
        feed.ended = True
    spans = {record.span for records in merged for record in records}
    assert len(spans) == 2


@some
@given(st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=20), min_size=2, max_size=3))
def test_directories_that_are_complete_are_merged_as_read_does(
    tmp_path_factory: pytest.TempPathFactory, cycles: list[list[int]]
) -> None:
    made = [trace(sorted(times), host="one", channel=f"{n}", boot=1) for n, times in enumerate(cycles)]
    paths = save(tmp_path_factory.mktemp("traces"), *made)
    followed = [FollowedDirectory(path, number, print) for number, path in enumerate(paths)]
    given = [record for records in Timeline(followed) for record in records]
    assert sorted(map(repr, given)) == sorted(map(repr, shmtrace.read(paths)))
    assert [record.monotonic_ns for record in given] == sorted(record.monotonic_ns for record in given)


def test_a_directory_is_read_no_further_ahead_than_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "CHUNK", 8)
    step = SECOND // 10
    early, late = (
        trace(list(range(begin, begin + 200 * step, step)), host="one", boot=1, channel=channel)
        for channel, begin in (("a", 0), ("b", 100 * SECOND))
    )
    followed = [FollowedDirectory(path, n, print) for n, path in enumerate(save(tmp_path, early, late))]
    given, held = [], []
    for records in Timeline(followed):
        given += records
        held.append(max(source.held for source in followed))
    assert max(held) <= 16
    assert [record.channel for record in given] == ["a"] * 202 + ["b"] * 202


def test_a_directory_and_a_pipe_are_followed_until_both_end(tmp_path: Path) -> None:
    made = trace([100, 300], host="one", boot=1, channel="a")
    (path,) = save(tmp_path, made)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    lock = os.open(path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with PipeSource(fifo, wait_ms=0) as pipe:
        merged = iter(Timeline([FollowedDirectory(path, 0, print), FollowedStream("fifo", 1, print, pipe.batches())]))
        assert next(merged) == []
        writer = os.open(fifo, os.O_WRONLY)
        os.write(writer, trace([200, 400], host="one", boot=1, channel="b").stream)
        os.close(writer)
        given = next(merged)
        os.close(lock)
        for records in merged:
            given += records
    ticks = [(record.channel, record.cycles) for record in given if record.name == "tick"]
    assert ticks == [("a", 100), ("b", 200), ("a", 300), ("b", 400)]
