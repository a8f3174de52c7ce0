"""The producer's entry points: C functions made from jitted ones, with the signatures of methods of a builtin.

A method's `self` is the object that the user sees (a Channel).  The first slot of that object holds the context, a
`bytes` (layout.CONTEXT), so this code finds all it needs behind its arguments: its own text is the same in each
process.

While a lane is taken no Python object is touched and no Python can run: buffers are taken before.  The exception is a
reservation, which keeps its lane for the length of a block; `reserve` and `settle_reservation` are its two ends.
"""

from __future__ import annotations

from .. import layout, wire
from . import intrinsics as do
from . import tables
from .access import BYTES_DATA, OBJECT_SLOT, VAR_SIZE, Py_DecRef, boolean, bytes_type, held_by, type_of
from .desk import begin_at_length, begin_here, begun_out, record_at_length, record_here
from .intrinsics import frozen, likely, load32, load64, read64, store64, store64_release
from .lanes import (
    BLOCK,
    BLOCK_HEAD_BYTES,
    CONTEXT,
    CONTROL,
    DESK,
    FULL,
    HERE,
    LANE,
    LANE_BYTES,
    MODE_OVERWRITE,
    MONOTONIC,
    OWNER_PID_MASK,
    OWNER_PID_SHIFT,
    RECORD_BYTES,
    RECORDED,
    REFUSED,
    SLOT,
    SLOT_BYTES,
    UNKNOWN_WRITER,
    WRITER,
    WRITER_BITS_MASK,
    WRITER_BYTES,
    address_of_position,
    apart,
    commit,
    current_cpu,
    give_back,
    inlined,
    lane_at,
    monotonic,
    now,
    padded,
    put_header,
    take,
)
from .objects import BUFFER_BYTES, BUFFER_DATA, BUFFER_SIZE
from .recovery import reclaim_lane
from .waiting import count_timeout, is_time_for_rescue, may_wait, wait_for_page
from .writers import identity_word, owner_word, register, registered

CLOCK_TRIES, REALTIME = 8, 0
ID_BLOB, PLACED_BYTES = wire.ID_BLOB, wire.PLACED_BYTES
PLACED_SLOT = OBJECT_SLOT + 8  # of a Channel
IDENTITY_ENDED = -layout.IDENTITY_ENDED  # as int64
RESERVATION = frozen(tables.RESERVATION)
RESERVE_LATER, RESERVED = tables.RESERVE_LATER, tables.RESERVED
DESKS, DESK_STRIDE = layout.DESKS, layout.DESK_STRIDE
FAILED = -1

py_buffer = do.scratch(BUFFER_BYTES)
value_error = do.address_of("PyExc_ValueError")
PyObject_GetBuffer = do.external("PyObject_GetBuffer", 3, result_bits=32)
PyBuffer_Release = do.external("PyBuffer_Release", 1)
PyErr_Format = do.external("PyErr_Format", 4, variadic=True)
PyBytes_FromStringAndSize = do.external("PyBytes_FromStringAndSize", 2)
PyLong_FromLong = do.external("PyLong_FromLong", 1)
PyObject_CallOneArg = do.external("PyObject_CallOneArg", 2)
PyEval_SaveThread = do.external("PyEval_SaveThread", 0)
PyEval_RestoreThread = do.external("PyEval_RestoreThread", 1)
PyErr_CheckSignals = do.external("PyErr_CheckSignals", 0, result_bits=32)
event_at_length = do.entry("channel_event_at_length", 2)
too_long = do.text("a blob of %zd bytes: this channel takes at most %zd (the page size decides, up to 65535)")


@apart
def call_rescue(context: int, cpu: int) -> bool:
    """No lane of this cpu was free: let Python look for dead owners.  False with an exception set."""
    argument = PyLong_FromLong(cpu)
    result = PyObject_CallOneArg(load64(context + CONTEXT.rescue), argument) if argument != 0 else 0
    if argument != 0:
        Py_DecRef(argument)
    if result != 0:
        Py_DecRef(result)
    return result != 0


