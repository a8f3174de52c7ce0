"""channel.log with two fields."""

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

NAME = "shmtrace log, two fields"


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """Events leave through the FIFO."""
    with channel() as made, collected(made):

        def emit(count: int) -> Cost:
            log = made.log
            cpu, begin = time.process_time(), time.perf_counter()
            for _ in repeat(None, count):
                log("cache miss", key="a1", tried=3)
            return Cost(time.perf_counter() - begin, time.process_time() - cpu)

        found = emitter(made, size)
        found.emit = emit
        yield found
