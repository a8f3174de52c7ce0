"""What msgpack bytes say, as far as logs usually go, in jitted code.  Nothing behind `end` is believed."""

from __future__ import annotations

from .. import wire
from . import primitives as do
from . import rows as shared
from .primitives import apart, get64, inlined

LOG_NAME, LOG_SPAN, LOG_CONTEXT, LOG_LEVEL = wire.LOG_NAME, wire.LOG_SPAN, wire.LOG_CONTEXT, wire.LOG_LEVEL
LEVEL_0, LEVEL_1, LEVEL_2, LEVEL_3 = shared.LEVEL_STEPS
INFO = 20


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
