"""Tracepoints, spans and counters: the entry points of their builtins, as `entry` has that of a blob.

A method's `self` is the Tracepoint, Counter or Span that the user made, whose first slot holds its cell
(layout.EVENT).  What a call costs is: two switches, the place (which span is open), a look at each argument, and a
record.

The encoder goes through a table of fields instead of being compiled for each shape: a process that has never seen a
shape would have to wait for a compiler.  What it does not understand (an array, an
Enum's member, any mistake) goes to Python, `refuse`, which encodes it or says what is wrong.

No Python object is touched while a lane is taken: the arguments are numbers, or addresses and lengths of bytes, before.
"""

from __future__ import annotations

import sys

from .. import encoding, layout, wire
from . import intrinsics as do
from .entry import (
    BYTES_DATA,
    BYTES_SIZE,
    OBJECT_SLOT,
    OBJECT_TYPE,
    Py_DecRef,
    Py_IncRef,
    PyLong_FromLong,
    PyObject_CallOneArg,
    boolean,
    bytes_type,
    me_of,
    try_harder,
)
from .intrinsics import frozen, likely, load32, load64, read64, store32, store64
from .lanes import (
    BLOCK,
    CONTEXT,
    CONTROL,
    CPU,
    FULL,
    HERE,
    LINE_BYTES,
    RECORD_BYTES,
    RECORDED,
    address_of_position,
    apart,
    block_here,
    commit,
    copy_short,
    current_cpu,
    give_back,
    inlined,
    padded,
    put_header,
    record,
    take,
)

EVENT, PLACE, THREADS = frozen(layout.EVENT), frozen(layout.PLACE), frozen(layout.THREADS)
EVENT_BYTES, FIELD_BYTES, FIELDS_MAX = layout.EVENT_BYTES, layout.FIELD_BYTES, layout.FIELDS_MAX
PLACE_BYTES, PLACE_SPANS, SPANS_AT_ONCE = layout.PLACE_BYTES, layout.PLACE_SPANS, layout.SPANS_AT_ONCE
CODE_SIGNED, CODE_F32, CODE_F64 = encoding.CODE_SIGNED, encoding.CODE_F32, encoding.CODE_F64
CODE_BOOL, CODE_STR, CODE_BYTES = encoding.CODE_BOOL, encoding.CODE_STR, encoding.CODE_BYTES
WIDTH_SHIFT, LONGEST = encoding.WIDTH_SHIFT, encoding.LONGEST
U32_MASK = 0xFFFF_FFFF
VALUE_BYTES = 16  # of a converted value: the number or an address, and a length
BODY_BYTES = 256  # for the name of an exception
PLACE_WORD_BYTES, BEGIN_BYTES = 4 * len(wire.KINDS["event"]), 4 * len(wire.KINDS["begin"])
NAME_BYTES = 200  # of an exception's type
HAS_GIL = "t" not in sys.abiflags
COMPACT_INTEGERS = sys.version_info >= (3, 12)
INTEGER_HEAD = object.__basicsize__  # ob_size; from 3.12 on lv_tag
INTEGER_DIGIT = INTEGER_HEAD + 8
FLOAT_VALUE = object.__basicsize__
TYPE_NAME = object.__basicsize__ + 8  # tp_name, behind a PyVarObject
NO_VALUE = -1 << 63
LOG_BYTES = 512  # longer ones are packed by Python
LOG_NAME, LOG_SPAN, LOG_CONTEXT, ID_LOG = wire.LOG_NAME, wire.LOG_SPAN, wire.LOG_CONTEXT, wire.ID_LOG
EACH_BYTE = 0x0101_0101_0101_0101
KIND_MASK = (1 << WIDTH_SHIFT) - 1

