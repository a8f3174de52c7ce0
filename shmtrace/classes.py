"""Event classes: append-only, the same id for the same class in every process.

They lie in the segment, so that the collector can describe them to a reader, and a process that defines a class which
another one has defined before gets that one's id.

Among them lie rules, "enable" and "disable", which say what is to become of classes that are defined later.  They take
a number, as a class does, and have no description.
"""

from __future__ import annotations

import os

from . import layout, wire
from .errors import ChannelError, TooManyTracepoints, TracepointConflict
from .layout import CLASS, CLASS_BYTES, CONTROL
from .section import DEFINE, Section
from .segment import semaphore_path

TYPE_CHECKING = False  # every producer with a tracepoint imports this
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .segment import Segment

ENABLE, DISABLE = "enable", "disable"  # kinds of rules
RULES = {ENABLE, DISABLE}


class EventClass:
    """A class of events, or a rule.  `fields` is "name:type name:type ...", with the types of `wire`."""

    __slots__ = ("at", "fields", "id", "kind", "level", "name")

    def __init__(self, identifier: int, name: str, kind: str, fields: str, level: int, at: int) -> None:  # noqa: PLR0917
        self.id, self.name, self.kind, self.fields, self.level = identifier, name, kind, fields, level
        self.at = at  # where it lies in the segment

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EventClass) and (self.id, self.at) == (other.id, other.at)

    __hash__ = None  # type: ignore[assignment]  # nobody looks for one

    def conflicts(self, name: str, kind: str, fields: str) -> bool:
        """Whether this and another of that name cannot both be."""
        if self.name != name or self.kind in RULES:
            return False
        if {self.kind, kind} == {"begin", "end"}:  # a span has two classes
            return False
        return (self.kind, self.fields) != (kind, fields)


def define(segment: Segment, name: str, *, fields: str = "", kind: str = "event", level: int = 20) -> EventClass:
    """The class of this name, made if it is not there yet.

    Raises TracepointConflict, TooManyTracepoints, and ChannelError where nothing can be defined any more.

    It is complete in the segment before its id is known to anybody, so a record never has an id without a class.
    """
    found = _find(segment, name, fields, kind)
    if found is None:
        from .locks import locked

        try:
            with Section(DEFINE), locked(semaphore_path(segment.name, "waiting")):
                found = _find(segment, name, fields, kind)
                if found is None:
                    found = _append(segment, name, fields, kind, level)
        except OSError as error:
            raise ChannelError(
                f"{name!r} is not recorded: it cannot be defined in the channel {segment.name!r}, which was removed, "
                f"or is another user's since this process changed its own ({os.strerror(error.errno or 0)}): define it "
                "earlier"
            ) from None
    return found


def switch_address(segment: Segment, found: EventClass) -> int:
    """Where the word lies by which a class is on or off."""
    return segment.address + found.at + CLASS.enabled


def _find(segment: Segment, name: str, fields: str, kind: str) -> EventClass | None:
    for found in classes(segment):
        if found.conflicts(name, kind, fields):
            raise TracepointConflict(
                f"{name!r} of channel {segment.name!r} is {_shown(found.kind, found.fields)} already, "
                f"not {_shown(kind, fields)}: give it another name"
            )
        if (found.name, found.kind) == (name, kind):
            return found
    return None


def _shown(kind: str, fields: str) -> str:
    return f"{'span' if kind == 'begin' else kind} ({fields})"


