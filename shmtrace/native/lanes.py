"""The producer's half of the protocol: the steps of one event, from the switch to the commit.

The steps, each one access to shared memory.  A process may be killed or stopped between any two of them; what then
happens is said at the end of each line.  (The collector's steps stand at the head of collect.py; all have a number in
steps.py, by which tests kill a process there.)

    V1   number     CAS writer.identity 0 -> me, once a thread   killed: freed like that of any process that is dead
    V2   names      store tid, start time and names of the entry
    P1   look       load the recording switch                    off: return
    P1a  clock      read the clock; whoever is stopped here has an old time, and holds nothing
    P2   take       CAS lane.owner 0 -> me, acquire              killed from here on: the collector gives the lane back
    P3   look again load the recording switch, under the lane    after it has taken every lane, nothing is committed
    P4   read       load position; check its bounds              a damaged lane is passed over
    P5   token      sem_trywait(waiting)                         killed: the count is one too low, mended at the flush
    P6   page       CAS page.owner 0 -> (lane, sequence + 1)     killed: an orphan, freed with the lane
    P7   length     store old page.length
    P8   successor  store old page.next (no page: lane.first)
    P9   switch     store position (sequence + 1, page, 0), release: the old page is full, the chain is longer by one
    P9a  wake       full fence; if the collector is asleep, sem_post(full)
    P10  record     last stamp, (P10a) header, payload: behind the position, so it does not exist
    P11  commit     store position, release                      killed: the record is in
    P12  give back  store lane.owner = 0, release                (P13: what comes after it)

The clock is read ahead of the lane, where it does not have to wait for the compare-and-swap.  Only who finds a later
last stamp in the lane reads it again.

Of a thread that is where it was desk.py does P1a to P4 and P10 to P12: one locked instruction.  Here stands what does
them wherever it is, with P5 to P9a of a full page.

If there is no waiting page at P5 or P6, the mode decides.  `drop`: counted, P12.  `block`: P12, then

    B1   wait       sem_clockwait(waiting), at most a flush interval, without the GIL
    B2   post back  sem_post(waiting): a token is taken at P5, together with the lane; then from P2 on again

`overwrite` has no pool and no collector.  Each lane goes round in a ring of pages of its own (Geometry.ring), so in the
place of P5 to P9a:

    O1   count      store the records that were ever overwritten in this lane, with those of the oldest page, into the
                    slot of totals that P9 makes valid
    O2   length     store old page.length (P7) and then old page.owner = (lane, sequence): what a snapshot goes by
    P9   switch     store position (sequence + 1, oldest page, 0), release; then a fence: who reads something that is
                    written into the page from now on, and fences, sees a position from which the page has gone

The segment is not trusted: whatever another process wrote into `position`, the page and the bytes in it are checked
against the geometry before anything is written.  All state comes in through `context` (layout.CONTEXT); no address of
this process and no object's is in the code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numba

from .. import layout, wire
from . import intrinsics as do
from . import tables
from .intrinsics import (
    STEP,
    fence,
    frozen,
    likely,
    load16,
    load32,
    load64,
    read64,
    step,
    store16,
    store32,
    store64,
    store64_release,
)

CONTEXT, CONTROL, CPU, LANE = (
    frozen(layout.CONTEXT), frozen(layout.CONTROL), frozen(layout.CPU), frozen(layout.LANE),
)  # fmt: skip
PAGE, WRITER = frozen(layout.PAGE), frozen(layout.WRITER)
BLOCK, SLOT, HERE = frozen(layout.BLOCK), frozen(layout.SLOT), frozen(tables.HERE)
DESK = frozen(tables.DESK)
BLOCKS, BLOCK_BYTES, BLOCK_HEAD_BYTES = layout.BLOCKS, layout.BLOCK_BYTES, layout.BLOCK_HEAD_BYTES
RECORD = frozen(wire.RECORD)
RECORD_BYTES, RECORD_ALIGNMENT = wire.RECORD_BYTES, wire.RECORD_ALIGNMENT
TOTALS, TOTALS_BYTES = frozen(layout.TOTALS), layout.TOTALS_BYTES
MODE_OVERWRITE, MODE_BLOCK, RING_PAGES = layout.MODE_OVERWRITE, layout.MODE_BLOCK, layout.RING_PAGES
LINE_BYTES, LANE_BYTES, PAGE_BYTES, SLOT_BYTES, WRITER_BYTES = (
    layout.LINE_BYTES, layout.LANE_BYTES, layout.PAGE_BYTES, layout.SLOT_BYTES, layout.WRITER_BYTES,
)  # fmt: skip
NO_PAGE, PAGE_MASK, PAGE_SHIFT = layout.NO_PAGE, layout.PAGE_MASK, layout.PAGE_SHIFT
SEQUENCE_MASK, SEQUENCE_SHIFT, SEQUENCE_BITS = layout.SEQUENCE_MASK, layout.SEQUENCE_SHIFT, layout.SEQUENCE_BITS
COMMITTED_MASK = layout.COMMITTED_MASK
CPU_RSEQ, CPU_FIXED, CLOCK_TSC = layout.CPU_RSEQ, layout.CPU_FIXED, layout.CLOCK_TSC
UNKNOWN_WRITER = layout.UNKNOWN_WRITER
OWNER_PID_SHIFT, OWNER_PID_MASK = layout.OWNER_PID_SHIFT, layout.OWNER_PID_MASK
WRITER_BITS_MASK = (1 << layout.OWNER_WRITER_BITS) - 1
CPU_ID_MASK = 0xFFFF
CPU_ID_BAD = 1 << 31  # the kernel's -1 and -2, as u32
AHEAD_BYTES = 512  # of the record that is written: lines that are asked for now
REFUSED, RECORDED, FULL = 0, 1, 2  # what became of a record; FULL: mode block, there is no page, and none was missed

if TYPE_CHECKING:
    from collections.abc import Callable
Function = TypeVar("Function", bound="Callable[..., int | tuple[int, ...] | None]")
# Nothing but other jitted code calls these: without ways in for others they compile in two thirds of the time.
_OPTIONS = {"error_model": "numpy", "_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
inlined: Callable[[Function], Function] = numba.njit(forceinline=True, **_OPTIONS)
apart: Callable[[Function], Function] = numba.njit(forceinline=False, **_OPTIONS)  # numba would inherit it

sem_trywait = do.external("sem_trywait", 1, result_bits=32)
sem_post = do.external("sem_post", 1, result_bits=32)
sched_getcpu = do.external("sched_getcpu", 0, result_bits=32)
clock_gettime = do.external("clock_gettime", 2, result_bits=32)
madvise = do.external("madvise", 3, result_bits=32)
timespec = do.scratch(16)
MADV_POPULATE_WRITE = 23
MONOTONIC = 1


@inlined
def monotonic(which: int) -> int:
    """A clock of the kernel in ns."""
    time = timespec()
    clock_gettime(which, time)
    return load64(time) * 1_000_000_000 + load64(time + 8)


@apart
def kernel_time() -> int:
    """The clock of a channel that cannot go by the counter."""
    do.cold()
    return monotonic(MONOTONIC)


@inlined
def now(context: int) -> int:
    """The channel's clock."""
    if likely(read64(context + CONTEXT.clock_kind) == CLOCK_TSC):
        return do.cycles()
    return kernel_time()