integer_type = do.address_of("PyLong_Type")
float_type = do.address_of("PyFloat_Type")
text_type = do.address_of("PyUnicode_Type")
py_true = do.address_of("_Py_TrueStruct")
py_false = do.address_of("_Py_FalseStruct")
py_none = do.address_of("_Py_NoneStruct")
PyLong_AsLongLong = do.external("PyLong_AsLongLong", 1)
PyFloat_AsDouble = do.external_double("PyFloat_AsDouble")
PyUnicode_AsUTF8AndSize = do.external("PyUnicode_AsUTF8AndSize", 2)
PyErr_Occurred = do.external("PyErr_Occurred", 0)
PyErr_Clear = do.external("PyErr_Clear", 0)
PyContextVar_Get = do.external("PyContextVar_Get", 3, result_bits=32)
PyContextVar_Set = do.external("PyContextVar_Set", 2)
PyThreadState_Get = do.external("PyThreadState_Get", 0)
PyThreadState_GetID = do.external("PyThreadState_GetID", 1)
PyBytes_FromStringAndSize = do.external("PyBytes_FromStringAndSize", 2)
PyObject_Vectorcall = do.external("PyObject_Vectorcall", 4)
strlen = do.external("strlen", 1)
body_buffer = do.room(BODY_BYTES)
log_buffer = do.room(LOG_BYTES + 32)  # the numbers need not look
arguments_buffer = do.room(8 * FIELDS_MAX)
values_buffer = do.room(VALUE_BYTES * FIELDS_MAX)
pointer_out = do.scratch(8)


# -- the place


@apart
def look_up_place(cell: int, state: int, here: int) -> int:
    """Address of this task's PLACE, 0 if it has none, asked of the interpreter; and kept in HERE, if there is one.

    Its context keeps it, so it is there as long as that is the current one and the variable is not set.
    """
    threads = read64(cell + EVENT.threads)
    out = pointer_out()
    PyContextVar_Get(read64(cell + EVENT.variable), 0, out)
    found = load64(out)
    if found != 0:
        Py_DecRef(found)
        found += BYTES_DATA
    if here != 0:
        remember(threads, here, state, found)
    return found


@inlined
def remember(threads: int, here: int, state: int, place: int) -> None:
    """This is the PLACE, until something changes."""
    store64(here + HERE.place, place)
    store64(here + HERE.state, state)
    store64(here + HERE.version, load64(state + read64(threads + THREADS.version_at)))
    store64(here + HERE.changes, load64(threads + THREADS.changes))
    store64(here + HERE.identity, PyThreadState_GetID(state))


@inlined
def here_of(cell: int) -> int:
    """Address of this thread's HERE; 0: it has no block yet, or a change of context could not be noticed."""
    threads = read64(cell + EVENT.threads)
    context = load64(cell + EVENT.context)
    if not likely(read64(context + CONTEXT.blocks) != 0 and read64(threads + THREADS.version_at) != 0):
        return 0  # the channel is closed, for one
    block = block_here(context)
    return block + BLOCK.here if block != 0 else 0


@inlined
def find_place(cell: int, state: int) -> int:
    """Address of this task's PLACE, 0 if it has none."""
    threads = read64(cell + EVENT.threads)
    here = here_of(cell)
    if likely(
        here != 0
        and load64(here + HERE.state) == state
        and load64(here + HERE.version) == load64(state + read64(threads + THREADS.version_at))
        and load64(here + HERE.changes) == load64(threads + THREADS.changes)
        and load64(here + HERE.identity) == PyThreadState_GetID(state)
    ):
        return load64(here + HERE.place)
    return look_up_place(cell, state, here)


@inlined
def place_word(place: int) -> int:
    """`span` and `context` of a record, as it stands ahead of its fields."""
    return (load64(place + PLACE.current) & U32_MASK) | (load32(place + PLACE.context) << 32)


