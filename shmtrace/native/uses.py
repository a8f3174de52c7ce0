"""`span(3)`: an object that is a context manager and a decorator, of a type made of this code (native/types.py).

The interpreter finds the object itself as its `__enter__` and its `__exit__`, so that it makes no bound methods, and
calls it: with nothing to enter, with three arguments to exit.
"""

from __future__ import annotations

from . import intrinsics as do
from . import tables
from .access import (
    BYTES_DATA,
    COUNT_BITS,
    HAS_GIL,
    VAR_BYTES,
    VAR_SIZE,
    Py_DecRef,
    boolean,
    drop_reference,
    held_by,
    new_reference,
    py_none,
    set_count,
    type_of,
)
from .calls import PyObject_Vectorcall, attach_late, fits, is_on, needs_telling, stays_off
from .intrinsics import frozen, likely, load64, read64, store64
from .lanes import CONTEXT, apart, inlined, padded
from .places import BEGIN_BYTES, EVENT, own_place
from .spans import begin_span, end_span, own_told_place
from .values import FIELDS_MAX, VALUE_BYTES, arguments_buffer, arrange, convert_all, put_all, put_few, values_buffer

USE, USES = frozen(tables.USE), frozen(tables.USES)
USE_NOTHING, USE_BYTES, USE_ROOM, USES_MOST = tables.USE_NOTHING, tables.USE_BYTES, tables.USE_ROOM, tables.USES_MOST
FIELDS_AT = VAR_BYTES + USE_BYTES
COUNT_MASK = (1 << 63) - 1  # the highest bit says that the caller lends us a word ahead of the arguments
NewVar = do.external("_PyObject_NewVar", 2)
PyObject_Free = do.external("PyObject_Free", 1)


@inlined
def cell_of(use: int) -> int:
    """The cell of a use's span."""
    return held_by(load64(use + VAR_BYTES + USE.span))


@apart
def make_use(uses: int, size: int) -> int:
    """A new object; 0 with an exception set."""
    do.cold()
    use = NewVar(read64(uses + USES.type), max(padded(size), USE_ROOM))
    if use != 0:
        store64(use + VAR_BYTES + USE.call, read64(uses + USES.call))
    return use


@inlined
def new_use(span: int, cell: int, size: int) -> int:
    """A use of a span with room for so many bytes of fields; 0 with an exception set."""
    uses = read64(cell + EVENT.uses)
    use = load64(uses + USES.free)
    if COUNT_BITS != 0 and likely(use != 0) and size <= USE_ROOM:
        store64(uses + USES.free, load64(use + VAR_BYTES + USE.span))
        store64(uses + USES.count, load64(uses + USES.count) - 1)
        set_count(use, 1)
    else:
        use = make_use(uses, size)
        if use == 0:
            return 0
    store64(use + VAR_SIZE, size)
    store64(use + VAR_BYTES + USE.span, new_reference(span))
    store64(use + VAR_BYTES + USE.depth, 0)
    store64(use + VAR_BYTES + USE.number, 0)
    return use


@apart
def call_at_length(span: int, args: int, count: int, names: int) -> int:
    """`load(3)`, where there are keywords or many fields, or Python must look at them."""
    do.cold()
    cell = held_by(span)
    values = args
    fields = read64(cell + EVENT.fields_count)
    is_clear = fields <= FIELDS_MAX
    if is_clear and names != 0:
        values = arguments_buffer()
        is_clear = arrange(cell, args, count, names, values)
    elif count != fields:
        is_clear = False
    converted = values_buffer()
    size = -1
    if is_clear:
        size = convert_all(cell, values, converted)
    if not 0 <= size <= load64(load64(cell + EVENT.context) + CONTEXT.limit) - BEGIN_BYTES:
        return PyObject_Vectorcall(read64(cell + EVENT.slow), args, count, names)
    use = new_use(span, cell, size)
    if use != 0:
        put_all(cell, use + FIELDS_AT, use + FIELDS_AT + padded(size), converted)
    return use


def span_call(self: int, args: int, flags: int, names: int) -> int:
    """`load(3)`: a vectorcallfunc, and METH_FASTCALL | METH_KEYWORDS."""
    count = flags & COUNT_MASK
    cell = held_by(self)
    if likely(names == 0 and count == read64(cell + EVENT.fields_count)):
        use = new_use(self, cell, 0)
        if not likely(use != 0):
            return 0
        fields = use + FIELDS_AT
        size = put_few(cell, args, fields, fields + USE_ROOM - VALUE_BYTES)
        if likely(size >= 0):
            store64(use + VAR_SIZE, size)
            return use
        Py_DecRef(use)
    return call_at_length(self, args, count, names)


