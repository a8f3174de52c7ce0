"""A packet of a lane: the look at each record, the collector's own records, the header, and its place in the batch.

Nothing in the segment is believed: every word is loaded once, and what is nonsense ends the packet.
"""

from __future__ import annotations

from .. import layout, wire
from . import intrinsics as do
from . import tables
from .entry import CLOCK_TRIES, REALTIME
from .intrinsics import (
    STEP,
    frozen,
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
    CONTEXT,
    CONTROL,
    LANE,
    MONOTONIC,
    NO_PAGE,
    RECORD,
    RECORD_BYTES,
    WRITER,
    WRITER_BITS_MASK,
    WRITER_BYTES,
    apart,
    inlined,
    monotonic,
    now,
    padded,
)
from .words import COLLECTOR, lane_number_at, word

PACKING = frozen(tables.PACKING)
SEND, SEND_BYTES, IOVEC_BYTES = frozen(tables.SEND), tables.SEND_BYTES, tables.IOVEC_BYTES
NO_RECORDS, BEGUN = layout.NO_RECORDS, tables.BEGUN
NAME_BYTES = layout.WIDTHS["Name48"]
PACKET, PACKET_BYTES = frozen(wire.PACKET), wire.PACKET_BYTES
PACKET_MAGIC, STREAM_ID = wire.PACKET_MAGIC, wire.STREAM_ID
WRITER_BODY, CLOCK_BODY, LOSS_BODY = (
    frozen(wire.WRITER_BODY), frozen(wire.CLOCK_BODY), frozen(wire.LOSS_BODY),
)  # fmt: skip
WRITER_BODY_BYTES, CLOCK_BODY_BYTES, LOSS_BODY_BYTES = (
    wire.WRITER_BODY_BYTES, wire.CLOCK_BODY_BYTES, wire.LOSS_BODY_BYTES,
)  # fmt: skip
ID_WRITER, ID_LOSS, ID_PADDING, ID_CLOCK, ID_PLACED, FIRST_ID, LOSS_DAMAGED, LOSS_OVERWRITTEN = (
    wire.ID_WRITER, wire.ID_LOSS, wire.ID_PADDING, wire.ID_CLOCK, wire.ID_PLACED, wire.FIRST_ID, wire.LOSS_DAMAGED,
    wire.LOSS_OVERWRITTEN,
)  # fmt: skip
WRITER_RECORD_MAX = wire.padded(RECORD_BYTES + WRITER_BODY_BYTES + 2 * NAME_BYTES)
OTHER_RECORDS_MAX = wire.padded(RECORD_BYTES + CLOCK_BODY_BYTES) + 2 * wire.padded(RECORD_BYTES + LOSS_BODY_BYTES)
IDENTITY_PID_MASK = (1 << layout.IDENTITY_PID_BITS) - 1
IDENTITY_START_MASK = (1 << layout.IDENTITY_START_BITS) - 1
BITS = 8


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
    store64(body + WRITER_BODY.start, (identity >> layout.IDENTITY_PID_BITS) & IDENTITY_START_MASK)
    store64(body + WRITER_BODY.thread_start, load64(entry + WRITER.thread_start))
    store32(body + WRITER_BODY.pid, identity & IDENTITY_PID_MASK)
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
def put_loss(at: int, stamp: int, cpu: int, count: int, reason: int) -> int:
    """A loss record for `count` records until now (0: nobody can say how many); its size."""
    body = at + RECORD_BYTES
    store64(body + LOSS_BODY.begin, 0)
    store64(body + LOSS_BODY.end, stamp)
    store64(body + LOSS_BODY.count, count)
    store8(body + LOSS_BODY.reason, reason)
    put_header(at, stamp, ID_LOSS, cpu, WRITER_BITS_MASK, LOSS_BODY_BYTES)
    return RECORD_BYTES + LOSS_BODY_BYTES


@inlined
def announced_at(collector: int, number: int, writer: int) -> int:
    """Address of the byte that has the bit of a writer in a lane."""
    stride = read64(collector + COLLECTOR.announced_stride)
    return read64(collector + COLLECTOR.announced) + number * stride + (writer >> 3)


@inlined
def is_announced(collector: int, number: int, writer: int) -> bool:
    """This reader has been told who the writer is, in this lane."""
    return do.load8(announced_at(collector, number, writer)) & (1 << (writer & 7)) != 0


@inlined
def announce(collector: int, number: int, writer: int) -> None:
    """From now on it has."""
    at = announced_at(collector, number, writer)
    store8(at, do.load8(at) | (1 << (writer & 7)))


WALKED, WALK_DAMAGED, WALK_CLASS = 0, 1, 2  # why a walk ended


