"""picologging to a file, with time, level and text in a line.

The time is %(created)f: release 0.9.3 writes other things than a time for %(asctime)s.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.peer import Counted, Emitter, calling, text

from .logging_file import lines

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "picologging, FileHandler"
PACKAGES = ("picologging",)
FORMAT = "%(created)f %(name)s %(levelname)s %(message)s"
FIRST_EVENT = """
import picologging
logger = picologging.getLogger("bench")
logger.addHandler(picologging.FileHandler("/dev/null"))
logger.setLevel(picologging.INFO)
logger.info("first event")
"""


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """Counts the lines."""
    import picologging

    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        path = Path(directory, "bench.log")
        handler = picologging.FileHandler(str(path))
        handler.setFormatter(picologging.Formatter(FORMAT))
        logger = picologging.getLogger("bench")
        logger.addHandler(handler)
        logger.setLevel(picologging.INFO)
        yield Emitter(calling(logger.info, text(size)), counted=lambda _: Counted(lines(path, text(size))))
        handler.close()
