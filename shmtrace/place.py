"""Where a task is: which span is open around what it does now, and which context the user has set.

The value of one ContextVar, so that it is one for each thread, asyncio task and greenlet: a `bytes` whose payload
(tables.PLACE) the jitted code changes in place, and a weak reference to the Context whose it is.  A task that has
inherited somebody else's makes its own at its first span.  Where a Context has a copy, in which the PLACE must stay as
it was, a begin or an end sets a new one.

No function of the interpreter gives the current Context without making a copy, or tells whether there is one: that is
read from the thread's state and from the Context (native/objects.py).  Another Context may lie where an ended one lay,
therefore the weak reference.  Where that is not possible, each begin and end sets a new value, which is right, too, but
slower.
"""

from __future__ import annotations

import contextvars
import ctypes
import itertools
import os
import struct

from .native import tables
from .native.objects import tree_hash
from .native.tables import PLACE, THREADS

variable: contextvars.ContextVar[tuple[bytes, object]] = contextvars.ContextVar("shmtrace")
# The user's context: its number, and the fields.  It is set only if the PLACE has the same number: a signal handler
# may come between the two.
defined: contextvars.ContextVar[tuple[int, dict[str, object]]] = contextvars.ContextVar("shmtrace context")
NOTHING: tuple[int, dict[str, object]] = (0, {})
threads = (ctypes.c_uint64 * (tables.THREADS_BYTES // 8))()
threads[THREADS.hashed // 8] = tree_hash(variable)
_numbers = itertools.count(1)  # of users' contexts
_HEAD = struct.Struct("<I4x2I")
assert (PLACE.current, PLACE.context, PLACE.task) == (0, 8, 12)


def _forked() -> None:
    """A context that was told is to be told of each process."""
    threads[THREADS.forks // 8] = (threads[THREADS.forks // 8] + 1) & 0xFFFF


os.register_at_fork(after_in_child=_forked)


def _get() -> bytes | None:
    value = variable.get(None)
    return value[0] if value is not None else None


def _set(place: bytearray) -> None:
    """Set it for this task, made of what was set before; what threads remember is looked up anew."""
    before = variable.get(None)
    place[PLACE.value : PLACE.value + 8] = bytes(8)
    variable.set((bytes(place), before[1] if before is not None else None))
    threads[THREADS.changes // 8] += 1


def word() -> bytes:
    """`span` and `context` of a record of this task, as they stand ahead of its fields."""
    place = _get()
    if place is None:
        return bytes(8)
    return place[PLACE.current : PLACE.current + 4] + place[PLACE.context : PLACE.context + 4]


def number(at: int, width: int = 8) -> int:
    """A field of this task's PLACE."""
    place = _get()
    return int.from_bytes(place[at : at + width], "little") if place is not None else 0


def has_context() -> bool:
    """Whether the user has set one here."""
    return number(PLACE.context, 4) != 0


def numbers() -> tuple[int, int, int]:
    """Of the span that is open here, of the user's context, and of the task."""
    place = _get()
    return _HEAD.unpack_from(place) if place is not None else (0, 0, 0)


def set_context(context: int, definition: tuple[int, dict[str, object]]) -> None:
    """From now on this is the user's context here.  Tasks that were made before keep theirs."""
    defined.set(definition)
    old = _get()
    place = bytearray(old if old is not None else tables.PLACE_BYTES + 8 * tables.PLACE_SPANS)
    place[PLACE.context : PLACE.context + 4] = context.to_bytes(4, "little")
    place[PLACE.told : PLACE.told + 8] = bytes(8)
    _set(place)


def next_context() -> int:
    """A number for another context."""
    return next(_numbers) & 0x7FFF_FFFF


def leave(span: int) -> None:
    """The task is outside of this span for a while."""
    place = _get()
    if place is not None:
        spans = _spans(place)
        inside = [open_span for open_span in spans if open_span & 0xFFFF_FFFF != span]
        if len(inside) != len(spans):
            _set_spans(place, inside or [0])


def enter(span: int, identifier: int) -> None:
    """It is in it, or back in it."""
    place = _get() or bytes(tables.PLACE_BYTES)
    _set_spans(place, [*_spans(place), span | identifier << 32])


def _spans(place: bytes) -> list[int]:
    """The spans that are open, outermost first, the current one last; the first one may be another task's, or none."""
    depth = int.from_bytes(place[PLACE.depth : PLACE.depth + 8], "little")
    words = place[tables.PLACE_BYTES : tables.PLACE_BYTES + 8 * depth] + place[PLACE.current : PLACE.current + 8]
    return [int.from_bytes(words[at : at + 8], "little") for at in range(0, len(words), 8)]


def _set_spans(place: bytes, spans: list[int]) -> None:
    changed = bytearray(place[: tables.PLACE_BYTES])
    changed[PLACE.current : PLACE.current + 8] = spans[-1].to_bytes(8, "little")
    changed[PLACE.depth : PLACE.depth + 8] = (len(spans) - 1).to_bytes(8, "little")
    for span in spans[:-1]:
        changed += span.to_bytes(8, "little")
    changed += bytes(8 * max(tables.PLACE_SPANS - len(spans) + 1, 0))
    _set(changed)
