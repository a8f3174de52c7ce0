"""Rates, fill and lag of a channel, read from its segment beside everybody who works in it.

Nothing is taken and nothing is written.  Counts are exact.  Which events and processes they are of, the segment does
not count; so records are looked at where they lie, the newest in each lane, and the lane's count is split as these are:
an estimate.  A lane's current page cannot be given to another one, and what is before its position does not change: if
the position names the same page before and after the copy, the copy is good, and else it is thrown away.
"""

from __future__ import annotations

import collections
import struct
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from .. import layout, wire
from ..classes import classes
from ..clock import read_clocks
from ..layout import CONTROL, LANE, PAGE
from ..stats import segment_stats, segment_writers

if TYPE_CHECKING:
    from ..segment import Segment

__all__ = ["Watch"]

MOST_RECORDS = 1000  # looked at, of a lane at a time
LONGEST_LAG_NS = 3600 * 10**9  # more is nonsense
_HEAD = struct.Struct("<QHHHH")
_RESERVED = {identifier: name for identifier, name, _ in wire.RESERVED_EVENTS}

Found: TypeAlias = "dict[str, Any]"


class _Lane(NamedTuple):
    """Where a lane was at a look."""

    position: int
    delivered: int


class _Position(NamedTuple):
    """A position, or a progress, taken apart."""

    sequence: int
    page: int
    bytes: int

    @classmethod
    def of(cls, word: int) -> _Position:
        return cls(word >> layout.SEQUENCE_SHIFT, word >> layout.PAGE_SHIFT & layout.PAGE_MASK,
                   word & layout.COMMITTED_MASK)  # fmt: skip


