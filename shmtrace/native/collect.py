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

from .. import layout, wire
from . import intrinsics as do
from .entry import CLOCK_TRIES, REALTIME
from .intrinsics import (
    fence,
    frozen,
    load16,
    load32,
    load64,
    load64_acquire,
    read64,
    store8,
    store16,
    store32,
    store32_release,
    store64,
    store64_release,
)
from .lanes import (
    COMMITTED_MASK,
    CONTEXT,
    CONTROL,
    CPU,
    LANE,
    LANE_BYTES,
    LINE_BYTES,
    MONOTONIC,
    NO_PAGE,
    PAGE,
    PAGE_BYTES,
    PAGE_MASK,
    PAGE_SHIFT,
    RECORD,
    RECORD_BYTES,
    SEQUENCE_BITS,
    SEQUENCE_MASK,
    SEQUENCE_SHIFT,
    WRITER,
    WRITER_BITS_MASK,
    WRITER_BYTES,
    apart,
    give_back,
    inlined,
    is_sound,
    monotonic,
    now,
    padded,
    sem_post,
)

COLLECTOR, SEND, RING, TOTALS = (
    frozen(layout.COLLECTOR), frozen(layout.SEND), frozen(layout.RING), frozen(layout.TOTALS),
)  # fmt: skip
PACKET, WRITER_BODY, CLOCK_BODY, LOSS_BODY = (
    frozen(wire.PACKET), frozen(wire.WRITER_BODY), frozen(wire.CLOCK_BODY), frozen(wire.LOSS_BODY),
)  # fmt: skip
SEND_BYTES, RING_BYTES, IOVEC_BYTES, TOTALS_BYTES = (
    layout.SEND_BYTES, layout.RING_BYTES, layout.IOVEC_BYTES, layout.TOTALS_BYTES,
)  # fmt: skip
SENDS_MAX, RING_MAX = layout.SENDS_MAX, layout.RING_MAX
NO_RECORDS, BEGUN, RESUMED = layout.NO_RECORDS, layout.BEGUN, layout.RESUMED
NAME_BYTES = layout.WIDTHS["Name48"]
PACKET_BYTES, PACKET_MAGIC, STREAM_ID = wire.PACKET_BYTES, wire.PACKET_MAGIC, wire.STREAM_ID
WRITER_BODY_BYTES, CLOCK_BODY_BYTES, LOSS_BODY_BYTES = (
    wire.WRITER_BODY_BYTES, wire.CLOCK_BODY_BYTES, wire.LOSS_BODY_BYTES,
)  # fmt: skip
ID_BLOB, ID_WRITER, ID_LOSS, ID_PADDING, ID_CLOCK, ID_LOG, FIRST_ID, LOSS_DAMAGED = (
    wire.ID_BLOB, wire.ID_WRITER, wire.ID_LOSS, wire.ID_PADDING, wire.ID_CLOCK, wire.ID_LOG, wire.FIRST_ID,
    wire.LOSS_DAMAGED,
)  # fmt: skip
WRITER_RECORD_MAX = wire.padded(RECORD_BYTES + WRITER_BODY_BYTES + 2 * NAME_BYTES)
OTHER_RECORDS_MAX = wire.padded(RECORD_BYTES + CLOCK_BODY_BYTES) + wire.padded(RECORD_BYTES + LOSS_BODY_BYTES)
BITS = 8
EAGAIN, EINTR = 11, 4
PUMP_IDLE, PUMP_FULL, PUMP_CLASSES, PUMP_MORE = (
    layout.PUMP_IDLE, layout.PUMP_FULL, layout.PUMP_CLASSES, layout.PUMP_MORE,
)  # fmt: skip
BATCHES_A_CALL = 16

writev = do.external("writev", 3)
errno_location = do.external("__errno_location", 0)
sem_getvalue = do.external("sem_getvalue", 2, result_bits=32)
int_word = do.scratch(8)
walk_words = do.scratch(64)


# -- small things


@inlined
def lane_number_at(collector: int, number: int) -> int:
    """Address of a lane."""
    context = read64(collector + COLLECTOR.context)
    return read64(context + CONTEXT.lanes) + number * LANE_BYTES


