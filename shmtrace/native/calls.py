"""What the builtins of tracepoints, counters, spans and logs have in common: switches, late attaching, a record."""

from __future__ import annotations

from . import intrinsics as do
from .access import Py_DecRef
from .entry import PyObject_CallOneArg, emit
from .intrinsics import likely, load32, load64, read64
from .lanes import (
    COMMITTED_MASK,
    CONTEXT,
    CONTROL,
    CPU,
    DESK,
    LANE,
    LINE_BYTES,
    MODE_OVERWRITE,
    apart,
    current_cpu,
    inlined,
    slot_of,
)
from .places import EVENT, PLACE, THREADS
from .writers import block_here

PyObject_Vectorcall = do.external("PyObject_Vectorcall", 4)


@inlined
def is_on(cell: int) -> bool:
    """The channel records, and the class is switched on: P1."""
    context = load64(cell + EVENT.context)
    return load32(load64(context + CONTEXT.recording)) != 0 and load32(load64(cell + EVENT.enabled)) != 0


@inlined
def stays_off(cell: int) -> bool:
    """Nothing is recorded, and nothing is to be done about that."""
    return load64(load64(cell + EVENT.context) + CONTEXT.pending) == 0 and load64(cell + EVENT.strict) == 0


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
def fits(cell: int, size: int) -> bool:
    """The channel, as it is now, takes a body of this size.  Its like was asked when the fields were encoded."""
    return size <= load64(load64(cell + EVENT.context) + CONTEXT.limit)


@apart
def count_refused(context: int) -> None:
    """A record is refused for its arguments."""
    do.cold()
    if read64(context + CONTEXT.cpu_slots) != 0:
        slot = slot_of(context, current_cpu(context))
        do.add64(read64(context + CONTEXT.cpus) + slot * LINE_BYTES + CPU.missed_bad_arguments, 1)


@inlined
def refuse(cell: int) -> None:
    """The same, of the cell's channel as it is now."""
    count_refused(load64(cell + EVENT.context))


@inlined
def write(cell: int, body: int, size: int) -> int:
    """A record of the cell's class; a new reference to True or False, 0 with an exception set."""
    return emit(load64(cell + EVENT.context), load64(cell + EVENT.id), body, size)


@apart
def page_here(context: int) -> int:
    """What names the page into which this thread writes, as its desk tells; 0: that is not known."""
    do.cold()
    block = block_here(context)
    if block == 0:
        return 0
    desk = block + read64(context + CONTEXT.desk)
    if load64(desk + DESK.key) >> 32 != read64(context + CONTEXT.reader) >> 32:  # it is another channel's
        return 0
    return load64(load64(desk + DESK.lane) + LANE.position) & ~COMMITTED_MASK


@inlined
def reader_here(cell: int, context: int) -> int:
    """PLACE.told of who reads now, of this process."""
    period = load32(load64(context + CONTEXT.control) + CONTROL.period)
    forks = load64(read64(cell + EVENT.threads) + THREADS.forks)
    return period | read64(context + CONTEXT.reader) | (forks << 48)


@inlined
def needs_telling(cell: int, place: int) -> bool:
    """A user's context is set, and this reader was not told yet what it is.

    A flight recorder is told again in each page: it may be the oldest that there is.
    """
    if likely(load32(place + PLACE.context) == 0):
        return False
    context = load64(cell + EVENT.context)
    if load64(place + PLACE.told) != reader_here(cell, context):
        return True
    return read64(context + CONTEXT.mode) == MODE_OVERWRITE and load64(place + PLACE.page) != page_here(context)
