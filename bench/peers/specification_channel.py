"""The same workload with `channel.span`, whose fields have types."""

from __future__ import annotations

import time
from contextlib import contextmanager
from itertools import repeat
from typing import TYPE_CHECKING

from bench.peer import Cost
from bench.peers.shmtrace_event import channel, collected, of_records
from bench.specification import INTEGER_AND_EVENT, TEXTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import shmtrace
    from bench.peer import Emitter

NAME = "shmtrace, channel.span"


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """`size` is the workload."""
    with channel() as made, collected(made):
        records = 3 if size == INTEGER_AND_EVENT else 2
        yield of_records(made, size, records, with_event(made) if size == INTEGER_AND_EVENT else with_texts(made))


def with_event(made: shmtrace.Channel) -> Callable[[int], Cost]:
    """A span with an integer, an event in it."""
    span, event = made.span("span", number="i64"), made.tracepoint("event")

    def emit(count: int) -> Cost:
        cpu, begin = time.process_time(), time.perf_counter()
        for _ in repeat(None, count):
            with span(17):
                event()
        return Cost(time.perf_counter() - begin, time.process_time() - cpu)

    return emit


def with_texts(made: shmtrace.Channel) -> Callable[[int], Cost]:
    """A span with ten texts."""
    texts = list(TEXTS.values())
    span = made.span("span", **{name.replace(" ", "_"): "str" for name in TEXTS})

    def emit(count: int) -> Cost:
        cpu, begin = time.process_time(), time.perf_counter()
        for _ in repeat(None, count):
            with span(*texts):
                pass
        return Cost(time.perf_counter() - begin, time.process_time() - cpu)

    return emit