@apart
def renew_place(cell: int, before: int, context: int, state: int) -> int:
    """A new PLACE for this task, set; its address, 0 if there is no memory.

    A task that has none of its own begins where the one that it was made by was; one that may have been copied to
    another task meanwhile goes on in a copy, so that the other one keeps what was true when it was made.
    """
    threads = read64(cell + EVENT.threads)
    context_at = read64(threads + THREADS.context_at)
    is_mine = before != 0 and (load64(before + PLACE.whose) == context or context_at == 0)
    spans = PLACE_SPANS
    depth = load64(before + PLACE.depth) if is_mine else 0
    if depth >= spans:
        spans = 2 * depth
    new = PyBytes_FromStringAndSize(0, PLACE_BYTES + 8 * spans)
    if new == 0:
        PyErr_Clear()
        return 0
    place = new + BYTES_DATA
    if is_mine:
        do.copy(place, before, PLACE_BYTES + 8 * depth)
    else:
        do.clear(place, PLACE_BYTES)
        store32(place + PLACE.task, do.add64(threads + THREADS.tasks, 1) + 1)
        if before != 0:
            store64(place + PLACE.current, load64(before + PLACE.current))
            store32(place + PLACE.context, load32(before + PLACE.context))
            store64(place + PLACE.told, load64(before + PLACE.told))
    token = PyContextVar_Set(read64(cell + EVENT.variable), new)
    Py_DecRef(new)  # the context has it
    if token == 0:
        PyErr_Clear()
        return 0
    Py_DecRef(token)
    store64(place + PLACE.whose, load64(state + context_at) if context_at != 0 else 0)  # it may have been made just now
    here = here_of(cell)
    if here != 0:
        remember(threads, here, state, place)
    return place


@inlined
def own_place(cell: int, spans: int) -> int:
    """The PLACE of this task, which may be changed, with room for so many more spans; 0: there is no memory."""
    threads = read64(cell + EVENT.threads)
    state = PyThreadState_Get()
    place = find_place(cell, state)
    context_at = read64(threads + THREADS.context_at)
    context = load64(state + context_at) if context_at != 0 else 0
    if likely(place != 0 and context != 0 and load64(place + PLACE.whose) == context):
        room = (load64(place - BYTES_DATA + BYTES_SIZE) - PLACE_BYTES) >> 3
        is_entered = load32(context + read64(threads + THREADS.entered_at)) != 0
        if likely(not is_entered and load64(place + PLACE.depth) + spans <= room):
            return place
    return renew_place(cell, place, context, state)


@apart
def more_numbers(threads: int, place: int) -> int:
    """The first of the next numbers of spans for this task."""
    first = (do.add64(threads + THREADS.spans, SPANS_AT_ONCE) + 1) & U32_MASK
    store32(place + PLACE.end, first + SPANS_AT_ONCE)
    return first


@inlined
def count_open(cell: int, more: int) -> None:
    """Spans of this class that are open: where there is a GIL, this thread holds it."""
    if HAS_GIL:
        store64(cell + EVENT.open, load64(cell + EVENT.open) + more)
    else:
        do.add64(cell + EVENT.open, more)


@inlined
def push(cell: int, place: int, identifier: int) -> int:
    """A span begins here: its number."""
    span = load32(place + PLACE.next)
    if not likely(span != load32(place + PLACE.end)):
        span = more_numbers(read64(cell + EVENT.threads), place)
    store32(place + PLACE.next, span + 1)
    depth = load64(place + PLACE.depth)
    store64(place + PLACE_BYTES + 8 * depth, load64(place + PLACE.current))
    store64(place + PLACE.depth, depth + 1)
    store64(place + PLACE.current, span | (identifier << 32))
    count_open(cell, 1)
    return span


@apart
def pull(place: int, wanted: int, shift: int) -> int:
    """The innermost span that is not the current one and matches leaves the place; its number, or 0."""
    at = place + PLACE_BYTES
    number = load64(place + PLACE.depth) - 1
    while number >= 1:  # what lies outermost is the span that the task was made in, which is not its own
        found = load64(at + 8 * number)
        if (found >> shift) & U32_MASK == wanted:
            last = load64(place + PLACE.depth) - 1
            while number < last:
                store64(at + 8 * number, load64(at + 8 * (number + 1)))
                number += 1
            store64(place + PLACE.depth, last)
            return found & U32_MASK
        number -= 1
    return 0


