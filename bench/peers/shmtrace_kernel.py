"""channel.event inside a kernel of numba: the loop is compiled, too."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bench.peer import Cost
from bench.peers.shmtrace_event import channel, collected, emitter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peer import Emitter

NAME = "shmtrace event in @njit"


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """Events leave through the FIFO."""
    import numba
    import numpy as np

    with channel() as made, collected(made):
        event, data = made.event, np.zeros(size, dtype=np.uint8)
        njit: Any = numba.njit

        @njit(nogil=True)  # type: ignore[untyped-decorator]  # numba has no types for it
        def loop(count: int, data: Any) -> int:  # noqa: ANN401 - an array
            recorded = 0
            for _ in range(count):
                recorded += event(data)
            return recorded

        loop(0, data)

        def emit(count: int) -> Cost:
            cpu, begin = time.process_time(), time.perf_counter()
            loop(count, data)
            return Cost(time.perf_counter() - begin, time.process_time() - cpu)

        found = emitter(made, size)
        found.emit = emit
        yield found
