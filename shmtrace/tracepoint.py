"""What people write: tracepoints and counters, and what spans and logs have in common with them.

An object of these holds a cell (tables.EVENT) in its first slot, where the jitted code finds it, and its call is a
builtin made of that code.  The cell is a `bytes` whose payload is changed in place: kernels that numba compiled know
its address.
"""

from __future__ import annotations

import ctypes
import os
import sys

from . import place, wire
from .classes import define, switch_address
from .encoding import MOST_FIELDS, Encoder, WrongArguments, type_text
from .errors import ChannelError, InvalidName, TooManyTracepoints, TracepointConflict
from .known import add as remember
from .layout import CONTEXT
from .native import functions, is_ready, tables
from .native.builtin import METH_FASTCALL, METH_KEYWORDS, METH_NOARGS, METH_O, address_of, make_builtin
from .native.tables import EVENT
from .notes import say
from .section import is_inside

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    from .channel import Channel
    from .segment import Segment

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
NAME_LIMIT = 200  # bytes
PATTERN_LIMIT = 1000  # bytes
MOST_SITES = 1000  # call sites that are warned of
CALL_DOC = """{name}($self, {arguments})
--

Record one event.  Returns True if it was recorded."""

_sites: set[tuple[object, int, str]] = set()
_off = (ctypes.c_uint32 * 1)()  # the switch of what cannot be recorded


def level_number(level: str | int) -> int:
    """A level, by its name in `logging` or its number.  Raises ValueError, TypeError."""
    if isinstance(level, str):
        if level.lower() not in LEVELS:
            raise ValueError(f"level {level!r}: must be one of {', '.join(LEVELS)}, or a number as in logging")
        return LEVELS[level.lower()]
    if not isinstance(level, int):
        raise TypeError(f"level {level!r}: must be one of {', '.join(LEVELS)}, or a number as in logging")
    if not 0 <= level <= 1000:
        raise ValueError(f"level {level}: must be 0 to 1000")
    return int(level)


def is_strict() -> bool:
    """Whether wrong arguments are an exception: $SHMTRACE_STRICT, or under pytest."""
    strict = os.environ.get("SHMTRACE_STRICT")
    if strict is not None:
        return strict not in {"", "0"}
    return "PYTEST_VERSION" in os.environ or "PYTEST_CURRENT_TEST" in os.environ


def has_code(channel: Channel) -> bool:
    """Whether there is object code, or somebody reads who pays for a compiler, which cannot be run in its own midst."""
    return is_ready("typed") or (channel.segment is not None and not is_inside())


def _users_frame() -> FrameType:
    """The innermost frame that is not ours."""
    frame = sys._getframe(1)  # noqa: SLF001
    while frame.f_back is not None and _is_ours(frame):
        frame = frame.f_back
    return frame


