"""The description that a trace carries: its clock, and the events that its users defined.

Only what `wire.metadata` and `wire.event` write is understood, with the types of `wire.FIELD_TYPES`.  Quoted text holds
no line break there, so whatever stands at the beginning of a line is not a user's.  No pattern looks at more than a
line or two from where it begins: a text may be long, and anything.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import struct
import uuid
from typing import TYPE_CHECKING, TypeAlias

from .. import wire
from ..layout import CLOCK_MONOTONIC, CLOCK_TSC
from .errors import InvalidDescription

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ClockDescription", "Description", "EventClass", "Fields", "describe"]

Fields: TypeAlias = "dict[str, object]"

_CODES = {
    "u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i8": "b", "i16": "h", "i32": "i", "i64": "q",
    "f32": "f", "f64": "d", "bool": "?",
}  # fmt: skip
USERS_IDS = range(wire.FIRST_ID, 1 << 16)
_LENGTH = struct.Struct("<H")  # ahead of a field of bytes
assert {*_CODES, "str", "bytes"} == set(wire.FIELD_TYPES)

_TEXT = r'"((?:[^"\\\n]|\\.)*)"'
_TRACE = re.compile(r'^[ \t]*major = 1; minor = 8; uuid = "([0-9a-fA-F-]+)"', re.MULTILINE)
_ENV = re.compile(rf"^[ \t]*hostname = {_TEXT}; channel = {_TEXT};", re.MULTILINE)
_CLOCK = re.compile(
    rf'^[ \t]*name = tsc; uuid = "([0-9a-fA-F-]+)"; description = {_TEXT};\n?[ \t]*'
    r"freq = (\d+); offset_s = (-?\d+); offset = (-?\d+);",
    re.MULTILINE,
)
_EVENT = re.compile(
    rf"^event \{{ id = (\d+); name = {_TEXT}; stream_id = \d+;(?: loglevel = (-?\d+);)?"
    r'(?: model\.emf\.uri = "shmtrace:(\w+)";)? fields := struct \{ (.*) \}; \};$',
    re.MULTILINE,
)


def _field_patterns() -> list[tuple[str, re.Pattern[str]]]:
    """What `wire.FIELD_TYPES` says, read backwards; the longest first, since one of them begins like another."""
    patterns = []
    for kind, template in sorted(wire.FIELD_TYPES.items(), key=lambda item: -len(item[1])):
        first, *others = template.split("{0}")
        # the name may stand there more than once, and is the same each time
        pattern = re.escape(first) + r"(\w+)" + r"\1".join(map(re.escape, others))
        patterns.append((kind, re.compile(pattern + r"\s*")))
    return patterns


_FIELDS = _field_patterns()


@dataclasses.dataclass(frozen=True, slots=True)
class ClockDescription:
    """How cycles relate to time: wall clock = offset_s + (offset + cycles) / frequency, in seconds since 1970."""

    kind: int  # layout.CLOCK_TSC or CLOCK_MONOTONIC
    frequency: int  # Hz
    offset_s: int
    offset: int  # cycles


@dataclasses.dataclass(frozen=True)
class EventClass:
    """An event that a user defined."""

    id: int
    name: str
    kind: str  # event, begin, end or counter
    level: int | None
    fields: tuple[tuple[str, str], ...]  # names and types

    @functools.cached_property
    def decode(self) -> Callable[[memoryview], Fields]:
        """Reads the fields from a record's body; raises ValueError where that is too short."""
        names = [name for name, _ in self.fields]
        readers = [_reader(kind) for _, kind in self.fields]
        if all(kind in _CODES for _, kind in self.fields):
            whole = struct.Struct("<" + "".join(_CODES[kind] for _, kind in self.fields))

            def decode_fixed(body: memoryview) -> Fields:
                if len(body) != whole.size:
                    raise ValueError(f"{len(body)} bytes instead of {whole.size}")
                return dict(zip(names, whole.unpack(body), strict=True))

            return decode_fixed

        def decode(body: memoryview) -> Fields:
            values: Fields = {}
            at = 0
            for name, reader in zip(names, readers, strict=True):
                values[name], at = reader(body, at)
            return values

        return decode


@dataclasses.dataclass(frozen=True, slots=True)
class Description:
    """What the metadata of a trace says."""

    uuid: bytes
    boot_id: bytes
    hostname: str
    channel: str
    clock: ClockDescription
    classes: dict[int, EventClass]


def describe(text: str) -> Description:
    """What `text` says.

    Raises:
        InvalidDescription: it is not what shmtrace writes.
    """
    trace, env, clock = _TRACE.search(text), _ENV.search(text), _CLOCK.search(text)
    if trace is None or env is None or clock is None:
        what = "trace" if trace is None else "env" if env is None else "clock"
        raise InvalidDescription(
            f"metadata without the `{what}` block that shmtrace writes: made by another program or version"
        )
    boot, kind, frequency, offset_s, offset = clock.groups()
    try:
        if not int(frequency):
            raise ValueError("a clock of 0 Hz")  # noqa: TRY301 - one place for the message
        return Description(
            uuid.UUID(trace[1]).bytes,
            uuid.UUID(boot).bytes,
            _unquote(env[1]),
            _unquote(env[2]),
            ClockDescription(
                CLOCK_MONOTONIC if "CLOCK_MONOTONIC" in kind else CLOCK_TSC,
                int(frequency),
                int(offset_s),
                int(offset),
            ),
            {made.id: made for made in map(_event_class, _EVENT.finditer(text)) if made.id in USERS_IDS},
        )
    except ValueError as error:
        raise InvalidDescription(f"metadata that makes no sense: {error}") from None


def _event_class(match: re.Match[str]) -> EventClass:
    identifier, name, level, kind, text = match.groups()
    number = int(identifier)
    return EventClass(
        number,
        _unquote(name),
        kind or "event",
        None if level is None else int(level),
        tuple(_fields(text)) if number in USERS_IDS else (),
    )


def _fields(text: str) -> list[tuple[str, str]]:
    fields = []
    at = 0
    while at < len(text):
        for kind, pattern in _FIELDS:
            if match := pattern.match(text, at):
                fields.append((match[1], kind))
                at = match.end()
                break
        else:
            raise ValueError(f"an unknown field: {text[at : at + 60]}")
    return fields


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _reader(kind: str) -> Callable[[memoryview, int], tuple[object, int]]:
    if kind == "str":
        return _read_str
    if kind == "bytes":
        return _read_bytes
    code = struct.Struct("<" + _CODES[kind])

    def read_number(body: memoryview, at: int) -> tuple[object, int]:
        if at + code.size > len(body):
            raise ValueError("fields that reach beyond the record")
        return code.unpack_from(body, at)[0], at + code.size

    return read_number


def _read_str(body: memoryview, at: int) -> tuple[object, int]:
    text, end, _ = bytes(body[at:]).partition(b"\0")
    if not end:
        raise ValueError("a text without an end")
    return text.decode("utf-8", "replace"), at + len(text) + 1


def _read_bytes(body: memoryview, at: int) -> tuple[object, int]:
    start = at + _LENGTH.size
    if start > len(body):
        raise ValueError("fields that reach beyond the record")
    stop = start + _LENGTH.unpack_from(body, at)[0]
    if stop > len(body):
        raise ValueError("fields that reach beyond the record")
    return bytes(body[start:stop]), stop