@apart
def introduce(context: int) -> int:
    """Register this thread, and let Python put names into its entry.

    0 with an exception set: the user pressed Ctrl-C in the middle of it.
    """
    do.cold()
    me = register(context)
    is_unknown = me & WRITER_BITS_MASK == UNKNOWN_WRITER
    if is_unknown and read64(context + CONTEXT.mode) == MODE_OVERWRITE and is_time_for_rescue(context):
        if not call_rescue(context, 0):
            return 0
        do.add64(read64(context + CONTEXT.control) + CONTROL.unnumbered, -1)  # which is counted once more if need be
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


@apart
def wait_once(context: int, until: int) -> int:
    """Mode block: wait for a page, a flush interval at most, without the GIL; then signals may be handled.

    1: try again; 0: given up, which is counted; -1: an exception is set (Ctrl-C), and the event is counted as given up.
    """
    do.cold()
    if not may_wait(context, until):
        count_timeout(context)
        return 0
    thread = PyEval_SaveThread()
    wait_for_page(context, until)
    PyEval_RestoreThread(thread)
    if PyErr_CheckSignals() != 0:
        count_timeout(context)
        return -1
    return 1


@inlined
def me_of(context: int) -> int:
    """What this thread stores into a lane's owner, registered now if need be; 0 with an exception set."""
    me = registered(context)
    if not likely(me != 0):
        me = introduce(context)
    return me


@apart
def try_harder(context: int, identifier: int, data: int, size: int, result: int) -> int:
    """The record found no room: the mode decides.  A new reference to True or False; 0 with an exception set."""
    do.cold()
    if result == FULL:
        until = monotonic(MONOTONIC) + read64(context + CONTEXT.block_ns)
        while result == FULL:
            again = wait_once(context, until)
            if again == 0:
                return boolean(False)
            me = me_of(context) if again > 0 else 0
            if me == 0:
                return 0
            result = record_at_length(context, me, identifier, data, size)
    elif (
        read64(context + CONTEXT.mode) == MODE_OVERWRITE
        and not is_off(context)
        and is_time_for_rescue(context)
        and not call_rescue(context, current_cpu(context))
    ):
        return 0
    return boolean(result == RECORDED)


@apart
def emit_at_length(context: int, identifier: int, data: int, size: int) -> int:
    """As `emit`, by the long way."""
    do.cold()
    me = me_of(context)
    if me == 0:
        return 0
    result = record_at_length(context, me, identifier, data, size)
    return boolean(True) if result == RECORDED else try_harder(context, identifier, data, size, result)


@inlined
def emit(context: int, identifier: int, data: int, size: int) -> int:
    """Record a body while the channel is recording; its size was checked.  A new reference to True or False, or 0."""
    if likely(record_here(context, identifier, data, size)):
        return boolean(True)
    return emit_at_length(context, identifier, data, size)


@apart
def begin_introduced(context: int, identifier: int, size: int, out: int) -> int:
    """As `begin_at_length`, of a thread that may still have to register; FAILED with an exception set."""
    do.cold()
    me = me_of(context)
    return begin_at_length(context, me, identifier, size, out) if me != 0 else FAILED


@inlined
def begin_record(context: int, identifier: int, size: int) -> tuple[int, int, int]:
    """P1a to P10, the header: lane, position and the record's address; or REFUSED, FULL or FAILED as the lane."""
    lane, position, target, begun = begin_here(context, identifier, size)
    if likely(begun):
        return lane, position, target
    out = begun_out()
    lane = begin_introduced(context, identifier, size, out)
    return lane, load64(out), load64(out + 8)


@inlined
def is_off(context: int) -> bool:
    """P1."""
    return load32(read64(context + CONTEXT.recording)) == 0


@inlined
def context_of(channel: int) -> int:
    """Address of a channel's CONTEXT."""
    return held_by(channel)


@apart
def emit_copy(placed: int, data: int, size: int) -> int:
    """As `placed` records a `bytes`, which is made of a buffer: that it has these bytes is all that is known of it."""
    do.cold()
    blob = PyBytes_FromStringAndSize(data, size)
    if blob == 0:
        return 0
    result = PyObject_CallOneArg(placed, blob)
    Py_DecRef(blob)
    return result


