"""What a peer's module offers, and the loops in which events are timed.

A peer runs in a process of its own (`bench.worker`), so that its threads, hooks and imports do not weigh on the others.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


class Cost(NamedTuple):
    """Of a number of events, the loop included."""

    seconds: float  # that passed
    cpu_seconds: float  # that the process used, all its threads


class Counted(NamedTuple):
    """What became of the events."""

    delivered: int
    told: int = 0  # lost ones of which the peer tells the number


def nothing() -> None:
    """There is nothing to be done."""


@dataclass
class Emitter:
    """A peer that is ready."""

    emit: Callable[[int], Cost]  # so many events
    settle: Callable[[], None] = nothing  # wait until they have left this process, where a thread of it sends them
    counted: Callable[[int], Counted] | None = None  # called once, at the end, with the number of all events
    arrived: Callable[[], int] | None = None  # so far, at their consumer
    send: Callable[[bytes], object] | None = None  # one event, of any content
    receive: Callable[[], bytes] | None = None  # for a consumer, another process: wait, take one or more whole events
    in_child: Callable[[], AbstractContextManager[Emitter]] = field(init=False)  # what a forked process uses

    def __post_init__(self) -> None:
        self.in_child = lambda: nullcontext(self)


class Peer(Protocol):
    """A module of `bench.peers`.

    It may also have a tuple PACKAGES, what must be installed, by its name for pip; `missing()`, why it cannot run here,
    or None; `serving()`, a context manager around all of its processes that gives variables for their environment;
    FIRST_EVENT, a program that sets it up and emits one event; NOTE, a word on how it is measured.
    """

    @property
    def NAME(self) -> str:  # noqa: N802 - a module's constant
        """For people."""

    def running(self, size: int) -> AbstractContextManager[Emitter]:
        """Emits events of that many bytes."""


def calling(function: Callable[[Any], object], argument: object) -> Callable[[int], Cost]:
    """A Python loop around calls, as timeit has it: it makes no number for each round, like the loops in C."""

    def emit(count: int) -> Cost:
        cpu, begin = time.process_time(), time.perf_counter()
        for _ in repeat(None, count):
            function(argument)
        return Cost(time.perf_counter() - begin, time.process_time() - cpu)

    return emit


def calling_with_two(function: Callable[[Any, Any], object], first: object, second: object) -> Callable[[int], Cost]:
    """The same with two arguments."""

    def emit(count: int) -> Cost:
        cpu, begin = time.process_time(), time.perf_counter()
        for _ in repeat(None, count):
            function(first, second)
        return Cost(time.perf_counter() - begin, time.process_time() - cpu)

    return emit


def text(size: int) -> str:
    """An event's payload for those who take text."""
    return "x" * size
