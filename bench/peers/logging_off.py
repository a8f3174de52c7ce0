"""The standard library's logging, a level that is not enabled."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.peer import Emitter, calling, text

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "logging, below the level"


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """Nothing is recorded."""
    logger = logging.getLogger("bench")
    logger.setLevel(logging.INFO)
    yield Emitter(calling(logger.debug, text(size)))
