"""channel.event of a channel that nobody reads."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.shmtrace_event import channel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "shmtrace event, off"


@contextmanager
def running() -> Iterator[Callable[[bytes], object]]:
    """What is called with a blob."""
    with channel() as made:
        yield made.event
