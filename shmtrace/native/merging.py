"""The rows of lanes, merged by time while their records are walked, in jitted code."""

from __future__ import annotations

from . import rows as shared
from .primitives import apart, frozen, inlined, load64, store64
from .walking import advance

CURSOR, ALL_DONE, FULL = frozen(shared.CURSOR), shared.ALL_DONE, shared.FULL
FIRST_KEY, LAST_KEY, HERE_FULL, LATER = shared.FIRST_KEY, shared.LAST_KEY, shared.HERE_FULL, shared.LATER


@inlined
def goes_first(lanes: int, a: int, b: int) -> bool:
    """Whether the next row of lane `a` stands ahead of that of lane `b`."""
    key_a, key_b = load64(load64(lanes + 8 * a) + CURSOR.key), load64(load64(lanes + 8 * b) + CURSOR.key)
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


def merge(lanes: int, count: int, heap: int, rows: int, tables: int) -> int:
    """Makes rows of the records of `count` lanes, by key and lane, until the walk of one stops: its number.

    Or FULL, or ALL_DONE.  `lanes` are addresses of CURSOR.
    """
    size = 0
    for lane in range(count):
        cursor = load64(lanes + 8 * lane)
        if load64(cursor + CURSOR.done) == 0:
            store64(cursor + CURSOR.writer, -1)  # what is known of writers may have changed
            if advance(cursor, rows, tables, FIRST_KEY, False) != LATER:  # nothing is ahead of that: this is its key
                return lane
            store64(heap + 8 * size, lane)
            size += 1
    for at in range(size // 2 - 1, -1, -1):
        sift(lanes, heap, size, at)
    if size == 0:
        return ALL_DONE
    while True:
        lane = load64(heap)
        limit_key, inclusive = LAST_KEY, True
        if size > 1:
            second = load64(heap + 8)
            if size > 2 and goes_first(lanes, load64(heap + 16), second):
                second = load64(heap + 16)
            limit_key = load64(load64(lanes + 8 * second) + CURSOR.key)
            inclusive = lane < second
        why = advance(load64(lanes + 8 * lane), rows, tables, limit_key, inclusive)
        if why != LATER:
            return FULL if why == HERE_FULL else lane
        sift(lanes, heap, size, 0)