@apart
def emit_blob(channel: int, context: int, blob: int, data: int, size: int) -> int:
    """By the long way: with what the user's context is, once one was set, if there is room for that."""
    do.cold()
    if load64(context + CONTEXT.bare) < 0 and size + PLACED_BYTES <= load64(context + CONTEXT.limit):
        placed = load64(channel + PLACED_SLOT)
        if placed != 0 and type_of(blob) == bytes_type():
            return PyObject_CallOneArg(placed, blob)
        if placed != 0:
            return emit_copy(placed, data, size)
    return emit_at_length(context, ID_BLOB, data, size)


@apart
def attach_first(channel: int, blob: int, data: int, size: int) -> int:
    """A channel that is still to be attached is attached now, which leaves another context in it."""
    do.cold()
    result = PyObject_CallOneArg(load64(context_of(channel) + CONTEXT.pending), channel)
    if result == 0:
        return 0
    Py_DecRef(result)
    context = context_of(channel)
    limit = load64(context + CONTEXT.limit)
    if size > limit:
        return refuse(size, limit)
    if load32(load64(context + CONTEXT.recording)) == 0:
        return boolean(False)
    return emit_blob(channel, context, blob, data, size)


@inlined
def emit_checked(channel: int, blob: int, data: int, size: int) -> int:
    """Check, look (P1), record.  The check comes first: a call is right or wrong whether or not somebody reads."""
    context = context_of(channel)
    limit = read64(context + CONTEXT.limit)
    if not likely(size <= limit):
        return refuse(size, limit)
    if is_off(context):
        if likely(load64(context + CONTEXT.pending) == 0):
            return boolean(False)
        return attach_first(channel, blob, data, size)
    return emit_blob(channel, context, blob, data, size)


@apart
def emit_buffer(channel: int, blob: int) -> int:
    """An object that is not exactly `bytes`: ask for its buffer, which may run Python and may raise TypeError."""
    do.cold()
    buffer = py_buffer()
    if PyObject_GetBuffer(blob, buffer, 0) != 0:
        return 0
    result = emit_checked(channel, blob, load64(buffer + BUFFER_DATA), load64(buffer + BUFFER_SIZE))
    PyBuffer_Release(buffer)
    return result


def channel_event(channel: int, blob: int) -> int:
    """METH_O: `channel.event(blob)`."""
    context = context_of(channel)
    if likely(type_of(blob) == bytes_type()):
        data, size = blob + BYTES_DATA, load64(blob + VAR_SIZE)
        if likely(size <= load64(context + CONTEXT.bare)):
            if is_off(context):
                if likely(load64(context + CONTEXT.pending) == 0):
                    return boolean(False)
            elif likely(record_here(context, ID_BLOB, data, size)):
                return boolean(True)
    return event_at_length(channel, blob)


def channel_event_at_length(channel: int, blob: int) -> int:
    """The rest of `channel_event`, which has no frame without it."""
    if likely(type_of(blob) == bytes_type()):
        return emit_checked(channel, blob, blob + BYTES_DATA, load64(blob + VAR_SIZE))
    return emit_buffer(channel, blob)


# -- reservations


@apart
def has_another_lane(context: int, cpu: int, lane: int) -> bool:
    """A lane of the cpu is free beside this one."""
    slot = cpu % read64(context + CONTEXT.cpu_slots)
    for number in range(read64(context + CONTEXT.lanes_per_cpu)):
        other = lane_at(context, slot, number)
        if other != lane and load64(other + LANE.owner) == 0:
            return True
    return False


