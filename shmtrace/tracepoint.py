"""What people write: tracepoints, counters, spans, logs.

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
from .layout import CONTEXT, CONTROL
from .native import functions, is_ready, tables
from .native.builtin import METH_FASTCALL, METH_KEYWORDS, METH_NOARGS, METH_O, address_of, make_builtin
from .native.objects import VAR_BYTES, VAR_SIZE
from .native.tables import EVENT, USE
from .notes import say

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Any, Self

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
        segment = self._channel.segment
        switch = ctypes.c_uint32.from_address(self.read(EVENT.enabled)).value
        return segment is not None and segment.u32(CONTROL.recording) != 0 and switch != 0

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
        if is_ready("typed") or self._channel.segment is not None:
            self._body = self._make("body_write", METH_O, "write")
            self.call = self._make(
                "tracepoint_call", METH_FASTCALL | METH_KEYWORDS, "call", ", ".join(self._encoder.names)
            )
        else:
            self.call = self.call_late

    def call_late(self, *arguments: object, **keywords: object) -> bool:
        """The call where no object code is at hand, and the channel is off for good or still to be attached."""
        if self._channel.attach_pending():
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


async def _enter(manager: Any) -> Any:
    """`async with`: there is nothing to wait for, and the task goes on in its own context."""
    return manager.__enter__()


async def _exit(manager: Any, *exception: object) -> None:
    manager.__exit__(*exception)


def _is_exception(value: object) -> bool:
    """Whether a span can end with it."""
    kind = value if isinstance(value, type) else type(value)
    return value is None or issubclass(kind, BaseException)


class _End(Event):
    """The class of a span's ends."""

    __slots__ = ("_span",)

    def __init__(self, span: Span, channel: Channel, name: str, level: int) -> None:
        super().__init__(channel, "end", name, level, "exception:str")
        self._span = span

    def _refuse(self, *arguments: object, **keywords: object) -> bool:
        """Called with keywords; or with what is no exception, and then the span has ended already."""
        if keywords:
            value = keywords.pop("exception", arguments[0] if arguments else None)
            self._span.end(value if _is_exception(value) else None)
            if not keywords and _is_exception(value):
                return False
            given = ", ".join(keywords) or type(value).__name__
        else:
            given = type(arguments[0]).__name__
        if self._is_on or self.read(EVENT.strict):
            self._tell(WrongArguments(TypeError, f"{self.name}: end takes an exception or its type, not {given}"))
        return False


