"""The fast reader's jitted half: packets to rows, rows in the order of time, and what follows from that order.

Nothing in a packet is believed: its bounds are the parser's, and every size is checked against them.  All addresses are
of arrays that reader/columns.py made large enough for what it asks.
"""

from __future__ import annotations

from .. import wire
from . import primitives as do
from . import rows as shared
from .primitives import apart, frozen, get64, inlined, load32, load64, padded, store16, store32, store64

ROWS, HASHED, TABLES, LINE = frozen(shared.ROWS), frozen(shared.HASHED), frozen(shared.TABLES), frozen(shared.LINE)
EXPECTED, PACKET, PACKET_BYTES = frozen(shared.EXPECTED), frozen(wire.PACKET), wire.PACKET_BYTES
LIMIT_BYTES, LIMIT_NUMBERS = wire.LIMIT_BYTES, wire.LIMIT_NUMBERS
SPANS, OPEN, OPEN_BYTES = frozen(shared.SPANS), frozen(shared.OPEN), shared.OPEN_BYTES
BIAS, ANY, VARIABLE, SKIPPED, SPECIAL = shared.BIAS, shared.ANY, shared.VARIABLE, shared.SKIPPED, shared.SPECIAL
MAP, LOG_HEAD_BYTES = shared.MAP, shared.LOG_HEAD_BYTES
END, TEXT, COUNTED = shared.END, shared.TEXT, shared.COUNTED
WALKED, DAMAGED, HERE_SPECIAL, HERE_BAD = shared.WALKED, shared.DAMAGED, shared.HERE_SPECIAL, shared.HERE_BAD
KIND_BEGIN, KIND_END, KIND_CONTEXT = shared.KIND_BEGIN, shared.KIND_END, shared.KIND_CONTEXT
KIND_FUNCTION, KIND_CALL, KIND_UNWIND = shared.KIND_FUNCTION, shared.KIND_CALL, shared.KIND_UNWIND
NOBODY, MOST_PASSED = shared.NOBODY, shared.MOST_PASSED
NUMBER_BYTES = 4  # of a function
FULL, ALL_DONE = shared.FULL, shared.ALL_DONE
LEVEL_0, LEVEL_1, LEVEL_2, LEVEL_3 = shared.LEVEL_STEPS
INFO = 20
LOG_NAME, LOG_SPAN, LOG_CONTEXT, LOG_LEVEL = wire.LOG_NAME, wire.LOG_SPAN, wire.LOG_CONTEXT, wire.LOG_LEVEL
RECORD_BYTES = wire.RECORD_BYTES
BY_THREAD = wire.BY_THREAD
WIDE = 16  # bytes that are copied at a time; what they are copied to has so much room behind it
LONG_RUN = 16  # rows that are moved a column at a time
GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
INEXACT = 2.0**-50  # a quotient of doubles is off by less than this part of it
SAFE = 2.0**62
LAST_KEY = (1 << 63) - 1


@inlined
def signed32(value: int) -> int:
    """What was loaded of an i32."""
    return (value ^ 0x8000_0000) - 0x8000_0000


@inlined
def load_i32(at: int) -> int:
    """An i32."""
    return signed32(load32(at))


@inlined
def find(hashed: int, key: int) -> int:
    """The value of a key; -1: it has none."""
    mask, keys = load64(hashed + HASHED.mask), load64(hashed + HASHED.keys)
    place = (do.times(key, GOLDEN) >> 32) & mask
    while True:
        there = load64(keys + 8 * place)
        if there == key:
            return load_i32(load64(hashed + HASHED.values) + 4 * place)
        if there < 0:
            return -1
        place = (place + 1) & mask


def put(hashed: int, key: int, value: int) -> int:
    """Sets the value of a key, for which there must be a free place; 1: it had none before."""
    mask, keys, values = load64(hashed + HASHED.mask), load64(hashed + HASHED.keys), load64(hashed + HASHED.values)
    place = (do.times(key, GOLDEN) >> 32) & mask
    while True:
        there = load64(keys + 8 * place)
        if there < 0 or there == key:
            store64(keys + 8 * place, key)
            store32(values + 4 * place, value)
            return 1 if there < 0 else 0
        place = (place + 1) & mask


