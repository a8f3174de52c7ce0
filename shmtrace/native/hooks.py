"""Hooks that see each call of a Python function and its end.  See instrument/functions.py.

A record of a call has nothing but the function's number, which stands in a word of the code object that the
interpreter keeps for us.  What the number means is told by Python: once to each reader, by each process.
"""

from __future__ import annotations

from . import intrinsics as do
from . import tables
from .access import Py_DecRef, Py_IncRef, held_by, none, type_of, word_of_code
from .calls import attach_late, call_python, end_record, is_on
from .entry import me_of, try_harder
from .intrinsics import frozen, likely, load32, load64, read64
from .lanes import (
    CONTEXT,
    CONTROL,
    FULL,
    RECORD_BYTES,
    address_of_position,
    apart,
    current_cpu,
    inlined,
    now,
    padded,
    put_header,
    take,
)
from .places import EVENT
from .spans import end_failed

FUNCTIONS = frozen(tables.FUNCTIONS)
FUNCTION_UNWANTED = tables.FUNCTION_UNWANTED - (1 << 64)  # as int64
NUMBER_BYTES = 4
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


@inlined
def is_wanted(cell: int) -> bool:
    """Something is recorded.  Attaches the channel if that is still to be done."""
    return likely(is_on(cell)) or attach_late(cell) == 1


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
def look_up(cell: int, code: int) -> int:
    """The function's number, which the reader knows by now; 0: it has none; UNWANTED, FAILED."""
    functions = read64(cell + EVENT.other)
    number = number_of(functions, code)
    if likely(is_told(load64(cell + EVENT.context), functions, number)):
        return number
    return introduce(cell, functions, code)


@inlined
def write_number(cell: int, number: int) -> bool:
    """A record with a function's number.  False with an exception set."""
    context = load64(cell + EVENT.context)
    me = me_of(context)
    if not likely(me != 0):
        return False
    stamp, cpu = now(context), current_cpu(context)
    lane, position = take(context, me, cpu, RECORD_BYTES + padded(NUMBER_BYTES))
    if not likely(lane > FULL):
        return write_again(cell, me, lane, number)
    target = address_of_position(context, position)
    put_header(context, lane, target, stamp, load64(cell + EVENT.id), cpu, me, NUMBER_BYTES)
    do.put64(target + RECORD_BYTES, number)
    end_record(lane, position, NUMBER_BYTES)
    return True


@apart
def write_again(cell: int, me: int, lane: int, number: int) -> bool:
    """There was no room for it."""
    do.cold()
    body = argument_out()
    do.put64(body, number)
    result = try_harder(load64(cell + EVENT.context), me, load64(cell + EVENT.id), body, NUMBER_BYTES, lane)
    if result != 0:
        Py_DecRef(result)
    return result != 0


@inlined
def see(cell: int, code: int) -> int:
    """A call or a return.  SEEN, UNWANTED; FAILED with an exception set."""
    if not is_wanted(cell):
        return SEEN
    number = look_up(cell, code)
    if not likely(number > 0):
        return number if number != 0 else SEEN
    return SEEN if write_number(cell, number) else FAILED


@apart
def see_unwind(cell: int, code: int, kind: int) -> int:
    """The function is left by an exception of this type.  As `see`."""
    if not is_wanted(cell):
        return SEEN
    number = look_up(cell, code)
    if number <= 0:
        return number if number != 0 else SEEN
    return SEEN if end_failed(cell, kind, number, NUMBER_BYTES) else FAILED


def function_step(self: int, args: int, count: int, names: int) -> int:
    """Vectorcall: PY_START, PY_RESUME, PY_RETURN, PY_YIELD, whose first argument is the code."""
    cell = held_by(self)
    seen = see(cell, load64(args))
    if likely(seen == SEEN):
        return none()
    if seen == FAILED:
        return 0
    disable = read64(read64(cell + EVENT.other) + FUNCTIONS.disable)
    Py_IncRef(disable)
    return disable


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
