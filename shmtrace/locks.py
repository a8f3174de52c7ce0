"""Locks on files, which the kernel gives back when their holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .errors import ChannelError

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT_S = 30.0  # to allocate all the memory of a large machine takes less


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the lock of a file, which the kernel gives back when its holder dies.  Raises ChannelError."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        take_lock(file, path)
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)  # a child forked meanwhile has the descriptor, too
        os.close(file)


def take_lock(file: int, path: str) -> None:
    """Raises ChannelError when the holder, who may be stopped, keeps it for too long."""
    limit = time.monotonic() + LIMIT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > limit:
                raise ChannelError(
                    f"another process of yours has held the lock {path} for {LIMIT_S:g} s and may be stopped: "
                    f"'fuser {path}' names it"
                ) from None
            time.sleep(0.005)
        else:
            return