@inlined
def descriptor_at(context: int, page: int) -> int:
    """Address of a page's descriptor."""
    return read64(context + CONTEXT.descriptors) + page * PAGE_BYTES


@inlined
def word(sequence: int, page: int, size: int) -> int:
    """A position, progress or note."""
    return ((sequence & SEQUENCE_MASK) << SEQUENCE_SHIFT) | (page << PAGE_SHIFT) | size


@inlined
def tag(lane: int, sequence: int) -> int:
    """The owner word of a page that has this sequence in this lane."""
    return ((lane + 1) << SEQUENCE_BITS) | (sequence & SEQUENCE_MASK)


@inlined
def slot_of(lane: int, packet: int) -> int:
    """The slot of a lane's totals that is valid when progress names this packet."""
    return lane + LANE.totals + (packet & 1) * TOTALS_BYTES


@inlined
def next_totals(lane: int, packet: int) -> int:
    """C4: the slot of totals that progress will make valid, with what the valid one has; its address."""
    after = slot_of(lane, packet + 1)
    do.copy(after, slot_of(lane, packet), TOTALS_BYTES)
    store64(after + TOTALS.packet, packet + 1)
    return after


@inlined
def tally(at: int, more: int) -> None:
    """Add to a number that only the collector writes."""
    store64(at, load64(at) + more)


@apart
def recycle(context: int, page: int) -> None:
    """C8, C9.  Release: matched by the acquire of P6; what stood in the page has been read."""
    store64_release(descriptor_at(context, page) + PAGE.owner, 0)
    sem_post(read64(context + CONTEXT.waiting))


@apart
def missed_in(context: int, number: int) -> int:
    """Records refused so far that are told in this lane's stream: its own, and in a cpu's first lane the cpu's."""
    lane = read64(context + CONTEXT.lanes) + number * LANE_BYTES
    missed = load64(lane + LANE.missed_no_page) + load64(lane + LANE.missed_timeout)
    lanes_per_cpu = read64(context + CONTEXT.lanes_per_cpu)
    if number % lanes_per_cpu == 0:
        cpu = read64(context + CONTEXT.cpus) + number // lanes_per_cpu * LINE_BYTES
        missed += load64(cpu + CPU.missed_no_lane) + load64(cpu + CPU.missed_bad_arguments)
    return missed


@apart
def packet_in_full(context: int, lane: int, progress: int) -> int:
    """The 64-bit number of the next packet, whose low bits progress has."""
    packet = (progress >> SEQUENCE_SHIFT) & SEQUENCE_MASK
    full = load64(slot_of(lane, packet) + TOTALS.packet)
    if (full & SEQUENCE_MASK) != packet:
        do.add64(read64(context + CONTEXT.control) + CONTROL.damaged, 1)
        full = (full & ~SEQUENCE_MASK) | packet
    return full


# -- a packet


@inlined
def put_header(at: int, stamp: int, identifier: int, cpu: int, writer: int, size: int) -> None:
    """The header of one of the collector's own records."""
    store64(at + RECORD.cycles, stamp)
    store16(at + RECORD.id, identifier)
    store16(at + RECORD.cpu, cpu)
    store16(at + RECORD.writer, writer)
    store16(at + RECORD.size, size)


@apart
def put_text(target: int, source: int) -> int:
    """Copy a name of at most NAME_BYTES, ended by NUL whatever stands there; bytes written."""
    size = 0
    while size < NAME_BYTES - 1:
        character = do.load8(source + size)
        if character == 0:
            break
        store8(target + size, character)
        size += 1
    store8(target + size, 0)
    return size + 1


