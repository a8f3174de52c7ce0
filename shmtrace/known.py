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

_known: dict[type[object], dict[ref[object], None]] = {}
_listeners: list[Callable[[object], None]] = []


def add(thing: object) -> None:
    """A channel or an event has been made."""
    _known.setdefault(type(thing), {})[ref(thing, _forget)] = None
    for listener in _listeners:
        listener(thing)


def _forget(gone: ref[object]) -> None:
    for of_one in list(_known.values()):
        of_one.pop(gone, None)


def listen(listener: Callable[[object], None]) -> None:
    """Call `listener` with each of them, those that there are and those that will be made."""
    _listeners.append(listener)
    for kind in list(_known):
        for thing in of_type(kind):
            listener(thing)


def of_type(kind: type[Thing]) -> list[Thing]:
    """Those that there are, without its subclasses'."""
    found = [reference() for reference in list(_known.get(kind, ()))]
    return [thing for thing in found if isinstance(thing, kind)]
