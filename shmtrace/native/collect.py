"""The collector's half of the protocol: from the lanes to the FIFO, and back to the pool.

The steps, each one access to shared memory (the producer's stand at the head of lanes.py):

    C1   look       load position, once, acquire                     matched by P9, P11 and E4
    C2   first      progress has no page, position has: store progress (packet, lane.first, 0)
    C3   chain      load the old page's length and successor; check them and the successor's owner word
    C3a  resume     the note of a predecessor names this very packet: send exactly up to there
    C5   note       store note (packet, page, up to): for a packet that does not end its page; (packet, none, 1): for
                    one without records.  It is the lane's last packet in the batch
    C6   send       writev
    C4   totals     store the totals after this packet into the slot that is not valid yet
    C7   progress   store progress (packet + 1, page, up to), or (packet + 1, next, 0): this makes the slot valid
    C8   recycle    store page.owner = 0, release                    matched by P6
    C9   post       sem_post(waiting)
    E1   seal       lane wholly sent: CAS lane.owner 0 -> collector, acquire
    E2-4 seal       length, next = none, position (sequence + 1, none, 0), release
    E5   seal       store lane.owner = 0, release
    R2   take over  CAS lane.owner dead -> collector, acquire        (R1, judging, is Python's)
    R3-4 orphan     every page with owner (lane, position.sequence + 1): store 0, post
    R5   give back  store lane.owner = 0, release
    Q1   sweep      at start: pages whose sequence is older than their lane's oldest: store 0, post
    W1   doom       writers that are gone, and in no lane's owner word, are noted; then where each lane is
    W2   free       every lane has been sent up to there: store writer.identity = 0, release
    M1   mend       more pages wait than the semaphore says, twice running: post the difference
    D1   disable    store the switch 0, release
    D2   settle     take every lane once by CAS and give it back: then nothing of the old period can be committed
    D3   discard    progress without sending: what is left is lost, unread

Many packets are written by one writev.  A lane's packets in it are the rest of its full pages, each to its end, which a
successor would send again under the same numbers without being told, and at most one that does not end its page: that
one is in the note.  C4 to C9 follow for each packet that has been written whole, in order.

Nothing in the segment is believed: every word is loaded once and checked, a chain is walked for at most as many steps
as there are pages, and what is nonsense is counted as damaged, skipped and told.
"""

from __future__ import annotations

from . import intrinsics as do
from . import tables
from .intrinsics import (
    STEP,
    fence,
    frozen,
    load16,
    load32,
    load64,
    load64_acquire,
    read64,
    step,
    store8,
    store32_release,
    store64,
    store64_release,
)
from .lanes import (
    COMMITTED_MASK,
    CONTEXT,
    CONTROL,
    LANE,
    NO_PAGE,
    PAGE,
    PAGE_MASK,
    PAGE_SHIFT,
    RECORD_BYTES,
    SEQUENCE_BITS,
    SEQUENCE_SHIFT,
    TOTALS,
    apart,
    give_back,
    inlined,
    is_sound,
    now,
)
from .packets import (
    BEGUN,
    IOVEC_BYTES,
    NO_RECORDS,
    OTHER_RECORDS_MAX,
    PACKET_BYTES,
    PACKING,
    SEND,
    SEND_BYTES,
    WALK_CLASS,
    WALK_DAMAGED,
    WRITER_RECORD_MAX,
    pack,
    put_empty,
    put_iovec,
    put_send,
)
from .recovery import (
    census,
    doom,
    free_doomed,
    mark,
    reclaim,
    repair,
    seal,
    suspect,
    sweep,
    take_tokens,
    tokens_missing,
)
from .snapshot import SNAPSHOT
from .words import (
    COLLECTOR,
    descriptor_at,
    lane_number_at,
    missed_in,
    next_totals,
    packet_in_full,
    recycle,
    slot_of,
    tag,
    tally,
    word,
)

