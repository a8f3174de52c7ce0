"""Spans: what `channel.span` gives, and what that gives when it is called with fields."""

from __future__ import annotations

import ctypes

from . import wire
from .encoding import WrongArguments
from .native import functions, tables
from .native.builtin import METH_FASTCALL, METH_KEYWORDS, METH_NOARGS, METH_O, address_of
from .native.objects import VAR_BYTES, VAR_SIZE
from .native.tables import EVENT, USE
from .tracepoint import Event, has_code

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Self

    from .channel import Channel
    from .segment import Segment


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
        if not has_code(self._channel):
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
        if not self._channel.attach_pending() or not has_code(self._channel):
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


def span_type(*, has_code: bool) -> type[Span]:
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
