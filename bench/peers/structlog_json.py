"""structlog to JSON lines in a file, set up as its page on performance advises, with a time stamp."""

from __future__ import annotations

import json
import logging
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.peer import Counted, Emitter, calling, text

from .logging_file import lines

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "structlog, JSON to a file"
PACKAGES = ("structlog",)
FIRST_EVENT = """
import structlog
structlog.configure(processors=[structlog.processors.JSONRenderer()],
                    logger_factory=structlog.WriteLoggerFactory(open("/dev/null", "w")))
structlog.get_logger().info("first event")
"""


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """Counts the lines."""
    import structlog

    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        path = Path(directory, "bench.log")
        with path.open("wb") as file:
            structlog.configure(
                cache_logger_on_first_use=True,
                wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
                processors=[
                    structlog.processors.add_log_level,
                    structlog.processors.TimeStamper(fmt="iso", utc=True),
                    structlog.processors.JSONRenderer(serializer=_dump),
                ],
                logger_factory=structlog.BytesLoggerFactory(file),
            )
            # A logger that is bound once is not looked up at each call.
            emit = structlog.get_logger().bind().info
            yield Emitter(calling(emit, text(size)), counted=lambda _: Counted(lines(path, text(size))))


def _dump(value: object, **options: object) -> bytes:
    return json.dumps(value, **options).encode()  # type: ignore[arg-type]
