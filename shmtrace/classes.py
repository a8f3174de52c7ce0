"""Event classes: append-only, the same id for the same class in every process.

They lie in the segment, so that the collector can describe them to a reader, and a process that defines a class which
another one has defined before gets that one's id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from . import layout, wire
from .errors import TooManyTracepoints, TracepointConflict
from .layout import CLASS, CLASS_BYTES, CONTROL
from .locks import locked
from .segment import semaphore_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .segment import Segment


class EventClass(NamedTuple):
    """A class of events.  `fields` is "name:type name:type ...", with the types of `wire.FIELD_TYPES`."""

    id: int
    name: str
    kind: str
    fields: str
    level: int


def define(segment: Segment, name: str, *, fields: str = "", kind: str = "event", level: int = 20) -> EventClass:
    """The class of this name, made if it is not there yet.  Raises TracepointConflict, TooManyTracepoints.

    It is complete in the segment before its id is known to anybody, so a record never has an id without a class.
    """
    with locked(semaphore_path(segment.name, "waiting")):
        known = list(classes(segment))
        for found in known:
            if found.name == name and {found.kind, kind} != {"begin", "end"}:  # a span has two classes
                if (found.kind, found.fields) != (kind, fields):
                    raise TracepointConflict(
                        f"tracepoint {name!r} of channel {segment.name!r} is {found.kind} ({found.fields}) already, "
                        f"not {kind} ({fields}): give it another name"
                    )
                return found
        texts = [text.encode() for text in (name, kind, fields)]
        length = wire.padded(CLASS_BYTES + sum(map(len, texts)))
        used = segment.u32(CONTROL.classes_used)
        if used + length > segment.geometry.classes_bytes or wire.FIRST_ID + len(known) > 0xFFFF:
            raise TooManyTracepoints(
                f"channel {segment.name!r} has no room for tracepoint {name!r} beside {len(known)} others"
            )
        at = segment.geometry.classes_at + used
        segment.write(at + CLASS_BYTES, b"".join(texts))
        segment.set_u32(at + CLASS.level, level)
        segment.set_u32(at + CLASS.enabled, 1)
        segment.write(at + CLASS.name_bytes, len(texts[0]).to_bytes(2, "little"))
        segment.write(at + CLASS.kind_bytes, len(texts[1]).to_bytes(2, "little"))
        segment.set_u32(at + CLASS.fields_bytes, len(texts[2]))
        segment.set_u32(at + CLASS.length, length)
        segment.set_u32(CONTROL.classes_used, used + length)
        segment.set_u32(CONTROL.classes_count, len(known) + 1)
        return EventClass(wire.FIRST_ID + len(known), name, kind, fields, level)


def classes(segment: Segment) -> Iterator[EventClass]:
    """The classes of a segment, in the order of their ids; ends at the first entry that is nonsense."""
    begin, end = segment.geometry.classes_at, segment.geometry.descriptors_at
    at = begin
    for number in range(min(segment.u32(CONTROL.classes_count), 0xFFFF - wire.FIRST_ID)):
        if at + CLASS_BYTES > end:
            return
        name_bytes = int.from_bytes(segment.read(at + CLASS.name_bytes, 2), "little")
        kind_bytes = int.from_bytes(segment.read(at + CLASS.kind_bytes, 2), "little")
        fields_bytes, length = segment.u32(at + CLASS.fields_bytes), segment.u32(at + CLASS.length)
        size = CLASS_BYTES + name_bytes + kind_bytes + fields_bytes
        if not size <= length <= end - at or length % wire.RECORD_ALIGNMENT:
            return
        text = segment.read(at + CLASS_BYTES, size - CLASS_BYTES)
        try:
            name = text[:name_bytes].decode()
            kind = text[name_bytes : name_bytes + kind_bytes].decode()
            fields = text[name_bytes + kind_bytes :].decode()
        except UnicodeDecodeError:
            return
        yield EventClass(wire.FIRST_ID + number, name, kind, fields, segment.u32(at + CLASS.level))
        at += length


def describe(segment: Segment) -> tuple[int, str]:
    """How many classes there are, and their description in CTF's language; up to the first that is nonsense."""
    texts = []
    for found in classes(segment):
        try:
            fields = wire.class_fields(found.fields, found.kind)
        except (KeyError, ValueError):
            break
        if not (found.kind.isidentifier() and found.kind.isascii()):
            break
        texts.append(wire.event(found.id, found.name, fields, wire.log_level(found.level), found.kind))
    return len(texts), "".join(texts)


assert layout.width_of(CLASS, "name_bytes") == layout.width_of(CLASS, "kind_bytes") == 2