@apart
def kernel_cpu() -> int:
    """The cpu that this thread runs on, where the kernel has not put it down in the thread's memory."""
    do.cold()
    return max(sched_getcpu(), 0)


@inlined
def plain_cpu(context: int) -> int:
    """The cpu as it stands in the thread's memory (CPU_RSEQ); no cpu's number where the kernel does not tell it."""
    return do.thread_load32(read64(context + CONTEXT.cpu_word))


@inlined
def current_cpu(context: int) -> int:
    """The cpu that this thread runs on, for the moment."""
    kind = read64(context + CONTEXT.cpu_kind)
    word = read64(context + CONTEXT.cpu_word)
    if likely(kind == CPU_RSEQ):
        cpu = plain_cpu(context)
        if likely(cpu < CPU_ID_BAD):
            return cpu
    elif kind == CPU_FIXED:
        return load32(word)
    return kernel_cpu()


@inlined
def lane_at(context: int, cpu: int, number: int) -> int:
    """Address of one of a cpu slot's lanes."""
    lanes_per_cpu = read64(context + CONTEXT.lanes_per_cpu)
    return read64(context + CONTEXT.lanes) + (cpu * lanes_per_cpu + number) * LANE_BYTES


@inlined
def give_back(lane: int) -> None:
    """P12.  Release: matched by the acquire of P2, E1 and R2; the next owner sees all that this one wrote."""
    step(STEP.P12)
    store64_release(lane + LANE.owner, 0)
    step(STEP.P13)