def _is_ours(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__")
    return isinstance(module, str) and module.startswith("shmtrace.")


def check_event_name(name: object) -> str:
    """The name, if a tracepoint can have it; else InvalidName or TypeError."""
    if not isinstance(name, str):
        raise TypeError(f"a name must be a str, not {type(name).__name__}")
    if not name or not name.isprintable() or len(name.encode(errors="replace")) > NAME_LIMIT:
        raise InvalidName(f"{name!r} is no name of an event: 1 to {NAME_LIMIT} bytes of printable text")
    if name in wire.RESERVED_NAMES:
        raise InvalidName(f"{name!r} is a name that shmtrace uses itself: choose another one")
    return name


def check_pattern(pattern: object) -> None:
    """Raise InvalidName or TypeError for what cannot match a name."""
    if not isinstance(pattern, str):
        raise TypeError(f"a pattern must be a str, not {type(pattern).__name__}")
    if not pattern or not pattern.isprintable() or len(pattern.encode(errors="replace")) > PATTERN_LIMIT:
        shown = pattern if len(pattern) <= PATTERN_LIMIT else f"{pattern[:20]}..."
        raise InvalidName(f"{shown!r} is no pattern for names: 1 to {PATTERN_LIMIT} bytes of printable text")


class _Handle:
    """The first slot is the cell: jitted code reads it at a fixed offset."""

    __slots__ = ("_event",)
    _event: bytes


class Event(_Handle):
    """A class of events in a channel: its definition, and the cell that says how to record one."""

    __slots__ = ("__weakref__", "_body", "_channel", "_encoder", "_keep", "_kind", "fields", "level", "name")

    name: str
    fields: str
    level: int

    def __init__(self, channel: Channel, kind: str, name: str, level: int, fields: str) -> None:
        self.name, self.level, self.fields = name, level, fields
        self._channel = channel
        self._kind = kind
        self._encoder = encoder = Encoder(name, fields)
        names = [sys.intern(field) for field in encoder.names]
        self._keep = [names, self._refuse]
        table = b"".join(code.to_bytes(tables.FIELD_BYTES, "little") for code in encoder.codes)
        table += b"".join(id(field).to_bytes(8, "little") for field in names)
        self._event = bytes(bytearray(tables.EVENT_BYTES)) + table
        # a `bytes` that is nobody else's: of one byte or none it would be shared
        self._set(EVENT.context, address_of(channel._context))  # noqa: SLF001
        self._set(EVENT.enabled, ctypes.addressof(_off))
        self._set(EVENT.strict, is_strict())
        self._set(EVENT.fields_count, len(names))
        self._set(EVENT.owner, id(channel))
        self._set(EVENT.refuse, id(self._keep[1]))
        self._set(EVENT.variable, id(place.variable))
        self._set(EVENT.threads, ctypes.addressof(place.threads))

    @property
    def cell(self) -> bytes:
        """The tables.EVENT, which lives as long as this."""
        return self._event

    def _set(self, at: int, value: int) -> None:
        ctypes.c_uint64.from_address(address_of(self._event) + at).value = value

    def read(self, at: int) -> int:
        """A field of the cell."""
        return ctypes.c_uint64.from_address(address_of(self._event) + at).value

    def prepare(self) -> None:
        """Bind it to the channel as that is now.  Raises TracepointConflict."""
        self.finish()
        if self._channel.segment is not None:
            try:
                self.bind(self._channel.segment, self._channel._context)  # noqa: SLF001
            except (ChannelError, TooManyTracepoints) as error:
                say(str(error))

    def finish(self) -> None:
        """Make the builtins, once the channel is known."""

    def bind(self, segment: Segment | None, context: bytes) -> None:
        """The channel is another one now: attached, or closed.  Raises TracepointConflict, TooManyTracepoints."""
        if segment is not None:
            self._define(segment)
        self._set(EVENT.context, address_of(context))

    def _define(self, segment: Segment) -> None:
        found = define(segment, self.name, fields=self.fields, kind=self._kind, level=self.level)
        self._set(EVENT.id, found.id)
        self._set(EVENT.enabled, switch_address(segment, found))

    def _make(self, entry: str, flags: int, name: str, arguments: str = "blob, /") -> Callable[..., Any]:
        """A builtin of ours."""
        doc = CALL_DOC.format(name=name, arguments=arguments)
        return make_builtin(functions("typed")[entry], self, name, flags, doc)

    @property
    def _is_on(self) -> bool:
        recording = ctypes.c_uint64.from_address(self.read(EVENT.context) + CONTEXT.recording).value
        return all(ctypes.c_uint32.from_address(switch).value for switch in (recording, self.read(EVENT.enabled)))

    def _limit(self) -> int:
        return int.from_bytes(self._channel._context[CONTEXT.limit : CONTEXT.limit + 8], "little")  # noqa: SLF001

    def _encode(self, arguments: tuple[object, ...], keywords: dict[str, object], head: int) -> bytes:
        """The body behind so many bytes of the kind's own fields.  Raises WrongArguments."""
        body = self._encoder.encode(arguments, keywords)
        self._check_size(head + len(body))
        return body

    def _check_size(self, size: int) -> None:
        """Raises WrongArguments if a record is too long."""
        if size > self._limit():
            raise WrongArguments(
                ValueError, f"{self.name}: a record of {size} bytes: this channel takes at most {self._limit()}"
            )

    def _refuse(self, *arguments: object, **keywords: object) -> object:
        """Called by the jitted code with arguments that it did not understand."""
        raise NotImplementedError

    def _wrong(self, error: WrongArguments) -> None:
        """Count, and tell."""
        if self._is_on:
            self._count()
        self._tell(error, "not recorded: ")

    def _tell(self, error: WrongArguments, what: str = "") -> None:
        """Say it once a call site; or raise, where the user wants that."""
        if self.read(EVENT.strict):
            raise error.kind(str(error)) from None
        frame = _users_frame()
        # not f_lasti, which changes when Python 3.11 specialises a call
        site = (frame.f_code, frame.f_lineno, self.name)
        if site not in _sites and len(_sites) < MOST_SITES:
            _sites.add(site)
            say(f"{frame.f_code.co_filename}:{frame.f_lineno}: {what}{error}")

    def _count(self) -> None:
        """A record is refused for its arguments."""
        self._make("count_bad", METH_NOARGS, "count_bad", "/")()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _again, (self._channel, self._kind, self.name, self.level, self.fields)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} of channel {self._channel.name!r}: {self.fields or 'no fields'}>"