def _append(segment: Segment, name: str, fields: str, kind: str, level: int) -> EventClass:
    known = list(classes(segment))
    texts = [text.encode() for text in (name, kind, fields)]
    length = wire.padded(CLASS_BYTES + sum(map(len, texts)))
    used = segment.u32(CONTROL.classes_used)
    if used + length > segment.geometry.classes_bytes or wire.FIRST_ID + len(known) > 0xFFFF:
        raise TooManyTracepoints(
            f"channel {segment.name!r} has no room for {name!r} beside {len(known)} others: it is not recorded"
        )
    at = segment.geometry.classes_at + used
    segment.write(at + CLASS_BYTES, b"".join(texts))
    segment.set_u32(at + CLASS.level, level)
    segment.set_u32(
        at + CLASS.enabled, _order(known, segment) if kind in RULES else _is_on(known, segment, name, level)
    )
    segment.write(at + CLASS.name_bytes, len(texts[0]).to_bytes(2, "little"))
    segment.write(at + CLASS.kind_bytes, len(texts[1]).to_bytes(2, "little"))
    segment.set_u32(at + CLASS.fields_bytes, len(texts[2]))
    segment.set_u32(at + CLASS.length, length)
    segment.set_u32(CONTROL.classes_used, used + length)
    segment.set_u32(CONTROL.classes_count, len(known) + 1)
    return EventClass(wire.FIRST_ID + len(known), name, kind, fields, level, at)


def switch(segment: Segment, pattern: str, rule: str, level: int | None) -> int:
    """Enable or disable the classes whose names match, now and those that come; how many there are now.

    ENABLE with a level: those of this level and above; DISABLE with a level: those of this level and below.
    Raises TooManyTracepoints, ChannelError.
    """
    from contextlib import ExitStack

    from .locks import locked

    text = "" if level is None else str(level)
    with ExitStack() as stack:
        stack.enter_context(Section(DEFINE))
        try:
            stack.enter_context(locked(semaphore_path(segment.name, "waiting")))
        except OSError as error:
            raise ChannelError(
                f"nothing is switched: the channel {segment.name!r} was removed, or is another user's "
                f"({os.strerror(error.errno or 0)})"
            ) from None
        known = list(classes(segment))
        same = [found for found in known if (found.name, found.kind, found.fields) == (pattern, rule, text)]
        if same:
            segment.set_u32(same[0].at + CLASS.enabled, _order(known, segment))
        else:
            _append(segment, pattern, text, rule, 0)
        matching = [
            found
            for found in known
            if found.kind not in RULES and _matches(found.name, found.level, pattern, rule, text)
        ]
        for found in matching:
            segment.set_u32(found.at + CLASS.enabled, rule == ENABLE)
    return len({found.name for found in matching})


def _order(known: list[EventClass], segment: Segment) -> int:
    """A rule's `enabled` is its place in the order in which they were given."""
    return 1 + max((segment.u32(found.at + CLASS.enabled) for found in known if found.kind in RULES), default=0)


def _is_on(known: list[EventClass], segment: Segment, name: str, level: int) -> bool:
    """What the rules say of a new class: the last one that matches decides."""
    rules = [
        found for found in known if found.kind in RULES and _matches(name, level, found.name, found.kind, found.fields)
    ]
    last = max(rules, key=lambda rule: segment.u32(rule.at + CLASS.enabled), default=None)
    return last is None or last.kind == ENABLE


def _matches(name: str, level: int, pattern: str, rule: str, limit: str) -> bool:
    from fnmatch import fnmatchcase

    if not fnmatchcase(name, pattern):
        return False
    if not limit.isdecimal():
        return True
    return level >= int(limit) if rule == ENABLE else level <= int(limit)


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
        yield EventClass(wire.FIRST_ID + number, name, kind, fields, segment.u32(at + CLASS.level), at)
        at += length


def describe(segment: Segment) -> tuple[int, str]:
    """How many classes there are, and their description in CTF's language; up to the first that is nonsense."""
    texts = []
    for found in classes(segment):
        if found.kind in RULES:
            texts.append("")
            continue
        try:
            fields = wire.class_fields(found.fields, found.kind)
        except (KeyError, ValueError):
            break
        if not (found.kind.isidentifier() and found.kind.isascii()):
            break
        texts.append(wire.event(found.id, found.name, fields, wire.log_level(found.level), found.kind))
    return len(texts), "".join(texts)


assert layout.width_of(CLASS, "name_bytes") == layout.width_of(CLASS, "kind_bytes") == 2
