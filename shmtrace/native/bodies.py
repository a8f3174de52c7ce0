"""Bodies of rows, and the fields in them, put behind each other in jitted code."""

from __future__ import annotations

from . import primitives as do
from . import rows as shared
from .hashed import load_i32
from .primitives import get64, inlined, load32, load64, store32, store64

END, TEXT, COUNTED = shared.END, shared.TEXT, shared.COUNTED
WIDE = shared.WIDE


@inlined
def copy_wide(target: int, source: int, size: int, end: int) -> None:
    """Copy; the target has room for WIDE bytes more.  `end`: nothing behind it may be looked at."""
    if source + size + WIDE <= end and size <= 4 * WIDE:
        do.move16(target, source)
        do.move16(target + 16, source + 16)
        at = WIDE
        while at < size:
            do.move16(target + at, source + at)
            do.move16(target + at + 16, source + at + 16)
            at += WIDE
    else:
        do.copy(target, source, size)


def tally(indices: int, count: int, found: int) -> int:
    """Counts each of the indices: i32, -1 or more.  `found` are i64, of which the first is of index -1."""
    for number in range(count):
        place = found + 8 + 8 * load_i32(indices + 4 * number)
        store64(place, load64(place) + 1)
    return 0


def spread(indices: int, count: int, places: int, target: int) -> int:
    """Puts the number of each of the indices at the index' place in the target, i64, which moves on.  See `tally`."""
    for number in range(count):
        place = places + 8 + 8 * load_i32(indices + 4 * number)
        at = load64(place)
        store64(target + 8 * at, number)
        store64(place, at + 1)
    return 0


def look_up(values: int, size: int, indices: int, count: int, target: int) -> int:
    """The value of each of the indices: i32, -1 or more.  Values of 1, 4 or 8 bytes; the first is of index -1."""
    values += size
    if size == 8:
        for number in range(count):
            store64(target + 8 * number, load64(values + 8 * load_i32(indices + 4 * number)))
    elif size == 4:
        for number in range(count):
            store32(target + 4 * number, load32(values + 4 * load_i32(indices + 4 * number)))
    else:
        for number in range(count):
            do.store8(target + number, do.load8(values + load_i32(indices + 4 * number)))
    return 0


def gather(data: int, end: int, starts: int, picked: int, count: int, target: int, size: int) -> int:
    """Puts `size` bytes each from the bodies of rows `picked` behind each other; there is room for WIDE more.

    The bodies are in [data, end).
    """
    for number in range(count):
        copy_wide(target, data + load32(starts + 4 * load64(picked + 8 * number)), size, end)
        target += size
    return 0


def split(data: int, starts: int, picked: int, count: int, ahead: int, operations: int, target: int) -> int:
    """Where each field of rows `picked` of a class begins and ends in `data`: a pair of i64 an operation, a row.

    The first stands behind `ahead` bytes.  The bodies have been found to fit.
    """
    for number in range(count):
        at = load32(starts + 4 * load64(picked + 8 * number)) + ahead
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
                zero = 8
                while zero == 8:  # a word may reach beyond the last body, behind which there is room
                    zero = do.first_zero(get64(data + at))
                    at += zero
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