@apart
def put_writer(context: int, at: int, stamp: int, number: int, cpu: int) -> int:
    """A writer record; its size without padding, 0 if nobody stands behind the number."""
    entry = read64(context + CONTEXT.writers) + number * WRITER_BYTES
    identity = load64_acquire(entry + WRITER.identity)  # matched by the CAS of `register`
    if identity == 0:
        return 0
    body = at + RECORD_BYTES
    store64(body + WRITER_BODY.start, (identity >> layout.IDENTITY_PID_BITS) & ((1 << layout.IDENTITY_START_BITS) - 1))
    store64(body + WRITER_BODY.thread_start, load64(entry + WRITER.thread_start))
    store32(body + WRITER_BODY.pid, identity & ((1 << layout.IDENTITY_PID_BITS) - 1))
    store32(body + WRITER_BODY.tid, load32(entry + WRITER.tid))
    store16(body + WRITER_BODY.number, number)
    size = WRITER_BODY_BYTES
    size += put_text(body + size, entry + WRITER.process)
    size += put_text(body + size, entry + WRITER.thread)
    put_header(at, stamp, ID_WRITER, cpu, number, size)
    return RECORD_BYTES + size


@apart
def put_clock(context: int, at: int, stamp: int, cpu: int) -> int:
    """A clock record; its size, which needs no padding.  The best of some readings."""
    body = at + RECORD_BYTES
    best = 1 << 62
    for _ in range(CLOCK_TRIES):
        before = now(context)
        steady, wall = monotonic(MONOTONIC), monotonic(REALTIME)
        between = now(context) - before
        if between < best:
            best = between
            store64(body + CLOCK_BODY.cycles, before + between // 2)
            store64(body + CLOCK_BODY.monotonic, steady)
            store64(body + CLOCK_BODY.realtime, wall)
    put_header(at, stamp, ID_CLOCK, cpu, WRITER_BITS_MASK, CLOCK_BODY_BYTES)
    return RECORD_BYTES + CLOCK_BODY_BYTES


@apart
def put_loss(at: int, stamp: int, cpu: int) -> int:
    """A loss record for a stretch of nonsense, of which nobody can say how many records it was; its size."""
    body = at + RECORD_BYTES
    store64(body + LOSS_BODY.begin, 0)
    store64(body + LOSS_BODY.end, stamp)
    store64(body + LOSS_BODY.count, 0)
    store8(body + LOSS_BODY.reason, LOSS_DAMAGED)
    put_header(at, stamp, ID_LOSS, cpu, WRITER_BITS_MASK, LOSS_BODY_BYTES)
    return RECORD_BYTES + LOSS_BODY_BYTES


@inlined
def announce(collector: int, number: int, writer: int) -> bool:
    """True if this reader has not been told yet who the writer is, in this lane; from now on it has."""
    at = (
        read64(collector + COLLECTOR.announced)
        + number * read64(collector + COLLECTOR.announced_stride)
        + (writer >> 3)
    )
    bits = do.load8(at)
    bit = 1 << (writer & 7)
    if bits & bit:
        return False
    store8(at, bits | bit)
    return True


# Results of a walk, in words of scratch memory.
WALK_END, WALK_CONTENT, WALK_FIRST, WALK_LAST, WALK_EVENTS, WALK_EXTRA, WALK_WHY = 0, 8, 16, 24, 32, 40, 48
WALKED, WALK_DAMAGED, WALK_CLASS = 0, 1, 2


@apart
def walk(collector: int, number: int, page: int, begin: int, end: int, stamp: int, header: int, result: int) -> None:
    """Look at each record in [begin, end) of a page, and put the writers' records behind the packet's header.

    Finds the first and last stamp, the exact size of the content and the number of events.

    `page` and `header` are addresses; no stamp may be below `stamp`.  Stops at the first record that is not one, and at
    one whose class is not in the reader's metadata yet.
    """
    context = read64(collector + COLLECTOR.context)
    writers = read64(context + CONTEXT.writers_count)
    known_ids = load64(collector + COLLECTOR.known_ids)
    latest = now(context) + read64(context + CONTEXT.clock_limit)
    extra = header + PACKET_BYTES
    at, content, events, last, first = begin, begin, 0, stamp, 0
    why = WALKED
    while at < end:
        cycles = load64(page + at + RECORD.cycles)
        rest = load64(page + at + RECORD.id)  # one load: whoever writes here meanwhile, this is what is checked
        identifier, cpu = rest & 0xFFFF, (rest >> 16) & 0xFFFF
        writer, size = (rest >> 32) & 0xFFFF, (rest >> 48) & 0xFFFF
        after = at + RECORD_BYTES + padded(size)
        if after > end or cycles < last or cycles > latest:
            why = WALK_DAMAGED
            break
        if identifier >= known_ids:
            defined = load32(read64(context + CONTEXT.control) + CONTROL.classes_count)
            is_new = identifier < FIRST_ID + defined and defined != load64(collector + COLLECTOR.classes_seen)
            why = WALK_CLASS if is_new else WALK_DAMAGED
            break
        if identifier in (ID_WRITER, ID_LOSS, ID_CLOCK) or ID_LOG < identifier < FIRST_ID:
            why = WALK_DAMAGED
            break
        if first == 0:
            first = cycles
            if load64(collector + COLLECTOR.clock_due) != 0:
                store64(collector + COLLECTOR.clock_due, 0)
                extra += put_clock(context, extra, first, cpu)
        if 0 < writer < writers and announce(collector, number, writer):
            extra += padded(put_writer(context, extra, first, writer, cpu))
        events += identifier != ID_PADDING
        last = cycles
        content = at + RECORD_BYTES + size
        at = after
    store64(result + WALK_END, at)
    store64(result + WALK_CONTENT, content)
    store64(result + WALK_FIRST, first)
    store64(result + WALK_LAST, last)
    store64(result + WALK_EVENTS, events)
    store64(result + WALK_EXTRA, extra)
    store64(result + WALK_WHY, why)


@apart
def put_packet(
    collector: int, number: int, header: int, packet: int, first: int, last: int, content: int, whole: int,
    discarded: int,
) -> None:  # fmt: skip
    """The header of a packet of `content` bytes, `whole` with its padding; magic, uuid and stream are in place."""
    context = read64(collector + COLLECTOR.context)
    do.copy(header + PACKET.uuid, read64(context + CONTEXT.control) + CONTROL.uuid, 16)
    store32(header + PACKET.magic, PACKET_MAGIC)
    store32(header + PACKET.stream_id, STREAM_ID)
    store64(header + PACKET.timestamp_begin, first)
    store64(header + PACKET.timestamp_end, last)
    store64(header + PACKET.content_size, content * BITS)
    store64(header + PACKET.packet_size, whole * BITS)
    store64(header + PACKET.packet_seq_num, packet)
    store64(header + PACKET.events_discarded, discarded)
    store32(header + PACKET.cpu_id, number // read64(context + CONTEXT.lanes_per_cpu))
    store32(header + PACKET.lane, number)


@apart
def put_iovec(collector: int, address: int, size: int) -> None:
    """One more piece of memory for writev."""
    count = load64(collector + COLLECTOR.iovec_count)
    at = read64(collector + COLLECTOR.iovecs) + count * IOVEC_BYTES
    store64(at, address)
    store64(at + 8, size)
    store64(collector + COLLECTOR.iovec_count, count + 1)


@apart
def put_send(
    collector: int, number: int, progress: int, packet: int, size: int, events: int, damaged: int, discarded: int,
    recycled: int, stamp: int,
) -> None:  # fmt: skip
    """One more packet of the batch."""
    count = load64(collector + COLLECTOR.sends_count)
    at = read64(collector + COLLECTOR.sends) + count * SEND_BYTES
    store64(at + SEND.lane, number)
    store64(at + SEND.progress, progress)
    store64(at + SEND.packet, packet)
    store64(at + SEND.bytes, size)
    store64(at + SEND.events, events)
    store64(at + SEND.damaged, damaged)
    store64(at + SEND.discarded, discarded)
    store64(at + SEND.recycle, recycled)
    store64(at + SEND.stamp, stamp)
    if count == 0:
        store64(collector + COLLECTOR.send_left, size)
    store64(collector + COLLECTOR.sends_count, count + 1)


@apart
def put_empty(collector: int, number: int, progress: int, packet: int, discarded: int, stamp: int) -> None:
    """A packet without records, for its count.  Its number is taken by progress like any other's."""
    used = load64(collector + COLLECTOR.headers_used)
    header = read64(collector + COLLECTOR.headers) + used
    put_packet(collector, number, header, packet, stamp, stamp, PACKET_BYTES, PACKET_BYTES, discarded)
    put_iovec(collector, header, PACKET_BYTES)
    store64(collector + COLLECTOR.headers_used, used + PACKET_BYTES)
    put_send(collector, number, progress, packet, PACKET_BYTES, 0, 0, discarded, 0, stamp)
    store8(read64(collector + COLLECTOR.begun) + number, BEGUN)
    store64_release(lane_number_at(collector, number) + LANE.note, word(packet, NO_PAGE, NO_RECORDS))  # C5


# -- a batch

GATHERED, GATHER_FULL, GATHER_DAMAGED = 0, 1, 2


@inlined
def has_headers(collector: int, records: int) -> bool:
    """There is room for the header of a packet and for `records` bytes of the collector's own records."""
    used = load64(collector + COLLECTOR.headers_used)
    return used + PACKET_BYTES + records <= read64(collector + COLLECTOR.headers_bytes)


@apart
def gather_lane(collector: int, number: int, flush: bool) -> int:
    """Add a lane's packets to the batch: its full pages, and with `flush` the committed part of the current one."""
    context = read64(collector + COLLECTOR.context)
    pages, page_size = read64(context + CONTEXT.pages_count), read64(context + CONTEXT.page_size)
    lane = lane_number_at(collector, number)
    progress = load64(lane + LANE.progress)
    position = load64_acquire(lane + LANE.position)  # C1
    if (progress ^ position) & ((1 << SEQUENCE_SHIFT) - 1) == 0 and not flush:
        return GATHERED  # the same page, the same bytes
    current, committed = (position >> PAGE_SHIFT) & PAGE_MASK, position & COMMITTED_MASK
    page, sent = (progress >> PAGE_SHIFT) & PAGE_MASK, progress & COMMITTED_MASK
    if not is_sound(context, position) or not is_sound(context, progress):
        return GATHER_DAMAGED
    packet = packet_in_full(context, lane, progress)
    told = load64(slot_of(lane, packet) + TOTALS.discarded)
    discarded = missed_in(context, number) - load64(lane + LANE.discarded_before)
    stamp = load64(slot_of(lane, packet) + TOTALS.stamp)
    stamp = max(stamp, load64(read64(context + CONTEXT.control) + CONTROL.clock_cycles))
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
        store64_release(lane + LANE.progress, word(packet, page, 0))  # C2
    result = walk_words()
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
        walk(collector, number, records, sent, up_to, stamp, header, result)
        end, content, extra = load64(result + WALK_END), load64(result + WALK_CONTENT), load64(result + WALK_EXTRA)
        first, last, why = load64(result + WALK_FIRST), load64(result + WALK_LAST), load64(result + WALK_WHY)
        damaged = 0
        if why == WALK_CLASS:
            store64(collector + COLLECTOR.classes_due, 1)
            if end == sent:
                break
            up_to = end
        elif why == WALK_DAMAGED:
            damaged = 1
            do.add64(read64(context + CONTEXT.control) + CONTROL.damaged, 1)
        first = first if first != 0 else stamp
        body = end - sent
        tail = content - end  # of the content, without the last record's padding: 0 or less
        if damaged != 0:
            size = put_loss(extra, first, 0)
            extra += padded(size)
            if body == 0:
                tail = size - padded(size)
        whole = sealed and up_to == length
        following_progress = word(packet + 1, following, 0) if whole else word(packet + 1, page, up_to)
        size = extra - header + body
        put_packet(collector, number, header, packet, first, last, size + tail, size, discarded)
        put_iovec(collector, header, extra - header)
        if body != 0:
            put_iovec(collector, records + sent, body)
        store64(collector + COLLECTOR.headers_used, used + extra - header)
        put_send(
            collector, number, following_progress, packet, size, load64(result + WALK_EVENTS), damaged, discarded,
            page + 1 if whole else 0, last,
        )  # fmt: skip
        if do.load8(begun) == 0:
            store8(begun, BEGUN)
        stamp = last
        if not whole:
            store64_release(lane + LANE.note, word(packet, page, up_to))  # C5
            return GATHERED
        packet += 1
        page, sent = following, 0
    # A count without a page.  To a predecessor's reader it is told once more: the packet that told it may have been a
    # copy, which the reader dropped.
    owed = discarded != told or (discarded != 0 and do.load8(begun) == RESUMED)
    if flush and owed and load64(collector + COLLECTOR.sends_count) == before:
        count = discarded if do.load8(begun) != 0 else 0
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
        number = (start + i) % lanes
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
        totals = next_totals(lane, packet)  # C4
        tally(totals + (TOTALS.unread if unread else TOTALS.delivered), events)
        tally(totals + TOTALS.damaged, load64(send + SEND.damaged))
        store64(totals + TOTALS.discarded, load64(send + SEND.discarded))
        store64(totals + TOTALS.stamp, load64(send + SEND.stamp))
        if not unread:
            remember(collector, size, number + 1, events)
            tally(collector + COLLECTOR.wrote_packets, 1)
    # C7, release: whoever sees that the packet is behind us sees its totals (the next collector, statistics)
    store64_release(lane + LANE.progress, load64(send + SEND.progress))
    page = load64(send + SEND.recycle)
    if page != 0:
        recycle(context, page - 1)
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
    store32_release(read64(context + CONTEXT.recording), 0)
    busy = 0
    for number in range(read64(context + CONTEXT.lanes_count)):
        settled = read64(collector + COLLECTOR.settled) + number
        if do.load8(settled) == 0:
            lane = lane_number_at(collector, number)
            # acquire: matched by P12, what the last owner committed is seen
            if do.swap_acquire(lane + LANE.owner, 0, read64(collector + COLLECTOR.me)) != 0:
                give_back(lane)
                store8(settled, 1)
            else:
                busy += 1
    return busy


@apart
def seal_lane(context: int, number: int, me: int) -> bool:
    """E1 to E5, for a lane that was wholly sent: it gets no page, so that its page can go back to the pool."""
    lane = read64(context + CONTEXT.lanes) + number * LANE_BYTES
    if do.swap_acquire(lane + LANE.owner, 0, me) == 0:  # E1
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
        store32(descriptor + PAGE.length, committed)  # E2
        store16(descriptor + PAGE.next, NO_PAGE)  # E3
        sequence = (position >> SEQUENCE_SHIFT) + 1
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


def reclaim(collector: int, number: int, dead: int) -> int:
    """R2 to R5: give back the lane of an owner that is dead, and the page that it had taken and not linked.

    Returns 1 if the lane was still the dead one's.
    """
    context = read64(collector + COLLECTOR.context)
    lane = lane_number_at(collector, number)
    if do.swap_acquire(lane + LANE.owner, dead, read64(collector + COLLECTOR.me)) == 0:  # R2
        return 0
    orphan = tag(number, (load64(lane + LANE.position) >> SEQUENCE_SHIFT) + 1)
    for page in range(read64(context + CONTEXT.pages_count)):
        if load64(descriptor_at(context, page) + PAGE.owner) == orphan:
            recycle(context, page)  # R3, R4
    give_back(lane)  # R5
    return 1


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
            recycle(context, page)
            freed += 1
    return freed


def tokens_missing(collector: int) -> int:
    """M1: by how many the pages that wait exceed the semaphore's count (0 or less: by none)."""
    context = read64(collector + COLLECTOR.context)
    waiting = 0
    for page in range(read64(context + CONTEXT.pages_count)):
        waiting += load64(descriptor_at(context, page) + PAGE.owner) == 0
    count = int_word()
    sem_getvalue(read64(context + CONTEXT.waiting), count)
    return waiting - load32(count)


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
        store64_release(entry + WRITER.identity, 0)  # matched by the acquire of the CAS in `register`
        freed += 1
    return freed


COLLECTOR_ENTRIES = (
    pump, remember_metadata, discard, depart, enable, settle, seal, has_full_page, suspect, reclaim, sweep,
    tokens_missing, doom, mark, free_doomed,
)  # fmt: skip