def span_use(self: int, body: int) -> int:
    """METH_O: the same, of fields that Python has encoded."""
    size = load64(body + VAR_SIZE)
    use = new_use(self, held_by(self), size)
    if use != 0:
        do.copy(use + FIELDS_AT, body + BYTES_DATA, size)
    return use


@apart
def refuse_use(cell: int, use: int) -> int:
    """Its fields were encoded for a channel that took longer ones.  As `begin_use`."""
    do.cold()
    arguments = arguments_buffer()
    store64(arguments, use)
    result = PyObject_Vectorcall(read64(cell + EVENT.long), arguments, 1, 0)
    if result == 0:
        return -1
    Py_DecRef(result)
    return 0


@apart
def begin_use(cell: int, use: int) -> int:
    """A span begins, with the fields of a use; its number, 0: it is not recorded, -1: an exception."""
    do.framed()
    place = own_place(cell, 1)
    if likely(place != 0) and not likely(not needs_telling(cell, place)):
        place = own_told_place(cell, 1)
    if not likely(place > 0):
        return place
    size = load64(use + VAR_SIZE)
    if not likely(fits(cell, size + BEGIN_BYTES)):
        return refuse_use(cell, use)
    span = begin_span(cell, use + FIELDS_AT, size, size, place)
    return span if likely(span != 0) else -1


@inlined
def enter_use(use: int) -> int:
    """`with load(3):`."""
    cell = cell_of(use)
    number = 0
    recorded = 1 if is_on(cell) else 0
    if recorded == 0 and not likely(stays_off(cell)):
        recorded = attach_late(cell)
    if recorded > 0:
        recorded = number = begin_use(cell, use)
    if not likely(recorded >= 0):
        return 0
    depth = load64(use + VAR_BYTES + USE.depth)
    if number == 0:
        number = USE_NOTHING
    store64(use + VAR_BYTES + USE.number, number if depth == 0 and HAS_GIL else 0)
    store64(use + VAR_BYTES + USE.depth, depth + 1)
    return new_reference(use)


@apart
def end_use(use: int, number: int, kind: int) -> bool:
    """What began ends, with an exception, its type, or None.  False: an exception."""
    do.framed()
    cell = cell_of(use)
    if kind == py_none():
        kind = 0
    if likely(number != 0):
        return end_span(cell, number, 0, kind)
    return (load64(cell + EVENT.open) == 0 and not is_on(cell)) or end_span(cell, load64(cell + EVENT.id), 32, kind)


@inlined
def exit_use(use: int, kind: int) -> int:
    """The end of the block."""
    depth, number = load64(use + VAR_BYTES + USE.depth), load64(use + VAR_BYTES + USE.number)
    if depth > 0:
        store64(use + VAR_BYTES + USE.depth, depth - 1)
        if number != USE_NOTHING and not likely(end_use(use, number, kind)):
            return 0
    return boolean(False)


@apart
def decorate(use: int, args: int, count: int) -> int:
    """`@load(3)`; what is no function is refused by Python."""
    arguments = arguments_buffer()
    store64(arguments, use)
    given = min(count, FIELDS_MAX - 1)
    for number in range(given):
        store64(arguments + 8 * (number + 1), load64(args + 8 * number))
    return PyObject_Vectorcall(read64(cell_of(use) + EVENT.decorate), arguments, 1 + given, 0)


def use_call(use: int, args: int, flags: int, names: int) -> int:
    """A use is called: its vectorcallfunc."""
    count = flags & COUNT_MASK
    if likely(names == 0):
        if count == 0:
            return enter_use(use)
        if likely(count == 3):
            return exit_use(use, load64(args))
    return decorate(use, args, count)


@apart
def free_use(use: int) -> None:
    """Its memory is given back."""
    do.cold()
    kind = type_of(use)
    PyObject_Free(use)
    Py_DecRef(kind)


def use_end(use: int) -> int:
    """A use is gone: its destructor."""
    span = load64(use + VAR_BYTES + USE.span)
    uses = read64(held_by(span) + EVENT.uses)
    count = load64(uses + USES.count)
    if COUNT_BITS != 0 and likely(load64(use + VAR_SIZE) <= USE_ROOM and count < USES_MOST):
        store64(use + VAR_BYTES + USE.span, load64(uses + USES.free))
        store64(uses + USES.free, use)
        store64(uses + USES.count, count + 1)
    else:
        free_use(use)
    drop_reference(span)
    return 0


def use_get(descriptor: int, use: int, _type: int) -> int:
    """What `__enter__` and `__exit__` are: the object itself.  A descrgetfunc."""
    return new_reference(use if use != 0 else descriptor)
