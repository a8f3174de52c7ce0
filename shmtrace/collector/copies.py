"""Copies of what is in a channel's pages now.

The pages of all lanes are copied first, and quickly, so that what is written of them is of one moment; then the copies
are turned into the packets of a stream like any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .. import layout
from ..layout import LANE
from ..native import tables
from ..native.loader import libc, map_memory
from ..notes import say
from .state import Copy, Packing, State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from ..segment import Segment

TRIES = 10  # a collector or a producer may be faster than the copy


class _Lane(NamedTuple):
    """The copies of a lane's pages."""

    number: int
    copies: list[Copy]
    overwritten: int


class Copies:
    """Copies of all pages.  A context manager, because the memory is given back by hand."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._state = State(segment, 0)
        self._memory: list[tuple[int, int]] = []
        self._lanes = [self._copy(lane) for lane in range(segment.geometry.lanes)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for address, size in self._memory:
            libc.munmap(address, size)
        self._state.close()

    def _copy(self, lane: int) -> _Lane:
        segment = self._segment
        if segment.u64(segment.lane_at(lane) + LANE.taken) == 0:
            return _Lane(lane, [], 0)
        geometry = segment.geometry
        pages = geometry.pages if segment.is_streamed else len(geometry.ring(lane))
        target, copies = map_memory(pages * geometry.page_size), (Copy * pages)()
        self._memory.append((target, pages * geometry.page_size))
        count = tables.COPY_AGAIN
        for _ in range(TRIES):
            count = self._state.copy_lane(lane, target, copies)
            if count != tables.COPY_AGAIN:
                break
        if count < 0:
            why = "is written faster than it can be copied" if count == tables.COPY_AGAIN else "holds nonsense"
            say(f"snapshot of {segment.name!r}: lane {lane} {why}, it is left out")
        return _Lane(lane, [copies[i] for i in range(count)], self._state.overwritten)

    def writers(self) -> set[int]:
        """The numbers of the writers that are named in the pages."""
        return self._state.writers_in(copy for lane in self._lanes for copy in lane.copies)

    def packets(self) -> Iterator[tuple[bytes, int]]:
        """The stream: its description and packets, each with the number of its records."""
        yield self._state.describe(), 0
        self._state.want_clock()
        for lane in self._lanes:
            yield from self._packets_of(lane)

    def _packets_of(self, lane: _Lane) -> Iterator[tuple[bytes, int]]:
        state = self._state
        packing = Packing(stamp=state.begin_cycles)
        missed = self._segment.missed_in(lane.number)
        if missed:  # the count of a stream's first packet must be 0
            yield state.pack_nothing(lane.number, packing), 0
            packing.packet, packing.discarded = 1, missed
            if not lane.copies:
                yield state.pack_nothing(lane.number, packing), 0
        state.overwritten = lane.overwritten
        before = None
        for copy in lane.copies:
            if before is not None:  # a page that is not there is a gap
                packing.packet += (copy.tag - before) & layout.SEQUENCE_MASK
            before = copy.tag
            if copy.begin != copy.length:
                yield from self._packet(lane.number, copy, packing)
                packing.stamp = packing.last

    def _packet(self, lane: int, copy: Copy, packing: Packing) -> Iterator[tuple[bytes, int]]:
        data = self._state.pack_copy(lane, copy, packing)
        if not data:  # a class that was defined meanwhile
            yield self._state.describe(), 0
            data = self._state.pack_copy(lane, copy, packing)
        yield data, packing.events
