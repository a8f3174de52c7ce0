"""Functions whose calls are spans, and loops over a loader."""

from __future__ import annotations

import functools
import types
from typing import TYPE_CHECKING, Any, TypeVar

from . import place
from .native.tables import EVENT
from .spans import Use, span_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from .channel import Channel
    from .spans import Span

COROUTINE, ASYNC_GENERATOR, GENERATOR, AWAITABLE_GENERATOR = 0x80, 0x200, 0x20, 0x100  # CO_... of a code object
Item = TypeVar("Item")


def decorate(use: Any, function: Any) -> Any:
    """The function, each of whose calls is a span: of a generator or coroutine from its first step to its last one.

    `use` is what `span(3)` gives.  Raises TypeError if it is no function.
    """
    if isinstance(function, (classmethod, staticmethod)):
        return type(function)(decorate(use, function.__func__))
    span, body = span_of(use)
    if not callable(function):
        raise TypeError(f"{span.name} decorates a function, not {type(function).__name__}")
    flags = _flags_of(function)
    if flags & COROUTINE:
        wrapped = _coroutine(use, function)
    elif flags & ASYNC_GENERATOR:
        wrapped = _async_generator(span, body, function)
    elif flags & GENERATOR:
        wrapped = _generator(span, body, function)
        if flags & AWAITABLE_GENERATOR:
            wrapped = types.coroutine(wrapped)
    else:
        wrapped = _function(use, function)
    return functools.update_wrapper(wrapped, function)


def _flags_of(function: Any) -> int:
    """CO_... of what a call runs; 0 if that is no code of Python."""
    while isinstance(function, functools.partial):
        function = function.func
    if not hasattr(function, "__code__"):
        function = type(function).__call__
    return int(getattr(getattr(function, "__code__", None), "co_flags", 0))


def _function(use: Any, function: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        with use:
            return function(*args, **kwargs)

    return call


def _coroutine(use: Any, function: Any) -> Any:
    async def call(*args: Any, **kwargs: Any) -> Any:
        with use:
            return await function(*args, **kwargs)

    return call


def _generator(span: Span, body: bytes, function: Any) -> Any:
    def iterate_steps(*args: Any, **kwargs: Any) -> Any:
        generator = function(*args, **kwargs)
        step, value = generator.send, None
        with _Steps(span, body) as steps:
            while True:
                try:
                    item = step(value)
                except StopIteration as end:
                    return end.value
                finally:
                    value = None  # an exception that leaves this frame would be kept by it, and keep it
                with steps.outside:
                    try:
                        value = yield item
                    except BaseException as error:  # noqa: BLE001  (it is the generator's, also GeneratorExit)
                        step, value = generator.throw, error
                    else:
                        step = generator.send

    return iterate_steps


def _async_generator(span: Span, body: bytes, function: Any) -> Any:
    async def iterate_steps(*args: Any, **kwargs: Any) -> Any:
        generator = function(*args, **kwargs)
        step, value = generator.asend, None
        with _Steps(span, body) as steps:
            while True:
                try:
                    item = await step(value)
                except StopAsyncIteration:
                    return
                finally:
                    value = None  # as above
                with steps.outside:
                    try:
                        value = yield item
                    except BaseException as error:  # noqa: BLE001  (it is the generator's, also GeneratorExit)
                        step, value = generator.athrow, error
                    else:
                        step = generator.asend

    return iterate_steps


class _Steps(Use):
    """The span of a generator.  Between its steps others run, around which it is not open."""

    __slots__ = ("outside",)

    def __init__(self, span: Span, body: bytes) -> None:
        super().__init__(span, body)
        self.outside = _Outside(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is GeneratorExit:  # whoever iterated has seen enough
            kind = None
        super().__exit__(kind, error, traceback)

    def leave(self) -> None:
        """Others go on."""
        if self._number:
            place.leave(self._number)

    def enter(self) -> None:
        """The generator goes on."""
        if self._number:
            place.enter(self._number, self.span.read(EVENT.id))


class _Outside:
    """Between two steps."""

    __slots__ = ("_steps",)

    def __init__(self, steps: _Steps) -> None:
        self._steps = steps

    def __enter__(self) -> None:
        self._steps.leave()

    def __exit__(self, *_: object) -> None:
        self._steps.enter()


def iterate(channel: Channel, iterable: Iterable[Item], name: str) -> Iterator[Item]:
    """See Channel.iter."""
    waiting, working = channel.span(f"{name} wait"), channel.span(f"{name} work")
    iterator = iter(iterable)
    while True:
        with waiting:
            try:
                item = next(iterator)
            except StopIteration:
                return
        has_begun = working.begin()
        try:
            yield item
        finally:  # however the loop ends: that is no error of its own
            if has_begun:
                working.end()
