"""Spans: the two ends, by `with`, by hand, and by number, where Python keeps it."""

from __future__ import annotations

from . import intrinsics as do
from .access import (
    BYTES_DATA,
    VAR_SIZE,
    Py_DecRef,
    boolean,
    copy_name,
    exception_type,
    held_by,
    integer,
    new_reference,
    py_none,
    py_true,
)
from .calls import PyObject_Vectorcall, attach_late, call_python, fits, is_on, needs_telling, refuse, stays_off, write
from .desk import end_record
from .entry import FAILED, PyLong_FromLong, begin_record, try_harder
from .intrinsics import likely, load32, load64, read64
from .lanes import CONTEXT, FULL, RECORD_BYTES, REFUSED, apart, copy_short, inlined, padded
from .places import (
    BEGIN_BYTES,
    EVENT,
    PLACE,
    PLACE_WORD_BYTES,
    U32_MASK,
    PyBytes_FromStringAndSize,
    own_place,
    pop,
    push,
)
from .values import FIELDS_MAX, arguments_buffer, arrange, convert_all, put_all, values_buffer

BODY_BYTES = 256  # for the name of an exception
NAME_BYTES = 200  # of an exception's type
NOT_ENCODED = -1
body_buffer = do.room(BODY_BYTES)


@inlined
def put_fields(cell: int, at: int, end: int, source: int, encoded: int) -> None:
    """The fields of a record that ends at `end`: so many bytes that are encoded, or what `convert_all` made."""
    if encoded >= 0:
        copy_short(at, source, encoded)
    else:
        put_all(cell, at, end, source)


@apart
def take_back(cell: int, span: int) -> None:
    """A span that was pushed does not begin: an exception is set.  Python has run, so its place may be another one."""
    do.cold()
    place = own_place(cell, 0)
    if place != 0:
        pop(cell, place, span, 0)


@apart
def begin_again(cell: int, lane: int, first: int, second: int, source: int, encoded: int, size: int) -> bool:
    """There was no room for a begin record: make one piece of it and try harder.  False with an exception set."""
    do.cold()
    context = load64(cell + EVENT.context)
    result = 0
    if lane == REFUSED:
        result = try_harder(context, 0, 0, 0, lane)
    elif lane == FULL:
        body = PyBytes_FromStringAndSize(0, size + 8)
        if body != 0:
            at = body + BYTES_DATA
            do.put64(at, first)
            do.put64(at + 8, second)
            put_fields(cell, at + BEGIN_BYTES, at + size, source, encoded)
            result = try_harder(context, load64(cell + EVENT.id), at, size, lane)
            Py_DecRef(body)
    if result != 0:
        Py_DecRef(result)
        return True
    take_back(cell, first & U32_MASK)
    return False


@inlined
def begin_span(cell: int, source: int, encoded: int, size: int, place: int) -> int:
    """A span begins, with fields of `size` bytes.  Its number; 0 with an exception set.

    The fields are encoded, `encoded` bytes, or if that is NOT_ENCODED what `convert_all` made.
    """
    parent = load64(place + PLACE.current) & U32_MASK
    span = push(cell, place, load64(cell + EVENT.id))
    first = span | (load32(place + PLACE.context) << 32)
    second = parent | (load32(place + PLACE.task) << 32)
    size += BEGIN_BYTES
    lane, position, target = begin_record(load64(cell + EVENT.context), load64(cell + EVENT.id), size)
    if not likely(lane > FULL):
        return span if begin_again(cell, lane, first, second, source, encoded, size) else 0
    at = target + RECORD_BYTES
    do.put64(at, first)
    do.put64(at + 8, second)
    put_fields(cell, at + BEGIN_BYTES, at + padded(size), source, encoded)
    end_record(lane, position, size)
    return span


@apart
def end_failed(cell: int, error: int, word: int, head: int) -> bool:
    """The record of an end with an exception, or its type, behind `head` bytes.  False with another exception set."""
    do.cold()
    kind, length = exception_type(error), 0
    body = body_buffer()
    do.put64(body, word)
    if kind != 0:  # whoever calls `__exit__` may pass anything
        length = copy_name(body + head, kind, NAME_BYTES)
    do.put64(body + head + length, 0)
    result = write(cell, body, head + length + 1)
    if result != 0:
        Py_DecRef(result)
    return result != 0


@apart
def end_again(cell: int, lane: int, word: int) -> bool:
    """There was no room for an end record.  False with an exception set."""
    do.cold()
    if lane == FAILED:
        return False
    body = body_buffer()
    do.put64(body, word)
    do.put64(body + PLACE_WORD_BYTES, 0)
    result = try_harder(load64(cell + EVENT.context), load64(cell + EVENT.id), body, PLACE_WORD_BYTES + 1, lane)
    if result != 0:
        Py_DecRef(result)
    return result != 0


@apart
def own_told_place(cell: int, spans: int) -> int:
    """As `own_place`, after the reader was told the user's context; 0: there is none, -1: an exception."""
    do.cold()
    result = PyObject_Vectorcall(read64(cell + EVENT.tell), arguments_buffer(), 0, 0)
    if result == 0:
        return -1
    Py_DecRef(result)
    return own_place(cell, spans)