class Span(Event):
    """A stretch of time: `with span:`, `with span(3):`, `@span`, `@span(3)`, `span.begin(3)` and `span.end()`.

    `async with` is the same as `with`.

    Each span has a class of its own, derived from this one: the interpreter looks for `__enter__` and `__exit__` there,
    and calls builtins that it finds without making bound methods of them; it calls the span by the address at its end.
    The methods of this class take their place where no object code is at hand, and the channel is off for good or still
    to be attached.
    """

    __slots__ = ("_calls", "_end", "_start", "_stop", "_use", "begin", "end")

    begin: Callable[..., bool]
    end: Callable[..., bool]
    _end: Event

    def __init__(self, channel: Channel, kind: str, name: str, level: int, fields: str) -> None:
        super().__init__(channel, kind, name, level, fields)
        self._end = _End(self, channel, name, level)
        self._set(EVENT.other, address_of(self._end.cell))
        self._use: Callable[[bytes], Any] | None = None
        self._calls = (Span.__call__.__get__(self), _decorate, channel.tell_context, self._too_long)
        for at, call in zip((EVENT.slow, EVENT.decorate, EVENT.tell, EVENT.long), self._calls, strict=True):
            self._set(at, id(call))

    def finish(self) -> None:
        if not is_ready("typed") and self._channel.segment is None:
            self.begin, self.end = self.begin_late, self.end_late
            return
        names = ", ".join(self._encoder.names)
        self._start = self._make("span_begin", METH_O, "start", "body, /")
        self._stop = self._make("span_finish", METH_FASTCALL, "stop", "number, exception, /")
        self.begin = self._make("span_begin_call", METH_FASTCALL | METH_KEYWORDS, "begin", names)
        self.end = self._make("span_exit", METH_FASTCALL | METH_KEYWORDS, "end", "exception=None")
        self._use = self._make("span_use", METH_O, "use", "body, /")
        self._set(EVENT.uses, ctypes.addressof(_uses()))
        mine: Any = type(self)
        if mine.__basicsize__ > Span.__basicsize__:
            ctypes.c_uint64.from_address(id(self) + Span.__basicsize__).value = functions("typed")["span_call"]
        else:  # it was made when there was no object code
            mine.__call__ = self._make("span_call", METH_FASTCALL | METH_KEYWORDS, "__call__", names)
        mine.__enter__ = self._make("span_enter", METH_NOARGS, "__enter__", "/")
        mine.__exit__ = self._make("span_exit", METH_FASTCALL | METH_KEYWORDS, "__exit__", "*exception")

    def bind(self, segment: Segment | None, context: bytes) -> None:
        if segment is not None:
            self._define(segment)  # first: a conflict is one with what the user wrote
        self._end.bind(segment, context)
        self._set(EVENT.context, address_of(context))

    def __call__(self, *arguments: object, **keywords: object) -> Any:
        """`with span(3):` and `@span(3)`; or `@span`, which decorates a function."""
        if len(arguments) == 1 and not keywords and (callable(arguments[0]) or isinstance(arguments[0], classmethod)):
            return _decorate(self._used(self.encode((), {})), arguments[0])
        return self._used(self.encode(arguments, keywords))

    def _used(self, body: bytes | None) -> Any:
        """A use, of fields that are encoded."""
        return Use(self, body) if body is None or self._use is None else self._use(body)

    def encode(self, arguments: tuple[object, ...], keywords: dict[str, object]) -> bytes | None:
        """The fields; None if they are wrong, which is told."""
        try:
            return self._encode(arguments, keywords, wire.KIND_BYTES["begin"])
        except WrongArguments as error:
            self._wrong(error)
            return None

    def _refuse(self, *arguments: object, **keywords: object) -> bool:
        """Begin the span after all, or say what is wrong."""
        body = self.encode(arguments, keywords)
        return body is not None and self.start(body) != 0

    def _too_long(self, use: Any) -> None:
        """A use was made for a channel that took more."""
        self._is_too_long(span_of(use)[1])

    def _is_too_long(self, body: bytes) -> bool:
        try:
            self._check_size(wire.KIND_BYTES["begin"] + len(body))
        except WrongArguments as error:
            self._wrong(error)
            return True
        return False

    def start(self, body: bytes | None) -> int:
        """Begin with fields that are encoded; the span's number, 0: it is not recorded."""
        if body is None or not ((self._is_on and hasattr(self, "_start")) or self._is_attached_late()):
            return 0
        if self._is_too_long(body):  # it may be a use's, which was made for another channel
            return 0
        self._channel.tell_context()
        return int(self._start(bytes(wire.KIND_BYTES["begin"]) + body))

    def stop(self, number: int, kind: type[BaseException] | None) -> None:
        """End the span of this number."""
        if number:
            self._stop(number, kind)

    def _is_attached_late(self) -> bool:
        if not self._channel.attach_pending():
            return False
        if not hasattr(self, "_start"):
            self.finish()
        return self._is_on

    def begin_late(self, *arguments: object, **keywords: object) -> bool:
        """`begin`."""
        if self._is_attached_late():
            return self.begin(*arguments, **keywords)
        if self.read(EVENT.strict):
            self.encode(arguments, keywords)
        return False

    def end_late(self, *exceptions: object, **keywords: object) -> bool:
        """`end`; where nothing is recorded nothing has begun."""
        if hasattr(self, "_start"):
            self.end(*exceptions, **keywords)
        return False

    def __enter__(self) -> Self:
        self.begin_late()
        return self

    def __exit__(self, *exception: object) -> None:
        self.end_late(*exception)

    __aenter__, __aexit__ = _enter, _exit