@inlined
def copy_wide(target: int, source: int, size: int, end: int) -> None:
    """Copy; the target has room for WIDE bytes more.  `end`: nothing behind it may be looked at."""
    if source + size + WIDE <= end and size <= 8 * WIDE:
        at = 0
        while at < size:
            do.move16(target + at, source + at)
            at += WIDE
    else:
        do.copy(target, source, size)


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
def text_end(at: int, end: int) -> int:
    """Where a text of msgpack that begins at `at` ends; 0: it is none, or a very long one."""
    first = do.load8(at)
    if 0xA0 <= first < 0xC0:
        return at + 1 + (first & 31)
    if first == 0xD9 and at + 2 <= end:
        return at + 2 + do.load8(at + 1)
    if first == 0xDA and at + 3 <= end:
        return at + 3 + (do.load8(at + 1) << 8 | do.load8(at + 2))
    return 0


@inlined
def number_end(at: int) -> int:
    """Where a number of msgpack that begins at `at` ends; 0: it is none."""
    first = do.load8(at)
    if first < 0x80 or first >= 0xE0:
        return at + 1
    if first in (0xCA, 0xCE, 0xD2):
        return at + 5
    if first in (0xCB, 0xCF, 0xD3):
        return at + 9
    if first in (0xCC, 0xD0):
        return at + 2
    if first in (0xCD, 0xD1):
        return at + 3
    return 0


@inlined
def whole_number(at: int) -> int:
    """A number of msgpack of which `number_end` says that it is one; -1: it is negative, or none that is usual."""
    first = do.load8(at)
    if first < 0x80:
        return first
    if first == 0xCC:
        return do.load8(at + 1)
    if first == 0xCD:
        return do.load8(at + 1) << 8 | do.load8(at + 2)
    if first == 0xCE:
        return do.swapped(get64(at + 1 - 4)) & 0xFFFF_FFFF
    if first in (0xCF, 0xD3):
        return do.swapped(get64(at + 1))
    return -1


@apart
def read_log(at: int, end: int, target: int) -> bool:
    """Puts a log's head ahead of where its map goes; False: it is not one of the usual maps, and Python must look."""
    if at >= end or do.load8(at) & 0xF0 != 0x80:
        return False
    entries = do.load8(at) & 15
    at += 1
    numbers, level, last = 0, INFO, -1
    for _ in range(entries):
        if at >= end:
            return False
        key = do.load8(at)
        if key <= LOG_LEVEL:
            at += 1
            if key <= last or at >= end:
                return False
            last = key
            after = text_end(at, end) if key == LOG_NAME else number_end(at)
            if after == 0 or after > end:
                return False
            if key != LOG_NAME:
                number = whole_number(at)
                if not 0 <= number < 1 << 32:
                    return False
                if key == LOG_SPAN:
                    numbers |= number
                elif key == LOG_CONTEXT:
                    numbers |= number << 32
                else:
                    level = number
            at = after
        else:
            at = text_end(at, end)
            if at == 0 or at >= end:
                return False
            first = do.load8(at)
            after = number_end(at)
            if after == 0:
                after = text_end(at, end)
            if after == 0 and first in (0xC0, 0xC2, 0xC3):
                after = at + 1
            if after == 0:
                return False
            at = after
    if at != end:
        return False
    do.put64(target, numbers)
    do.store8(target + 8, (level < LEVEL_0) + (level < LEVEL_1) + (level < LEVEL_2) + (level < LEVEL_3))
    return True


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


@inlined
def reach(factor: float, divisor: float) -> float:
    """How many cycles from its point a line may be followed by `scaled`.

    So far the quotient of doubles is off by so little that the rest, which is that times the divisor, is an i64, and
    quotients can be added to each other and to where the point is.
    """
    exact = (SAFE / divisor - 4.0) / INEXACT
    return min(exact, SAFE / 8.0) / max(abs(factor) / divisor, 1.0)