def reserve(context: int, size: int, result: int) -> int:
    """Take a lane with room for a record of `size` bytes: RESERVED; or one of these.

    RESERVE_LATER: the lane would be the cpu's last free one, so the record is to be emitted at the end of the block;
    REFUSED: nothing is recorded (which is counted); -1: an exception is set.  `result` is a RESERVATION, which is
    filled in.  Called with the GIL.
    """
    if is_off(context):
        return REFUSED
    me = me_of(context)
    if me == 0:
        return -1
    until = monotonic(MONOTONIC) + read64(context + CONTEXT.block_ns)
    while True:
        cpu = current_cpu(context)
        if not has_another_lane(context, cpu, lane_at(context, cpu % read64(context + CONTEXT.cpu_slots), 0)):
            return RESERVE_LATER
        lane, position, _ = take(context, me, cpu, RECORD_BYTES + padded(size))
        if lane == FULL:
            again = wait_once(context, until)
            if again <= 0:
                return again
            continue
        if lane == REFUSED:
            return REFUSED
        if not has_another_lane(context, cpu, lane):
            give_back(lane)
            return RESERVE_LATER
        store64(result + RESERVATION.lane, lane)
        store64(result + RESERVATION.position, position)
        store64(result + RESERVATION.cpu, cpu)
        store64(result + RESERVATION.bytes, address_of_position(context, position) + RECORD_BYTES)
        return RESERVED


def settle_reservation(context: int, lane: int, position: int, cpu: int, size: int) -> int:
    """The end of a reservation of `size` bytes: commit it, or, where `size` is -1, leave no trace; give the lane back.

    1 if it is recorded.  When recording went off meanwhile it is not.
    """
    recorded = size >= 0 and not is_off(context)
    if recorded:
        me = load64(lane + LANE.owner)
        target = address_of_position(context, position)
        put_header(context, lane, target, now(context), ID_BLOB, cpu, me, size)
        commit(lane, position + RECORD_BYTES + padded(size))
    give_back(lane)
    return recorded


# -- the ends of threads and programs


def thread_ended(block: int) -> int:
    """Destructor of the pthread key: the thread whose block this is has ended; its writer numbers may be freed."""
    for at in range(BLOCK_HEAD_BYTES, load64(block + BLOCK.end), SLOT_BYTES):
        entry = load64(block + at + SLOT.entry)
        store64(block + at + SLOT.owner, 0)
        store64(block + at + SLOT.entry, 0)
        if entry != 0:
            # release: what this thread committed last is there before it is gone; matched by the acquire of W1
            store64_release(entry + WRITER.identity, load64(entry + WRITER.identity) | IDENTITY_ENDED)
    store64(block + BLOCK.end, 0)
    store64(block + BLOCK.here + HERE.state, 0)
    for number in range(DESKS):
        store64(block + BLOCK.desks + number * DESK_STRIDE + DESK.key, 0)
    store64_release(block + BLOCK.tid, 0)  # matched by the acquire of the CAS in `block_of`
    return 0


def rescue_lane(context: int, number: int, dead: int) -> int:
    """R2 to R5 where no collector does it (mode overwrite): give back the lane of an owner that is dead."""
    return reclaim_lane(context, number, dead, owner_word(identity_word(context), UNKNOWN_WRITER))


def disown(context: int) -> int:
    """Called before this program's first event: what bears this process' name is of a program that it was before exec.

    The threads of that program are gone, wherever they were; the process' death would not tell, as exec keeps pid and
    start time.  Its lanes are given back (R2 to R5) and its writers have ended.  Returns the number of lanes.
    """
    identity = identity_word(context)
    me = owner_word(identity, UNKNOWN_WRITER)
    if identity & OWNER_PID_MASK == 0:
        return 0
    found = 0
    for number in range(read64(context + CONTEXT.lanes_count)):
        owner = load64(read64(context + CONTEXT.lanes) + number * LANE_BYTES + LANE.owner)
        if owner != 0 and owner >> OWNER_PID_SHIFT == me >> OWNER_PID_SHIFT:
            found += reclaim_lane(context, number, owner, me)
    for number in range(1, read64(context + CONTEXT.writers_count)):
        word = read64(context + CONTEXT.writers) + number * WRITER_BYTES + WRITER.identity
        if load64(word) == identity:
            # by CAS: a collector may have found out by itself, and have given the number to somebody else
            do.swap_acquire(word, identity, identity | IDENTITY_ENDED)
    return found


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


PRODUCER = (
    channel_event, channel_event_at_length, reserve, settle_reservation, thread_ended, rescue_lane, disown, read_clocks,
)  # fmt: skip
