"""loguru, by its recipe for processes that are spawned: a file sink with `enqueue=True` and the context.

The logger is handed to the workers, and a worker that ends in order calls `logger.complete()`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from .peer import START_METHOD, Recovered, plain_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from loguru import Logger

NAME = "loguru enqueue"
PACKAGES = ("loguru",)
WARNING = None
_FILE = "job.log"
_handed: list[Logger] = []  # in a worker: the logger that it was handed


def command(directory: Path, module: str, arguments: list[str]) -> list[str]:
    """As it is."""
    del directory
    return plain_command(module, arguments)


@contextmanager
def recording(directory: Path) -> Iterator[Logger]:
    """Hands the logger."""
    from loguru import logger

    logger.remove()
    sink = logger.add(directory / _FILE, enqueue=True, context=START_METHOD)
    try:
        yield logger
    finally:
        logger.remove(sink)  # which waits until all is written; loguru does it at exit, too


def emitter(handed: Logger, directory: Path) -> Callable[[str], object]:
    """The logger's level INFO."""
    del directory
    _handed[:] = [handed]
    emit: Callable[[str], object] = handed.info
    return emit


def finish() -> None:
    """Wait until the main process has written all that was put into the queue."""
    for logger in _handed:
        logger.complete()


def recover(directory: Path) -> Recovered:
    """What is behind the last dash of each line; the format is loguru's own."""
    found = Recovered(())

    def texts() -> Iterator[str]:
        with (directory / _FILE).open(errors="replace") as lines:
            for line in lines:
                _, dash, message = line.rstrip("\n").rpartition(" - ")
                if dash:
                    yield message
                else:
                    found.undecodable.append(line)

    found.texts = texts()
    return found
