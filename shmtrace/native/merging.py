"""The rows of lanes, merged by time while their records are walked, in jitted code."""

from __future__ import annotations

from . import rows as shared
from .primitives import apart, frozen, inlined, load64, store64
from .walking import advance

LANES, CURSOR, ALL_DONE, FULL = frozen(shared.LANES), frozen(shared.CURSOR), shared.ALL_DONE, shared.FULL
FIRST_KEY, LAST_KEY, HERE_FULL, LATER = shared.FIRST_KEY, shared.LAST_KEY, shared.HERE_FULL, shared.LATER


@inlined
def goes_first(cursors: int, a: int, b: int) -> bool:
    """Whether the next row of lane `a` stands ahead of that of lane `b`."""
    key_a, key_b = load64(load64(cursors + 8 * a) + CURSOR.key), load64(load64(cursors + 8 * b) + CURSOR.key)
    return key_a < key_b or (key_a == key_b and a < b)


@apart
def sift(cursors: int, heap: int, size: int, at: int) -> None:
    """Lets the lane at a place of the heap sink to where it belongs."""
    lane = load64(heap + 8 * at)
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and goes_first(cursors, load64(heap + 8 * child + 8), load64(heap + 8 * child)):
            child += 1
        other = load64(heap + 8 * child)
        if not goes_first(cursors, other, lane):
            break
        store64(heap + 8 * at, other)
        at = child
    store64(heap + 8 * at, lane)


@apart
def begin(lanes: int, rows: int, tables: int) -> int:
    """Makes the heap; else the first lane of which Python has to do something ahead of that."""
    count, cursors, heap = load64(lanes + LANES.count), load64(lanes + LANES.cursors), load64(lanes + LANES.heap)
    size = 0
    for lane in range(count):
        cursor = load64(cursors + 8 * lane)
        if load64(cursor + CURSOR.done) == 0:
            if load64(cursor + CURSOR.why) != LATER and look(cursor, rows, tables) != LATER:
                return lane
            store64(heap + 8 * size, lane)
            size += 1
    store64(lanes + LANES.size, size)
    for at in range(size // 2 - 1, -1, -1):
        sift(cursors, heap, size, at)
    return -1


@inlined
def look(cursor: int, rows: int, tables: int) -> int:
    """LATER: the key of the lane's next row is known; else why not.  No row is made, as none is ahead of all."""
    return advance(cursor, rows, tables, FIRST_KEY, False)


def merge(lanes: int, rows: int, tables: int) -> int:
    """Makes rows of the records of all lanes, by key and lane, until the walk of one stops: its number.

    Or FULL, or ALL_DONE.  A lane whose walk stopped is on top of the heap, if there is one, until it can go on.
    """
    if load64(lanes + LANES.size) < 0:
        stopped = begin(lanes, rows, tables)
        if stopped >= 0:
            return stopped
    cursors, heap, size = load64(lanes + LANES.cursors), load64(lanes + LANES.heap), load64(lanes + LANES.size)
    while size > 0:
        lane = load64(heap)
        cursor = load64(cursors + 8 * lane)
        if load64(cursor + CURSOR.done) != 0:
            size -= 1
            store64(lanes + LANES.size, size)
            store64(heap, load64(heap + 8 * size))
            sift(cursors, heap, size, 0)
            continue
        if load64(cursor + CURSOR.why) != LATER:  # others may be ahead of it by now
            if look(cursor, rows, tables) != LATER:
                return lane
            sift(cursors, heap, size, 0)
            continue
        limit_key, inclusive = LAST_KEY, True
        if size > 1:
            second = load64(heap + 8)
            if size > 2 and goes_first(cursors, load64(heap + 16), second):
                second = load64(heap + 16)
            limit_key = load64(load64(cursors + 8 * second) + CURSOR.key)
            inclusive = lane < second
        why = advance(cursor, rows, tables, limit_key, inclusive)
        if why != LATER:
            return FULL if why == HERE_FULL else lane
        sift(cursors, heap, size, 0)
    return ALL_DONE
