"""Who gets what the producers write."""

from __future__ import annotations

import math
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from shmtrace.layout import CONTROL

from .crew import until

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from shmtrace.segment import Segment

    from .crew import Crew, Member

SNAPSHOT_S = 0.5  # between the end of one and the next, at most


class Trace(NamedTuple):
    """What a reader got."""

    place: Path  # a directory, or what `cat` saved
    is_whole: bool  # a directory whose recorder ended in order


class Consumer(Protocol):
    """Who gets what the producers write."""

    loses_nothing: bool  # recording is on all the time, and all that is delivered is in one trace
    knows_all: bool  # the traces have all that is delivered
    may_repeat: bool  # what is in one trace may be in another, too

    def begin(self) -> None:
        """Start, and return when events are recorded."""

    def tend(self) -> None:
        """Replace who was killed."""

    def settle(self) -> None:
        """Be there for the last producer."""

    def end(self) -> None:
        """End in order: then all counts are final."""

    def traces(self) -> Iterator[Trace]:
        """What all readers got."""


class Recorded:
    """A collector and, one after the other, readers of its FIFO.

    Args:
        crew: whose processes they are.
        segment: of the channel.
        directory: where the traces go.
        choose: who reads, and how it ends.
        collector: mean lifetime of a collector, in seconds.
        reader: of a reader.
    """

    def __init__(
        self, crew: Crew, segment: Segment, directory: Path, choose: random.Random, *, collector: float, reader: float
    ) -> None:
        self._crew = crew
        self._segment = segment
        self._directory = directory
        self._choose = choose
        self._collector_s = collector
        self._reader_s = reader
        self._is_gentle = choose.random() < 0.4  # all readers are recorders that end in order
        self.loses_nothing = reader == math.inf
        self.knows_all = self.loses_nothing or (self._is_gentle and collector == math.inf)
        # A reader that comes while there is no collector is taken for the last one's, and gets its open packets again.
        self.may_repeat = not self.loses_nothing and collector != math.inf
        self._collector: Member | None = None
        self._reader: Member | None = None
        self._next_reader = 0.0
        self._readers: list[tuple[Member, Path]] = []

    def begin(self) -> None:
        until(self._is_served, "recording does not begin")

    def tend(self) -> None:
        if self._collector is None or not self._collector.is_alive:
            self._collector = self._crew.command("collector", "collect", self._segment.name, lifetime=self._collector_s)
        if self._reader is not None and not self._reader.is_alive:
            self._reader = None
            self._next_reader = time.monotonic() + self._choose.uniform(0, 0.02)
        # until its collector has seen that the last one left, another would get the rest of its stream: a known limit
        if self._reader is None and time.monotonic() >= self._next_reader and not self._segment.u32(CONTROL.reader):
            self._reader = self._read()

    def _read(self) -> Member:
        place = self._directory / f"trace-{len(self._readers)}"
        if self.loses_nothing or self._is_gentle or self._choose.random() < 0.7:
            reader = self._crew.command(
                "reader", "record", self._segment.name, "-o", place,
                lifetime=self._reader_s,
                dies_of=signal.SIGTERM if self._is_gentle or self._choose.random() < 0.5 else signal.SIGKILL,
            )  # fmt: skip
        else:
            reader = self._crew.fork("reader", lambda: _cat(Path(self._segment.fifo), place), lifetime=self._reader_s)
        self._readers.append((reader, place))
        return reader

    def settle(self) -> None:
        self._crew.calm()
        self._collector_s = self._reader_s = math.inf
        if self._reader is not None and self._reader.is_ending:
            self._crew.wait(self._reader)
        until(self._is_served, "a reader is not served")

    def _is_served(self) -> bool:
        self._crew.reap()
        self.tend()
        return self._reader is not None and self._is_recording()

    def _is_recording(self) -> bool:
        return self._segment.u32(CONTROL.recording) != 0 and self._segment.u32(CONTROL.reader) != 0

    def end(self) -> None:
        assert self._reader is not None
        assert self._collector is not None
        if self.loses_nothing or self._choose.random() < 0.5:
            self._crew.end(self._collector)
            self._crew.wait(self._collector)
            self._crew.wait(self._reader)
        else:
            self._crew.end(self._reader, self._reader.dies_of)
            self._crew.wait(self._reader)
            until(lambda: not self._is_recording(), "recording does not end")
            self._crew.end(self._collector)
            self._crew.wait(self._collector)

    def traces(self) -> Iterator[Trace]:
        for member, place in self._readers:
            if place.exists():
                yield Trace(place, is_whole=member.status == 0 and place.is_dir() and any(place.glob("stream_*")))


def _cat(fifo: Path, place: Path) -> None:
    os.execvp("sh", ["sh", "-c", 'exec cat < "$0" > "$1"', str(fifo), str(place)])


class Snapshots:
    """Snapshots, one after the other; the last one is what counts."""

    loses_nothing = False
    knows_all = False
    may_repeat = True

    def __init__(
        self, crew: Crew, segment: Segment, directory: Path, choose: random.Random, *, lifetime: float
    ) -> None:
        self._crew = crew
        self._segment = segment
        self._directory = directory
        self._choose = choose
        self._lifetime = lifetime
        self._taken: list[tuple[Member, Path]] = []
        self._next = 0.0

    def begin(self) -> None:
        pass  # recording is on from creation

    def tend(self) -> None:
        if self._taken and self._taken[-1][0].is_alive:
            self._next = time.monotonic() + self._choose.uniform(0, SNAPSHOT_S)
        elif time.monotonic() >= self._next:
            self._take()

    def _take(self) -> Member:
        place = self._directory / f"trace-{len(self._taken)}"
        taker = self._crew.command("reader", "snapshot", self._segment.name, "-o", place, lifetime=self._lifetime)
        self._taken.append((taker, place))
        return taker

    def settle(self) -> None:
        self._crew.calm()
        if self._taken:
            self._crew.wait(self._taken[-1][0])

    def end(self) -> None:
        self._crew.wait(self._take())

    def traces(self) -> Iterator[Trace]:
        for member, place in self._taken:
            if place.exists():
                yield Trace(place, is_whole=member.status == 0)