class Use:
    """A span with its fields, as `span(3)` gives it: a context manager, which may be used again, and a decorator.

    Where there is object code it is one of a type that is made of that, see tables.USE.  This is for where there is
    none, for arguments that were wrong, and for generators, whose spans are not open between their steps.
    """

    __slots__ = ("_body", "_depth", "_number", "span")

    def __init__(self, span: Span, body: bytes | None) -> None:
        self.span = span
        self._body = body  # None: the arguments were wrong
        self._depth = 0  # spans that have begun and not ended
        self._number: int | None = None  # of the one that is open; 0: it is not recorded, None: there are several

    def __enter__(self) -> Self:
        number = self.span.start(self._body)
        self._number = number if self._depth == 0 else None
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._number is None:
            self.span.end(kind, error, traceback)
        else:
            self.span.stop(self._number, kind)

    __aenter__, __aexit__ = _enter, _exit

    def __call__(self, function: Any) -> Any:
        return function if self._body is None else _decorate(self, function)


def _decorate(use: Any, *functions: Any) -> Any:
    from .decorating import decorate

    if len(functions) != 1:
        raise TypeError(f"a span decorates one function, not {len(functions)}")
    return decorate(use, functions[0])


def span_of(use: Any) -> tuple[Span, bytes]:
    """The span of a use, and its fields."""
    if isinstance(use, Use):
        return use.span, use._body or b""  # noqa: SLF001
    at = id(use) + VAR_BYTES
    span: Span = ctypes.cast(ctypes.c_void_p.from_address(at + USE.span).value or 0, ctypes.py_object).value
    size = ctypes.c_ssize_t.from_address(id(use) + VAR_SIZE).value
    return span, ctypes.string_at(at + tables.USE_BYTES, size)


def _span_type(*, has_code: bool) -> type[Span]:
    """A class of its own for a span."""
    if not has_code:
        return type("Span", (Span,), {"__slots__": (), "__module__": __name__, "__doc__": Span.__doc__})
    from .native.types import make_type

    made: type[Span] = make_type(
        f"{__name__}.Span",
        base=Span,
        basic_size=Span.__basicsize__ + 8,
        vectorcall_at=Span.__basicsize__,
        doc=Span.__doc__ or "",
    )
    return made


_made_uses: list[tuple[Any, Any]] = []  # USES, and the type in it, once they are made


def _uses() -> Any:
    """USES of this interpreter."""
    if not _made_uses:
        from .native.types import DEALLOC, DESCRIPTOR_GET, make_type

        code = functions("typed")
        made = make_type(
            f"{__name__}.Use",
            {DEALLOC: code["use_end"]},
            basic_size=VAR_BYTES + tables.USE_BYTES,
            item_size=1,
            vectorcall_at=VAR_BYTES + USE.call,
            doc=Use.__doc__ or "",
        )
        itself = make_type(f"{__name__}.Itself", {DESCRIPTOR_GET: code["use_get"]}, basic_size=object.__basicsize__)
        make = ctypes.pythonapi.PyType_GenericAlloc
        make.restype, make.argtypes = ctypes.py_object, (ctypes.py_object, ctypes.c_ssize_t)
        made.__enter__ = made.__exit__ = make(itself, 0)
        made.__aenter__, made.__aexit__ = _enter, _exit
        words = (ctypes.c_uint64 * (tables.USES_BYTES // 8))(id(made), code["use_call"])
        _made_uses.append((words, made))
    return _made_uses[0][0]


# -- how they are made

KINDS: dict[str, type[Event]] = {"event": Tracepoint, "counter": Counter, "begin": Span}


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
            has_code = is_ready("typed") or channel.segment is not None
            known = _span_type(has_code=has_code)(channel, kind, name, number, text)
        else:
            known = KINDS[kind](channel, kind, name, number, text)
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
