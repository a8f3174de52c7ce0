"""Spans whose end has fields, and which need not nest: what others have begun and will end, wherever that is.

Their numbers have the highest bit set, so that they are none of those that `channel.span` gives.
"""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING

from .. import layout, place, wire
from ..classes import classes
from ..encoding import WrongArguments, text_bytes
from ..errors import ShmtraceError
from ..layout import CONTROL
from ..log import is_recording, tell_context
from ..native import tables
from ..native.builtin import METH_O
from ..notes import say
from ..section import is_inside
from ..tracepoint import LEVELS, Event, check_event_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..channel import Channel

__all__ = ["Pair", "Pairs", "next_number"]

FIRST, LAST = 0x8000_0000, 0xFFFF_FFFE
MOST_NAMES = 256  # that a bridge gives spans of their own; and not more than fill half of the room for classes
ALWAYS_FITS = layout.MIN_PAGE_SIZE - 100  # bytes of fields
assert layout.MIN_PAGE_SIZE - wire.RECORD_BYTES - wire.KIND_BYTES["begin"] >= ALWAYS_FITS
_BEGIN, _END = struct.Struct("<4I"), struct.Struct("<2I")
_numbers = itertools.cycle(range(FIRST, LAST))


def next_number() -> int:
    """A span's number, of this process."""
    return next(_numbers)


class Pair:
    """A span's two classes of records, of one name.  `begin` and `end` are their fields, "name:type name:type ..."."""

    def __init__(self, channel: Channel, name: str, begin: str, end: str, *, is_other: bool = False) -> None:
        """Raises InvalidName, and TracepointConflict if there is another span of this name."""
        check_event_name(name)
        self._channel = channel
        self._is_other = is_other
        self._begin, self._write_begin = self._make(name, "begin", f"name:str {begin}" if is_other else begin)
        self._end, self._write_end = self._make(name, "end", end)

    def _make(self, name: str, kind: str, fields: str) -> tuple[Event, Callable[[bytes], bool]]:
        key = f"bridge {kind}", name
        event = self._channel.events.get(key)
        if event is None or event.fields != fields:
            event = Event(self._channel, kind, name, LEVELS["info"], fields)
            event.prepare()
            self._channel.events[key] = event  # the channel binds it anew when it is attached or closed
        return event, event._make("body_write", METH_O, "write")

    @property
    def limit(self) -> int:
        """Bytes of all fields together, at most."""
        return self._begin._limit() - _BEGIN.size  # noqa: SLF001

    @property
    def identifier(self) -> int:
        """Of the class of its begin records."""
        return self._begin.read(tables.EVENT.id)

    def begin(self, number: int, *values: object) -> bool:
        """The span of this number begins, inside of the one that is open here; True if it is recorded."""
        body = self._encode(self._begin, values)
        return body is not None and self.begin_with(number, "", body)

    def begin_with(self, number: int, name: str, body: bytes, parent: int = 0) -> bool:
        """The same with fields that are encoded; `parent` is the number of another span that it is inside of.

        `name` is recorded where this is the span that stands in for others.
        """
        here, context, task = place.numbers()
        if context:
            tell_context(self._channel)
        head = _BEGIN.pack(number, context, parent or here, task)
        if self._is_other:
            head += text_bytes(name)
        return self._write(self._begin, self._write_begin, head + body)

    def end(self, number: int, *values: object) -> bool:
        """It ends."""
        body = self._encode(self._end, values)
        return body is not None and self.end_with(number, body)

    def end_with(self, number: int, body: bytes) -> bool:
        """The same with fields that are encoded."""
        context = place.numbers()[1]
        if context:
            tell_context(self._channel)
        return self._write(self._end, self._write_end, _END.pack(number, context) + body)

    @staticmethod
    def _encode(event: Event, values: tuple[object, ...]) -> bytes | None:
        try:
            return event._encode(values, {}, 0)  # noqa: SLF001
        except WrongArguments:  # too long, all in all
            event._count()  # noqa: SLF001
            return None

    @staticmethod
    def _write(event: Event, write: Callable[[bytes], bool], body: bytes) -> bool:
        if len(body) > ALWAYS_FITS and len(body) > event._limit():  # noqa: SLF001
            event._count()  # noqa: SLF001
            return False
        return bool(write(body))


class Pairs:
    """A bridge's spans, made when they are needed.

    Those that cannot be made, because of their name or because there are too many, are recorded as the span `other`,
    with a field `name` ahead of the others; if there is none, they are told once and not recorded.
    """

    def __init__(self, channel: Channel, begin: str, end: str, *, other: str = "") -> None:
        self.channel = channel
        self._fields = begin, end
        self._other_name = other
        self._other: Pair | None = None
        self._made: dict[str, Pair | None] = {}

    def get(self, name: str) -> Pair | None:
        """The span of this name; None while nobody reads, and where it cannot be made just now."""
        if not is_recording(self.channel):
            return None
        if name in self._made:
            return self._made[name]
        return self.make(name) if not is_inside() else None

    def make(self, name: str) -> Pair | None:
        """Define it."""
        if self._other_name and self._other is None:  # while there is room
            try:
                self._other = Pair(self.channel, self._other_name, *self._fields, is_other=True)
            except ShmtraceError as error:
                say(str(error))
                self._other_name = ""
        if len(self._made) >= MOST_NAMES:
            return self._other
        pair = self._other
        try:
            if not self._other_name or self._has_room(name):
                pair = Pair(self.channel, name, *self._fields)
        except (ShmtraceError, TypeError) as error:
            if self._other is None:
                say(str(error))
        self._made[name] = pair
        return pair

    def _has_room(self, name: str) -> bool:
        """Whether a name may have classes of its own: half of the room for them is left to the program's events."""
        segment = self.channel.segment
        if segment is None:
            return False
        if segment.u32(CONTROL.classes_used) <= segment.geometry.classes_bytes // 2:
            return True
        return any((found.name, found.kind) == (name, "begin") for found in classes(segment))
