"""loguru to a file with `enqueue=True`: a thread of the process writes, fed through a queue between processes."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.peer import Counted, Emitter, calling, text

from .logging_file import lines

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "loguru, enqueue=True"
PACKAGES = ("loguru",)
FIRST_EVENT = """
from loguru import logger
logger.remove()
logger.add("/dev/null", enqueue=True)
logger.info("first event")
"""


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """Counts the lines."""
    from loguru import logger

    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        path = Path(directory, "bench.log")
        logger.remove()
        sink = logger.add(path, enqueue=True)

        def settle() -> None:
            logger.complete()

        yield Emitter(
            calling(logger.info, text(size)), settle=settle, counted=lambda _: Counted(lines(path, text(size)))
        )
        logger.remove(sink)
