"""The description that a trace carries: its clock, and the events that its users defined.

Only what `wire.metadata` and `wire.event` write is understood, with the fields that `wire.class_fields` declares.
Quoted text holds no line break there, so whatever stands at the beginning of a line is not a user's.  No pattern looks
at more than a line or two from where it begins: a text may be long, and anything.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import uuid
from typing import TYPE_CHECKING

from .. import wire
from ..layout import CLOCK_MONOTONIC, CLOCK_TSC
from .decode import decoder
from .errors import InvalidDescription
from .functions import is_step
from .log import level_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .decode import Fields

__all__ = ["ClockDescription", "Description", "EventClass", "describe"]

# Of these a reader goes by what the description says; the others are the same in every trace.
DESCRIBED_IDS = frozenset({wire.ID_PLACED, *range(wire.FIRST_ID, 1 << 16)})

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


OWN_FIELDS = max(wire.KINDS.values(), key=len)  # the others are the beginning of this
assert all(own == OWN_FIELDS[: len(own)] for own in wire.KINDS.values())
_OWN = [re.compile(rf"uint32_t ___{name};\s*") for name in OWN_FIELDS]
_THEIRS = {theirs: ours for ours, theirs in wire.NUMBER_TYPES.items()}
_PLAIN = {**_THEIRS, "bool_t": "bool", "string": "str"}
assert {*_PLAIN.values(), "bytes"} == set(wire.FIELD_TYPES)
_NUMBER = "|".join(_THEIRS)
_FIELD = re.compile(
    rf"""
    (?: (?P<type> {"|".join(_PLAIN)}) [ ] _(?P<name> [^\W\d_]\w*) (?: \[ (?P<count> \d{{1,5}}) \] )? ;
      | uint16_t [ ] ___(?P<sized> \w+)_length; [ ] (?P<element> {_NUMBER}) [ ] _(?P=sized) \[ ___(?P=sized)_length \] ;
      | enum [ ] : [ ] (?P<enum> {_NUMBER}) [ ] \{{ [ ] (?P<labels> [^{{}}]*) [ ] \}} [ ] _(?P<of_enum> \w+) ;
    ) \s*
    """,
    re.VERBOSE | re.ASCII,
)
_LABEL = re.compile(r'"(\w+)" = (-?\d+)(?:, |$)', re.ASCII)


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
    level: str | None
    own: int  # so many of OWN_FIELDS stand ahead of the user's
    fields: tuple[tuple[str, str], ...]  # names and types, as `wire.split_fields` has them

    @functools.cached_property
    def decode(self) -> Callable[[memoryview], tuple[tuple[int, ...], Fields]]:
        """Reads the kind's numbers and the user's fields from a record's body; ValueError: it has another size."""
        return decoder(self.own, self.fields)


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
            {made.id: made for made in map(_event_class, _EVENT.finditer(text)) if made.id in DESCRIBED_IDS},
        )
    except ValueError as error:
        raise InvalidDescription(f"metadata that makes no sense: {error}") from None


def _event_class(match: re.Match[str]) -> EventClass:
    identifier, name, level, kind, text = match.groups()
    number = int(identifier)
    own, at = _own_fields(text)
    fields = tuple(_fields(text, at)) if number in DESCRIBED_IDS else ()
    if kind is None or (kind in wire.FUNCTION_FIELDS and (own or not is_step(kind, fields))):
        kind = "event"
    return EventClass(number, _unquote(name), kind, None if level is None else level_name(int(level)), own, fields)


def _own_fields(text: str) -> tuple[int, int]:
    """How many fields of its kind a class has, and where its others begin."""
    at = 0
    for number, pattern in enumerate(_OWN):
        match = pattern.match(text, at)
        if match is None:
            return number, at
        at = match.end()
    return len(_OWN), at


def _fields(text: str, at: int) -> Iterator[tuple[str, str]]:
    """Names and types of the fields from `at` on.  What `wire.field` writes, read backwards."""
    while at < len(text):
        match = _FIELD.match(text, at)
        if match is None:
            raise ValueError(f"an unknown field: {text[at : at + 60]}")
        at = match.end()
        if match["sized"]:  # an array of u8 and bytes are declared alike, and are the same
            element = _THEIRS[match["element"]]
            yield match["sized"], "bytes" if element == "u8" else f"{element}[]"
        elif match["enum"]:
            yield match["of_enum"], _enum(match["enum"], match["labels"])
        elif match["count"]:
            yield match["name"], f"{_element(match['type'])}[{match['count']}]"
        else:
            yield match["name"], _PLAIN[match["type"]]


def _element(theirs: str) -> str:
    if theirs not in _THEIRS:
        raise ValueError(f"an array of {theirs}")
    return _THEIRS[theirs]


def _enum(theirs: str, text: str) -> str:
    """The type of an enumeration."""
    pairs = [f"{label}={number}" for label, number in _LABEL.findall(text)]
    kind = f"{_THEIRS[theirs]}{{{','.join(pairs)}}}"
    if _LABEL.sub("", text) or wire.parse_enum(kind) is None:
        raise ValueError(f"labels that make no sense: {text[:60]}")
    return kind


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