@inlined
def scaled(number: int, factor: int, divisor: int, ratio: float) -> int:
    """`number * factor // divisor`, exact within `reach`."""
    result = int(float(number) * ratio)
    rest = do.minus(do.times(number, factor), do.times(result, divisor))  # both overflow alike
    while rest < 0:
        result -= 1
        rest += divisor
    while rest >= divisor:
        result += 1
        rest -= divisor
    return result


def convert(rows: int, line: int, at: int) -> int:
    """Times of the rows from `at` on; the first of them that is not on the line, or the number of rows."""
    count = load64(rows + ROWS.count)
    all_cycles, walls, steady = (
        load64(rows + ROWS.cycles), load64(rows + ROWS.time), load64(rows + ROWS.monotonic),
    )  # fmt: skip
    low, high, point = load64(line + LINE.low), load64(line + LINE.high), load64(line + LINE.cycles) ^ BIAS
    rise, run, drift = load64(line + LINE.rise), load64(line + LINE.run), load64(line + LINE.drift)
    monotonic, offset = load64(line + LINE.monotonic), load64(line + LINE.offset)
    if run <= 0 or abs(float(monotonic)) >= SAFE / 4.0 or abs(float(offset)) >= SAFE:
        return at  # there is no line yet, or it is that of no clock
    rising, drifting = float(rise) / float(run), float(drift) / float(run)
    far = int(max(0.0, min(reach(float(rise), float(run)), reach(float(drift), float(run)))))
    if point >= BIAS + far:
        low = max(low, point - far)
    if point <= LAST_KEY - far:
        high = min(high, point + far)
    while at < count:
        key = load64(all_cycles + 8 * at) ^ BIAS
        if key < low or key > high:
            break
        gone = key - point
        time = monotonic + scaled(gone, rise, run, rising)
        store64(steady + 8 * at, time)
        store64(walls + 8 * at, time + offset + scaled(gone, drift, run, drifting))
        at += 1
    return at


@inlined
def goes_first(lanes: int, a: int, b: int) -> bool:
    """Whether the next row of lane `a` stands ahead of that of lane `b`."""
    rows_a, rows_b = load64(lanes + 8 * a), load64(lanes + 8 * b)
    key_a = load64(load64(rows_a + ROWS.keys) + 8 * load64(rows_a + ROWS.at))
    key_b = load64(load64(rows_b + ROWS.keys) + 8 * load64(rows_b + ROWS.at))
    return key_a < key_b or (key_a == key_b and a < b)


@apart
def sift(lanes: int, heap: int, size: int, at: int) -> None:
    """Lets the lane at a place of the heap sink to where it belongs."""
    lane = load64(heap + 8 * at)
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and goes_first(lanes, load64(heap + 8 * child + 8), load64(heap + 8 * child)):
            child += 1
        other = load64(heap + 8 * child)
        if not goes_first(lanes, other, lane):
            break
        store64(heap + 8 * at, other)
        at = child
    store64(heap + 8 * at, lane)


