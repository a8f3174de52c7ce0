"""Several channels and directories that are being recorded, as one timeline, live.

What is younger may come first: a page is sent when it is full, or at a flush interval, and each source is read for
itself.  So a record waits until nothing older is to be expected, from any source:

    it gave something that is younger, by as much as its records may come late
    it gave nothing for as long
    it has ended

Traces of one boot are merged by the monotonic clock, boots by their wall clocks as they were at the first record.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from typing import TYPE_CHECKING, TypeAlias

from .records import ROUND_S, Decoder, follow_directory
from .spans import OWN_NUMBERS_BITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from .records import Record
    from .stream import Item

__all__ = ["LATE_S", "FollowedDirectory", "FollowedStream", "Timeline"]

LATE_S = 0.25  # a record comes at most, where no flush interval is known
WAIT_S = 0.02  # when nothing came from anywhere
MOST_HELD = 1 << 16  # records, before they are given out, whatever may still come
CHUNK = 1 << 10  # records of a directory that are read ahead

_Waiting: TypeAlias = "tuple[int, int, Record, _Followed]"


class _Followed:
    """A source, and what the merge knows of it."""

    def __init__(self, place: str, number: int, warn: Callable[[str], None], late_s: float) -> None:
        self.place = place
        self.decoder = Decoder(warn, number << OWN_NUMBERS_BITS)
        self.late_s = late_s
        self.ended = False
        self.held = 0  # records that wait
        self.latest = -math.inf  # by the timeline's clock, in ns
        self.since: float | None = None  # when it was seen to give nothing more, if it does not

    def more(self) -> list[Record]:
        """What is there now."""
        raise NotImplementedError

    def is_ahead(self) -> bool:
        """What it has can wait in it."""
        return False

    def until(self, now: float) -> float:
        """Nothing that is older than this will come of it."""
        if self.ended or (self.since is not None and now - self.since >= self.late_s):
            return math.inf
        return self.latest - self.late_s * 1e9


class FollowedStream(_Followed):
    """What comes of a FIFO: pieces of it, which are empty if nothing is there now."""

    def __init__(
        self,
        place: str,
        number: int,
        warn: Callable[[str], None],
        pieces: Iterator[list[Item]],
        late_s: float = LATE_S,
    ) -> None:
        super().__init__(place, number, warn, late_s)
        self._pieces = pieces

    def more(self) -> list[Record]:
        """What is there now.  All of it: what stays in a FIFO holds its channel's pages back."""
        items = next(self._pieces, None)
        if items is None:
            self.ended = True
            return []
        self.decoder.learn(items, contexts=True)
        return list(self.decoder.records(items, self.place))


class FollowedDirectory(_Followed):
    """What comes into a directory."""

    def __init__(
        self, path: Path, number: int, warn: Callable[[str], None], stopping: Callable[[], bool] = lambda: False
    ) -> None:
        super().__init__(str(path), number, warn, LATE_S)
        self._rounds = follow_directory(path, warn, stopping, decoder=self.decoder, pause_s=0)
        self._round: Iterator[Record] | None = None
        self._due = 0.0

    def more(self) -> list[Record]:
        """The next ones, in the order of time."""
        if self._round is None:
            if time.monotonic() < self._due:
                return []
            self._round = next(self._rounds, None)
            self._due = time.monotonic() + ROUND_S
            self.ended = self._round is None
        found = list(itertools.islice(self._round or (), CHUNK))
        if not found:
            self._round = None
        return found

    def is_ahead(self) -> bool:
        """What it has can wait in it."""
        return self.held >= CHUNK


class Timeline:
    """Merges sources.  `now` is a clock in seconds."""

    def __init__(self, sources: Sequence[_Followed], now: Callable[[], float] = time.monotonic) -> None:
        self._sources = list(sources)
        self._now = now
        self._waiting: list[_Waiting] = []
        self._order = itertools.count()
        self._walls: dict[bytes, int] = {}  # of each boot, wall clock less monotonic clock

    def __iter__(self) -> Iterator[list[Record]]:
        """What is complete, from time to time, until all sources have ended."""
        while self._sources:
            found, came = self.step()
            yield found
            if not came and self._sources:
                time.sleep(WAIT_S)

    def step(self) -> tuple[list[Record], bool]:
        """One look at all sources: the records that are complete, and whether any came."""
        behind = min(source.latest for source in self._sources)
        came = [self._look(source) for source in self._sources if not source.is_ahead() or source.latest == behind]
        self._sources = [source for source in self._sources if not source.ended]
        now = self._now()
        until = min((source.until(now) for source in self._sources), default=math.inf)
        found = []
        while self._waiting and (self._waiting[0][0] <= until or len(self._waiting) > MOST_HELD):
            *_, record, source = heapq.heappop(self._waiting)
            source.held -= 1
            found.append(record)
        return found, any(came)

    def _look(self, source: _Followed) -> bool:
        records = source.more()
        if not records:
            source.since = self._now() if source.since is None else source.since
            return False
        source.since = None
        known = source.decoder.description
        assert known is not None  # there are no records without
        wall = self._walls.setdefault(known.boot_id, records[0].time_ns - records[0].monotonic_ns)
        for record in records:
            when = record.monotonic_ns + wall
            source.latest = max(source.latest, when)
            named = record._replace(host=known.hostname, channel=known.channel)
            heapq.heappush(self._waiting, (when, next(self._order), named, source))
        source.held += len(records)
        return True
