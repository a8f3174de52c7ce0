"""asyncio: a span for each task of a loop, from its creation to its end.

It is a task factory, which calls the one that was there before.
"""

from __future__ import annotations

import asyncio
import inspect
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from .. import channel as channels
from .. import place
from .exceptions import exception_fields
from .spans import Pairs, next_number

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from ..channel import Channel
    from .spans import Pair

__all__ = ["Tasks", "install", "new_event_loop"]

OTHER = "asyncio task"  # of coroutines that are too many
NAME = "asyncio task name"
LONGEST = 500  # characters of a task's name, and of an exception's text
_END = "task:str cancelled:bool exception:str exception_text:str"


class Tasks:
    """Records the tasks that a loop makes, until `uninstall`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, channel: Channel) -> None:
        self._loop = loop
        self._pairs = Pairs(channel, "", _END, other=OTHER)
        self._tell_name = channel.tracepoint(NAME, task="str")
        self._factory: Callable[..., Any] = self._make
        self._before: Callable[..., Any] | None = None
        self._is_on = False

    def install(self) -> None:
        self._before = self._loop.get_task_factory()
        self._gives_context = self._before is None or _takes_context(self._before)
        self._is_on = True
        self._loop.set_task_factory(self._factory)

    def uninstall(self) -> None:
        """Record no more tasks; those that are there will end.  May be called twice."""
        self._is_on = False
        if self._loop.get_task_factory() is self._factory:  # else it is below another one, and does nothing
            self._loop.set_task_factory(self._before)

    def _make(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        name = str(getattr(coroutine, "__qualname__", None) or type(coroutine).__qualname__)
        pair = self._pairs.get(name) if self._is_on else None
        if pair is None:
            return self._create(loop, coroutine, options)
        is_shared = options.get("context") is not None
        if not is_shared and self._gives_context:
            options["context"] = copy_context()
        span = _Span(pair, name, options.get("context"), is_shared=is_shared)
        try:
            return self._create_in(span, loop, coroutine, options)
        except BaseException as error:
            span.end("", error)
            raise

    def _create(self, loop: asyncio.AbstractEventLoop, coroutine: Any, options: dict[str, Any]) -> Any:
        if self._before is not None:
            return self._before(loop, coroutine, **options)
        return asyncio.Task(coroutine, loop=loop, **options)

    def _create_in(self, span: _Span, loop: asyncio.AbstractEventLoop, coroutine: Any, options: dict[str, Any]) -> Any:
        """An eager task begins to run here."""
        if options.get("name") is not None:
            span.run(self._tell_name, str(options["name"])[:LONGEST])
        made: list[Any] = []
        if "name" not in options:  # before Python 3.14 a task gets it later, but ahead of its first step
            loop.call_soon(self._tell_if_named, span, made)
        task = self._create(loop, coroutine, options)
        made += task, task.get_name()
        if task.done():
            span.ended(task)
        else:
            task.add_done_callback(span.ended)
        return task

    def _tell_if_named(self, span: _Span, made: list[Any]) -> None:
        if made:
            task, name = made
            named = task.get_name()
            if named not in {name, "None"} and not task.done():  # that is what 3.13.0 calls tasks of any factory
                span.run(self._tell_name, named[:LONGEST])


class _Span:
    """Of one task."""

    __slots__ = ("_context", "_is_shared", "_number", "_pair")

    def __init__(self, pair: Pair, name: str, context: Context | None, *, is_shared: bool) -> None:
        self._pair, self._context, self._number = pair, context, next_number()
        self._is_shared = is_shared  # other tasks may run in this context when this one has ended
        pair.begin_with(self._number, name, b"")
        self.run(place.enter, self._number, pair.identifier)

    def run(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call it where the task runs, if that can be done."""
        if self._context is not None:
            with suppress(RuntimeError):  # the task shares the context of those who run now
                self._context.run(function, *arguments)

    def ended(self, task: Any) -> None:
        # task.exception() would count as having looked at it, and nobody would be told of it any more
        self.end(task.get_name(), getattr(task, "_exception", None), cancelled=task.cancelled())

    def end(self, task: str, error: BaseException | None, *, cancelled: bool = False) -> None:
        fields = exception_fields(error) if error is not None else {"exception": "", "exception_text": ""}
        text = str(fields["exception_text"])[:LONGEST]
        self._pair.end(self._number, task[:LONGEST], cancelled, fields["exception"], text)
        if self._is_shared:
            self.run(place.leave, self._number)


def install(loop: asyncio.AbstractEventLoop | None = None, *, channel: Channel | None = None) -> Tasks:
    """Record the tasks of a loop, else of the one that runs: each is a span, named like its coroutine.

    `channel`: where to, else what `attach()` gives.  Raises RuntimeError if there is no loop.
    """
    tasks = Tasks(
        loop if loop is not None else asyncio.get_running_loop(),
        channel if channel is not None else channels.attach(),
    )
    tasks.install()
    return tasks


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop whose tasks are recorded, for `asyncio.Runner(loop_factory=new_event_loop)`."""
    loop = asyncio.new_event_loop()
    install(loop)
    return loop


def _takes_context(factory: Callable[..., Any]) -> bool:
    """A factory of the time before Python 3.11 does not."""
    try:
        inspect.signature(factory).bind(None, None, context=None)
    except TypeError:
        return False
    except ValueError:  # nobody knows
        return False
    return True
