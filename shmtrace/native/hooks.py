"""Hooks that see each call of a Python function and its end.  See instrument/functions.py.

A record of a call has nothing but the function's number, which stands in a word of the code object that the
interpreter keeps for us.  What the number means is told by Python: once to each reader, by each process.

The counter is read as early as can be: a cpu that lets the reading wait for what is ahead of it has little to wait for.
"""

from __future__ import annotations

from . import intrinsics as do
from . import tables
from .access import (
    Py_DecRef,
    Py_IncRef,
    PyErr_Clear,
    PyErr_GivenExceptionMatches,
    PyErr_Occurred,
    drop_reference,
    held_by,
    none,
    type_of,
    word_of_code,
)
from .calls import attach_late, call_python, is_on, refuse
from .desk import begin_at_desk, end_record
from .entry import emit_at_length, is_off
from .intrinsics import frozen, likely, load32, load64, read64, store64
from .lanes import CONTEXT, CONTROL, RECORD_BYTES, apart, inlined, plain_cpu
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
recursion_error = do.address_of("PyExc_RecursionError")
step_in_any_way = do.entry("function_step_in_any_way", 2)


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
    return load64(told_at(functions, number)) == period | read64(context + CONTEXT.reader)


@apart
def tell(cell: int, functions: int, code: int) -> int:
    """Python gives the function a number, and tells the reader what it is.  The number, 0: it gets none; FAILED."""
    do.cold()
    out = argument_out()
    do.put64(out, code)
    result = call_python(cell, out, 1, 0)
    if result == 0:  # a signal's handler has raised; or Python could not be called here, and may be elsewhere
        if PyErr_GivenExceptionMatches(PyErr_Occurred(), load64(recursion_error())) == 0:
            return FAILED
        PyErr_Clear()
        refuse(cell)
        return 0
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
def known(cell: int, code: int) -> int:
    """The function's number, which the reader knows by now; 0: it has none; UNWANTED, FAILED."""
    functions = read64(cell + EVENT.other)
    number = number_of(functions, code)
    return number if is_told(load64(cell + EVENT.context), functions, number) else introduce(cell, functions, code)


@inlined
def seen_at_once(cell: int, code: int) -> bool:
    """A call or a return is recorded in the plain way, as the last one was; or nobody reads.  False: `see` is to.

    The counter is read ahead of all, where the last one was recorded by the short way (desk.py).
    """
    if not likely(load64(cell + EVENT.plain) != 0):
        return not is_on(cell) and load64(load64(cell + EVENT.context) + CONTEXT.pending) == 0
    cycles = do.settled(do.cycles())
    context, functions = load64(cell + EVENT.context), read64(cell + EVENT.other)
    if not (likely(not is_off(context)) and likely(load32(load64(cell + EVENT.enabled)) != 0)):  # P1
        return False
    number = number_of(functions, code)
    if not likely(is_told(context, functions, number)):
        return False
    block = do.thread_load64(read64(context + CONTEXT.plain))
    if not likely(block != 0):
        return False
    cpu, identifier = plain_cpu(context), load64(cell + EVENT.id)
    lane, position, target, begun = begin_at_desk(context, block, cpu, cycles, identifier, NUMBER_BYTES)
    if not likely(begun):
        return False
    do.put64(target + RECORD_BYTES, number)
    end_record(lane, position, NUMBER_BYTES)
    return True


@apart
def see(cell: int, code: int) -> int:
    """A call or a return, in whatever way.  SEEN, UNWANTED; FAILED with an exception set."""
    if not is_on(cell):
        store64(cell + EVENT.plain, 0)
        if attach_late(cell) != 1:
            return SEEN
    number = known(cell, code)
    if number <= 0:
        return number if number != 0 else SEEN
    context = load64(cell + EVENT.context)
    body = argument_out()
    do.put64(body, number)
    result = emit_at_length(context, load64(cell + EVENT.id), body, NUMBER_BYTES)
    if result == 0:
        return FAILED
    drop_reference(result)
    store64(cell + EVENT.plain, read64(context + CONTEXT.plain))
    return SEEN


@apart
def see_unwind(cell: int, code: int, kind: int) -> int:
    """The function is left by an exception of this type.  As `see`."""
    if not is_on(cell) and attach_late(cell) != 1:
        return SEEN
    number = known(cell, code)
    if number <= 0:
        return number if number != 0 else SEEN
    return SEEN if end_failed(cell, kind, number, NUMBER_BYTES) else FAILED


def function_step(self: int, args: int, count: int, names: int) -> int:
    """Vectorcall: PY_START, PY_RESUME, PY_RETURN, PY_YIELD, whose first argument is the code."""
    if likely(seen_at_once(held_by(self), load64(args))):
        return none()
    return step_in_any_way(self, args)


def function_step_in_any_way(self: int, args: int) -> int:
    """The rest of `function_step`, which has no frame without it."""
    cell = held_by(self)
    seen = see(cell, load64(args))
    if likely(seen == SEEN):
        return none()
    if seen == FAILED:
        return 0
    disable = read64(read64(cell + EVENT.other) + FUNCTIONS.disable)  # the interpreter calls no more for this function
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
    if what == PROFILE_CALL or argument != 0:
        end = cell if what == PROFILE_CALL else read64(functions + FUNCTIONS.returned)
        seen = SEEN if seen_at_once(end, code) else see(end, code)
    else:
        seen = see_unwind(read64(functions + FUNCTIONS.unwound), code, load64(base_exception()))
    Py_DecRef(code)
    return 0 if seen != FAILED else -1


HOOKS_ENTRIES = (function_step, function_step_in_any_way, function_throw, function_unwind, function_profile)
