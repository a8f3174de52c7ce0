"""multiprocessing.Queue.put.  A thread of the process pickles and sends: the cost of the call is not the cost."""

from __future__ import annotations

import multiprocessing
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.peer import Emitter, calling

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.queues import Queue

NAME = "multiprocessing.Queue"


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """It has no limit, as by default."""
    queue: Queue[bytes] = multiprocessing.get_context("fork").Queue()

    def settle() -> None:
        while queue._buffer:  # type: ignore[attr-defined]  # noqa: SLF001 - nothing else tells
            time.sleep(0.001)

    @contextmanager
    def in_child() -> Iterator[Emitter]:
        yield emitter
        queue.close()
        queue.join_thread()

    emitter = Emitter(calling(queue.put, bytes(size)), settle=settle, send=queue.put, receive=queue.get)
    emitter.in_child = in_child
    yield emitter