RING, RING_BYTES, RING_MAX, SENDS_MAX = frozen(tables.RING), tables.RING_BYTES, tables.RING_MAX, tables.SENDS_MAX
RESUMED, REPEATED = tables.RESUMED, tables.REPEATED
PUMP_IDLE, PUMP_FULL, PUMP_CLASSES, PUMP_MORE = (
    tables.PUMP_IDLE, tables.PUMP_FULL, tables.PUMP_CLASSES, tables.PUMP_MORE,
)  # fmt: skip
EAGAIN, EINTR = 11, 4
BATCHES_A_CALL = 16

writev = do.external("writev", 3)
errno_location = do.external("__errno_location", 0)
packing_words = do.scratch(tables.PACKING_BYTES)


GATHERED, GATHER_FULL, GATHER_DAMAGED = 0, 1, 2


@inlined
def has_headers(collector: int, records: int) -> bool:
    """There is room for the header of a packet and for `records` bytes of the collector's own records."""
    used = load64(collector + COLLECTOR.headers_used)
    return used + PACKET_BYTES + records <= read64(collector + COLLECTOR.headers_bytes)


@inlined
def is_sent(lane: int) -> bool:
    """Progress and position are the same page and the same bytes."""
    return (load64(lane + LANE.progress) ^ load64(lane + LANE.position)) & ((1 << SEQUENCE_SHIFT) - 1) == 0


