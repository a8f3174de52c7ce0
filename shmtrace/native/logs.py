"""Logs: a msgpack map of the common types.  Python packs the others."""

from __future__ import annotations

from .. import wire
from . import intrinsics as do
from .access import (
    NO_VALUE,
    VAR_SIZE,
    boolean,
    double,
    float_type,
    held_by,
    integer,
    integer_type,
    item_of,
    pointer_out,
    py_false,
    py_none,
    py_true,
    text_of,
    text_type,
    type_of,
)
from .calls import attach_late, call_python, is_on, needs_telling, page_here, reader_here, stays_off
from .entry import PyLong_FromLong, emit
from .intrinsics import likely, load64, read64, store64
from .lanes import CONTEXT, MODE_OVERWRITE, copy_short, inlined
from .places import EVENT, PLACE, U32_MASK, PyThreadState_Get, find_place, place_word

LOG_BYTES = 512  # longer ones are packed by Python
LOG_NAME, LOG_SPAN, LOG_CONTEXT, ID_LOG = wire.LOG_NAME, wire.LOG_SPAN, wire.LOG_CONTEXT, wire.ID_LOG
log_buffer = do.room(LOG_BYTES + 32)  # the numbers need not look


@inlined
def pack_text(at: int, end: int, value: int) -> int:
    """A str; the address behind it, 0 if Python must do it."""
    text, size = text_of(value, pointer_out())
    if not likely(text != 0 and at + size + 3 <= end):
        return 0
    if likely(size < 32):
        do.store8(at, 0xA0 | size)
        at += 1
    else:
        do.store8(at, 0xDA)
        do.store8(at + 1, size >> 8)
        do.store8(at + 2, size)
        at += 3
    copy_short(at, text, size)
    return at + size


@inlined
def pack_number(at: int, number: int) -> int:
    """An integer; the address behind it."""
    if -32 <= number < 128:
        do.store8(at, number)
        return at + 1
    do.store8(at, 0xD3)
    do.put64(at + 1, do.swapped(number))
    return at + 9


@inlined
def pack_value(at: int, end: int, value: int) -> int:
    """A value of a common type; the address behind it, 0 if Python must do it."""
    kind = type_of(value)
    if kind == text_type():
        return pack_text(at, end, value)
    if not likely(at + 9 <= end):
        return 0
    if kind == integer_type():
        number = integer(value)
        return pack_number(at, number) if number != NO_VALUE else 0
    if kind == float_type():
        do.store8(at, 0xCB)
        do.put64(at + 1, do.swapped(double(value)))
        return at + 9
    if value == py_none():
        do.store8(at, 0xC0)
        return at + 1
    if value == py_true() or value == py_false():
        do.store8(at, 0xC2 | (value == py_true()))
        return at + 1
    return 0


@inlined
def pack_log(args: int, count: int, names: int, word: int, at: int, end: int) -> int:
    """The map of a log; the address behind it, 0 if Python must do it."""
    if count != 1 or type_of(load64(args)) != text_type():
        return 0
    fields = load64(names + VAR_SIZE) if names != 0 else 0
    span, context = word & U32_MASK, (word >> 32) & U32_MASK
    entries = fields + 1 + (span != 0) + (context != 0)
    if not likely(entries < 16):
        return 0
    do.store8(at, 0x80 | entries)
    do.store8(at + 1, LOG_NAME)
    at = pack_text(at + 2, end, load64(args))
    if at != 0 and span != 0:
        do.store8(at, LOG_SPAN)
        at = pack_number(at + 1, span)
    if at != 0 and context != 0:
        do.store8(at, LOG_CONTEXT)
        at = pack_number(at + 1, context)
    for number in range(fields):
        if at == 0:
            return 0
        at = pack_text(at, end, item_of(names, number))
        if at != 0:
            at = pack_value(at, end, load64(args + 8 + 8 * number))
    return at


def log_needs_telling(self: int, _: int) -> int:
    """METH_NOARGS: whom the user's context is to be told, for `log_told`; 0: it is told already."""
    cell = held_by(self)
    place = find_place(cell, PyThreadState_Get())
    needed = place != 0 and needs_telling(cell, place)
    return PyLong_FromLong(reader_here(cell, load64(cell + EVENT.context)) if needed else 0)


def log_told(self: int, whom: int) -> int:
    """METH_O: it was told just now.  Another reader may have come meanwhile."""
    cell = held_by(self)
    place = find_place(cell, PyThreadState_Get())
    if place != 0:
        context = load64(cell + EVENT.context)
        store64(place + PLACE.told, integer(whom))
        store64(place + PLACE.page, page_here(context) if read64(context + CONTEXT.mode) == MODE_OVERWRITE else 0)
    return boolean(True)


def log_call(self: int, args: int, count: int, names: int) -> int:
    """METH_FASTCALL | METH_KEYWORDS: `channel.log("cache miss", key="a1", tried=3)`."""
    cell = held_by(self)
    if not likely(is_on(cell)):
        if likely(stays_off(cell)):
            return boolean(False)
        late = attach_late(cell)
        if late < 0:
            return 0
        if late == 0:
            return boolean(False) if load64(cell + EVENT.strict) == 0 else call_python(cell, args, count, names)
    place = find_place(cell, PyThreadState_Get())
    word = 0
    if place != 0:
        word = place_word(place)
        if needs_telling(cell, place):
            return call_python(cell, args, count, names)
    body = log_buffer()
    end = pack_log(args, count, names, word, body, body + LOG_BYTES)
    if not likely(end != 0):
        return call_python(cell, args, count, names)
    return emit(load64(cell + EVENT.context), ID_LOG, body, end - body)
