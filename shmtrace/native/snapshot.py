"""What is in a lane's pages at this moment, copied while producers go on, and also a collector where there is one.

1. The position is loaded, and with it the pages are known: in the mode overwrite the lane's ring, else the chain from
   what the collector has sent.
2. They are copied.
3. A fence; then what has been taken away meanwhile is dropped.  In the mode overwrite that are the pages from which a
   second look at the position is a ring or more away: a producer stores the position and fences before it writes into
   the oldest page.  In the others a page is good as long as its owner word has not changed: C8 is stored before
   anybody else can take the page.

No lane is taken for that and nobody is held up.  What was copied is then looked at record by record
like all that is sent (packets.walk): the segment is not believed.
"""

from __future__ import annotations

from . import intrinsics as do
from . import tables
from .intrinsics import fence, frozen, load16, load32, load64, load64_acquire, read64, store64
from .lanes import (
    COMMITTED_MASK,
    CONTEXT,
    LANE,
    LANE_BYTES,
    MODE_OVERWRITE,
    NO_PAGE,
    PAGE,
    PAGE_MASK,
    PAGE_SHIFT,
    RECORD,
    RECORD_BYTES,
    SEQUENCE_BITS,
    SEQUENCE_MASK,
    SEQUENCE_SHIFT,
    TOTALS,
    TOTALS_BYTES,
    WRITER_BITS_MASK,
    apart,
    is_sound,
    padded,
    ring_of,
)
from .packets import PACKET_BYTES, PACKING, pack, put_packet
from .words import COLLECTOR, descriptor_at, tag

COPY, COPY_BYTES = frozen(tables.COPY), tables.COPY_BYTES
COPY_AGAIN, COPY_DAMAGED = tables.COPY_AGAIN, tables.COPY_DAMAGED


@apart
def put_copy(copies: int, count: int, owner: int, page: int, begin: int, length: int) -> None:
    """One more page that is to be copied."""
    at = copies + count * COPY_BYTES
    store64(at + COPY.tag, owner)
    store64(at + COPY.page, page)
    store64(at + COPY.begin, begin)
    store64(at + COPY.length, length)


@apart
def list_ring(context: int, number: int, position: int, copies: int) -> int:
    """Step 1 in the mode overwrite, the oldest page first; the number of pages."""
    first, size = ring_of(context, number)
    sequence, current = (position >> SEQUENCE_SHIFT) & SEQUENCE_MASK, (position >> PAGE_SHIFT) & PAGE_MASK
    count = 0
    if current == NO_PAGE:
        return 0
    for age in range(size - 1, 0, -1):
        page = first + (current - first - age) % size
        descriptor = descriptor_at(context, page)
        owner = load64_acquire(descriptor + PAGE.owner)  # matched by O2
        length = load32(descriptor + PAGE.length)
        if owner == tag(number, sequence - age) and length <= read64(context + CONTEXT.page_size):
            put_copy(copies, count, owner, page, 0, length)
            count += 1
    put_copy(copies, count, tag(number, sequence), current, 0, position & COMMITTED_MASK)
    return count + 1


@apart
def list_chain(context: int, number: int, progress: int, position: int, copies: int) -> int:
    """Step 1 in the other modes; COPY_AGAIN if the collector has moved on, so that the chain was not followed."""
    pages, page_size = read64(context + CONTEXT.pages_count), read64(context + CONTEXT.page_size)
    lane = read64(context + CONTEXT.lanes) + number * LANE_BYTES
    current = (position >> PAGE_SHIFT) & PAGE_MASK
    page, begin = (progress >> PAGE_SHIFT) & PAGE_MASK, progress & COMMITTED_MASK
    if page == NO_PAGE and current != NO_PAGE:
        page, begin = load16(lane + LANE.first), 0
    count, expected = 0, 0
    while page != NO_PAGE and count < pages:
        if page >= pages:
            return COPY_AGAIN
        descriptor = descriptor_at(context, page)
        owner = load64_acquire(descriptor + PAGE.owner)  # matched by P6
        if owner >> SEQUENCE_BITS != number + 1 or (count != 0 and owner != expected):
            return COPY_AGAIN
        length, following = position & COMMITTED_MASK, NO_PAGE
        if page != current:
            length, following = load32(descriptor + PAGE.length), load16(descriptor + PAGE.next)
        if length > page_size or length < begin:
            return COPY_AGAIN
        put_copy(copies, count, owner, page, begin, length)
        count += 1
        expected = tag(number, owner + 1)
        page, begin = following, 0
    return count