@apart
def gather_lane(collector: int, number: int, flush: bool) -> int:
    """Add a lane's packets to the batch: its full pages, and with `flush` the committed part of the current one."""
    context = read64(collector + COLLECTOR.context)
    pages, page_size = read64(context + CONTEXT.pages_count), read64(context + CONTEXT.page_size)
    lane = lane_number_at(collector, number)
    progress = load64(lane + LANE.progress)
    position = load64_acquire(lane + LANE.position)  # C1
    current, committed = (position >> PAGE_SHIFT) & PAGE_MASK, position & COMMITTED_MASK
    page, sent = (progress >> PAGE_SHIFT) & PAGE_MASK, progress & COMMITTED_MASK
    if not is_sound(context, position) or not is_sound(context, progress):
        return GATHER_DAMAGED
    packet = packet_in_full(context, lane, progress)
    told = load64(slot_of(lane, packet) + TOTALS.discarded)
    discarded = missed_in(context, number) - load64(lane + LANE.discarded_before)
    stamp = max(load64(slot_of(lane, packet) + TOTALS.stamp), load64(collector + COLLECTOR.clock_cycles))
    if stamp > now(context) + read64(context + CONTEXT.clock_limit):  # nothing was sent that is not written yet
        do.add64(read64(context + CONTEXT.control) + CONTROL.damaged, 1)
        stamp = now(context)
    begun = read64(collector + COLLECTOR.begun) + number
    before = load64(collector + COLLECTOR.sends_count)
    if not has_headers(collector, 0) or before == SENDS_MAX:
        return GATHER_FULL
    if load64(lane + LANE.note) == word(packet, NO_PAGE, NO_RECORDS):  # C3a: a predecessor gave this number away
        put_empty(collector, number, word(packet + 1, page, sent), packet, told, stamp)
        return GATHERED
    if page == NO_PAGE and current != NO_PAGE:
        page, sent = load16(lane + LANE.first), 0
        if page >= pages or (load64(descriptor_at(context, page) + PAGE.owner) >> SEQUENCE_BITS) != number + 1:
            return GATHER_DAMAGED
        step(STEP.C2)
        store64_release(lane + LANE.progress, word(packet, page, 0))
    packing = packing_words()
    for _ in range(pages + 1):
        if page == NO_PAGE:
            break
        sealed = page != current
        if not sealed and not flush:
            break
        if load64(collector + COLLECTOR.sends_count) == SENDS_MAX:
            return GATHER_FULL
        descriptor = descriptor_at(context, page)
        length, following = committed, NO_PAGE
        if sealed:  # C3
            length, following = load32(descriptor + PAGE.length), load16(descriptor + PAGE.next)
            owner = load64(descriptor + PAGE.owner)
            if length > page_size or owner >> SEQUENCE_BITS != number + 1:
                return GATHER_DAMAGED
            if following != NO_PAGE and (
                following >= pages or load64(descriptor_at(context, following) + PAGE.owner) != tag(number, owner + 1)
            ):
                return GATHER_DAMAGED
        if length < sent:
            return GATHER_DAMAGED
        up_to = length
        note = load64(lane + LANE.note)  # C3a
        if note >> PAGE_SHIFT == word(packet, page, 0) >> PAGE_SHIFT and sent < (note & COMMITTED_MASK) <= length:
            up_to = note & COMMITTED_MASK
        if up_to == sent:
            if not sealed:
                break
            put_send(collector, number, word(packet, following, 0), packet, 0, 0, 0, told, page + 1, stamp)
            page, sent = following, 0
            continue
        most = min(read64(context + CONTEXT.writers_count), (up_to - sent) // RECORD_BYTES)
        if not has_headers(collector, OTHER_RECORDS_MAX + most * WRITER_RECORD_MAX):
            return GATHER_FULL
        if do.load8(begun) == 0 and discarded != 0:
            put_empty(collector, number, word(packet + 1, page, sent), packet, 0, stamp)
            return GATHERED
        used = load64(collector + COLLECTOR.headers_used)
        header = read64(collector + COLLECTOR.headers) + used
        records = read64(context + CONTEXT.pages) + page * page_size
        store64(packing + PACKING.begin, sent)
        store64(packing + PACKING.up_to, up_to)
        store64(packing + PACKING.packet, packet)
        # To a predecessor's reader the first packet tells what was told: it may be a copy of one that told less, or
        # the first that this reader gets of the lane, whose count must be 0.
        count = told if do.load8(begun) == RESUMED else discarded
        store64(packing + PACKING.discarded, count)
        store64(packing + PACKING.stamp, stamp)
        size = pack(collector, number, records, header, packing)
        if size == 0:
            break
        end, why = load64(packing + PACKING.end), load64(packing + PACKING.why)
        if why == WALK_CLASS:
            up_to = end
        whole = sealed and up_to == length
        extra, stamp = load64(packing + PACKING.extra), load64(packing + PACKING.last)
        put_iovec(collector, header, extra - header)
        if end != sent:
            put_iovec(collector, records + sent, end - sent)
        store64(collector + COLLECTOR.headers_used, used + extra - header)
        put_send(
            collector, number, word(packet + 1, following, 0) if whole else word(packet + 1, page, up_to), packet, size,
            load64(packing + PACKING.events), why == WALK_DAMAGED, count, page + 1 if whole else 0, stamp,
        )  # fmt: skip
        if do.load8(begun) == 0:
            store8(begun, BEGUN)
        elif do.load8(begun) == RESUMED:
            store8(begun, REPEATED)
        if not whole:
            step(STEP.C5)
            store64_release(lane + LANE.note, word(packet, page, up_to))
            return GATHERED
        packet += 1
        page, sent = following, 0
    # A count without a page.  To a predecessor's reader it is told once more: the packet that told it may have been a
    # copy, which the reader dropped.
    state = do.load8(begun)
    owed = discarded != told or (discarded != 0 and state in (RESUMED, REPEATED))
    if flush and owed and load64(collector + COLLECTOR.sends_count) == before:
        count = discarded if state in (BEGUN, REPEATED) else told
        put_empty(collector, number, word(packet + 1, page, sent), packet, count, stamp)
    return GATHERED


@apart
def gather(collector: int, flush: bool) -> int:
    """A new batch; the number of its packets.  With `flush`, the pass goes on where it had to stop."""
    context = read64(collector + COLLECTOR.context)
    lanes = read64(context + CONTEXT.lanes_count)
    store64(collector + COLLECTOR.sends_count, 0)
    store64(collector + COLLECTOR.sends_done, 0)
    store64(collector + COLLECTOR.iovec_next, 0)
    store64(collector + COLLECTOR.iovec_count, 0)
    store64(collector + COLLECTOR.headers_used, 0)
    start = load64(collector + COLLECTOR.flush_lane) if flush else load64(collector + COLLECTOR.first_lane)
    count = lanes - start if flush else lanes
    for i in range(count):
        number = start + i - (lanes if start + i >= lanes else 0)
        if not flush and is_sent(lane_number_at(collector, number)):
            continue  # most lanes of many cpus: here, because a call for each would cost more than the look
        before = load64(collector + COLLECTOR.sends_count)
        found = gather_lane(collector, number, flush)
        if found == GATHER_FULL:
            if not flush:
                store64(collector + COLLECTOR.first_lane, number)
            else:  # a lane that fills a batch alone is being sent anyway, and must not hold up the pass
                store64(collector + COLLECTOR.flush_lane, number + (i == 0))
            return load64(collector + COLLECTOR.sends_count)
        if found == GATHER_DAMAGED and load64(collector + COLLECTOR.sends_count) == before:
            repair(collector, number)  # else what is good of it is sent first
    if flush:
        store64(collector + COLLECTOR.flush_lane, lanes)
    return load64(collector + COLLECTOR.sends_count)


@apart
def finish(collector: int, unread: bool) -> None:
    """C4 and C7 to C9 of the batch's next packet: it was written whole, or (`unread`) is thrown away."""
    context = read64(collector + COLLECTOR.context)
    done = load64(collector + COLLECTOR.sends_done)
    send = read64(collector + COLLECTOR.sends) + done * SEND_BYTES
    number, packet, events = load64(send + SEND.lane), load64(send + SEND.packet), load64(send + SEND.events)
    lane = lane_number_at(collector, number)
    size = load64(send + SEND.bytes)
    if size != 0:
        step(STEP.C4)
        totals = next_totals(lane, packet)
        tally(totals + (TOTALS.unread if unread else TOTALS.delivered), events)
        tally(totals + TOTALS.damaged, load64(send + SEND.damaged))
        store64(totals + TOTALS.discarded, load64(send + SEND.discarded))
        store64(totals + TOTALS.stamp, load64(send + SEND.stamp))
        if not unread:
            remember(collector, size, number + 1, events)
            tally(collector + COLLECTOR.wrote_packets, 1)
    # C7, release: whoever sees that the packet is behind us sees its totals (the next collector, statistics)
    step(STEP.C7)
    store64_release(lane + LANE.progress, load64(send + SEND.progress))
    page = load64(send + SEND.recycle)
    if page != 0:
        recycle(context, page - 1)
    step(STEP.C10)
    store64(collector + COLLECTOR.sends_done, done + 1)
    if done + 1 < load64(collector + COLLECTOR.sends_count):
        store64(collector + COLLECTOR.send_left, load64(send + SEND_BYTES + SEND.bytes))


@apart
def remember(collector: int, size: int, lane: int, events: int) -> None:
    """Keep what was written last, to know what a departing reader leaves unread."""
    count = load64(collector + COLLECTOR.ring_next)
    at = read64(collector + COLLECTOR.ring) + count % RING_MAX * RING_BYTES
    store64(at + RING.bytes, size)
    store64(at + RING.lane, lane)
    store64(at + RING.events, events)
    store64(collector + COLLECTOR.ring_next, count + 1)


@apart
def write_batch(collector: int, file: int) -> int:
    """C6, and what follows for each packet that has been written whole.  0: all; PUMP_FULL; or minus an errno."""
    while load64(collector + COLLECTOR.sends_done) < load64(collector + COLLECTOR.sends_count):
        if load64(collector + COLLECTOR.send_left) == 0:
            finish(collector, False)
            continue
        upcoming = load64(collector + COLLECTOR.iovec_next)
        iovec = read64(collector + COLLECTOR.iovecs) + upcoming * IOVEC_BYTES
        step(STEP.C6)
        wrote = writev(file, iovec, load64(collector + COLLECTOR.iovec_count) - upcoming)
        if wrote < 0:
            error = load32(errno_location())
            if error == EINTR:
                continue
            return PUMP_FULL if error == EAGAIN else -error
        tally(collector + COLLECTOR.wrote_bytes, wrote)
        left = wrote
        while left > 0:  # the iovecs go on where the kernel stopped
            size = load64(iovec + 8)
            part = min(size, left)
            store64(iovec, load64(iovec) + part)
            store64(iovec + 8, size - part)
            left -= part
            if part == size:
                iovec += IOVEC_BYTES
                upcoming += 1
        store64(collector + COLLECTOR.iovec_next, upcoming)
        left = wrote
        while left > 0:
            size = load64(collector + COLLECTOR.send_left)
            part = min(size, left)
            left -= part
            store64(collector + COLLECTOR.send_left, size - part)
            if part == size:
                finish(collector, False)
    return 0


# -- entry points, called by the collector's thread without the GIL


def pump(collector: int, file: int) -> int:
    """Send what there is: full pages, then, if a flush pass is under way, the committed part of the others."""
    context = read64(collector + COLLECTOR.context)
    lanes = read64(context + CONTEXT.lanes_count)
    for _ in range(BATCHES_A_CALL):
        status = write_batch(collector, file)
        if status != 0:
            return status
        if load64(collector + COLLECTOR.classes_due) != 0:
            return PUMP_CLASSES
        flush = load64(collector + COLLECTOR.flush_lane) < lanes
        if gather(collector, flush) == 0 and not flush:
            return PUMP_IDLE
    return PUMP_MORE


def remember_metadata(collector: int, size: int) -> int:
    """Bytes of metadata were written, which a departing reader may leave unread, too."""
    remember(collector, size, 0, 0)
    return 0


def discard(collector: int) -> int:
    """D3: throw away the rest of the batch and all that is committed; the number of packets that were not sent."""
    context = read64(collector + COLLECTOR.context)
    packets, before = 0, -1
    store64(collector + COLLECTOR.classes_due, 0)
    store64(collector + COLLECTOR.known_ids, 1 << 16)
    while packets != before:
        before = packets
        store64(collector + COLLECTOR.flush_lane, 0)
        while load64(collector + COLLECTOR.flush_lane) < read64(context + CONTEXT.lanes_count):
            count = gather(collector, True)  # anew, with what was not written whole
            packets += count
            for _ in range(count):
                finish(collector, True)
    return packets


def depart(collector: int, unread: int) -> int:
    """The reader left, and `unread` bytes of the pipe with it: the packets that were not read whole are lost, unread.

    The records go from `delivered` to `unread` by a packet number that is not sent.  Returns their number.
    """
    context = read64(collector + COLLECTOR.context)
    done, count = load64(collector + COLLECTOR.sends_done), load64(collector + COLLECTOR.sends_count)
    if done < count:  # a part of this packet is in the pipe, behind all others
        send = read64(collector + COLLECTOR.sends) + done * SEND_BYTES
        unread -= load64(send + SEND.bytes) - load64(collector + COLLECTOR.send_left)
    written = load64(collector + COLLECTOR.ring_next)
    records = 0
    for i in range(min(written, RING_MAX)):
        if unread <= 0:
            break
        at = read64(collector + COLLECTOR.ring) + (written - 1 - i) % RING_MAX * RING_BYTES
        unread -= load64(at + RING.bytes)
        number, events = load64(at + RING.lane) - 1, load64(at + RING.events)
        if number >= 0 and events != 0:
            lane = lane_number_at(collector, number)
            progress = load64(lane + LANE.progress)
            packet = packet_in_full(context, lane, progress)
            totals = next_totals(lane, packet)
            tally(totals + TOTALS.delivered, -events)
            tally(totals + TOTALS.unread, events)
            store64_release(
                lane + LANE.progress, word(packet + 1, (progress >> PAGE_SHIFT) & PAGE_MASK, progress & COMMITTED_MASK)
            )
            records += events
    store64(collector + COLLECTOR.ring_next, 0)
    return records


def enable(collector: int, resumed: int) -> int:
    """Recording begins for a new reader: it has been told nothing yet, and what was refused before is not its own.

    `resumed`: the reader is one that a predecessor had, so that its count of refused records goes on.
    """
    context = read64(collector + COLLECTOR.context)
    lanes = read64(context + CONTEXT.lanes_count)
    stride = read64(collector + COLLECTOR.announced_stride)
    for number in range(lanes):
        lane = lane_number_at(collector, number)
        store8(read64(collector + COLLECTOR.begun) + number, RESUMED if resumed != 0 else 0)
        store8(read64(collector + COLLECTOR.settled) + number, 0)
        if resumed == 0:
            store64(lane + LANE.discarded_before, missed_in(context, number))
            packet = packet_in_full(context, lane, load64(lane + LANE.progress))
            store64(slot_of(lane, packet) + TOTALS.discarded, 0)
    announced = read64(collector + COLLECTOR.announced)
    for i in range(lanes * stride // 8):
        store64(announced + 8 * i, 0)
    store64(collector + COLLECTOR.ring_next, 0)
    store64(collector + COLLECTOR.sends_count, 0)
    store64(collector + COLLECTOR.sends_done, 0)
    store64(collector + COLLECTOR.flush_lane, lanes)
    # release: matched by nothing; a producer that sees the switch late records a little later
    store32_release(read64(context + CONTEXT.recording), 1)
    return 0


def settle(collector: int) -> int:
    """D1, D2: switch off, and take every lane once; the number of lanes that are still busy, to be taken later.

    A lane that was taken after the switch was stored cannot get a record of the old period any more: whoever takes it
    next sees the switch (P3).  A plain load of the owner would not do.
    """
    context = read64(collector + COLLECTOR.context)
    step(STEP.D1)
    store32_release(read64(context + CONTEXT.recording), 0)
    busy = 0
    for number in range(read64(context + CONTEXT.lanes_count)):
        settled = read64(collector + COLLECTOR.settled) + number
        if do.load8(settled) == 0:
            lane = lane_number_at(collector, number)
            step(STEP.D2)
            # acquire: matched by P12, what the last owner committed is seen
            if do.swap_acquire(lane + LANE.owner, 0, read64(collector + COLLECTOR.me)) != 0:
                give_back(lane)
                store8(settled, 1)
            else:
                busy += 1
    return busy


def has_full_page(collector: int) -> int:
    """The last look before sleeping: 1 if a lane has a page that is full and not sent.

    The fence pairs with that of P9a: `asleep` is stored before positions are loaded.
    """
    context = read64(collector + COLLECTOR.context)
    fence()
    for number in range(read64(context + CONTEXT.lanes_count)):
        lane = lane_number_at(collector, number)
        page = (load64(lane + LANE.progress) >> PAGE_SHIFT) & PAGE_MASK
        current = (load64_acquire(lane + LANE.position) >> PAGE_SHIFT) & PAGE_MASK  # C1
        first = page == NO_PAGE and current != NO_PAGE and load16(lane + LANE.first) != current
        if first or page not in (NO_PAGE, current):
            return 1
    return 0


def is_idle(collector: int) -> int:
    """1 if all lanes are free and wholly sent, and all that was refused is told.

    It only loads, so it may run beside the collector's thread.
    """
    context = read64(collector + COLLECTOR.context)
    for number in range(read64(context + CONTEXT.lanes_count)):
        lane = lane_number_at(collector, number)
        if load64(lane + LANE.owner) != 0 or not is_sent(lane):
            return 0
        told = load64(slot_of(lane, load64(lane + LANE.progress) >> SEQUENCE_SHIFT) + TOTALS.discarded)
        if missed_in(context, number) - load64(lane + LANE.discarded_before) != told:
            return 0
    return 1


COLLECTOR_ENTRIES = (
    pump, remember_metadata, discard, depart, enable, settle, seal, has_full_page, is_idle, suspect, reclaim, sweep,
    tokens_missing, take_tokens, census, doom, mark, free_doomed, *SNAPSHOT,
)  # fmt: skip
