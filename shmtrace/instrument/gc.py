"""The garbage collector: a span for each collection."""

from __future__ import annotations

import gc
import threading

from .. import channel as channels
from .spans import Pairs, next_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..channel import Channel

__all__ = ["Collections", "install"]

_END = "collected:u64 uncollectable:u64"


class Collections:
    """Records the collections of this process and those that are forked from it, until `uninstall`."""

    def __init__(self, channel: Channel) -> None:
        self._pairs = Pairs(channel, "generation:u8", _END)
        if channel.segment is not None:  # else by the first collection that is to be recorded
            self._pairs.make("gc")
        self._open = threading.local()  # a free-threaded build collects in one thread while others begin to

    def install(self) -> None:
        gc.callbacks.append(self._tell)

    def uninstall(self) -> None:
        """Record no more.  May be called twice."""
        if self._tell in gc.callbacks:
            gc.callbacks.remove(self._tell)

    def _tell(self, phase: str, info: dict[str, int]) -> None:
        pair = self._pairs.get("gc")
        if pair is None:
            return
        if phase == "start":
            self._open.number = next_number()
            pair.begin(self._open.number, info["generation"])
        elif (number := getattr(self._open, "number", 0)) != 0:
            self._open.number = 0
            pair.end(number, info["collected"], info["uncollectable"])


def install(channel: Channel | None = None) -> Collections:
    """Record each garbage collection as a span `gc`: its `generation`, and what it has `collected` at its end.

    `channel`: where to, else what `attach()` gives.
    """
    collections = Collections(channel if channel is not None else channels.attach())
    collections.install()
    return collections