@inlined
def pop(cell: int, place: int, wanted: int, shift: int) -> int:
    """A span ends: the innermost one of this class (shift 32), or of this number (shift 0); its number, 0: none."""
    depth = load64(place + PLACE.depth)
    current = load64(place + PLACE.current)
    span = 0
    if likely(depth > 0 and (current >> shift) & U32_MASK == wanted):
        store64(place + PLACE.current, load64(place + PLACE_BYTES + 8 * (depth - 1)))
        store64(place + PLACE.depth, depth - 1)
        span = current & U32_MASK
    else:
        span = pull(place, wanted, shift)
        if span == 0 and shift == 0:
            span = wanted  # of a generator that went on in another task
    if likely(span != 0):
        count_open(cell, -1)
    return span


# -- arguments as bytes


@apart
def any_integer(value: int) -> int:
    """An object that is like an integer; NO_VALUE if it is not, or too great."""
    number = PyLong_AsLongLong(value)
    if number == -1 and PyErr_Occurred() != 0:
        PyErr_Clear()
        return NO_VALUE
    return number


@inlined
def integer(value: int) -> int:
    """The number of an object; NO_VALUE if the code cannot tell."""
    if likely(load64(value + OBJECT_TYPE) == integer_type()):
        head = load64(value + INTEGER_HEAD)
        if COMPACT_INTEGERS:
            if likely(head < 16):
                return load32(value + INTEGER_DIGIT) * (1 - (head & 3))
        elif likely(-1 <= head <= 1):
            return load32(value + INTEGER_DIGIT) * head if head != 0 else 0
    return any_integer(value)


@apart
def any_double(value: int) -> int:
    """The bits of an object that is like a number; NO_VALUE (which is -0.0) if it is not."""
    bits = PyFloat_AsDouble(value)
    if PyErr_Occurred() != 0:
        PyErr_Clear()
        return NO_VALUE
    return bits


@inlined
def double(value: int) -> int:
    """The same, without a call where it is a float."""
    if likely(load64(value + OBJECT_TYPE) == float_type()):
        return load64(value + FLOAT_VALUE)
    return any_double(value)


@inlined
def has_nul(text: int, size: int) -> bool:
    """Whether a NUL is among the bytes of a text, which has one behind them and lies in a block of 16 bytes or more."""
    if size > 16:
        return strlen(text) != size
    first = do.get64(text)
    last = first
    if size >= 8:
        last = do.get64(text + size - 8)
    else:
        first |= -1 << (8 * size)
        last = first
    found = ((first - EACH_BYTE) & ~first) | ((last - EACH_BYTE) & ~last)
    return found & (EACH_BYTE << 7) != 0


@inlined
def convert(code: int, value: int, out: int) -> int:
    """One value, as a number (or address) and a length at `out`: its bytes in a record, or -1 if Python must do it."""
    kind, width = code & KIND_MASK, code >> WIDTH_SHIFT
    if kind <= CODE_SIGNED:
        number = integer(value)
        rest = number >> min(8 * width - kind, 63)  # of an int64, of which an unsigned one of 64 bits may use 63
        if not likely(rest == 0 or (kind == CODE_SIGNED and rest == -1 and number != NO_VALUE)):
            return -1
        store64(out, number)
        return width
    if CODE_F32 <= kind <= CODE_F64:
        bits = double(value)
        if not likely(bits != NO_VALUE):
            return -1
        if kind == CODE_F64:
            store64(out, bits)
            return 8
        single = do.as_single(bits)
        if single & 0x7F80_0000 == 0x7F80_0000 and (bits >> 52) & 0x7FF != 0x7FF:
            return -1  # it does not fit
        store64(out, single)
        return 4
    if kind == CODE_STR:
        length = out + 8
        text = PyUnicode_AsUTF8AndSize(value, length)
        if not likely(text != 0):
            PyErr_Clear()
            return -1
        size = load64(length)
        if not likely(not has_nul(text, size)):
            return -1
        store64(out, text)
        return size + 1
    if kind == CODE_BOOL:
        is_true = value == py_true()
        if not is_true and value != py_false():
            return -1
        store64(out, is_true)
        return 1
    if kind == CODE_BYTES and load64(value + OBJECT_TYPE) == bytes_type():
        size = load64(value + BYTES_SIZE)
        store64(out, value + BYTES_DATA)
        store64(out + 8, size)
        return size + 2 if size <= LONGEST else -1
    return -1


