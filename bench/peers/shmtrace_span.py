"""A span, `with load:`: two records, which count as one event here."""

from __future__ import annotations

import time
from contextlib import contextmanager
from itertools import repeat
from typing import TYPE_CHECKING

from bench.peer import Cost
from bench.peers.shmtrace_event import channel, collected, of_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.peer import Emitter
    from shmtrace.channel import Channel

NAME = "shmtrace span, two records"


@contextmanager
def spanning(size: int, run: Callable[[Channel], Callable[[int], None]]) -> Iterator[Emitter]:
    """Spans of a channel that leave through the FIFO; `run` gives what makes so many of them."""
    with channel() as made, collected(made):
        spans = run(made)

        def emit(count: int) -> Cost:
            cpu, begin = time.process_time(), time.perf_counter()
            spans(count)
            return Cost(time.perf_counter() - begin, time.process_time() - cpu)

        yield of_records(made, size, 2, emit)


def plain(made: Channel) -> Callable[[int], None]:
    """Spans without fields."""
    load = made.span("load")

    def spans(count: int) -> None:
        for _ in repeat(None, count):
            with load:
                pass

    return spans


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """In a plain thread."""
    with spanning(size, plain) as found:
        yield found