@apart
def move_rows(source: int, target: int, limit_key: int, inclusive: bool) -> bool:
    """Moves rows of a lane while they stand ahead of another lane's key; False: the target is full."""
    at, last = load64(source + ROWS.at), load64(source + ROWS.count)
    count, used = load64(target + ROWS.count), load64(target + ROWS.used)
    most, room = load64(target + ROWS.limit), load64(target + ROWS.room)
    keys, data, end = load64(source + ROWS.keys), load64(source + ROWS.data), load64(source + ROWS.room)
    end += data
    cycles_from, cycles_to = load64(source + ROWS.cycles), load64(target + ROWS.cycles)
    classes_from, classes_to = load64(source + ROWS.classes), load64(target + ROWS.classes)
    threads_from, threads_to = load64(source + ROWS.threads), load64(target + ROWS.threads)
    cpus_from, cpus_to = load64(source + ROWS.cpus), load64(target + ROWS.cpus)
    starts_from, starts_to = load64(source + ROWS.starts), load64(target + ROWS.starts)
    sizes_from, sizes_to = load64(source + ROWS.sizes), load64(target + ROWS.sizes)
    lanes_from, lanes_to = load64(source + ROWS.lanes), load64(target + ROWS.lanes)
    data_to = load64(target + ROWS.data)
    good = True
    stop = at
    while stop < min(last, at + most - count):
        key = load64(keys + 8 * stop)
        if key > limit_key or (key == limit_key and not inclusive):
            break
        stop += 1
    run = stop - at
    if run >= LONG_RUN:  # bodies stand behind each other, in the order of their rows
        begin = load32(starts_from + 4 * at)
        size = load32(starts_from + 4 * stop - 4) + load32(sizes_from + 4 * stop - 4) - begin
        if used + size <= room:
            do.copy(cycles_to + 8 * count, cycles_from + 8 * at, 8 * run)
            do.copy(classes_to + 4 * count, classes_from + 4 * at, 4 * run)
            do.copy(threads_to + 4 * count, threads_from + 4 * at, 4 * run)
            do.copy(sizes_to + 4 * count, sizes_from + 4 * at, 4 * run)
            do.copy(cpus_to + 2 * count, cpus_from + 2 * at, 2 * run)
            do.copy(lanes_to + 2 * count, lanes_from + 2 * at, 2 * run)
            do.copy(data_to + used, data + begin, size)
            for number in range(run):
                store32(starts_to + 4 * (count + number), load32(starts_from + 4 * (at + number)) - begin + used)
            used += size
            count += run
            at = stop
    while at < last:
        key = load64(keys + 8 * at)
        if key > limit_key or (key == limit_key and not inclusive):
            break
        size = load32(sizes_from + 4 * at)
        if count >= most or used + size > room:
            good = False
            break
        do.move8(cycles_to + 8 * count, cycles_from + 8 * at)
        do.move4(classes_to + 4 * count, classes_from + 4 * at)
        do.move4(threads_to + 4 * count, threads_from + 4 * at)
        store32(starts_to + 4 * count, used)
        store32(sizes_to + 4 * count, size)
        store16(cpus_to + 2 * count, do.load16(cpus_from + 2 * at))
        store16(lanes_to + 2 * count, do.load16(lanes_from + 2 * at))
        copy_wide(data_to + used, data + load32(starts_from + 4 * at), size, end)
        used += size
        count += 1
        at += 1
    store64(source + ROWS.at, at)
    store64(target + ROWS.count, count)
    store64(target + ROWS.used, used)
    return good


