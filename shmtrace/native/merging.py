"""The rows of lanes, merged by time in jitted code."""

from __future__ import annotations

from . import primitives as do
from . import rows as shared
from .bodies import copy_wide
from .primitives import apart, frozen, inlined, load32, load64, store16, store32, store64

ROWS, FULL, ALL_DONE = frozen(shared.ROWS), shared.FULL, shared.ALL_DONE
LONG_RUN = 16  # rows that are moved a column at a time


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
