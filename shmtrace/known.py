"""Channels, tracepoints, spans and counters of this process, for those who look for them by their definition.

That is `kernels`: code that numba compiled, perhaps in another process, finds its tracepoint here.
"""

from __future__ import annotations

from _weakref import ref

TYPE_CHECKING = False  # every producer imports this
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Thing = TypeVar("Thing")

_known: dict[ref[object], None] = {}
_listeners: list[Callable[[object], None]] = []


def add(thing: object) -> None:
    """A channel or an event has been made."""
    _known[ref(thing, _forget)] = None
    for listener in _listeners:
        listener(thing)


def _forget(gone: ref[object]) -> None:
    _known.pop(gone, None)


def listen(listener: Callable[[object], None]) -> None:
    """Call `listener` with each of them, those that there are and those that will be made."""
    _listeners.append(listener)
    for reference in list(_known):
        thing = reference()
        if thing is not None:
            listener(thing)


def of_type(kind: type[Thing]) -> list[Thing]:
    """Those that there are."""
    found = [reference() for reference in list(_known)]
    return [thing for thing in found if isinstance(thing, kind)]