@inlined
def take_page(context: int, lane: int, sequence: int) -> int:
    """P6: a waiting page becomes this lane's; its number, or -1.

    Two rounds, because pages may move behind the search's back.  The owner word is 0 for every waiting page and only
    then, so the CAS can take no page that is anybody's.

    Each lane has a page where it begins, and begins there again when that one waits: so a lane that needs few pages at
    a time uses the same few, which are mapped, and perhaps in the cpu's cache, and does not go through the whole pool.
    """
    descriptors = read64(context + CONTEXT.descriptors)
    pages = read64(context + CONTEXT.pages_count)
    number = (lane - read64(context + CONTEXT.lanes)) // LANE_BYTES
    word = ((number + 1) << SEQUENCE_BITS) | sequence
    home = number * pages // read64(context + CONTEXT.lanes_count)
    page = home if load64(descriptors + home * PAGE_BYTES + PAGE.owner) == 0 else load16(lane + LANE.cursor)
    for _ in range(2 * pages):
        if page >= pages:
            page = 0
        owner = descriptors + page * PAGE_BYTES + PAGE.owner
        # acquire: matched by the release of C8; the collector has read what stood in the page
        step(STEP.P6)
        if load64(owner) == 0 and do.swap_acquire(owner, 0, word):
            store16(lane + LANE.cursor, page + 1)
            return page
        page += 1
    return -1


@apart
def map_page(context: int, page: int) -> None:
    """Let the kernel map a page for writing as a whole, the first time that this process writes into it.

    Otherwise each 4 KiB of it would be a fault of its own.  Where the kernel cannot (before 5.14) nothing changes.
    """
    mapped = read64(context + CONTEXT.mapped) + page
    if do.load8(mapped) == 0:
        do.store8(mapped, 1)
        size = read64(context + CONTEXT.page_size)
        madvise(read64(context + CONTEXT.pages) + page * size, size, MADV_POPULATE_WRITE)


@inlined
def ring_of(context: int, number: int) -> tuple[int, int]:
    """Mode overwrite: the first page of a lane's ring, and how many there are (as Geometry.ring)."""
    lanes_per_cpu = read64(context + CONTEXT.lanes_per_cpu)
    share = read64(context + CONTEXT.pages_count) // read64(context + CONTEXT.cpu_slots)
    first = share - RING_PAGES * (lanes_per_cpu - 1)
    begin, which = number // lanes_per_cpu * share, number % lanes_per_cpu
    if which == 0:
        return begin, first
    return begin + first + RING_PAGES * (which - 1), RING_PAGES


@apart
def count_records(page: int, length: int) -> int:
    """Records in the first `length` bytes of a page, whatever stands there."""
    records, offset = 0, 0
    while offset + RECORD_BYTES <= length:
        size = (load64(page + offset + RECORD.id) >> 48) & 0xFFFF
        offset += RECORD_BYTES + padded(size)
        records += 1
    return records


@apart
def turn_page(context: int, lane: int, position: int) -> None:
    """O1 to P9: the lane goes on in the oldest page of its ring, whose records are overwritten."""
    descriptors = read64(context + CONTEXT.descriptors)
    number = (lane - read64(context + CONTEXT.lanes)) // LANE_BYTES
    begin, size = ring_of(context, number)
    old = (position >> PAGE_SHIFT) & PAGE_MASK
    sequence = (position >> SEQUENCE_SHIFT) & SEQUENCE_MASK
    page = begin if old == NO_PAGE else begin + (old - begin + 1) % size
    oldest = descriptors + page * PAGE_BYTES
    lost = 0
    if load64(oldest + PAGE.owner) == ((number + 1) << SEQUENCE_BITS) | ((sequence + 1 - size) & SEQUENCE_MASK):
        page_size = read64(context + CONTEXT.page_size)
        lost = count_records(
            read64(context + CONTEXT.pages) + page * page_size, min(load32(oldest + PAGE.length), page_size)
        )
    before = lane + LANE.totals + (sequence & 1) * TOTALS_BYTES + TOTALS.overwritten
    after = lane + LANE.totals + ((sequence + 1) & 1) * TOTALS_BYTES + TOTALS.overwritten
    step(STEP.O1)
    store64(after, load64(before) + lost)
    if old != NO_PAGE:
        step(STEP.O2)
        store32(descriptors + old * PAGE_BYTES + PAGE.length, position & COMMITTED_MASK)
        # release: matched by the acquire of the snapshot; who sees the owner sees the length
        store64_release(descriptors + old * PAGE_BYTES + PAGE.owner, ((number + 1) << SEQUENCE_BITS) | sequence)
    store64(lane + LANE.taken, load64(lane + LANE.taken) + 1)
    step(STEP.P9)
    # release: matched by the acquire of the snapshot
    store64_release(lane + LANE.position, (((sequence + 1) & SEQUENCE_MASK) << SEQUENCE_SHIFT) | (page << PAGE_SHIFT))
    map_page(context, page)
    fence()  # pairs with the snapshot's, between its copy and its second look at the position


