"""The standard library's logging: QueueHandler over multiprocessing.Queue, to another process."""

from __future__ import annotations

import logging
import multiprocessing
import time
from contextlib import contextmanager
from logging.handlers import QueueHandler
from typing import TYPE_CHECKING

from bench.peer import Emitter, calling, text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.queues import Queue

NAME = "logging, QueueHandler"


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """The consumer takes records and writes nothing."""
    queue: Queue[logging.LogRecord] = multiprocessing.get_context("fork").Queue()
    logger = logging.getLogger("bench")
    logger.addHandler(QueueHandler(queue))
    logger.setLevel(logging.INFO)

    def settle() -> None:
        while queue._buffer:  # type: ignore[attr-defined]  # noqa: SLF001 - nothing else tells
            time.sleep(0.001)

    yield Emitter(calling(logger.info, text(size)), settle=settle, receive=lambda: queue.get().getMessage().encode())