@inlined
def convert_all(cell: int, values: int, out: int) -> int:
    """All values; their bytes in a record, or -1 if Python must do it."""
    field = cell + EVENT_BYTES
    last = field + FIELD_BYTES * read64(cell + EVENT.fields_count)
    size = 0
    while field != last:
        more = convert(load32(field), load64(values), out)
        if not likely(more >= 0):
            return -1
        size += more
        field += FIELD_BYTES
        values += 8
        out += VALUE_BYTES
    return size


@inlined
def put_number(at: int, end: int, value: int, width: int) -> int:
    """The low bytes of a number.  What is written behind them is written over by what comes next, or is padding."""
    if likely(at + 8 <= end):
        do.put64(at, load64(value))
    else:
        copy_short(at, value, width)
    return at + width


@inlined
def put_all(cell: int, at: int, end: int, values: int) -> None:
    """The values that `convert_all` made, into a record that ends at `end`."""
    field = cell + EVENT_BYTES
    last = field + FIELD_BYTES * read64(cell + EVENT.fields_count)
    while field != last:
        code = load32(field)
        kind = code & KIND_MASK
        if kind < CODE_STR:
            width = code >> WIDTH_SHIFT
            at = put_number(at, end, values, width)
        else:
            size = load64(values + 8)
            if kind == CODE_BYTES:
                do.store8(at, size)
                do.store8(at + 1, size >> 8)
                at += 2
            copy_short(at, load64(values), size)
            at += size
            if kind == CODE_STR:
                do.store8(at, 0)
                at += 1
        field += FIELD_BYTES
        values += VALUE_BYTES


@apart
def arrange(cell: int, args: int, count: int, names: int, values: int) -> bool:
    """Arguments by position and by keyword, in the order of the fields.  False if Python must look at them."""
    fields = read64(cell + EVENT.fields_count)
    keywords = load64(names + BYTES_SIZE)  # a tuple is a PyVarObject, too
    if count + keywords != fields:
        return False
    known = cell + EVENT_BYTES + FIELD_BYTES * fields
    for number in range(count):
        store64(values + 8 * number, load64(args + 8 * number))
    for number in range(count, fields):
        store64(values + 8 * number, 0)
    for number in range(keywords):
        name = load64(names + BYTES_SIZE + 8 + 8 * number)
        field = count + number
        if load64(known + 8 * field) != name:
            field = count
            while field < fields and load64(known + 8 * field) != name:
                field += 1
            if field == fields:
                return False  # unknown, or not interned
        if load64(values + 8 * field) != 0:
            return False
        store64(values + 8 * field, load64(args + 8 * (count + number)))
    return True


# -- records


@inlined
def is_on(cell: int) -> bool:
    """The channel records, and the class is switched on: P1."""
    context = load64(cell + EVENT.context)
    return load32(load64(context + CONTEXT.recording)) != 0 and load32(load64(cell + EVENT.enabled)) != 0


@apart
def attach_late(cell: int) -> int:
    """Nothing is recorded: attach the channel if that is still to be done.  1: now it is recorded; -1: an exception."""
    do.cold()
    pending = load64(load64(cell + EVENT.context) + CONTEXT.pending)
    if pending == 0:
        return 0
    result = PyObject_CallOneArg(pending, read64(cell + EVENT.owner))
    if result == 0:
        return -1
    Py_DecRef(result)
    return is_on(cell)


@apart
def call_python(cell: int, args: int, count: int, names: int) -> int:
    """Let Python look at the arguments: it records them, or refuses them."""
    do.cold()
    return PyObject_Vectorcall(read64(cell + EVENT.refuse), args, count, names)


@inlined
def write(cell: int, body: int, size: int) -> int:
    """A record of the cell's class; a new reference to True or False, 0 with an exception set."""
    context = load64(cell + EVENT.context)
    me = me_of(context)
    if not likely(me != 0):
        return 0
    result = record(context, me, load64(cell + EVENT.id), body, size)
    if not likely(result == RECORDED):
        return try_harder(context, me, load64(cell + EVENT.id), body, size, result)
    return boolean(True)


