"""What a thread cannot begin anew while it is in the midst of it: to make or attach a channel, to define, to compile.

Handlers of signals, collections of garbage and what they finalize run in between, in the same thread, and may call us.
They do not wait for what only they hold up.
"""

from __future__ import annotations

import _thread
import os

from .errors import ChannelError

__all__ = ["CHANNEL", "COMPILE", "DEFINE", "Section", "is_inside"]

CHANNEL, DEFINE, COMPILE = range(3)
_inside: list[tuple[int, int]] = []  # threads, and what they are in


def is_inside() -> bool:
    """Whether this thread is in the midst of it."""
    return any(thread == _thread.get_ident() for thread, _ in list(_inside))


class Section:
    """A block of it.  Raises ChannelError if this thread is in one.

    To attach may be to compile.
    """

    __slots__ = ("_is_entered", "_me")

    def __init__(self, what: int) -> None:
        self._me = _thread.get_ident(), what
        self._is_entered = False

    def __enter__(self) -> None:
        if self._me in _inside or (self._me[1] != COMPILE and is_inside()):
            raise ChannelError(
                "a signal handler or a finalizer has come in the midst of the making of a channel or an event, and can "
                "make none: make it earlier"
            )
        self._is_entered = True
        _inside.append(self._me)

    def __exit__(self, *_: object) -> None:
        if self._is_entered:
            self._is_entered = False
            if self._me in _inside:
                _inside.remove(self._me)

    __del__ = __exit__  # an exception may come between entering and the block


def _forked() -> None:
    """Of all threads only this one is in the child."""
    _inside[:] = [entry for entry in _inside if entry[0] == _thread.get_ident()]


os.register_at_fork(after_in_child=_forked)