@apart
def walk(collector: int, number: int, page: int, header: int, packing: int) -> None:
    """Look at each record in [begin, up_to) of a page, and put the writers' records behind the packet's header.

    Finds the first and last stamp, the exact size of the content and the number of events.

    `page` and `header` are addresses.  Stops at the first record that is not one, and at one whose class is not in the
    reader's metadata yet.
    """
    context = read64(collector + COLLECTOR.context)
    writers = read64(context + CONTEXT.writers_count)
    known_ids = load64(collector + COLLECTOR.known_ids)
    latest = now(context) + read64(context + CONTEXT.clock_limit)
    extra = header + PACKET_BYTES
    begin, up_to = load64(packing + PACKING.begin), load64(packing + PACKING.up_to)
    at, content, events, last, first = begin, begin, 0, load64(packing + PACKING.stamp), 0
    why = WALKED
    while at < up_to:
        if at + RECORD_BYTES > up_to:  # no byte behind the page is looked at
            why = WALK_DAMAGED
            break
        cycles = load64(page + at + RECORD.cycles)
        rest = load64(page + at + RECORD.id)  # one load: whoever writes here meanwhile, this is what is checked
        identifier, cpu = rest & 0xFFFF, (rest >> 16) & 0xFFFF
        writer, size = (rest >> 32) & 0xFFFF, (rest >> 48) & 0xFFFF
        after = at + RECORD_BYTES + padded(size)
        if after > up_to or cycles < last or cycles > latest:
            why = WALK_DAMAGED
            break
        if identifier >= known_ids:
            defined = load32(read64(context + CONTEXT.control) + CONTROL.classes_count)
            is_new = identifier < FIRST_ID + defined and defined != load64(collector + COLLECTOR.classes_seen)
            why = WALK_CLASS if is_new else WALK_DAMAGED
            break
        if identifier in (ID_WRITER, ID_LOSS, ID_CLOCK) or ID_PLACED < identifier < FIRST_ID:
            why = WALK_DAMAGED
            break
        if first == 0:
            first = cycles
            if load64(collector + COLLECTOR.clock_due) != 0:
                store64(collector + COLLECTOR.clock_due, 0)
                extra += put_clock(context, extra, first, cpu)
            overwritten = load64(collector + COLLECTOR.overwritten)
            if overwritten != 0:
                store64(collector + COLLECTOR.overwritten, 0)
                extra += padded(put_loss(extra, first, cpu, overwritten, LOSS_OVERWRITTEN))
        if 0 < writer < writers and not is_announced(collector, number, writer):
            size_of_writer = put_writer(context, extra, first, writer, cpu)
            extra += padded(size_of_writer)
            if size_of_writer != 0:
                announce(collector, number, writer)
        events += identifier != ID_PADDING
        last = cycles
        content = at + RECORD_BYTES + size
        at = after
    store64(packing + PACKING.end, at)
    store64(packing + PACKING.content, content)
    store64(packing + PACKING.first, first)
    store64(packing + PACKING.last, last)
    store64(packing + PACKING.events, events)
    store64(packing + PACKING.extra, extra)
    store64(packing + PACKING.why, why)


@apart
def put_packet(
    collector: int, number: int, header: int, packet: int, first: int, last: int, content: int, whole: int,
    discarded: int,
) -> None:  # fmt: skip
    """The header of a packet of `content` bytes, `whole` with its padding; magic, uuid and stream are in place."""
    context = read64(collector + COLLECTOR.context)
    do.copy(header + PACKET.uuid, collector + COLLECTOR.uuid, 16)
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
def pack(collector: int, number: int, page: int, header: int, packing: int) -> int:
    """A packet of the records of a page that are good; its size in bytes.

    Its head, with the collector's own records, goes to `header` and ends at `extra`; the records stay where they are.
    What is not good ends it, with a loss record.  0: its first record is of a class that is not in the metadata yet.
    """
    walk(collector, number, page, header, packing)
    begin, end = load64(packing + PACKING.begin), load64(packing + PACKING.end)
    extra, why = load64(packing + PACKING.extra), load64(packing + PACKING.why)
    if why == WALK_CLASS:
        store64(collector + COLLECTOR.classes_due, 1)
        if end == begin:
            return 0
    first = load64(packing + PACKING.first)
    first = first if first != 0 else load64(packing + PACKING.stamp)
    tail = load64(packing + PACKING.content) - end  # of the content, without the last record's padding: 0 or less
    if why == WALK_DAMAGED:
        do.add64(read64(read64(collector + COLLECTOR.context) + CONTEXT.control) + CONTROL.damaged, 1)
        size = put_loss(extra, first, 0, 0, LOSS_DAMAGED)
        extra += padded(size)
        store64(packing + PACKING.extra, extra)
        if end == begin:
            tail = size - padded(size)
    size = extra - header + end - begin
    put_packet(
        collector, number, header, load64(packing + PACKING.packet), first, load64(packing + PACKING.last),
        size + tail, size, load64(packing + PACKING.discarded),
    )  # fmt: skip
    return size


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
    step(STEP.C5)
    store64_release(lane_number_at(collector, number) + LANE.note, word(packet, NO_PAGE, NO_RECORDS))