@apart
def is_still_there(context: int, number: int, newest: int, at: int) -> bool:
    """Step 3, for one page."""
    owner = load64(at + COPY.tag)
    if read64(context + CONTEXT.mode) == MODE_OVERWRITE:
        _, size = ring_of(context, number)
        return (newest - owner) & SEQUENCE_MASK < size
    return load64(descriptor_at(context, load64(at + COPY.page)) + PAGE.owner) == owner


def copy_lane(collector: int, number: int, target: int, copies: int) -> int:
    """Copy a lane's pages to `target` and say what they are at `copies` (tables.COPY), the oldest first; their number.

    Or COPY_AGAIN, COPY_DAMAGED.
    """
    context = read64(collector + COLLECTOR.context)
    page_size = read64(context + CONTEXT.page_size)
    lane = read64(context + CONTEXT.lanes) + number * LANE_BYTES
    progress = load64_acquire(lane + LANE.progress)  # matched by C7; ahead of the position
    position = load64_acquire(lane + LANE.position)  # matched by P9, P11
    if not is_sound(context, position) or not is_sound(context, progress):
        return COPY_DAMAGED
    overwrite = read64(context + CONTEXT.mode) == MODE_OVERWRITE
    if overwrite:
        count = list_ring(context, number, position, copies)
    else:
        count = list_chain(context, number, progress, position, copies)
    for i in range(count):
        at = copies + i * COPY_BYTES
        store64(at + COPY.at, target + i * page_size)
        do.copy(
            target + i * page_size,
            read64(context + CONTEXT.pages) + load64(at + COPY.page) * page_size,
            load64(at + COPY.length),
        )
    fence()  # pairs with the one behind P9 in turn_page
    position = load64(lane + LANE.position)
    newest = position >> SEQUENCE_SHIFT
    slot = lane + LANE.totals + (newest & 1) * TOTALS_BYTES
    store64(collector + COLLECTOR.overwritten, load64(slot + TOTALS.overwritten) if overwrite else 0)
    fence()  # the slot is that position's as long as the position stays
    if overwrite and load64(lane + LANE.position) >> SEQUENCE_SHIFT != newest:
        return COPY_AGAIN
    kept = 0
    for i in range(count):
        at = copies + i * COPY_BYTES
        if is_still_there(context, number, newest, at):
            do.copy(copies + kept * COPY_BYTES, at, COPY_BYTES)
            kept += 1
    return kept if count == 0 or kept > 0 else COPY_AGAIN


def pack_copy(collector: int, number: int, at: int, packing: int) -> int:
    """A packet of a page that was copied (`at`: its COPY), its head at the collector's `headers`; its size."""
    store64(packing + PACKING.begin, load64(at + COPY.begin))
    store64(packing + PACKING.up_to, load64(at + COPY.length))
    return pack(collector, number, load64(at + COPY.at), read64(collector + COLLECTOR.headers), packing)


def pack_nothing(collector: int, number: int, packing: int) -> int:
    """A packet without records, for its count, at the collector's `headers`; its size."""
    stamp = load64(packing + PACKING.stamp)
    put_packet(
        collector, number, read64(collector + COLLECTOR.headers), load64(packing + PACKING.packet), stamp, stamp,
        PACKET_BYTES, PACKET_BYTES, load64(packing + PACKING.discarded),
    )  # fmt: skip
    return PACKET_BYTES


def note_writers(collector: int, at: int) -> int:
    """Note (in the collector's `doomed`) the numbers of the writers that a copied page names."""
    writers = read64(read64(collector + COLLECTOR.context) + CONTEXT.writers_count)
    page, offset = load64(at + COPY.at), 0
    while offset + RECORD_BYTES <= load64(at + COPY.length):
        rest = load64(page + offset + RECORD.id)
        writer = (rest >> 32) & WRITER_BITS_MASK
        if writer < writers:
            do.store8(read64(collector + COLLECTOR.doomed) + writer, 1)
        offset += RECORD_BYTES + padded((rest >> 48) & 0xFFFF)
    return 0


SNAPSHOT = (copy_lane, pack_copy, pack_nothing, note_writers)