class Tracepoint(Event):
    """An event with fields.  What a user has is its call, a builtin function whose `__self__` is this."""

    __slots__ = ("call",)

    call: Callable[..., bool]

    def finish(self) -> None:
        if has_code(self._channel):
            self._body = self._make("body_write", METH_O, "write")
            self.call = self._make(
                "tracepoint_call", METH_FASTCALL | METH_KEYWORDS, "call", ", ".join(self._encoder.names)
            )
        else:
            self.call = self.call_late

    def call_late(self, *arguments: object, **keywords: object) -> bool:
        """The call where no object code is at hand, and the channel is off for good or still to be attached."""
        if self._channel.attach_pending() and has_code(self._channel):
            self.finish()
            return self.call(*arguments, **keywords)
        if self.read(EVENT.strict):
            self._refuse(*arguments, **keywords)
        return False

    def _refuse(self, *arguments: object, **keywords: object) -> bool:
        try:
            body = self._encode(arguments, keywords, wire.KIND_BYTES[self._kind])
        except WrongArguments as error:
            self._wrong(error)
            return False
        if not self._is_on:
            return False
        self._channel.tell_context()
        return bool(self._body(place.word() + body))


class Counter(Tracepoint):
    """A number that changes: a tracepoint of one field, `value`, of a kind of its own."""

    __slots__ = ()


# -- how they are made

_KINDS: dict[str, type[Event]] = {"event": Tracepoint, "counter": Counter}


def make(channel: Channel, kind: str, name: str, level: str | int, fields: dict[str, object]) -> Any:
    """The tracepoint, counter or span of this definition: the same object each time.

    Raises InvalidName, TypeError and ValueError for a wrong definition, TracepointConflict.
    """
    check_event_name(name)
    number = level_number(level)
    parts = []
    for field, kind_of_field in fields.items():
        try:
            wire.check_field_name(field)
            parts.append(f"{field}:{type_text(kind_of_field)}")
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: field {field!r}: {error}") from None
    text = " ".join(parts)
    if len(parts) > MOST_FIELDS:
        raise ValueError(f"{name}: {len(parts)} fields, at most {MOST_FIELDS}")
    key = (kind, name)
    known: Event | None = channel.events.get(key)
    if known is None:
        if kind == "begin":
            from .spans import span_type

            made: type[Event] = span_type(has_code=has_code(channel))
        else:
            made = _KINDS[kind]
        known = made(channel, kind, name, number, text)
        known.prepare()
        channel.events[key] = known
        remember(known)
    elif known.fields != text:
        raise TracepointConflict(
            f"{name!r} has the fields ({known.fields}) already, not ({text}): give it another name"
        )
    return known


def _again(channel: Channel, kind: str, name: str, level: int, fields: str) -> Event:
    """One that comes out of a pickle."""
    made: Event = make(channel, kind, name, level, dict(wire.split_fields(fields)))
    return made
