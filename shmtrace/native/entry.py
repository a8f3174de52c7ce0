"""The producer's entry points: C functions made from jitted ones, with the signatures of methods of a builtin.

A method's `self` is the object that the user sees (a Channel).  The first slot of that object holds the context, a
`bytes` (layout.CONTEXT), so this code finds all it needs behind its arguments: its own text is the same in each
process.

While a lane is taken no Python object is touched and no Python can run: buffers are taken before.
"""

from __future__ import annotations

import sys

from .. import layout, wire
from . import intrinsics as do
from .intrinsics import likely, load32, load64, read64, store64, store64_release
from .lanes import (
    BLOCK,
    CONTEXT,
    MONOTONIC,
    SLOT,
    SLOT_BYTES,
    UNKNOWN_WRITER,
    WRITER,
    WRITER_BITS_MASK,
    apart,
    inlined,
    monotonic,
    record,
    register,
    registered,
)

OBJECT_SLOT = object.__basicsize__  # of the first slot of a class without a base
OBJECT_TYPE = object.__basicsize__ - 8  # ob_type is the last word of a PyObject
BYTES_SIZE = object.__basicsize__  # ob_size of a PyVarObject
BYTES_DATA = bytes.__basicsize__ - 1
BUFFER_BYTES, BUFFER_DATA, BUFFER_SIZE = 80, 0, 16  # struct Py_buffer: buf, obj, len, ...
CLOCK_TRIES, REALTIME = 8, 0
IMMORTAL = sys.version_info >= (3, 12)  # True and False are not counted
ID_BLOB = wire.ID_BLOB
IDENTITY_ENDED = -layout.IDENTITY_ENDED  # as int64

py_buffer = do.scratch(BUFFER_BYTES)
bytes_type = do.address_of("PyBytes_Type")
py_true = do.address_of("_Py_TrueStruct")
py_false = do.address_of("_Py_FalseStruct")
value_error = do.address_of("PyExc_ValueError")
Py_IncRef = do.external("Py_IncRef", 1)
Py_DecRef = do.external("Py_DecRef", 1)
PyObject_GetBuffer = do.external("PyObject_GetBuffer", 3, result_bits=32)
PyBuffer_Release = do.external("PyBuffer_Release", 1)
PyErr_Format = do.external("PyErr_Format", 4, variadic=True)
PyLong_FromLong = do.external("PyLong_FromLong", 1)
PyObject_CallOneArg = do.external("PyObject_CallOneArg", 2)
too_long = do.text("a blob of %zd bytes: this channel takes at most %zd (the page size decides, up to 65535)")


@inlined
def boolean(value: bool) -> int:
    """A new reference to True or False."""
    result = py_true() if value else py_false()
    if not IMMORTAL:
        Py_IncRef(result)
    return result


@apart
def introduce(context: int) -> int:
    """Register this thread, and let Python put names into its entry.

    0 with an exception set: the user pressed Ctrl-C in the middle of it.
    """
    do.cold()
    me = register(context)
    naming = load64(context + CONTEXT.naming)
    number = me & WRITER_BITS_MASK
    if naming != 0 and number != UNKNOWN_WRITER:
        argument = PyLong_FromLong(number)
        result = PyObject_CallOneArg(naming, argument) if argument != 0 else 0
        if argument != 0:
            Py_DecRef(argument)
        if result == 0:
            return 0
        Py_DecRef(result)
    return me


@apart
def refuse(size: int, limit: int) -> int:
    """ValueError."""
    do.cold()
    PyErr_Format(load64(value_error()), too_long(), size, limit)
    return 0


@inlined
def emit(context: int, identifier: int, data: int, size: int) -> int:
    """Record a blob while the channel is recording; its size was checked."""
    me = registered(context)
    if not likely(me != 0):
        me = introduce(context)
        if me == 0:
            return 0
    return boolean(record(context, me, identifier, data, size))


@inlined
def is_off(context: int) -> bool:
    """P1."""
    return load32(read64(context + CONTEXT.recording)) == 0


@inlined
def context_of(channel: int) -> int:
    """Address of a channel's CONTEXT."""
    return load64(channel + OBJECT_SLOT) + BYTES_DATA


@apart
def attach_first(channel: int, identifier: int, data: int, size: int) -> int:
    """Not recording.  A channel that is still to be attached is attached now, which leaves another context in it."""
    do.cold()
    pending = load64(context_of(channel) + CONTEXT.pending)
    if pending == 0:
        return boolean(False)
    result = PyObject_CallOneArg(pending, channel)
    if result == 0:
        return 0
    Py_DecRef(result)
    context = context_of(channel)
    limit = load64(context + CONTEXT.limit)
    if size > limit:
        return refuse(size, limit)
    if load32(load64(context + CONTEXT.recording)) == 0:
        return boolean(False)
    return emit(context, identifier, data, size)


@inlined
def emit_checked(channel: int, identifier: int, data: int, size: int) -> int:
    """Check, look (P1), record.  The check comes first: a call is right or wrong whether or not somebody reads."""
    context = context_of(channel)
    limit = read64(context + CONTEXT.limit)
    if not likely(size <= limit):
        return refuse(size, limit)
    if is_off(context):
        return attach_first(channel, identifier, data, size)
    return emit(context, identifier, data, size)


@apart
def emit_buffer(channel: int, identifier: int, blob: int) -> int:
    """An object that is not exactly `bytes`: ask for its buffer, which may run Python and may raise TypeError."""
    do.cold()
    buffer = py_buffer()
    if PyObject_GetBuffer(blob, buffer, 0) != 0:
        return 0
    result = emit_checked(channel, identifier, load64(buffer + BUFFER_DATA), load64(buffer + BUFFER_SIZE))
    PyBuffer_Release(buffer)
    return result


def channel_event(channel: int, blob: int) -> int:
    """METH_O: `channel.event(blob)`."""
    if likely(load64(blob + OBJECT_TYPE) == bytes_type()):
        return emit_checked(channel, ID_BLOB, blob + BYTES_DATA, load64(blob + BYTES_SIZE))
    return emit_buffer(channel, ID_BLOB, blob)


def thread_ended(block: int) -> int:
    """Destructor of the pthread key: the thread whose block this is has ended; its writer numbers may be freed."""
    for at in range(SLOT_BYTES, load64(block + BLOCK.end), SLOT_BYTES):
        entry = load64(block + at + SLOT.entry)
        store64(block + at + SLOT.owner, 0)
        store64(block + at + SLOT.entry, 0)
        if entry != 0:
            # release: what this thread committed last is there before it is gone; matched by the acquire of W1
            store64_release(entry + WRITER.identity, load64(entry + WRITER.identity) | IDENTITY_ENDED)
    store64(block + BLOCK.end, 0)
    store64_release(block + BLOCK.tid, 0)  # matched by the acquire of the CAS in `block_of`
    return 0


def read_clocks(target: int) -> int:
    """Write cycles, CLOCK_MONOTONIC and CLOCK_REALTIME, in ns, read together, at `target`: 3 x u64.

    The best of some tries: the one in which the least time passed between the two readings of the cycle counter.
    """
    best = 1 << 62
    for _ in range(CLOCK_TRIES):
        before = do.cycles()
        steady, wall = monotonic(MONOTONIC), monotonic(REALTIME)
        after = do.cycles()
        if after - before < best:
            best = after - before
            store64(target, before + best // 2)
            store64(target + 8, steady)
            store64(target + 16, wall)
    return best


PRODUCER = (channel_event, thread_ended, read_clocks)
