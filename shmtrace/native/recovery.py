"""What keeps lanes, pages and writer numbers from being lost: sealing, repair, and what dead processes leave behind.

The steps E1 to E5, R1 to R5, Q1, W1, W2 and M1 are listed at the head of collect.py.
"""

from __future__ import annotations

from . import intrinsics as do
from .intrinsics import (
    STEP,
    load16,
    load32,
    load64,
    load64_acquire,
    read64,
    step,
    store8,
    store16,
    store32,
    store64,
    store64_release,
)
from .lanes import (
    COMMITTED_MASK,
    CONTEXT,
    CONTROL,
    LANE,
    LANE_BYTES,
    MODE_OVERWRITE,
    NO_PAGE,
    PAGE,
    PAGE_MASK,
    PAGE_SHIFT,
    SEQUENCE_BITS,
    SEQUENCE_MASK,
    SEQUENCE_SHIFT,
    TOTALS,
    WRITER,
    WRITER_BITS_MASK,
    WRITER_BYTES,
    apart,
    give_back,
    is_sound,
    sem_trywait,
)
from .words import (
    COLLECTOR,
    descriptor_at,
    lane_number_at,
    next_totals,
    packet_in_full,
    recycle,
    tag,
    tally,
    word,
)

sem_getvalue = do.external("sem_getvalue", 2, result_bits=32)
int_word = do.scratch(8)
TOKENS_A_CALL = 1 << 20


@apart
def seal_lane(context: int, number: int, me: int) -> bool:
    """E1 to E5, for a lane that was wholly sent: it gets no page, so that its page can go back to the pool."""
    lane = read64(context + CONTEXT.lanes) + number * LANE_BYTES
    step(STEP.E1)
    if do.swap_acquire(lane + LANE.owner, 0, me) == 0:
        return False
    position, progress = load64(lane + LANE.position), load64(lane + LANE.progress)
    page = (position >> PAGE_SHIFT) & PAGE_MASK
    committed = position & COMMITTED_MASK
    sealed = False
    if (
        page != NO_PAGE
        and is_sound(context, position)
        and word(0, page, committed) == word(0, (progress >> PAGE_SHIFT) & PAGE_MASK, progress & COMMITTED_MASK)
    ):
        descriptor = descriptor_at(context, page)
        step(STEP.E2)
        store32(descriptor + PAGE.length, committed)
        step(STEP.E3)
        store16(descriptor + PAGE.next, NO_PAGE)
        sequence = (position >> SEQUENCE_SHIFT) + 1
        step(STEP.E4)
        store64_release(lane + LANE.position, word(sequence, NO_PAGE, 0))  # E4: matched by C1
        sealed = True
    give_back(lane)  # E5
    return sealed


def seal(collector: int) -> int:
    """Seal every lane that is wholly sent; their number."""
    context = read64(collector + COLLECTOR.context)
    sealed = 0
    for number in range(read64(context + CONTEXT.lanes_count)):
        lane = lane_number_at(collector, number)
        position, progress = load64(lane + LANE.position), load64(lane + LANE.progress)
        same = word(0, 0, position & COMMITTED_MASK) == word(0, 0, progress & COMMITTED_MASK)
        if same and ((position >> PAGE_SHIFT) & PAGE_MASK) != NO_PAGE:
            sealed += seal_lane(context, number, read64(collector + COLLECTOR.me))
    return sealed


@apart
def repair(collector: int, number: int) -> None:
    """Let a lane whose words are nonsense start anew, once its owner is free: all its pages go to the pool."""
    context = read64(collector + COLLECTOR.context)
    lane = lane_number_at(collector, number)
    if do.swap_acquire(lane + LANE.owner, 0, read64(collector + COLLECTOR.me)) == 0:
        return
    do.add64(read64(context + CONTEXT.control) + CONTROL.damaged, 1)
    progress = load64(lane + LANE.progress)
    packet = packet_in_full(context, lane, progress)
    tally(next_totals(lane, packet) + TOTALS.damaged, 1)
    sequence = (load64(lane + LANE.position) >> SEQUENCE_SHIFT) + 1
    store64_release(lane + LANE.position, word(sequence, NO_PAGE, 0))
    store64_release(lane + LANE.progress, word(packet + 1, NO_PAGE, 0))
    for page in range(read64(context + CONTEXT.pages_count)):
        if load64(descriptor_at(context, page) + PAGE.owner) >> SEQUENCE_BITS == number + 1:
            recycle(context, page)
    give_back(lane)


