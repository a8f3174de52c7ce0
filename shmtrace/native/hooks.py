"""Hooks that see each call of a Python function and its end.  See instrument/functions.py.

A record of a call has nothing but the function's number, which stands in a word of the code object that the
interpreter keeps for us.  What the number means is told by Python: once to each reader, by each process.

The counter is read as early as can be: a cpu that lets the reading wait for what is ahead of it has little to wait for.
"""

from __future__ import annotations

from . import intrinsics as do
from . import tables
from .access import Py_DecRef, Py_IncRef, held_by, none, type_of, word_of_code
from .calls import attach_late, call_python, end_record, is_on
from .entry import is_off, me_of, try_harder
from .intrinsics import frozen, likely, load32, load64, read64, store64
from .lanes import (
    CONTEXT,
    CONTROL,
    RECORD_ALIGNMENT,
    RECORD_BYTES,
    address_of_position,
    apart,
    current_cpu,
    inlined,
    plain_cpu,
    put_header,
    slot_of,
    take_first,
    take_other,
    time_of,
)
from .places import EVENT
from .spans import end_failed
from .writers import is_plain, plainly_registered

FUNCTIONS = frozen(tables.FUNCTIONS)
FUNCTION_UNWANTED = tables.FUNCTION_UNWANTED - (1 << 64)  # as int64
NUMBER_BYTES = 4
NEED = RECORD_BYTES + RECORD_ALIGNMENT
SEEN, UNWANTED, FAILED = 1, -1, -2
PROFILE_CALL, PROFILE_RETURN = 0, 3  # PyTrace_...
frame_code = do.external("PyFrame_GetCode", 1)
argument_out = do.scratch(8)
base_exception = do.address_of("PyExc_BaseException")


@inlined
def number_of(functions: int, code: int) -> int:
    """The function's number; 0: it has none.  Nobody but `Functions.tell` writes that word."""
    return word_of_code(code, read64(functions + FUNCTIONS.extra))


@inlined
def told_at(functions: int, number: int) -> int:
    """Address of what stands in the table for a function."""
    return read64(functions + FUNCTIONS.told) + 8 * number


@inlined
def is_told(context: int, functions: int, number: int) -> bool:
    """This reader knows the function.  Never so of number 0, as a slot is not 0."""
    period = load32(load64(context + CONTEXT.control) + CONTROL.period)
    return load64(told_at(functions, number)) == period | (load64(context + CONTEXT.slot) << 32)


@apart
def tell(cell: int, functions: int, code: int) -> int:
    """Python gives the function a number, and tells the reader what it is.  The number, 0: it gets none; FAILED."""
    do.cold()
    out = argument_out()
    do.put64(out, code)
    result = call_python(cell, out, 1, 0)
    if result == 0:  # a signal's handler has raised
        return FAILED
    Py_DecRef(result)
    return number_of(functions, code)


@apart
def introduce(cell: int, functions: int, code: int) -> int:
    """The function's number, where the reader was not told of it: it is now; 0: it has none; UNWANTED, FAILED."""
    do.cold()
    number = number_of(functions, code)
    if load64(told_at(functions, number)) != FUNCTION_UNWANTED:
        number = tell(cell, functions, code)
        if number == FAILED:
            return FAILED
    return number if load64(told_at(functions, number)) != FUNCTION_UNWANTED else UNWANTED


@inlined
def put_number(cell: int, number: int, context: int, me: int, cpu: int, stamp: int, lane: int, position: int) -> int:
    """P10 to P12: a record with a function's number, in a lane with room for it."""
    target = address_of_position(context, position)
    put_header(context, lane, target, stamp, load64(cell + EVENT.id), cpu, me, NUMBER_BYTES)
    do.put64(target + RECORD_BYTES, number)
    end_record(lane, position, NUMBER_BYTES)
    return SEEN


@inlined
def known(cell: int, code: int) -> int:
    """The function's number, which the reader knows by now; 0: it has none; UNWANTED, FAILED."""
    functions = read64(cell + EVENT.other)
    number = number_of(functions, code)
    return number if is_told(load64(cell + EVENT.context), functions, number) else introduce(cell, functions, code)


