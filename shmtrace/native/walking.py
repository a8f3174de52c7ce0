"""The walk of the fast reader: packets to rows, in jitted code.

Nothing in a packet is believed: its bounds are the parser's, and every size is checked against them.  All addresses are
of arrays that reader/rows.py made large enough for what it asks.
"""

from __future__ import annotations

from .. import wire
from . import primitives as do
from . import rows as shared
from .bodies import copy_wide
from .hashed import find, load_i32
from .msgpack import read_log
from .primitives import apart, frozen, get64, inlined, load32, load64, padded, store16, store32, store64

ROWS, TABLES, EXPECTED = frozen(shared.ROWS), frozen(shared.TABLES), frozen(shared.EXPECTED)
CURSOR, HASHED, LAST_KEY = frozen(shared.CURSOR), frozen(shared.HASHED), shared.LAST_KEY
PACKET, PACKET_BYTES, RECORD_BYTES = frozen(wire.PACKET), wire.PACKET_BYTES, wire.RECORD_BYTES
LIMIT_BYTES, LIMIT_NUMBERS = wire.LIMIT_BYTES, wire.LIMIT_NUMBERS
BIAS, ANY, PROGRAMS, SKIPPED, SPECIAL = shared.BIAS, shared.ANY, shared.PROGRAMS, shared.SKIPPED, shared.SPECIAL
MAP, AT_ONCE, LOG_HEAD_BYTES = shared.MAP, shared.AT_ONCE, shared.LOG_HEAD_BYTES
END, TEXT, COUNTED = shared.END, shared.TEXT, shared.COUNTED
WALKED, DAMAGED, HERE_SPECIAL, HERE_BAD = shared.WALKED, shared.DAMAGED, shared.HERE_SPECIAL, shared.HERE_BAD
HERE_AHEAD, HERE_FULL, LATER = shared.HERE_AHEAD, shared.HERE_FULL, shared.LATER


@inlined
def fits(operations: int, body: int, end: int) -> bool:
    """Whether the fields of a class with texts, bytes or arrays fill [body, end) exactly."""
    at = body
    while True:
        operation = load_i32(operations)
        operations += 4
        if operation == END:
            return at == end
        if operation > 0:
            at += operation
        elif at >= end:
            return False
        elif operation == TEXT:
            ahead = (at - body) & 7  # whole words of the body are read: it is padded
            word = get64(at - ahead) | (1 << 8 * ahead) - 1
            at -= ahead
            zero = do.first_zero(word)
            while zero == 8 and at + 8 < end:
                at += 8
                zero = do.first_zero(get64(at))
            at += zero + 1
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


@inlined
def goes_ahead(key: int, limit_key: int, inclusive: bool) -> bool:
    """Whether a row stands ahead of another lane's."""
    return key < limit_key or (key == limit_key and inclusive)


@apart
def advance(cursor: int, rows: int, tables: int, limit_key: int, inclusive: bool) -> int:
    """Makes rows of a lane's records, while they stand ahead of another lane's key, until there is reason to stop.

    Gives the reason, which is in `CURSOR.why`, too.  What is ahead of the records has been checked: see `leap`.
    """
    base, at, end, stop = (
        load64(cursor + CURSOR.base), load64(cursor + CURSOR.at), load64(cursor + CURSOR.end),
        load64(cursor + CURSOR.stop),
    )  # fmt: skip
    packet, top = load64(cursor + CURSOR.packet), load64(cursor + CURSOR.top)
    lane, scope = load64(cursor + CURSOR.lane), load64(cursor + CURSOR.scope)
    count, used = load64(rows + ROWS.count), load64(rows + ROWS.used)
    most, room = load64(rows + ROWS.limit), load64(rows + ROWS.room) - LOG_HEAD_BYTES
    data, all_cycles = load64(rows + ROWS.data), load64(rows + ROWS.cycles)
    all_classes, all_threads = load64(rows + ROWS.classes), load64(rows + ROWS.threads)
    all_starts, all_sizes = load64(rows + ROWS.starts), load64(rows + ROWS.sizes)
    all_cpus, all_lanes = load64(rows + ROWS.cpus), load64(rows + ROWS.lanes)
    sizes, classes = load64(tables + TABLES.sizes), load64(tables + TABLES.classes)
    writers, operations = load64(tables + TABLES.writers), load64(tables + TABLES.operations)
    last_writer, thread = load64(cursor + CURSOR.writer), load64(cursor + CURSOR.thread)
    if load64(cursor + CURSOR.changes) != load64(writers + HASHED.changes):
        last_writer = -1
        store64(cursor + CURSOR.changes, load64(writers + HASHED.changes))
    key = top
    why = WALKED
    if load64(cursor + CURSOR.ahead) != 0:
        key = max(top, load64(cursor + CURSOR.begin) ^ BIAS)
        why = HERE_AHEAD if goes_ahead(key, limit_key, inclusive) else LATER
        stop = at
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
            if wanted <= PROGRAMS:
                if not fits(operations + 4 * (PROGRAMS - wanted), base + body, base + after):
                    why = HERE_BAD
                    break
            elif wanted == AT_ONCE:
                why = HERE_SPECIAL
                break
            elif wanted not in (SKIPPED, SPECIAL, MAP):
                why = HERE_BAD
                break
        if wanted != SKIPPED:
            key = max(top, cycles ^ BIAS)
            if not goes_ahead(key, limit_key, inclusive):
                why = LATER
                break
            if count >= most or used + size > room:
                why = HERE_FULL
                break
            if wanted == SPECIAL:
                why = HERE_SPECIAL
                break
            if wanted == MAP:
                if not read_log(base + body, base + after, data + used):
                    why = HERE_SPECIAL
                    break
                head = LOG_HEAD_BYTES
            if writer != last_writer:
                last_writer = writer
                thread = find(writers, scope | writer)
            top = key
            store64(all_cycles + 8 * count, cycles)
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
    store64(cursor + CURSOR.at, at)
    store64(cursor + CURSOR.end, end)
    store64(cursor + CURSOR.packet, packet)
    store64(cursor + CURSOR.top, top)
    store64(cursor + CURSOR.key, key)
    store64(cursor + CURSOR.why, why)
    store64(cursor + CURSOR.writer, last_writer)
    store64(cursor + CURSOR.thread, thread)
    return why


def walk(cursor: int, rows: int, tables: int) -> int:
    """Makes rows of the records of one lane alone, see `advance`."""
    return advance(cursor, rows, tables, LAST_KEY, True)