def suspect(collector: int, start: int) -> int:
    """The first lane from `start` on whose owner is the same as at the last look, or -1; and look."""
    context = read64(collector + COLLECTOR.context)
    for number in range(start, read64(context + CONTEXT.lanes_count)):
        seen = read64(collector + COLLECTOR.owners) + 8 * number
        owner = load64(lane_number_at(collector, number) + LANE.owner)
        same = owner != 0 and owner == load64(seen)
        store64(seen, owner)
        if same:
            return number
    return -1


@apart
def reclaim_lane(context: int, number: int, dead: int, me: int) -> bool:
    """R2 to R5: give back the lane of an owner that is dead, and the page that it had taken and not linked.

    True if the lane was still the dead one's.  In the mode overwrite there is no pool, so no page is an orphan.
    """
    lane = read64(context + CONTEXT.lanes) + number * LANE_BYTES
    step(STEP.R2)
    if do.swap_acquire(lane + LANE.owner, dead, me) == 0:
        return False
    orphan = tag(number, (load64(lane + LANE.position) >> SEQUENCE_SHIFT) + 1)
    pages = 0 if read64(context + CONTEXT.mode) == MODE_OVERWRITE else read64(context + CONTEXT.pages_count)
    for page in range(pages):
        if load64(descriptor_at(context, page) + PAGE.owner) == orphan:
            recycle(context, page)  # R3, R4
    give_back(lane)  # R5
    return True


def reclaim(collector: int, number: int, dead: int) -> int:
    """R2 to R5, by the collector."""
    return reclaim_lane(read64(collector + COLLECTOR.context), number, dead, read64(collector + COLLECTOR.me))


def sweep(collector: int) -> int:
    """Q1: free the pages that a dead collector had sent and not given back; their number.

    Such a page is older than its lane's oldest; "outside of the chain" would not do, as an empty lane has no interval.
    Done at start, before any C2 or C7.
    """
    context = read64(collector + COLLECTOR.context)
    lanes, pages = read64(context + CONTEXT.lanes_count), read64(context + CONTEXT.pages_count)
    freed = 0
    for page in range(pages):
        owner = load64_acquire(descriptor_at(context, page) + PAGE.owner)  # before the lane's words
        number = (owner >> SEQUENCE_BITS) - 1
        if owner == 0 or not 0 <= number < lanes:
            continue
        lane = lane_number_at(collector, number)
        head = (load64_acquire(lane + LANE.progress) >> PAGE_SHIFT) & PAGE_MASK
        position = load64_acquire(lane + LANE.position)
        if head == NO_PAGE and ((position >> PAGE_SHIFT) & PAGE_MASK) != NO_PAGE:
            head = load16(lane + LANE.first)
        oldest = (position >> SEQUENCE_SHIFT) + 1
        if head < pages:
            oldest = load64(descriptor_at(context, head) + PAGE.owner)
        age = (oldest - owner) & SEQUENCE_MASK
        if 1 <= age < 1 << (SEQUENCE_BITS - 1):
            step(STEP.Q1)
            recycle(context, page)
            freed += 1
    return freed


def tokens_missing(collector: int) -> int:
    """M1: by how many the pages that wait exceed the semaphore's count (0 or less: by none).

    A page whose owner word names no lane at all goes to the pool: nobody else would ever find it.
    """
    context = read64(collector + COLLECTOR.context)
    lanes = read64(context + CONTEXT.lanes_count)
    waiting = 0
    for page in range(read64(context + CONTEXT.pages_count)):
        owner = load64(descriptor_at(context, page) + PAGE.owner)
        if owner != 0 and not 0 < owner >> SEQUENCE_BITS <= lanes:
            do.add64(read64(context + CONTEXT.control) + CONTROL.damaged, 1)
            recycle(context, page)
        waiting += owner == 0
    count = int_word()
    sem_getvalue(read64(context + CONTEXT.waiting), count)
    return waiting - load32(count)


