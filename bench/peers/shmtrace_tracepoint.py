"""A tracepoint with an u16, an f64 and a str of 6 letters, whatever the size."""

from __future__ import annotations

import time
from contextlib import contextmanager
from itertools import repeat
from typing import TYPE_CHECKING

from bench.peer import Cost
from bench.peers.shmtrace_event import channel, collected, emitter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peer import Emitter

NAME = "shmtrace tracepoint (u16, f64, str)"


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """Events leave through the FIFO."""
    with channel() as made, collected(made):
        request = made.tracepoint("request", status="u16", latency="f64", path="str")

        def emit(count: int) -> Cost:
            cpu, begin = time.process_time(), time.perf_counter()
            for _ in repeat(None, count):
                request(200, 0.013, "/index")
            return Cost(time.perf_counter() - begin, time.process_time() - cpu)

        found = emitter(made, size)
        found.emit = emit
        yield found