@inlined
def end_span(cell: int, wanted: int, shift: int, kind: int) -> bool:
    """A span ends, with an exception or its type (0: none).  `cell` is that of its begin.  False: an exception."""
    place = own_place(cell, 0)
    if not likely(place != 0):
        return True
    span = pop(cell, place, wanted, shift)
    other = read64(cell + EVENT.other)
    context = load64(other + EVENT.context)
    if not likely(span != 0 and load32(load64(context + CONTEXT.recording)) != 0):
        return True
    if not likely(not needs_telling(other, place)):
        place = own_told_place(cell, 0)
        if place <= 0:
            return place == 0
        context = load64(other + EVENT.context)
    word = span | (load32(place + PLACE.context) << 32)
    if not likely(kind == 0):
        return end_failed(other, kind, word, PLACE_WORD_BYTES)
    size = PLACE_WORD_BYTES + 1
    lane, position, target = begin_record(context, load64(other + EVENT.id), size)
    if not likely(lane > FULL):
        return end_again(other, lane, word)
    do.put64(target + RECORD_BYTES, word)
    do.put64(target + RECORD_BYTES + PLACE_WORD_BYTES, 0)
    end_record(lane, position, size)
    return True


@apart
def begin_in_python(cell: int, args: int, count: int, names: int) -> int:
    """As `begin_with`, where Python has to look at it."""
    do.cold()
    result = call_python(cell, args, count, names)
    if result == 0:
        return -1
    Py_DecRef(result)
    return result == py_true()


@inlined
def begin_with(cell: int, args: int, count: int, names: int) -> int:
    """A span begins, if recording is on: 1; 0: it is not, or the arguments are wrong; -1: an exception."""
    if not likely(is_on(cell)):
        if likely(stays_off(cell)):
            return 0
        late = attach_late(cell)
        if late <= 0:
            if late == 0 and load64(cell + EVENT.strict) != 0:
                return begin_in_python(cell, args, count, names)
            return late
    values = args
    fields = read64(cell + EVENT.fields_count)
    converted = values_buffer()
    size = 0
    if fields + count != 0 or names != 0:
        if names != 0 and fields <= FIELDS_MAX:
            values = arguments_buffer()
            if not arrange(cell, args, count, names, values):
                return begin_in_python(cell, args, count, names)
        elif not likely(count == fields and fields <= FIELDS_MAX):
            return begin_in_python(cell, args, count, names)
        size = convert_all(cell, values, converted)
        if not likely(0 <= size <= load64(load64(cell + EVENT.context) + CONTEXT.limit) - BEGIN_BYTES):
            return begin_in_python(cell, args, count, names)
    place = own_place(cell, 1)
    if not likely(place != 0):
        return 0
    if needs_telling(cell, place):
        return begin_in_python(cell, args, count, names)
    return 1 if begin_span(cell, converted, NOT_ENCODED, size, place) != 0 else -1


def span_begin_call(self: int, args: int, count: int, names: int) -> int:
    """METH_FASTCALL | METH_KEYWORDS: `load.begin(3)`.  True if recording is on."""
    begun = begin_with(held_by(self), args, count, names)
    return boolean(begun != 0) if begun >= 0 else 0


def span_enter(self: int, _: int) -> int:
    """METH_NOARGS: `with load:`."""
    begun = begin_with(held_by(self), 0, 0, 0)
    return new_reference(self) if begun >= 0 else 0


def span_begin(self: int, body: int) -> int:
    """METH_O: a span begins; its number, 0 if nothing is recorded.

    `body` is a `bytes` of the caller's own: BEGIN_BYTES, which are written here, and the fields.
    """
    cell = held_by(self)
    place = own_place(cell, 1) if is_on(cell) else 0
    if place == 0:
        return PyLong_FromLong(0)
    at, size = body + BYTES_DATA, load64(body + VAR_SIZE)
    if not fits(cell, size):
        refuse(cell)
        return PyLong_FromLong(0)
    parent = load64(place + PLACE.current) & U32_MASK
    span = push(cell, place, load64(cell + EVENT.id))
    do.put64(at, span | (load32(place + PLACE.context) << 32))
    do.put64(at + 8, parent | (load32(place + PLACE.task) << 32))
    result = write(cell, at, size)
    if result == 0:
        take_back(cell, span)
        return 0
    Py_DecRef(result)
    return PyLong_FromLong(span)


def span_finish(self: int, args: int, count: int) -> int:
    """METH_FASTCALL: the span of a number ends, with an exception of a type, or None."""
    cell = held_by(self)
    number, kind = integer(load64(args)), load64(args + 8)
    if not end_span(cell, number, 0, kind if kind != py_none() else 0):
        return 0
    return boolean(False)


def span_exit(self: int, args: int, count: int, names: int) -> int:
    """METH_FASTCALL | METH_KEYWORDS: the end of `with load:`, and `load.end()`."""
    cell = held_by(self)
    if not likely(names == 0):
        return call_python(read64(cell + EVENT.other), args, count, names)
    kind = load64(args) if count > 0 else 0
    if kind == py_none():
        kind = 0
    if not likely(kind == 0):
        kind = exception_type(kind)
    # what began through another object of this class is not counted here
    if (load64(cell + EVENT.open) != 0 or is_on(cell)) and not end_span(cell, load64(cell + EVENT.id), 32, kind):
        return 0
    if kind == 0 and count > 0 and not likely(load64(args) == py_none()):
        return call_python(read64(cell + EVENT.other), args, 1, 0)
    return boolean(False)
