"""Functions whose calls are spans, and loops over a loader."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

from . import place
from .layout import EVENT
from .tracepoint import Use

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from .channel import Channel
    from .tracepoint import Span

COROUTINE, ASYNC_GENERATOR, GENERATOR = 0x80, 0x200, 0x20  # CO_... of a code object
Item = TypeVar("Item")


def decorate(span: Span, body: bytes | None, function: Any) -> Any:
    """The function, each of whose calls is a span: of a generator or coroutine from its first step to its last one.

    `body` is the fields, encoded; None: they are wrong, which was told.
    """
    if not callable(function):
        raise TypeError(f"{span.name} decorates a function, not {type(function).__name__}")
    if body is None:
        return function
    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
    for flag, wrap in ((COROUTINE, _coroutine), (ASYNC_GENERATOR, _async_generator), (GENERATOR, _generator)):
        if flags & flag:
            return functools.update_wrapper(wrap(span, body, function), function)
    return functools.update_wrapper(_function(span, body, function), function)


def _function(span: Span, body: bytes, function: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        with Use(span, body):
            return function(*args, **kwargs)

    return call


def _coroutine(span: Span, body: bytes, function: Any) -> Any:
    async def call(*args: Any, **kwargs: Any) -> Any:
        with Use(span, body):
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
                with steps.outside:
                    try:
                        value = yield item
                    except GeneratorExit:
                        generator.close()
                        raise
                    except BaseException as error:  # noqa: BLE001  (it is the generator's)
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
                with steps.outside:
                    try:
                        value = yield item
                    except GeneratorExit:
                        await generator.aclose()
                        raise
                    except BaseException as error:  # noqa: BLE001  (it is the generator's)
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
        if self._numbers[-1]:
            place.leave(self._numbers[-1])

    def enter(self) -> None:
        """The generator goes on."""
        if self._numbers[-1]:
            place.enter(self._numbers[-1], self._span.read(EVENT.id))


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
        with working:
            yield item