@apart
def switch_page(context: int, lane: int, position: int) -> bool:
    """P5 to P9a: the lane goes on in a waiting page.  False if there is none.

    The token of a search that found no page is not given back: a count that is too high must be able to fall.
    """
    if read64(context + CONTEXT.mode) == MODE_OVERWRITE:
        turn_page(context, lane, position)
        return True
    step(STEP.P5)
    if sem_trywait(read64(context + CONTEXT.waiting)) != 0:
        return False
    sequence = ((position >> SEQUENCE_SHIFT) + 1) & SEQUENCE_MASK
    page = take_page(context, lane, sequence)
    if page < 0:
        return False
    map_page(context, page)
    old = (position >> PAGE_SHIFT) & PAGE_MASK
    if old == NO_PAGE:
        step(STEP.P8)
        store16(lane + LANE.first, page)
    else:
        descriptor = read64(context + CONTEXT.descriptors) + old * PAGE_BYTES
        step(STEP.P7)
        store32(descriptor + PAGE.length, position & COMMITTED_MASK)
        step(STEP.P8)
        store16(descriptor + PAGE.next, page)
    store64(lane + LANE.taken, load64(lane + LANE.taken) + 1)
    step(STEP.P9)
    # P9, release: matched by the acquire of C1; who sees the new page sees the old one's length and successor
    store64_release(lane + LANE.position, (sequence << SEQUENCE_SHIFT) | (page << PAGE_SHIFT))
    # P9a: the position is stored before `asleep` is loaded; the collector sets `asleep`, fences and looks once more
    fence()
    control = read64(context + CONTEXT.control)
    if load32(control + CONTROL.asleep) != 0:
        step(STEP.P9a)
        sem_post(read64(context + CONTEXT.full))
    if load32(control + CONTROL.impatient) != 0:
        store32(control + CONTROL.impatient, 0)  # a page has come: it makes sense to wait again
    return True


@inlined
def has_room(context: int, position: int, need: int) -> bool:
    """P4: the position names a page, and the record fits.  Both are checked, whoever wrote the word."""
    page = (position >> PAGE_SHIFT) & PAGE_MASK
    committed = position & COMMITTED_MASK
    return page < read64(context + CONTEXT.pages_count) and committed + need <= read64(context + CONTEXT.page_size)


@inlined
def is_sound(context: int, position: int) -> bool:
    """P4: the position is one that a lane can have."""
    page = (position >> PAGE_SHIFT) & PAGE_MASK
    committed = position & COMMITTED_MASK
    return (page == NO_PAGE or page < read64(context + CONTEXT.pages_count)) and committed <= read64(
        context + CONTEXT.page_size
    )


@apart
def find_room(context: int, me: int, slot: int, need: int) -> int:
    """P2 to P9: a lane, taken, whose page has room for `need` bytes; REFUSED, which is counted, or FULL.

    The lanes of the cpu's slot are tried in order and then those of the next one; nobody waits.
    """
    do.cold()
    lanes = read64(context + CONTEXT.lanes)
    end = lanes + read64(context + CONTEXT.lanes_count) * LANE_BYTES
    candidate, left = lane_at(context, slot, 0), 2 * read64(context + CONTEXT.lanes_per_cpu)
    while True:
        lane = 0
        while lane == 0 and left > 0:
            step(STEP.P2)
            # P2, acquire: matched by the release of P12, E5 and R5
            if load64(candidate + LANE.owner) == 0 and do.swap_acquire(candidate + LANE.owner, 0, me):
                lane = candidate
            candidate += LANE_BYTES
            if candidate == end:
                candidate = lanes
            left -= 1
        if lane == 0:
            if load32(read64(context + CONTEXT.recording)) != 0:
                do.add64(read64(context + CONTEXT.cpus) + slot * LINE_BYTES + CPU.missed_no_lane, 1)
            return REFUSED
        step(STEP.P3)
        if load32(read64(context + CONTEXT.recording)) == 0:  # P3: ordered after P2 by its acquire
            give_back(lane)
            return REFUSED
        position = load64(lane + LANE.position)
        if has_room(context, position, need):
            return lane
        if is_sound(context, position):
            if switch_page(context, lane, position):
                return lane
            waits = read64(context + CONTEXT.mode) == MODE_BLOCK
            if not waits:
                store64(lane + LANE.missed_no_page, load64(lane + LANE.missed_no_page) + 1)
            give_back(lane)
            return FULL if waits else REFUSED
        give_back(lane)


