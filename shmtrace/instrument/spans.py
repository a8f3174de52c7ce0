"""Spans whose end has fields, and which need not nest: what others have begun and will end, wherever that is.

Their numbers have the highest bit set, so that they are none of those that `channel.span` gives.
"""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING

from .. import place
from ..encoding import WrongArguments
from ..errors import ShmtraceError
from ..layout import PLACE
from ..log import is_recording, tell_context
from ..native.builtin import METH_O
from ..notes import say
from ..tracepoint import LEVELS, Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..channel import Channel

__all__ = ["Pairs", "next_number"]

FIRST, LAST = 0x8000_0000, 0xFFFF_FFFE
_BEGIN, _END = struct.Struct("<4I"), struct.Struct("<2I")
_numbers = itertools.cycle(range(FIRST, LAST))


def next_number() -> int:
    """A span's number, of this process."""
    return next(_numbers)


class Pair:
    """A span's two classes of records, of one name.  `begin` and `end` are their fields, "name:type name:type ..."."""

    def __init__(self, channel: Channel, name: str, begin: str, end: str) -> None:
        """Raises InvalidName, and TracepointConflict if there is another span of this name."""
        self._channel = channel
        self._begin, self._write_begin = self._make(name, "begin", begin)
        self._end, self._write_end = self._make(name, "end", end)

    def _make(self, name: str, kind: str, fields: str) -> tuple[Event, Callable[[bytes], bool]]:
        event = Event(self._channel, kind, name, LEVELS["info"], fields)
        event.prepare()
        self._channel.events[f"bridge {kind}", name] = event  # the channel binds it anew when it is attached or closed
        return event, event._make("body_write", METH_O, "write")

    def begin(self, number: int, *values: object) -> bool:
        """The span of this number begins, inside of the one that is open here; True if it is recorded."""
        parent = place.number(PLACE.current, 4)
        tell_context(self._channel)
        head = _BEGIN.pack(number, place.number(PLACE.context, 4), parent, place.number(PLACE.task, 4))
        return self._write(self._begin, self._write_begin, head, values)

    def end(self, number: int, *values: object) -> bool:
        """It ends."""
        head = _END.pack(number, place.number(PLACE.context, 4))
        return self._write(self._end, self._write_end, head, values)

    def _write(self, event: Event, write: Callable[[bytes], bool], head: bytes, values: tuple[object, ...]) -> bool:
        try:
            body = event._encode(values, {}, len(head))  # noqa: SLF001
        except WrongArguments:  # too long, all in all
            event._count()  # noqa: SLF001
            return False
        return bool(write(head + body))


class Pairs:
    """A bridge's spans, made when they are needed; those that cannot be made are told once and not recorded."""

    def __init__(self, channel: Channel, begin: str, end: str) -> None:
        self.channel = channel
        self._fields = begin, end
        self._made: dict[str, Pair | None] = {}

    def get(self, name: str) -> Pair | None:
        """The span of this name; None while nobody reads."""
        if not is_recording(self.channel):
            return None
        if name not in self._made:
            self._made[name] = None
            try:
                self._made[name] = Pair(self.channel, name, *self._fields)
            except ShmtraceError as error:
                say(str(error))
        return self._made[name]