class Watch:
    """Looks at one segment again and again: `sample` now and then, `report` for what happened since the last one."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self._seen: dict[int, _Position] = {}
        self._records: dict[int, collections.Counter[tuple[int, int]]] = collections.defaultdict(collections.Counter)
        self._bytes: collections.Counter[int] = collections.Counter()
        self._lanes: dict[int, _Lane] = {}
        self._before: Found = {}
        self._when = 0.0
        self.report()

    def sample(self) -> None:
        """Looks at the records that came into the lanes' current pages."""
        for lane in range(self.segment.geometry.lanes):
            at = self.segment.lane_at(lane)
            if self.segment.u64(at + LANE.taken):
                self._sample(lane, at + LANE.position)

    def _sample(self, lane: int, at: int) -> None:
        segment, geometry = self.segment, self.segment.geometry
        now = _Position.of(segment.u64(at))
        before = self._seen.get(lane)
        if now.page >= geometry.pages or now.bytes > geometry.page_size:  # none, or damaged
            return
        if before is None:  # what was there before is not of now
            self._seen[lane] = now
            return
        begin = before.bytes if before[:2] == now[:2] else 0
        if now.bytes <= begin:
            return
        data = segment.read(geometry.pages_at + now.page * geometry.page_size + begin, now.bytes - begin)
        if _Position.of(segment.u64(at))[:2] != now[:2]:
            return
        self._seen[lane] = now
        self._count(lane, data)

    def _count(self, lane: int, data: bytes) -> None:
        at, records = 0, self._records[lane]
        for _ in range(MOST_RECORDS):
            if at + _HEAD.size > len(data):
                break
            _, identifier, _, writer, size = _HEAD.unpack_from(data, at)
            at = wire.padded(at + _HEAD.size + size)
            if identifier != wire.ID_PADDING:
                records[identifier, writer] += 1
        self._bytes[lane] += at

    def report(self) -> Found:
        """The channel's `stats`, and what became of them since the last report, in a second of time."""
        self.sample()
        now = time.monotonic()
        stats = segment_stats(self.segment)
        seconds = max(now - self._when, 1e-9)
        before = self._before or stats
        counts = {key: stats[key] - before[key] for key in ("delivered", "overwritten")}
        for key in ("missed", "lost"):
            counts[key] = sum(stats[key].values()) - sum(before[key].values())
        events, processes, unseen = self._estimate(seconds)
        self._before, self._when = stats, now
        self._records.clear()
        self._bytes.clear()
        return {
            **stats,
            "pages_in_use": stats["pages"] - stats["pages_waiting"],
            "lag_ms": self.lag_ms(),
            "interval_s": seconds,
            "rates": {key: count / seconds for key, count in counts.items()},
            "estimates": {"events": events, "processes": processes, "not_seen": unseen},
        }

    def _estimate(self, seconds: float) -> tuple[list[Found], list[Found], float]:
        """Records a second by event and by process; and those of lanes of which no record was seen."""
        known = {found.id: (found.name, found.kind) for found in classes(self.segment)}
        writers = {writer["number"]: (writer["pid"], writer["process"]) for writer in segment_writers(self.segment)}
        events: collections.Counter[tuple[str, str]] = collections.Counter()
        processes: collections.Counter[tuple[int | None, str | None]] = collections.Counter()
        unseen = 0.0
        for lane in range(self.segment.geometry.lanes):
            count, records = self._written(lane), self._records.get(lane)
            if not records:
                unseen += count
                continue
            share = max(count / records.total(), 1.0) / seconds
            for (identifier, writer), seen in records.items():
                name = known.get(identifier) or (_RESERVED.get(identifier, f"class {identifier}"), "event")
                events[name] += seen * share  # type: ignore[assignment]  # a Counter counts in any numbers
                processes[writers.get(writer, (None, None))] += seen * share  # type: ignore[assignment]
        return (
            [{"name": name, "kind": kind, "rate": rate} for (name, kind), rate in events.most_common()],
            [{"pid": pid, "process": process, "rate": rate} for (pid, process), rate in processes.most_common()],
            unseen / seconds,
        )

    def _written(self, lane: int) -> float:
        """Records since the last report: counted, or in the mode overwrite by their bytes."""
        segment = self.segment
        now = _Lane(segment.u64(segment.lane_at(lane) + LANE.position), segment.totals(lane)["delivered"])
        before, self._lanes[lane] = self._lanes.get(lane, now), now
        if segment.is_streamed:
            return now.delivered - before.delivered
        seen = self._records[lane].total() if lane in self._records else 0
        here, there = _Position.of(now.position), _Position.of(before.position)
        pages = (here.sequence - there.sequence) & layout.SEQUENCE_MASK
        written = pages * segment.geometry.page_size + here.bytes - there.bytes
        return written * seen / self._bytes[lane] if seen else 0

    def lag_ms(self) -> float | None:
        """How old the oldest record is that was not sent yet; None: everything was sent, or nothing is ever."""
        segment = self.segment
        if not segment.is_streamed:
            return None
        cycles, monotonic_ns, _ = read_clocks(segment.clock_kind)
        passed = cycles - segment.u64(CONTROL.clock_cycles)
        ns_a_cycle = (monotonic_ns - segment.u64(CONTROL.clock_monotonic_ns)) / passed if passed > 0 else 1.0
        stamps = (self._oldest_unsent(lane) for lane in range(segment.geometry.lanes))
        ages = [max(cycles - stamp, 0) * ns_a_cycle for stamp in stamps if stamp]
        return max((age / 1e6 for age in ages if age < LONGEST_LAG_NS), default=None)

    def _oldest_unsent(self, lane: int) -> int:
        """Its stamp; 0: there is none."""
        segment, geometry = self.segment, self.segment.geometry
        at = segment.lane_at(lane)
        word = segment.u64(at + LANE.progress)
        _, page, sent = _Position.of(word)
        position = _Position.of(segment.u64(at + LANE.position))
        if page == layout.NO_PAGE:  # the chain begins anew
            page, sent = segment.u32(at + LANE.first) & layout.PAGE_MASK, 0
        if page >= geometry.pages or position.page == layout.NO_PAGE:
            return 0
        length = segment.u32(geometry.descriptors_at + page * layout.PAGE_BYTES + PAGE.length)
        end = position.bytes if page == position.page else length
        if sent >= min(end, geometry.page_size - _HEAD.size + 1):
            return 0
        stamp = segment.u64(geometry.pages_at + page * geometry.page_size + sent)
        return stamp if segment.u64(at + LANE.progress) == word else 0  # else it was sent just now