@inlined
def end_record(lane: int, position: int, size: int) -> None:
    """P11, P12."""
    commit(lane, position + RECORD_BYTES + padded(size))
    give_back(lane)


@inlined
def needs_telling(cell: int, place: int) -> bool:
    """A user's context is set, and this reader was not told yet what it is."""
    if likely(load32(place + PLACE.context) == 0):
        return False
    context = load64(cell + EVENT.context)
    period = load32(load64(context + CONTEXT.control) + CONTROL.period)
    forks = load64(read64(cell + EVENT.threads) + THREADS.forks)
    return load64(place + PLACE.told) != period | (load64(context + CONTEXT.slot) << 32) | (forks << 48)


def tracepoint_call(self: int, args: int, count: int, names: int) -> int:
    """METH_FASTCALL | METH_KEYWORDS: `request(200, latency=0.013, path="/index")`."""
    cell = load64(self + OBJECT_SLOT) + BYTES_DATA
    if not likely(is_on(cell)):
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
    me = me_of(context)
    if not likely(me != 0):
        return 0
    place = find_place(cell, PyThreadState_Get())
    word = 0
    if place != 0:
        word = place_word(place)
        if needs_telling(cell, place):
            return call_python(cell, args, count, names)
    cpu = current_cpu(context)
    lane, position = take(context, me, cpu, RECORD_BYTES + padded(size))
    if not likely(lane > FULL):
        if lane == FULL:  # Python makes one piece of it, which can be tried again
            return call_python(cell, args, count, names)
        return try_harder(context, me, 0, 0, 0, lane)
    target = address_of_position(context, position)
    put_header(context, lane, target, load64(cell + EVENT.id), cpu, me, size)
    at = target + RECORD_BYTES
    do.put64(at, word)
    put_all(cell, at + PLACE_WORD_BYTES, at + padded(size), converted)
    end_record(lane, position, size)
    return boolean(True)


def counter_call(self: int, value: int) -> int:
    """METH_O: `depth(17)`."""
    cell = load64(self + OBJECT_SLOT) + BYTES_DATA
    if not likely(is_on(cell)):
        late = attach_late(cell)
        if late < 0:
            return 0
        if late == 0 and load64(cell + EVENT.strict) == 0:
            return boolean(False)
    bits = double(value)
    argument = pointer_out()
    if not likely(bits != NO_VALUE):
        store64(argument, value)
        return call_python(cell, argument, 1, 0)
    if not is_on(cell):  # strict
        return boolean(False)
    store64(argument, bits)
    return write(cell, argument, 8)


def body_write(self: int, body: int) -> int:
    """METH_O: a record of this class with a body, `bytes`, that Python made and whose size it has checked."""
    cell = load64(self + OBJECT_SLOT) + BYTES_DATA
    return write(cell, body + BYTES_DATA, load64(body + BYTES_SIZE)) if is_on(cell) else boolean(False)


def count_bad(self: int, _: int) -> int:
    """METH_NOARGS: a call was refused for its arguments."""
    context = load64(load64(self + OBJECT_SLOT) + BYTES_DATA + EVENT.context)
    cpu = current_cpu(context) % load64(context + CONTEXT.cpu_slots)
    do.add64(load64(context + CONTEXT.cpus) + cpu * LINE_BYTES + CPU.missed_bad_arguments, 1)
    return boolean(True)


# -- spans


@apart
def begin_again(cell: int, me: int, lane: int, first: int, second: int, converted: int, size: int) -> bool:
    """There was no room for a begin record: make one piece of it and try harder.  False with an exception set."""
    do.cold()
    context = load64(cell + EVENT.context)
    if lane != FULL:
        result = try_harder(context, me, 0, 0, 0, lane)
    else:
        body = PyBytes_FromStringAndSize(0, size + 8)
        if body == 0:
            return False
        at = body + BYTES_DATA
        do.put64(at, first)
        do.put64(at + 8, second)
        put_all(cell, at + BEGIN_BYTES, at + size, converted)
        result = try_harder(context, me, load64(cell + EVENT.id), at, size, lane)
        Py_DecRef(body)
    if result != 0:
        Py_DecRef(result)
    return result != 0


