"""The standard library's logging to a file, with time, level and text in a line."""

from __future__ import annotations

import logging
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.peer import Counted, Emitter, calling, text

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "logging, FileHandler"
FORMAT = "%(asctime)s %(name)s %(levelname)-8s %(message)s"


def lines(path: Path, payload: str) -> int:
    """How many have it."""
    wanted = payload.encode()
    with path.open("rb") as file:
        return sum(wanted in line for line in file)


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """Counts the lines."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        path = Path(directory, "bench.log")
        handler = logging.FileHandler(path)
        handler.setFormatter(logging.Formatter(FORMAT))
        logger = logging.getLogger("bench")
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        yield Emitter(calling(logger.info, text(size)), counted=lambda _: Counted(lines(path, text(size))))
        handler.close()
