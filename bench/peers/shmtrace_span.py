"""A span, `with load:`: two records, which count as one event here."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.peer import Cost
from bench.peers.shmtrace_event import channel, collected, of_records

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peer import Emitter

NAME = "shmtrace span, two records"


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """Events leave through the FIFO."""
    with channel() as made, collected(made):
        load = made.span("load")

        def emit(count: int) -> Cost:
            cpu, begin = time.process_time(), time.perf_counter()
            for _ in range(count):
                with load:
                    pass
            return Cost(time.perf_counter() - begin, time.process_time() - cpu)

        yield of_records(made, size, 2, emit)