@inlined
def begin_span(cell: int, converted: int, size: int, place: int) -> int:
    """A span begins, with fields that `convert_all` made.  Its number; 0 with an exception set."""
    context = load64(cell + EVENT.context)
    me = me_of(context)
    if not likely(me != 0):
        return 0
    parent = load64(place + PLACE.current) & U32_MASK
    span = push(cell, place, load64(cell + EVENT.id))
    first = span | (load32(place + PLACE.context) << 32)
    second = parent | (load32(place + PLACE.task) << 32)
    size += BEGIN_BYTES
    cpu = current_cpu(context)
    lane, position = take(context, me, cpu, RECORD_BYTES + padded(size))
    if not likely(lane > FULL):
        return span if begin_again(cell, me, lane, first, second, converted, size) else 0
    target = address_of_position(context, position)
    put_header(context, lane, target, load64(cell + EVENT.id), cpu, me, size)
    at = target + RECORD_BYTES
    do.put64(at, first)
    do.put64(at + 8, second)
    put_all(cell, at + BEGIN_BYTES, at + padded(size), converted)
    end_record(lane, position, size)
    return span


@apart
def end_failed(cell: int, kind: int, word: int) -> bool:
    """The record of an end with an exception of type `kind`.  False with another exception set."""
    do.cold()
    body = body_buffer()
    do.put64(body, word)
    name = load64(kind + TYPE_NAME)
    length = min(strlen(name), NAME_BYTES)
    do.copy(body + PLACE_WORD_BYTES, name, length)
    do.put64(body + PLACE_WORD_BYTES + length, 0)
    result = write(cell, body, PLACE_WORD_BYTES + length + 1)
    if result != 0:
        Py_DecRef(result)
    return result != 0


@apart
def end_again(cell: int, me: int, lane: int, word: int) -> bool:
    """There was no room for an end record."""
    do.cold()
    body = body_buffer()
    do.put64(body, word)
    do.put64(body + PLACE_WORD_BYTES, 0)
    result = try_harder(load64(cell + EVENT.context), me, load64(cell + EVENT.id), body, PLACE_WORD_BYTES + 1, lane)
    if result != 0:
        Py_DecRef(result)
    return result != 0


@inlined
def end_span(cell: int, wanted: int, shift: int, kind: int) -> bool:
    """A span ends, with an exception of type `kind` (0: none).  `cell` is that of its begin.  False: an exception."""
    place = own_place(cell, 0)
    if not likely(place != 0):
        return True
    span = pop(cell, place, wanted, shift)
    other = read64(cell + EVENT.other)
    context = load64(other + EVENT.context)
    if not likely(span != 0 and load32(load64(context + CONTEXT.recording)) != 0):
        return True
    word = span | (load32(place + PLACE.context) << 32)
    if not likely(kind == 0):
        return end_failed(other, kind, word)
    me = me_of(context)
    if not likely(me != 0):
        return False
    cpu = current_cpu(context)
    size = PLACE_WORD_BYTES + 1
    lane, position = take(context, me, cpu, RECORD_BYTES + padded(size))
    if not likely(lane > FULL):
        return end_again(other, me, lane, word)
    target = address_of_position(context, position)
    put_header(context, lane, target, load64(other + EVENT.id), cpu, me, size)
    do.put64(target + RECORD_BYTES, word)
    do.put64(target + RECORD_BYTES + PLACE_WORD_BYTES, 0)
    end_record(lane, position, size)
    return True


@inlined
def new_reference(address: int) -> int:
    """An object that is given to Python."""
    Py_IncRef(address)
    return address


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
    return 1 if begin_span(cell, converted, size, place) != 0 else -1


def span_begin_call(self: int, args: int, count: int, names: int) -> int:
    """METH_FASTCALL | METH_KEYWORDS: `load.begin(3)`.  True if recording is on."""
    begun = begin_with(load64(self + OBJECT_SLOT) + BYTES_DATA, args, count, names)
    return boolean(begun != 0) if begun >= 0 else 0


