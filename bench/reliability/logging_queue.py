"""The standard library's logging, by the cookbook's recipe for several processes and one file.

QueueHandler over multiprocessing.Queue in the workers; QueueListener with a FileHandler in the main process, started
before the workers and stopped after them.
"""

from __future__ import annotations

import logging
import multiprocessing
from contextlib import contextmanager
from logging.handlers import QueueHandler, QueueListener
from typing import TYPE_CHECKING, Any

from .peer import START_METHOD, Recovered, plain_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.queues import Queue
    from pathlib import Path

NAME = "logging QueueHandler"
PACKAGES = ()
WARNING = None
_FILE = "job.log"
_FORMAT = "%(asctime)s %(processName)-10s %(name)s %(levelname)-8s %(message)s"


def command(directory: Path, module: str, arguments: list[str]) -> list[str]:
    """As it is."""
    del directory
    return plain_command(module, arguments)


@contextmanager
def recording(directory: Path) -> Iterator[Queue[Any]]:
    """Hands the queue."""
    queue: Queue[Any] = multiprocessing.get_context(START_METHOD).Queue(-1)
    handler = logging.FileHandler(directory / _FILE)
    handler.setFormatter(logging.Formatter(_FORMAT))
    listener = QueueListener(queue, handler)
    listener.start()
    try:
        yield queue
    finally:
        listener.stop()


def emitter(handed: Queue[Any], directory: Path) -> Callable[[str], object]:
    """The root logger's only handler puts into the queue."""
    del directory
    root = logging.getLogger()
    root.addHandler(QueueHandler(handed))
    root.setLevel(logging.DEBUG)
    return logging.getLogger("job").info


def finish() -> None:
    """Nothing is to be done: the queue is joined when its process ends."""


def recover(directory: Path) -> Recovered:
    """The last words of each line."""
    found = Recovered(())

    def texts() -> Iterator[str]:
        with (directory / _FILE).open(errors="replace") as lines:
            for line in lines:
                _, level, message = line.rstrip("\n").partition(" INFO     ")
                if level:
                    yield message
                else:
                    found.undecodable.append(line)

    found.texts = texts()
    return found
