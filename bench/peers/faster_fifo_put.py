"""faster-fifo: put, and get_many on the other side."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.peer import Emitter, calling

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "faster-fifo put"
PACKAGES = ("faster-fifo",)
BYTES = 1 << 25  # as much memory as a channel has
FOR_EVER_S = 1e6


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """It pickles, as by default."""
    from faster_fifo import Queue

    queue = Queue(max_size_bytes=BYTES)
    yield Emitter(calling(queue.put, bytes(size)), receive=lambda: b"".join(queue.get_many(timeout=FOR_EVER_S)))