def merge(lanes: int, count: int, heap: int, target: int) -> int:
    """Moves rows of `count` lanes, by key and lane, until one has no more rows: its number.  Or FULL, or ALL_DONE."""
    size = 0
    for lane in range(count):
        rows = load64(lanes + 8 * lane)
        if load64(rows + ROWS.at) < load64(rows + ROWS.count):
            store64(heap + 8 * size, lane)
            size += 1
        elif load64(rows + ROWS.done) == 0:
            return lane
    for at in range(size // 2 - 1, -1, -1):
        sift(lanes, heap, size, at)
    while size > 0:
        lane = load64(heap)
        rows = load64(lanes + 8 * lane)
        limit_key, inclusive = 0x7FFF_FFFF_FFFF_FFFF, True
        if size > 1:
            second = load64(heap + 8)
            if size > 2 and goes_first(lanes, load64(heap + 16), second):
                second = load64(heap + 16)
            other = load64(lanes + 8 * second)
            limit_key = load64(load64(other + ROWS.keys) + 8 * load64(other + ROWS.at))
            inclusive = lane < second
        if not move_rows(rows, target, limit_key, inclusive):
            return FULL
        if load64(rows + ROWS.at) >= load64(rows + ROWS.count):
            if load64(rows + ROWS.done) == 0:
                return lane
            size -= 1
            store64(heap, load64(heap + 8 * size))
        sift(lanes, heap, size, 0)
    return ALL_DONE


@inlined
def bucket_of(spans: int, process: int, number: int) -> int:
    """Address of the first of the entries in a bucket.  Spans that follow each other are neighbours: in one line."""
    place = do.plus(do.times(process, GOLDEN) >> 32, number) & load64(spans + SPANS.buckets_mask)
    return load64(spans + SPANS.buckets) + 4 * place


@inlined
def entry_at(spans: int, index: int) -> int:
    """Address of an open span."""
    return load64(spans + SPANS.entries) + OPEN_BYTES * index


@inlined
def find_open(spans: int, process: int, number: int) -> int:
    """The open span of a number; -1: there is none."""
    index = load_i32(bucket_of(spans, process, number))
    while index >= 0:
        entry = entry_at(spans, index)
        if load64(entry + OPEN.number) == number and load64(entry + OPEN.process) == process:
            break
        index = load64(entry + OPEN.next)
    return index


@apart
def close_span(spans: int, index: int) -> None:
    """It is not open any more."""
    entry = entry_at(spans, index)
    following = load64(entry + OPEN.next)
    at = bucket_of(spans, load64(entry + OPEN.process), load64(entry + OPEN.number))
    first = load_i32(at)
    if first == index:
        store32(at, following)
    else:
        other = entry_at(spans, first)
        while load64(other + OPEN.next) != index:
            other = entry_at(spans, load64(other + OPEN.next))
        store64(other + OPEN.next, following)
    before, behind = load64(entry + OPEN.before), load64(entry + OPEN.behind)
    if behind >= 0:
        store64(entry_at(spans, behind) + OPEN.before, before)
    else:
        store32(load64(spans + SPANS.tails) + 4 * load64(entry + OPEN.identity), before)
    if before >= 0:
        store64(entry_at(spans, before) + OPEN.behind, behind)
    older, newer = load64(entry + OPEN.older), load64(entry + OPEN.newer)
    if newer >= 0:
        store64(entry_at(spans, newer) + OPEN.older, older)
    else:
        store64(spans + SPANS.newest, older)
    if older >= 0:
        store64(entry_at(spans, older) + OPEN.newer, newer)
    else:
        store64(spans + SPANS.oldest, newer)
    store64(entry + OPEN.next, load64(spans + SPANS.free))
    store64(spans + SPANS.free, index)


@apart
def open_span(spans: int, process: int, number: int, identity: int, context: int) -> None:
    """It is, from now on; if there are too many, the oldest is forgotten."""
    known = find_open(spans, process, number)
    if known >= 0:
        close_span(spans, known)
    index = load64(spans + SPANS.free)
    if index < 0 and load64(spans + SPANS.count) >= load64(spans + SPANS.limit):
        close_span(spans, load64(spans + SPANS.oldest))
        index = load64(spans + SPANS.free)
    if index < 0:
        index = load64(spans + SPANS.count)
        store64(spans + SPANS.count, index + 1)
    else:
        store64(spans + SPANS.free, load64(entry_at(spans, index) + OPEN.next))
    entry = entry_at(spans, index)
    store64(entry + OPEN.process, process)
    store64(entry + OPEN.number, number)
    store64(entry + OPEN.identity, identity)
    store64(entry + OPEN.context, context)
    bucket = bucket_of(spans, process, number)
    store64(entry + OPEN.next, load_i32(bucket))
    store32(bucket, index)
    tail = load64(spans + SPANS.tails) + 4 * identity
    before = load_i32(tail)
    store64(entry + OPEN.before, before)
    store64(entry + OPEN.behind, -1)
    if before >= 0:
        store64(entry_at(spans, before) + OPEN.behind, index)
    store32(tail, index)
    older = load64(spans + SPANS.newest)
    store64(entry + OPEN.older, older)
    store64(entry + OPEN.newer, -1)
    if older >= 0:
        store64(entry_at(spans, older) + OPEN.newer, index)
    else:
        store64(spans + SPANS.oldest, index)
    store64(spans + SPANS.newest, index)


@apart
def end_call(calls: int, identity: int, function: int) -> int:
    """A thread's last call of a function ends, and those inside of it; its number, 0: there is none."""
    tail = load64(calls + SPANS.tails) + 4 * identity
    index = load_i32(tail)
    for _ in range(MOST_PASSED):
        if index < 0:
            return 0
        entry = entry_at(calls, index)
        if load64(entry + OPEN.context) == function:
            number = load64(entry + OPEN.number)
            while load_i32(tail) != index:
                close_span(calls, load_i32(tail))
            close_span(calls, index)
            return number
        index = load64(entry + OPEN.before)
    return 0


@inlined
def begin_call(calls: int, process: int, identity: int, function: int) -> tuple[int, int]:
    """Numbers of a call that begins, and of the one around it."""
    around = load_i32(load64(calls + SPANS.tails) + 4 * identity)
    parent = load64(entry_at(calls, around) + OPEN.number) if around >= 0 else 0
    number = load64(calls + SPANS.nameless)
    store64(calls + SPANS.nameless, number + 1)
    open_span(calls, process, number, identity, function)
    return number, parent


def finish(rows: int, spans: int, calls: int, at: int, kept: int) -> int:
    """Numbers of spans and contexts as the order of time tells them, and names of calls, of the rows from `at` on.

    Rows that define a context or function do not stay: `kept` are left of those before `at`.  Stops at one, and at a
    call of a function that is not known, in front of `SPANS.at`; otherwise that is the number of rows.  Gives how many
    are left.
    """
    count = load64(rows + ROWS.count)
    all_classes, all_threads = load64(rows + ROWS.classes), load64(rows + ROWS.threads)
    all_starts, all_sizes = load64(rows + ROWS.starts), load64(rows + ROWS.sizes)
    all_spans, all_parents = load64(rows + ROWS.spans), load64(rows + ROWS.parents)
    all_tasks, all_contexts = load64(rows + ROWS.tasks), load64(rows + ROWS.contexts)
    data = load64(rows + ROWS.data)
    own, kinds = load64(spans + SPANS.own), load64(spans + SPANS.kinds)
    processes, identities = load64(spans + SPANS.processes), load64(spans + SPANS.identities)
    tails, contexts, named = load64(spans + SPANS.tails), load64(spans + SPANS.contexts), load64(spans + SPANS.named)
    nameless, before = load64(spans + SPANS.nameless), load64(spans + SPANS.before)
    functions, steps = load64(spans + SPANS.functions), load64(spans + SPANS.steps)
    while at < count:
        made, thread = load32(all_classes + 4 * at), load_i32(all_threads + 4 * at)
        numbers, kind = do.load8(own + made), do.load8(kinds + made)
        body = data + load32(all_starts + 4 * at)
        span = context = parent = task = 0
        found = -1
        if numbers > 0:  # there are 8 bytes more behind the last body
            pair = get64(body)
            span = pair & 0xFFFF_FFFF
            if numbers > 1:
                context = (pair >> 32) & 0xFFFF_FFFF
            if numbers > 2:
                pair = get64(body + 8)
                parent = pair & 0xFFFF_FFFF
                if numbers > 3:
                    task = (pair >> 32) & 0xFFFF_FFFF
        if thread >= 0 and (span != 0 or context != 0 or kind == KIND_CONTEXT):
            process, identity = load_i32(processes + 4 * thread), load_i32(identities + 4 * thread)
            inner = load_i32(tails + 4 * identity)
            named_one = context != 0
            if context == BY_THREAD:
                context = load64(entry_at(spans, inner) + OPEN.context) if inner >= 0 else 0
            if kind == KIND_CONTEXT:
                store64(spans + SPANS.number, context)
                break
            if named_one:
                found = find(contexts, process << 32 | context)
                if found >= 0:
                    store64(named + 8 * found, before + at)
            if span != 0:
                number = load64(entry_at(spans, inner) + OPEN.number) if inner >= 0 else 0
                if kind == KIND_BEGIN:
                    if parent == BY_THREAD:
                        parent = number
                    if span == BY_THREAD:
                        span = nameless
                        nameless += 1
                    open_span(spans, process, span, identity, context)
                else:
                    if span == BY_THREAD:
                        span = number
                    if kind == KIND_END and span != 0:
                        known = find_open(spans, process, span)
                        if known >= 0:
                            close_span(spans, known)
        elif kind == KIND_CONTEXT:
            store64(spans + SPANS.number, 0)
            break
        elif kind >= KIND_FUNCTION:
            process, function = load_i32(processes + 4 * thread) if thread >= 0 else NOBODY, load32(body)
            known = find(functions, process << 32 | function)
            if known < 0 or kind == KIND_FUNCTION:
                store64(spans + SPANS.number, function)
                break
            steps += 1
            store64(load64(spans + SPANS.called) + 8 * known, before + at)
            made = load32(load64(spans + SPANS.begins) + 4 * known)
            if kind == KIND_CALL:
                if thread >= 0:
                    span, parent = begin_call(calls, process, load_i32(identities + 4 * thread), function)
            else:
                made += 1
                if thread >= 0:
                    span = end_call(calls, load_i32(identities + 4 * thread), function)
                if kind == KIND_UNWIND:  # what is left is the exception
                    store32(all_starts + 4 * at, load32(all_starts + 4 * at) + NUMBER_BYTES)
                    store32(all_sizes + 4 * at, load32(all_sizes + 4 * at) - NUMBER_BYTES)
                else:  # there is none
                    do.store8(body, 0)
                    store32(all_sizes + 4 * at, 1)
            store32(all_classes + 4 * at, made)
        if kept != at:
            move_row(rows, at, kept)
        store64(all_spans + 8 * kept, span)
        store64(all_parents + 8 * kept, parent)
        store64(all_tasks + 8 * kept, task)
        store32(all_contexts + 4 * kept, found)
        kept += 1
        at += 1
    store64(spans + SPANS.nameless, nameless)
    store64(spans + SPANS.steps, steps)
    store64(spans + SPANS.at, at)
    return kept


@apart
def move_row(rows: int, source: int, target: int) -> None:
    """A row takes the place of another; its body stays where it is."""
    for column in (ROWS.cycles, ROWS.time, ROWS.monotonic):
        array = load64(rows + column)
        do.move8(array + 8 * target, array + 8 * source)
    for column in (ROWS.classes, ROWS.threads, ROWS.starts, ROWS.sizes):
        array = load64(rows + column)
        do.move4(array + 4 * target, array + 4 * source)
    for column in (ROWS.cpus, ROWS.lanes):
        array = load64(rows + column)
        store16(array + 2 * target, do.load16(array + 2 * source))


def gather(data: int, starts: int, picked: int, count: int, target: int, size: int) -> int:
    """Puts `size` bytes each from the bodies of rows `picked` behind each other; there is room for WIDE more."""
    for number in range(count):
        source = data + load32(starts + 4 * load64(picked + 8 * number))
        do.copy(target, source, size)
        target += size
    return 0


def split(data: int, starts: int, picked: int, count: int, operations: int, target: int) -> int:
    """Where each field of rows `picked` of a class begins and ends in `data`: a pair of i64 an operation, a row.

    The bodies have been found to fit.
    """
    for number in range(count):
        at = load32(starts + 4 * load64(picked + 8 * number))
        step = operations
        while True:
            operation = load_i32(step)
            step += 4
            if operation == END:
                break
            begin = at
            if operation > 0:
                at += operation
                end = at
            elif operation == TEXT:
                while do.load8(data + at) != 0:
                    at += 1
                end = at
                at += 1
            else:
                begin = at + 2
                at = begin + (do.load8(data + at) | do.load8(data + at + 1) << 8) * (COUNTED - operation)
                end = at
            store64(target, begin)
            store64(target + 8, end)
            target += 16
    return 0


def pack(data: int, begins: int, ends: int, count: int, target: int, offsets: int) -> int:
    """Puts pieces of `data` behind each other, and where they end there into `offsets`: i32, the first is 0."""
    used = 0
    store32(offsets, 0)
    for number in range(count):
        begin = load64(begins + 8 * number)
        size = load64(ends + 8 * number) - begin
        do.copy(target + used, data + begin, size)
        used += size
        store32(offsets + 4 * number + 4, used)
    return used


READER_ENTRIES = [leap, walk, put, convert, merge, finish, gather, split, pack]
