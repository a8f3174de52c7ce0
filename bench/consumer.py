"""The other side of a pipe or a queue: a forked process that takes events, and memory that it shares with the judge."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 5.0
PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def shared_words(count: int) -> memoryview[int]:
    """Numbers of 64 bits in memory that forked processes share."""
    return memoryview(mmap.mmap(-1, 8 * count)).cast("Q")


def die_with_parent() -> None:
    """Do not outlive the process that forked this one, however that ends."""
    ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)


@contextmanager
def forked(function: Callable[[], object]) -> Iterator[None]:
    """Another process does that beside the block, and is killed at its end."""
    child = os.fork()
    if child == 0:
        die_with_parent()
        try:
            with suppress(KeyboardInterrupt):
                function()
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@contextmanager
def counting(receive: Callable[[], bytes], size: int) -> Iterator[Callable[[], int]]:
    """A process that takes events; gives how many it has taken."""
    words = shared_words(1)

    def consume() -> None:
        taken = 0
        while True:
            taken += len(receive())
            words[0] = taken

    with forked(consume):
        yield lambda: words[0] // size


def wait_for(arrived: Callable[[], int], count: int) -> int:
    """Wait until so many have arrived, or nothing comes any more; how many have."""
    return wait_for_last(arrived, count)[0]


def wait_for_last(arrived: Callable[[], int], count: int) -> tuple[int, float]:
    """The same, and how many seconds it took until the last one was there."""
    begin = since = time.monotonic()
    seen = arrived()
    while seen < count and time.monotonic() - since < PATIENCE_S:
        time.sleep(0.0005)
        if (now := arrived()) != seen:
            seen, since = now, time.monotonic()
    return seen, since - begin
