"""Tracepoints and counters, and the list of entry points of this unit, as `entry` has that of a blob.

A method's `self` is the Tracepoint, Counter, Span or Log that the user made, whose first slot holds its cell
(tables.EVENT).  What a call costs is: two switches (calls.py), a look at each argument (values.py), the place, which is
the span that is open (places.py), and a record.

The encoder goes through a table of fields instead of being compiled for each shape: a process that has never seen a
shape would have to wait for a compiler.
"""

from __future__ import annotations

from . import intrinsics as do
from .access import BYTES_DATA, VAR_SIZE, boolean, held_by
from .calls import attach_late, call_python, fits, is_on, needs_telling, refuse, stays_off, write
from .desk import end_record
from .entry import begin_record, try_harder
from .intrinsics import likely, load64, read64
from .lanes import CONTEXT, FULL, RECORD_BYTES, REFUSED, padded
from .logs import log_call, log_needs_telling, log_told
from .places import EVENT, PLACE_WORD_BYTES, PyThreadState_Get, find_place, place_word
from .spans import (
    span_begin,
    span_begin_call,
    span_enter,
    span_exit,
    span_finish,
)
from .uses import span_call, span_use, use_call, use_end, use_get
from .values import FIELDS_MAX, arguments_buffer, arrange, convert_all, put_all, values_buffer


def tracepoint_call(self: int, args: int, count: int, names: int) -> int:
    """METH_FASTCALL | METH_KEYWORDS: `request(200, latency=0.013, path="/index")`, `depth(17)`."""
    cell = held_by(self)
    if not likely(is_on(cell)):
        if likely(stays_off(cell)):
            return boolean(False)
        late = attach_late(cell)
        if late < 0:
            return 0
        if late == 0:
            return boolean(False) if load64(cell + EVENT.strict) == 0 else call_python(cell, args, count, names)
    values = args
    fields = read64(cell + EVENT.fields_count)
    if names != 0 and fields <= FIELDS_MAX:
        values = arguments_buffer()
        if not arrange(cell, args, count, names, values):
            return call_python(cell, args, count, names)
    elif not likely(count == fields and fields <= FIELDS_MAX):
        return call_python(cell, args, count, names)
    converted = values_buffer()
    size = convert_all(cell, values, converted)
    context = load64(cell + EVENT.context)
    size += PLACE_WORD_BYTES
    if not likely(PLACE_WORD_BYTES <= size <= load64(context + CONTEXT.limit)):
        return call_python(cell, args, count, names)
    place = find_place(cell, PyThreadState_Get())
    word = 0
    if place != 0:
        word = place_word(place)
        if needs_telling(cell, place):
            return call_python(cell, args, count, names)
    lane, position, target = begin_record(context, load64(cell + EVENT.id), size)
    if not likely(lane > FULL):
        if lane == FULL:  # Python makes one piece of it, which can be tried again
            return call_python(cell, args, count, names)
        return try_harder(context, 0, 0, 0, lane) if lane == REFUSED else 0
    at = target + RECORD_BYTES
    do.put64(at, word)
    put_all(cell, at + PLACE_WORD_BYTES, at + padded(size), converted)
    end_record(lane, position, size)
    return boolean(True)


def body_write(self: int, body: int) -> int:
    """METH_O: a record of this class with a body, `bytes`, that Python made."""
    cell = held_by(self)
    size = load64(body + VAR_SIZE)
    if not is_on(cell):
        return boolean(False)
    if not fits(cell, size):
        refuse(cell)
        return boolean(False)
    return write(cell, body + BYTES_DATA, size)


def count_bad(self: int, _: int) -> int:
    """METH_NOARGS: a call was refused for its arguments."""
    refuse(held_by(self))
    return boolean(True)


TYPED_ENTRIES = (
    tracepoint_call, body_write, count_bad, span_enter, span_exit, span_begin_call, span_begin,
    span_finish, log_call, log_needs_telling, log_told, span_call, span_use, use_call, use_end, use_get,
)  # fmt: skip
