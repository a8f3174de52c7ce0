"""The fast path of an event in a kernel: from the switch to the commit, compiled into the user's function."""

from __future__ import annotations

from ..native import intrinsics as do
from ..native import tables
from ..native.access import held_by
from ..native.desk import begin_here, begun_out, end_record
from ..native.intrinsics import frozen, likely, load32, load64, load64_acquire, read64
from ..native.lanes import CONTEXT, RECORD_BYTES, REFUSED, inlined
from . import SYMBOL

EVENT, KERNELS = frozen(tables.EVENT), frozen(tables.KERNELS)
table = do.symbol_address(SYMBOL)
call1, call3, call4 = (do.pointer_call(count) for count in (1, 3, 4))


@inlined
def channel_context(channel: int) -> int:
    """Address of a channel's CONTEXT."""
    return held_by(channel)


@inlined
def is_recording(context: int) -> bool:
    """P1."""
    return load32(load64(context + CONTEXT.recording)) != 0


@inlined
def channel_on(channel: int) -> int:
    """P1, for a blob: the CONTEXT, or 0.  A channel that is still to be attached is attached."""
    context = channel_context(channel)
    if is_recording(context):
        return context
    if load64(context + CONTEXT.pending) == 0:
        return 0
    call3(load64(table() + KERNELS.attach), context, channel, table())
    context = channel_context(channel)
    return context if is_recording(context) else 0


@inlined
def event_on(cell: int) -> tuple[int, int]:
    """P1, for a class: the CONTEXT, and the class's number there; 0 and 0 if it is off.

    The channel may become another one meanwhile, in which the class has another number (see Channel.follow): that is
    written between two contexts, so it is of this one if this is still the context.
    """
    context = load64(cell + EVENT.context)
    if not is_recording(context):
        if load64(context + CONTEXT.pending) == 0:
            return 0, 0
        call3(load64(table() + KERNELS.attach), context, load64(cell + EVENT.owner), table())
        context = load64(cell + EVENT.context)
        if not is_recording(context):
            return 0, 0
    if load32(load64(cell + EVENT.enabled)) == 0:
        return 0, 0
    identifier = load64_acquire(cell + EVENT.id)
    return (context, identifier) if load64(cell + EVENT.context) == context else (0, 0)


@inlined
def refuse(context: int) -> bool:
    """Wrong arguments, counted."""
    return call1(load64(table() + KERNELS.refuse), context) != 0


@inlined
def open_record(context: int, identifier: int, size: int) -> tuple[int, int, int]:
    """P1a to P10: a lane with a header in it, REFUSED if there is none; its position; where the body goes."""
    lane, position, target, begun = begin_here(context, identifier, size)
    if not likely(begun):
        out = begun_out()
        lane = call4(load64(table() + KERNELS.begin), context, identifier, size, out)
        if lane == REFUSED:
            return REFUSED, 0, 0
        position, target = load64(out), load64(out + 8)
    return lane, position, target + RECORD_BYTES


@inlined
def close_record(lane: int, position: int, size: int) -> bool:
    """P11, P12."""
    end_record(lane, position, size)
    return True


@inlined
def limit_of(context: int) -> int:
    """Bytes of the longest body."""
    return read64(context + CONTEXT.limit)


@inlined
def bare_limit_of(context: int) -> int:
    """The same of one that is written as it is; -1: none is, once the user has set a context."""
    return load64(context + CONTEXT.bare)


@inlined
def text_size(data: int, length: int, kind: int) -> int:
    """See native/kernel.py."""
    return call3(load64(table() + KERNELS.text_size), data, length, kind)


@inlined
def put_text(at: int, data: int, length: int, kind: int) -> int:
    """See native/kernel.py."""
    return call4(load64(table() + KERNELS.put_text), at, data, length, kind)