def take_tokens(collector: int, count: int) -> int:
    """M1: the semaphore says more pages than there are; take so many tokens away, but not all at once."""
    context = read64(collector + COLLECTOR.context)
    for _ in range(min(count, TOKENS_A_CALL)):
        if sem_trywait(read64(context + CONTEXT.waiting)) != 0:
            break
    return 0


def census(collector: int) -> int:
    """W1: who is in the writer table: number and identity of each, 2 words, at `census`; how many there are."""
    context = read64(collector + COLLECTOR.context)
    found = read64(collector + COLLECTOR.census)
    for number in range(1, read64(context + CONTEXT.writers_count)):
        identity = load64(read64(context + CONTEXT.writers) + number * WRITER_BYTES + WRITER.identity)
        if identity != 0:
            store64(found, number)
            store64(found + 8, identity)
            found += 16
    return (found - read64(collector + COLLECTOR.census)) // 16


def doom(collector: int, number: int) -> int:
    """W1: the writer of this number is gone.  Not yet if a lane's owner names it: a reservation, or a dead owner.

    Looked at before the mark: what is committed later than the mark is by nobody that is doomed.
    """
    context = read64(collector + COLLECTOR.context)
    for lane in range(read64(context + CONTEXT.lanes_count)):
        if load64_acquire(lane_number_at(collector, lane) + LANE.owner) & WRITER_BITS_MASK == number:
            return 0
    store8(read64(collector + COLLECTOR.doomed) + number, 1)
    return 1


def mark(collector: int) -> int:
    """W1: note where each lane is; what doomed writers wrote is before that."""
    context = read64(collector + COLLECTOR.context)
    for number in range(read64(context + CONTEXT.lanes_count)):
        position = load64_acquire(lane_number_at(collector, number) + LANE.position)
        store64(read64(collector + COLLECTOR.marks) + 8 * number, position)
    return 0


@apart
def is_past_mark(collector: int, number: int) -> bool:
    """What was in the lane at the mark has been sent."""
    context = read64(collector + COLLECTOR.context)
    lane = lane_number_at(collector, number)
    marked = load64(read64(collector + COLLECTOR.marks) + 8 * number)
    if (marked >> PAGE_SHIFT) & PAGE_MASK == NO_PAGE:
        return True
    progress, position = load64(lane + LANE.progress), load64_acquire(lane + LANE.position)
    page, sent = (progress >> PAGE_SHIFT) & PAGE_MASK, progress & COMMITTED_MASK
    if page == NO_PAGE:
        if (position >> PAGE_SHIFT) & PAGE_MASK == NO_PAGE:
            return True
        page, sent = load16(lane + LANE.first), 0
    if page >= read64(context + CONTEXT.pages_count):
        return False
    age = (load64(descriptor_at(context, page) + PAGE.owner) - (marked >> SEQUENCE_SHIFT)) & SEQUENCE_MASK
    return 0 < age < 1 << (SEQUENCE_BITS - 1) or (age == 0 and sent >= marked & COMMITTED_MASK)


def free_doomed(collector: int) -> int:
    """W2: free the numbers of the writers that were doomed at the mark; -1 if something of theirs may be unsent.

    Only the collector frees an entry, so nobody else writes an identity that is not 0.  What it announced of the number
    is forgotten in each lane: the next writer of that number is announced anew.
    """
    context = read64(collector + COLLECTOR.context)
    lanes = read64(context + CONTEXT.lanes_count)
    for number in range(lanes):
        if not is_past_mark(collector, number):
            return -1
    freed = 0
    for writer in range(1, read64(context + CONTEXT.writers_count)):
        doomed = read64(collector + COLLECTOR.doomed) + writer
        if do.load8(doomed) == 0:
            continue
        store8(doomed, 0)
        for number in range(lanes):
            stride = read64(collector + COLLECTOR.announced_stride)
            at = read64(collector + COLLECTOR.announced) + number * stride + (writer >> 3)
            store8(at, do.load8(at) & ~(1 << (writer & 7)))
        entry = read64(context + CONTEXT.writers) + writer * WRITER_BYTES
        step(STEP.W2)
        store64_release(entry + WRITER.identity, 0)  # matched by the acquire of the CAS in `register`
        freed += 1
    return freed
