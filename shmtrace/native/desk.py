"""A record, by the short way or by the long one.

The short way is that of a thread which is where it was: on the same cpu, whose first lane is free and has the page that
it had.  Where that is stands in the thread's block, at the channel's desk (tables.DESK).  Whatever is not as it was
takes the long way, from the beginning, with a time of its own, and the desk is put where that led.  Where clock, cpu or
block have to be asked for, all goes the long way, on which it finds the desk, too.

Between `begin_...` and `end_record` the lane is held.
"""

from __future__ import annotations

from . import intrinsics as do
from .intrinsics import STEP, likely, load32, load64, read64, step, store64
from .lanes import (
    COMMITTED_MASK,
    CONTEXT,
    DESK,
    FULL,
    LANE,
    RECORD_BYTES,
    RECORDED,
    address_of_position,
    apart,
    commit,
    copy_short,
    current_cpu,
    give_back,
    header_word,
    inlined,
    lane_at,
    now,
    padded,
    plain_cpu,
    put_header,
    put_words,
    slot_of,
    take,
)
from .writers import block_here

BEGUN_BYTES = 16  # what `begin_at_length` writes
begun_out = do.room(BEGUN_BYTES)


@inlined
def desk_key(context: int, cpu: int) -> int:
    """DESK.key of a thread that writes into this channel on this cpu."""
    return read64(context + CONTEXT.reader) + cpu + 1


@inlined
def begin_at_desk(
    context: int, block: int, cpu: int, stamp: int, identifier: int, size: int
) -> tuple[int, int, int, bool]:
    """P2 to P4, and P10, the header: the lane, its position and the record's address; False if there is none of it.

    The clock has read `stamp` (P1a).  The position must lie in the page that was checked when the desk was put there,
    whoever wrote it.
    """
    desk = block + read64(context + CONTEXT.desk)
    if not likely(load64(desk + DESK.key) == desk_key(context, cpu)):
        return 0, 0, 0, False
    second = do.settled(header_word(identifier, 0, 0, size) | load64(desk + DESK.words))
    lane, me = load64(desk + DESK.lane), load64(desk + DESK.owner)
    step(STEP.P2)
    # P2, acquire: matched by the release of P12, E5 and R5
    if not likely(do.swap_acquire(lane + LANE.owner, 0, me) != 0):
        return 0, 0, 0, False
    step(STEP.P3)
    position = load64(lane + LANE.position)  # P4
    into = do.minus(position, load64(desk + DESK.begin))
    if not likely(
        load32(read64(context + CONTEXT.recording)) != 0  # P3: ordered after P2 by its acquire
        and do.within(into, read64(context + CONTEXT.page_size) - (RECORD_BYTES + padded(size)))
        and stamp >= load64(lane + LANE.last_stamp)
    ):
        give_back(lane)
        return 0, 0, 0, False
    target = load64(desk + DESK.page) + into
    put_words(lane, target, stamp, second)
    return lane, position, target, True


@inlined
def begin_here(context: int, identifier: int, size: int) -> tuple[int, int, int, bool]:
    """P1a to P4, and P10, by the short way; as `begin_at_desk`."""
    at = read64(context + CONTEXT.plain)
    if likely(at != 0):
        stamp = do.settled(do.cycles())
        block = do.thread_load64(at)
        if likely(block != 0):
            return begin_at_desk(context, block, plain_cpu(context), stamp, identifier, size)
    return 0, 0, 0, False


@inlined
def move_desk(context: int, me: int, cpu: int, lane: int, position: int) -> None:
    """The thread writes here from now on: `position` was checked.  Only a cpu's first lane is a place to come back."""
    block = block_here(context)
    if block == 0 or lane != lane_at(context, slot_of(context, cpu), 0):
        return
    desk, committed = block + read64(context + CONTEXT.desk), position & COMMITTED_MASK
    store64(desk + DESK.key, desk_key(context, cpu))
    store64(desk + DESK.owner, me)
    store64(desk + DESK.lane, lane)
    store64(desk + DESK.words, header_word(0, cpu, me, 0))
    store64(desk + DESK.begin, position - committed)
    store64(desk + DESK.page, address_of_position(context, position) - committed)


@apart
def begin_at_length(context: int, me: int, identifier: int, size: int, out: int) -> int:
    """P1a to P10, by the long way: a lane, and at `out` its position and the record's address; else REFUSED or FULL.

    `me` comes from `registered` or `register`.
    """
    do.cold()
    stamp, cpu = now(context), current_cpu(context)
    block = block_here(context) if read64(context + CONTEXT.plain) == 0 else 0
    if block != 0:  # the short way was not open: clock, cpu or block had to be asked for
        lane, position, target, begun = begin_at_desk(context, block, cpu, stamp, identifier, size)
        if begun:
            store64(out, position)
            store64(out + 8, target)
            return lane
    lane, position, taken = take(context, me, cpu, RECORD_BYTES + padded(size))
    if not taken:
        return lane
    move_desk(context, me, cpu, lane, position)
    target = address_of_position(context, position)
    put_header(context, lane, target, stamp, identifier, cpu, me, size)
    store64(out, position)
    store64(out + 8, target)
    return lane


@inlined
def end_record(lane: int, position: int, size: int) -> None:
    """P11, P12 of a record whose body, of `size` bytes, has been written."""
    commit(lane, position + RECORD_BYTES + padded(size))
    give_back(lane)


@inlined
def fill_record(lane: int, position: int, target: int, data: int, size: int) -> None:
    """P10a to P12."""
    step(STEP.P10a)
    copy_short(target + RECORD_BYTES, data, size)
    end_record(lane, position, size)


@inlined
def record_here(context: int, identifier: int, data: int, size: int) -> bool:
    """One record, by the short way: P1a to P12; its size was checked.  False if it is not written yet."""
    lane, position, target, begun = begin_here(context, identifier, size)
    if likely(begun):
        fill_record(lane, position, target, data, size)
    return begun


@inlined
def record_at_length(context: int, me: int, identifier: int, data: int, size: int) -> int:
    """One record, by the long way; RECORDED, REFUSED or FULL."""
    out = begun_out()
    lane = begin_at_length(context, me, identifier, size, out)
    if lane <= FULL:
        return lane
    fill_record(lane, load64(out), load64(out + 8), data, size)
    return RECORDED