@apart
def see_slowly(cell: int, code: int, cycles: int, lane: int) -> int:
    """As `see`, where the reader does not know the function, or the channel this thread, or there is no room.

    `lane` has no room, and is taken all the same; 0: the cpu's first one is another's, or was not looked at.
    """
    do.cold()
    if lane != 0:  # the reader knew the function, and whoever holds a lane calls no Python code
        number = number_of(read64(cell + EVENT.other), code)
    else:
        number = known(cell, code)
        if number <= 0:
            return number if number != 0 else SEEN
        cycles = do.cycles()  # not before the record that tells what the number means
    context = load64(cell + EVENT.context)
    me, stamp, cpu = me_of(context), time_of(context, cycles), current_cpu(context)
    if me == 0:
        return FAILED
    lane, position, taken = take_other(context, me, slot_of(context, cpu), lane, NEED)
    if taken:
        store64(cell + EVENT.plain, is_plain(context))
        return put_number(cell, number, context, me, cpu, stamp, lane, position)
    body = argument_out()
    do.put64(body, number)
    result = try_harder(context, me, load64(cell + EVENT.id), body, NUMBER_BYTES, lane)
    if result == 0:
        return FAILED
    Py_DecRef(result)
    return SEEN


@inlined
def see(cell: int, code: int) -> int:
    """A call or a return.  SEEN, UNWANTED; FAILED with an exception set.

    Where the last one was recorded in the plain way, this one can be: the counter is read at once, and no more is done
    than is needed then.  All that is rare goes on in one other function and does not come back.
    """
    cycles, lane = 0, 0
    if likely(load64(cell + EVENT.plain) != 0):
        cycles = do.cycles()
        context, functions = load64(cell + EVENT.context), read64(cell + EVENT.other)
        if not likely(not is_off(context) and load32(load64(cell + EVENT.enabled)) != 0):  # P1
            store64(cell + EVENT.plain, 0)
            return SEEN
        number = number_of(functions, code)
        if likely(is_told(context, functions, number)):
            me, cpu = plainly_registered(context), plain_cpu(context)
            if likely(me != 0) and likely(cpu < read64(context + CONTEXT.cpu_slots)):
                lane, position, found = take_first(context, me, cpu, NEED)
                if likely(found):
                    return put_number(cell, number, context, me, cpu, cycles, lane, position)
    elif not is_on(cell) and attach_late(cell) != 1:
        return SEEN
    return see_slowly(cell, code, cycles, lane)


@apart
def see_unwind(cell: int, code: int, kind: int) -> int:
    """The function is left by an exception of this type.  As `see`."""
    if not is_on(cell) and attach_late(cell) != 1:
        return SEEN
    number = known(cell, code)
    if number <= 0:
        return number if number != 0 else SEEN
    return SEEN if end_failed(cell, kind, number, NUMBER_BYTES) else FAILED


@apart
def disable_of(cell: int) -> int:
    """A new reference to what makes the interpreter call a hook no more for this function."""
    do.cold()
    disable = read64(read64(cell + EVENT.other) + FUNCTIONS.disable)
    Py_IncRef(disable)
    return disable


def function_step(self: int, args: int, count: int, names: int) -> int:
    """Vectorcall: PY_START, PY_RESUME, PY_RETURN, PY_YIELD, whose first argument is the code."""
    cell = held_by(self)
    seen = see(cell, load64(args))
    if likely(seen == SEEN):
        return none()
    if seen == FAILED:
        return 0
    return disable_of(cell)


def function_throw(self: int, args: int, count: int, names: int) -> int:
    """Vectorcall: PY_THROW: a generator goes on with an exception.  The interpreter cannot disable this."""
    return none() if see(held_by(self), load64(args)) != FAILED else 0


def function_unwind(self: int, args: int, count: int, names: int) -> int:
    """Vectorcall: PY_UNWIND, whose third argument is the exception."""
    cell = held_by(self)
    kind = type_of(load64(args + 16))
    return none() if see_unwind(cell, load64(args), kind) != FAILED else 0


def function_profile(self: int, frame: int, what: int, argument: int) -> int:
    """Py_tracefunc for PyEval_SetProfile, up to 3.11.  It does not say which exception a function was left by."""
    if what not in (PROFILE_CALL, PROFILE_RETURN):
        return 0
    cell = held_by(self)
    functions = read64(cell + EVENT.other)
    code = frame_code(frame)
    if what == PROFILE_CALL:
        seen = see(cell, code)
    elif argument != 0:
        seen = see(read64(functions + FUNCTIONS.returned), code)
    else:
        seen = see_unwind(read64(functions + FUNCTIONS.unwound), code, load64(base_exception()))
    Py_DecRef(code)
    return 0 if seen != FAILED else -1


HOOKS_ENTRIES = (function_step, function_throw, function_unwind, function_profile)
