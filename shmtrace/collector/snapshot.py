"""A snapshot: what is in a channel's pages now, as a trace directory, without a collector and without a reader.

The pages of all lanes are copied first, and quickly, so that what is written is of one moment; then the copies are
turned into the packets of a stream, which goes to a recorder like any other.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from .. import layout
from ..errors import ChannelRemoved
from ..layout import CONTROL, LANE, WRITER
from ..native import tables
from ..native.loader import libc, map_memory
from ..notes import say
from ..process import is_writer_gone
from ..reader.recorder import Recorder
from ..reader.stream import Parser
from ..rescue import give_back_lanes
from .state import Copy, Packing, State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from ..segment import Segment

TRIES = 10  # a collector or a producer may be faster than the copy


def take_snapshot(segment: Segment, directory: str | os.PathLike[str]) -> Recorder:
    """Write a snapshot into a directory that is empty or does not exist; the recorder, closed, with its counts.

    Raises ChannelRemoved, DirectoryNotEmpty, OutputFailed.
    """
    if segment.u32(CONTROL.removed):
        raise ChannelRemoved(f"the channel {segment.name!r} was removed, and what was in its pages with it")
    if not segment.is_streamed:
        with suppress(OSError):  # the channel was removed just now; its pages are there all the same
            give_back_lanes(segment)
    events = 0
    with Recorder(directory, delivered=lambda: events) as recorder, _Copies(segment) as copies:
        parser = Parser()
        for packet, records in copies.packets():
            events += records
            recorder.add(parser.feed(packet))
        recorder.add(parser.end())
    if recorder.failure is not None:
        raise recorder.failure
    return recorder


def free_writers(segment: Segment) -> None:
    """Mode overwrite, the table is full: free the numbers of dead writers that no page names.

    Who is dead is asked before the pages are copied, so all that the dead committed is in the copies or overwritten.
    Nothing is done while somebody else is at it, who may be stopped.
    """
    file = segment.open_lock()
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        entries = [
            segment.geometry.writers_at + number * layout.WRITER_BYTES for number in range(segment.geometry.writers)
        ]
        gone = {number for number, at in enumerate(entries) if number and is_writer_gone(segment.u64(at))}
        owners = (segment.u64(segment.lane_at(lane) + LANE.owner) for lane in range(segment.geometry.lanes))
        gone -= {owner & layout.UNKNOWN_WRITER for owner in owners}
        with _Copies(segment) as copies:
            gone -= copies.writers()
        for number in gone:
            segment.set_u64(entries[number] + WRITER.identity, 0)
    except BlockingIOError:
        pass
    finally:
        os.close(file)


class _Lane(NamedTuple):
    """The copies of a lane's pages."""

    number: int
    copies: list[Copy]
    overwritten: int


class _Copies:
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
