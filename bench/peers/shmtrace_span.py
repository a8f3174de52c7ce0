"""A span, `with load:`: two records, which count as one event here."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.peer import Cost, Counted
from bench.peers.shmtrace_event import channel, collected, emitter

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

        found = emitter(made, size)
        count_records = found.counted
        assert count_records is not None

        def counted(emitted: int) -> Counted:
            records = count_records(2 * emitted)
            return Counted(records.delivered // 2, -(-records.told // 2))

        found.emit, found.counted, found.arrived = emit, counted, None
        yield found
