"""The fast reader's jitted half: packets to rows.  What becomes of rows is in merging, times, ordering and bodies.

Nothing in a packet is believed: its bounds are the parser's, and every size is checked against them.  All addresses are
of arrays that reader/rows.py made large enough for what it asks.
"""

from __future__ import annotations

from .. import wire
from . import primitives as do
from . import rows as shared
from .bodies import copy_wide, gather, mark, pack, split
from .hashed import find, load_i32, put
from .merging import merge
from .msgpack import read_log
from .ordering import finish
from .primitives import apart, frozen, get64, inlined, load32, load64, padded, store16, store32, store64
from .times import convert

ROWS, TABLES, EXPECTED = frozen(shared.ROWS), frozen(shared.TABLES), frozen(shared.EXPECTED)
PACKET, PACKET_BYTES, RECORD_BYTES = frozen(wire.PACKET), wire.PACKET_BYTES, wire.RECORD_BYTES
LIMIT_BYTES, LIMIT_NUMBERS = wire.LIMIT_BYTES, wire.LIMIT_NUMBERS
BIAS, ANY, VARIABLE, SKIPPED, SPECIAL = shared.BIAS, shared.ANY, shared.VARIABLE, shared.SKIPPED, shared.SPECIAL
MAP, LOG_HEAD_BYTES = shared.MAP, shared.LOG_HEAD_BYTES
END, TEXT, COUNTED = shared.END, shared.TEXT, shared.COUNTED
WALKED, DAMAGED, HERE_SPECIAL, HERE_BAD = shared.WALKED, shared.DAMAGED, shared.HERE_SPECIAL, shared.HERE_BAD


@apart
def fits(operations: int, at: int, end: int) -> bool:
    """Whether the fields of a class with texts, bytes or arrays fill [at, end) exactly."""
    while True:
        operation = load_i32(operations)
        operations += 4
        if operation == END:
            return at == end
        if operation > 0:
            at += operation
        elif operation == TEXT:
            while at < end and do.load8(at) != 0:
                at += 1
            at += 1
        else:
            if at + 2 > end:
                return False
            at += 2 + (do.load8(at) | do.load8(at + 1) << 8) * (COUNTED - operation)
        if at > end:
            return False


@inlined
def begins(expected: int, packet: int) -> bool:
    """Whether this is how packets of the lane begin."""
    return (
        get64(packet) == load64(expected + EXPECTED.magic)
        and get64(packet + 8) == load64(expected + EXPECTED.uuid)
        and get64(packet + 16) == load64(expected + EXPECTED.stream)
    )


def leap(expected: int, base: int, at: int, end: int) -> int:
    """Passes the packets of a lane in [at, end) of which there is nothing to say; where the first other one begins.

    Each is whole, in order and not the last one; nothing is missing or was missed ahead of it.  None is passed that
    stream.Parser, which has looked at one of this lane, would not give; what is not passed is for that to judge.
    """
    number, lane = load64(expected + EXPECTED.number), load64(expected + EXPECTED.lane)
    discarded = load64(expected + EXPECTED.discarded)
    last = end - PACKET_BYTES
    if at > last or not begins(expected, base + at):
        return at
    while True:
        packet = base + at
        content, size = get64(packet + PACKET.content_size), get64(packet + PACKET.packet_size)
        words = get64(packet + PACKET.cpu_id)
        after = at + (size >> 3)
        if (
            get64(packet + PACKET.packet_seq_num) != number + 1
            or get64(packet + PACKET.events_discarded) != discarded
            or words & 0xFFFF_FFFF >= LIMIT_NUMBERS
            or words >> 32 != lane
            or content & 7 != 0
            or not PACKET_BYTES <= content >> 3 <= LIMIT_BYTES
            or size != 8 * padded(content >> 3)
            or get64(packet + PACKET.timestamp_begin) ^ BIAS > get64(packet + PACKET.timestamp_end) ^ BIAS
            or after > last
            or not begins(expected, base + after)
        ):
            break
        number += 1
        at = after
    store64(expected + EXPECTED.number, number)
    return at


