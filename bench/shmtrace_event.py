"""channel.event, with collector and `cat > /dev/null` running; and the same channel while nobody reads."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import shmtrace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "shmtrace event"


@contextmanager
def channel(*, page_size: int | None = None, pages: int | None = None) -> Iterator[shmtrace.Channel]:
    """A channel that nobody reads."""
    name = f"bench-{os.getpid()}-{time.monotonic_ns()}"
    made = shmtrace.create_channel(name, page_size=page_size, pages=pages)
    try:
        yield made
    finally:
        shmtrace.remove_channel(name, drain=True)


@contextmanager
def collected(made: shmtrace.Channel) -> Iterator[None]:
    """The channel has a collector and a reader."""
    with (
        subprocess.Popen(
            [sys.executable, "-m", "shmtrace", "collect", made.name], stderr=subprocess.DEVNULL
        ) as collector,
        subprocess.Popen(["cat", made.fifo], stdout=subprocess.DEVNULL) as reader,
    ):
        try:
            while not made.enabled:
                assert collector.poll() is None, "the collector ended"
                time.sleep(0.01)
            yield
        finally:
            collector.terminate()
            collector.wait()
            reader.kill()


@contextmanager
def running() -> Iterator[Callable[[bytes], object]]:
    """What is called with a blob."""
    with channel() as made, collected(made):
        yield made.event
        assert made.missed == 0, f"{made.missed} events were missed: not the cost of an event"
