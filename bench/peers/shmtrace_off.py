"""channel.event of a channel that nobody reads."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.peer import Emitter, calling

from .shmtrace_event import channel

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "shmtrace event, off"


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """Nothing is recorded."""
    with channel() as made:
        yield Emitter(calling(made.event, bytes(size)))