def walk(rows: int, tables: int, base: int, at: int, end: int, stop: int) -> int:
    """Makes rows of the records in [at, end) of a packet, and of the packets in [end, stop) behind it.

    Gives why it stopped, in front of `ROWS.stopped`.  There is room for all of them.  What is ahead of the records has
    been checked: see `leap`.
    """
    count, used, top, lane = (
        load64(rows + ROWS.count), load64(rows + ROWS.used), load64(rows + ROWS.top), load64(rows + ROWS.lane),
    )  # fmt: skip
    data, scope, packet = load64(rows + ROWS.data), load64(rows + ROWS.scope), load64(rows + ROWS.packet)
    all_cycles, all_keys = load64(rows + ROWS.cycles), load64(rows + ROWS.keys)
    all_classes, all_threads = load64(rows + ROWS.classes), load64(rows + ROWS.threads)
    all_starts, all_sizes = load64(rows + ROWS.starts), load64(rows + ROWS.sizes)
    all_cpus, all_lanes = load64(rows + ROWS.cpus), load64(rows + ROWS.lanes)
    sizes, classes = load64(tables + TABLES.sizes), load64(tables + TABLES.classes)
    writers = load64(tables + TABLES.writers)
    last_writer, thread = -1, -1
    why = WALKED
    while at < stop:
        if at >= end:
            packet = at
            end = at + (get64(base + at + PACKET.content_size) >> 3)
            at += PACKET_BYTES
            continue
        body = at + RECORD_BYTES
        if body > end:
            why = DAMAGED
            break
        cycles, rest = get64(base + at), get64(base + at + 8)
        identifier, cpu = rest & 0xFFFF, (rest >> 16) & 0xFFFF
        writer, size = (rest >> 32) & 0xFFFF, (rest >> 48) & 0xFFFF
        after = body + size
        if after > end:
            why = DAMAGED
            break
        wanted = load_i32(sizes + 4 * identifier)
        head = 0
        if wanted not in (size, ANY):
            if wanted == SPECIAL:
                why = HERE_SPECIAL
                break
            if wanted == MAP:
                if not read_log(base + body, base + after, data + used):
                    why = HERE_SPECIAL
                    break
                head = LOG_HEAD_BYTES
            elif wanted != SKIPPED:
                if wanted != VARIABLE:
                    why = HERE_BAD
                    break
                program = load_i32(load64(tables + TABLES.programs) + 4 * identifier)
                if not fits(load64(tables + TABLES.operations) + 4 * program, base + body, base + after):
                    why = HERE_BAD
                    break
        if wanted != SKIPPED:
            if writer != last_writer:
                last_writer = writer
                thread = find(writers, scope | writer)
            key = cycles ^ BIAS
            top = max(top, key)
            store64(all_cycles + 8 * count, cycles)
            store64(all_keys + 8 * count, top)
            store32(all_classes + 4 * count, load32(classes + 4 * identifier))
            store32(all_threads + 4 * count, thread)
            store32(all_starts + 4 * count, used)
            store32(all_sizes + 4 * count, head + size)
            store16(all_cpus + 2 * count, cpu)
            store16(all_lanes + 2 * count, lane)
            copy_wide(data + used + head, base + body, size, base + stop)
            used += head + size
            count += 1
        at = padded(after)
        if at >= end and end != after:
            at = after
            why = DAMAGED
            break
    store64(rows + ROWS.count, count)
    store64(rows + ROWS.used, used)
    store64(rows + ROWS.top, top)
    store64(rows + ROWS.stopped, at)
    store64(rows + ROWS.packet, packet)
    store64(rows + ROWS.ended, end)
    return why


READER_ENTRIES = [leap, walk, put, convert, merge, finish, mark, gather, split, pack]
