"""What a collector does for the dead, where there is none: in the mode overwrite.

Who attaches, who takes a snapshot, and at most once a second a producer that found every lane of its cpu taken, or no
number for itself, give back the lanes whose owners are dead, and the numbers of the dead, under the segment's lock.
"""

from __future__ import annotations

import ctypes
import fcntl
import os

from . import layout
from .context import make_context, segment_addresses
from .layout import CONTROL, LANE, WRITER
from .native import functions
from .native.builtin import address_of
from .process import is_owner_dead, is_writer_gone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .segment import Segment

_rescue_lane = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


def rescue(segment: Segment) -> None:
    """Give back what the dead hold: lanes, and when there are no others the numbers of writers.  Raises OSError."""
    give_back_lanes(segment)
    if not segment.is_foreign and segment.u64(CONTROL.unnumbered) and segment.is_table_full():
        _alone(segment, _free_writers)


def give_back_lanes(segment: Segment) -> None:
    """Give back the lanes of dead owners, unless somebody else is at it.  Raises OSError if the channel was removed.

    From another pid or time namespace, where the living look dead, nothing is done.
    """
    if not segment.is_foreign:
        _alone(segment, _give_back_lanes)


def _alone(segment: Segment, act: Callable[[Segment], None]) -> None:
    """Under the segment's lock, or not at all while somebody else is at it, who may be stopped."""
    file = segment.open_lock()
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        act(segment)
    except BlockingIOError:
        pass
    finally:
        os.close(file)


def _give_back_lanes(segment: Segment) -> None:
    context = make_context(**segment_addresses(segment))
    rescue = _rescue_lane(functions("producer")["rescue_lane"])
    for lane in range(segment.geometry.lanes):
        owner = segment.u64(segment.lane_at(lane) + LANE.owner)
        if owner != 0 and is_owner_dead(owner):
            rescue(address_of(context), lane, owner - (owner >> 63 << 64))


def _free_writers(segment: Segment) -> None:
    """The numbers of dead writers that no page names are free.

    Who is dead is asked before the pages are copied, so all that the dead committed is in the copies or overwritten.
    """
    from .collector.copies import Copies

    entries = [segment.geometry.writers_at + number * layout.WRITER_BYTES for number in range(segment.geometry.writers)]
    gone = {number for number, at in enumerate(entries) if number and is_writer_gone(segment.u64(at))}
    owners = (segment.u64(segment.lane_at(lane) + LANE.owner) for lane in range(segment.geometry.lanes))
    gone -= {owner & layout.UNKNOWN_WRITER for owner in owners}
    with Copies(segment) as copies:
        gone -= copies.writers()
    for number in gone:
        segment.set_u64(entries[number] + WRITER.identity, 0)