@inlined
def slot_of(context: int, cpu: int) -> int:
    """The slot of a cpu, whose number may be greater than the segment knows."""
    cpu_slots = read64(context + CONTEXT.cpu_slots)
    return cpu if likely(cpu < cpu_slots) else cpu % cpu_slots


@inlined
def take(context: int, me: int, cpu: int, need: int) -> tuple[int, int, bool]:
    """P2 to P9: a lane of the cpu, taken, with room for `need` bytes, its position and True.

    Else REFUSED or FULL in its place, and False.  The position that was checked is the one that is used: whoever writes
    into the segment cannot change it in between.
    """
    lane = find_room(context, me, slot_of(context, cpu), need)
    if lane <= FULL:
        return lane, 0, False
    position = load64(lane + LANE.position)
    if not has_room(context, position, need):  # somebody wrote nonsense into it just now
        store64(lane + LANE.missed_no_page, load64(lane + LANE.missed_no_page) + 1)
        give_back(lane)
        return REFUSED, 0, False
    return lane, position, True


@apart
def later_stamp(context: int, last: int) -> int:
    """A stamp not below the lane's last one, which is not believed when it lies far ahead.

    The clock is read again: whoever was interrupted ahead of P2, for however long, has an old time, and others may have
    been in the lane since.
    """
    do.cold()
    stamp = now(context)
    if stamp >= last:
        return stamp
    limit = stamp + read64(context + CONTEXT.clock_limit)
    if last > limit:
        do.add64(read64(context + CONTEXT.control) + CONTROL.damaged, 1)
        return limit
    return last


@inlined
def address_of_position(context: int, position: int) -> int:
    """Where the next record of a lane goes."""
    page = (position >> PAGE_SHIFT) & PAGE_MASK
    return read64(context + CONTEXT.pages) + page * read64(context + CONTEXT.page_size) + (position & COMMITTED_MASK)


@inlined
def padded(size: int) -> int:
    """Bytes of a body with the padding behind it."""
    return (size + (RECORD_ALIGNMENT - 1)) & -RECORD_ALIGNMENT


@inlined
def copy_short(target: int, source: int, size: int) -> None:
    """Copy without a call what is short: by two or four pieces that may overlap."""
    if size > 64:
        do.copy(target, source, size)
    elif size >= 16:
        if size > 32:
            do.move16(target + 16, source + 16)
            do.move16(target + size - 32, source + size - 32)
        do.move16(target, source)
        do.move16(target + size - 16, source + size - 16)
    elif size >= 8:
        do.move8(target, source)
        do.move8(target + size - 8, source + size - 8)
    elif size >= 4:
        do.move4(target, source)
        do.move4(target + size - 4, source + size - 4)
    elif size > 0:
        do.move1(target, source)
        do.move1(target + (size >> 1), source + (size >> 1))
        do.move1(target + size - 1, source + size - 1)


@inlined
def header_word(identifier: int, cpu: int, me: int, size: int) -> int:
    """The second word of a record's header."""
    return identifier | ((cpu & CPU_ID_MASK) << 16) | (((me & WRITER_BITS_MASK) | (size << 16)) << 32)


@inlined
def put_words(lane: int, target: int, stamp: int, second: int) -> None:
    """P10: the header of a record, whose time is kept as the lane's last stamp, before the commit.

    The next records' lines are asked for: cpus do not do it by themselves, least of all where 4 KiB end, and a line
    that is another's, or the memory's, would be waited for by the next compare-and-swap.
    """
    step(STEP.P10)
    store64(lane + LANE.last_stamp, stamp)
    do.write64(target + RECORD.cycles, stamp)
    do.write64(target + RECORD.id, second)
    do.prefetch(target + AHEAD_BYTES)


@inlined
def put_header(context: int, lane: int, target: int, stamp: int, identifier: int, cpu: int, me: int, size: int) -> None:
    """P10: the header of a record whose lane is held, and whose clock reads `stamp` (P1a).

    The clock was read ahead of the lane, and without ordering, so that it may lie behind what others wrote there.
    """
    last = load64(lane + LANE.last_stamp)
    if not likely(stamp >= last):
        stamp = later_stamp(context, last)
    put_words(lane, target, stamp, header_word(identifier, cpu, me, size))


@inlined
def commit(lane: int, position: int) -> None:
    """P11.  Release: matched by the acquire of C1; who sees the position sees the record."""
    step(STEP.P11)
    store64_release(lane + LANE.position, position)