def span_enter(self: int, _: int) -> int:
    """METH_NOARGS: `with load:`."""
    begun = begin_with(load64(self + OBJECT_SLOT) + BYTES_DATA, 0, 0, 0)
    return new_reference(self) if begun >= 0 else 0


def span_begin(self: int, body: int) -> int:
    """METH_O: a span begins; its number, 0 if nothing is recorded.

    `body` is a `bytes` of the caller's own: BEGIN_BYTES, which are written here, and the fields.
    """
    cell = load64(self + OBJECT_SLOT) + BYTES_DATA
    place = own_place(cell, 1) if is_on(cell) else 0
    if place == 0:
        return PyLong_FromLong(0)
    at, size = body + BYTES_DATA, load64(body + BYTES_SIZE)
    parent = load64(place + PLACE.current) & U32_MASK
    span = push(cell, place, load64(cell + EVENT.id))
    do.put64(at, span | (load32(place + PLACE.context) << 32))
    do.put64(at + 8, parent | (load32(place + PLACE.task) << 32))
    result = write(cell, at, size)
    if result == 0:
        return 0
    Py_DecRef(result)
    return PyLong_FromLong(span)


def span_finish(self: int, args: int, count: int) -> int:
    """METH_FASTCALL: the span of a number ends, with an exception of a type, or None."""
    cell = load64(self + OBJECT_SLOT) + BYTES_DATA
    number, kind = integer(load64(args)), load64(args + 8)
    if not end_span(cell, number, 0, kind if kind != py_none() else 0):
        return 0
    return boolean(False)


def span_exit(self: int, args: int, count: int) -> int:
    """METH_FASTCALL: the end of `with load:`, and `load.end()`."""
    cell = load64(self + OBJECT_SLOT) + BYTES_DATA
    if load64(cell + EVENT.open) != 0:
        kind = load64(args) if count > 0 else 0
        if kind == py_none():
            kind = 0
        if not end_span(cell, load64(cell + EVENT.id), 32, kind):
            return 0
    return boolean(False)


# -- logs: msgpack maps


@inlined
def pack_text(at: int, end: int, value: int) -> int:
    """A str; the address behind it, 0 if Python must do it."""
    length = pointer_out()
    text = PyUnicode_AsUTF8AndSize(value, length)
    if not likely(text != 0):
        PyErr_Clear()
        return 0
    size = load64(length)
    if not likely(at + size + 3 <= end):
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
    kind = load64(value + OBJECT_TYPE)
    if kind == text_type():
        return pack_text(at, end, value)
    if not likely(at + 9 <= end):
        return 0
    if kind == integer_type():
        number = integer(value)
        return pack_number(at, number) if number != NO_VALUE else 0
    if kind == float_type():
        do.store8(at, 0xCB)
        do.put64(at + 1, do.swapped(load64(value + FLOAT_VALUE)))
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
    if count != 1 or load64(load64(args) + OBJECT_TYPE) != text_type():
        return 0
    fields = load64(names + BYTES_SIZE) if names != 0 else 0
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
        at = pack_text(at, end, load64(names + BYTES_SIZE + 8 + 8 * number))
        if at != 0:
            at = pack_value(at, end, load64(args + 8 + 8 * number))
    return at


def log_call(self: int, args: int, count: int, names: int) -> int:
    """METH_FASTCALL | METH_KEYWORDS: `channel.log("cache miss", key="a1", tried=3)`."""
    cell = load64(self + OBJECT_SLOT) + BYTES_DATA
    if not likely(is_on(cell)):
        late = attach_late(cell)
        if late < 0:
            return 0
        if late == 0:
            return boolean(False) if load64(cell + EVENT.strict) == 0 else call_python(cell, args, count, names)
    context = load64(cell + EVENT.context)
    me = me_of(context)
    if not likely(me != 0):
        return 0
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
    result = record(context, me, ID_LOG, body, end - body)
    if not likely(result == RECORDED):
        return try_harder(context, me, ID_LOG, body, end - body, result)
    return boolean(True)


TYPED_ENTRIES = (
    tracepoint_call, counter_call, body_write, count_bad, span_enter, span_exit, span_begin_call, span_begin,
    span_finish, log_call,
)  # fmt: skip
