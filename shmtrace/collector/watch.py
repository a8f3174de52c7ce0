"""One thread that looks at the channels in which nothing happens, so that the threads of these can sleep.

A thread that looks by itself wakes as often as there are channels.  So a collector that has nothing to do leaves a
*look* here, a function that is called at an interval until it returns True or is taken back, and sleeps; the look wakes
it.  All looks of one interval are made in one go.  They may take a twentieth of the time: with very many channels the
intervals become longer.

The thread also waits in `epoll` for readers to leave.
"""

from __future__ import annotations

import os
import select
import threading
import time
from typing import TYPE_CHECKING

from ..native.loader import libc

if TYPE_CHECKING:
    from collections.abc import Callable

    Look = Callable[[], bool]

SHARE = 20  # looks may take one such part of the time


class _Round:
    """The looks of an interval, and when they are due."""

    def __init__(self, due: float) -> None:
        self.due = due
        self.looks: dict[Look, None] = {}


class Watch:
    """See the head of this module."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._lock = threading.Lock()  # what is taken back is not called, and a semaphore that was removed not touched
        self._semaphores: dict[int, int] = {}
        self._rounds: dict[float, _Round] = {}
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def every(self, interval_s: float, look: Look) -> None:
        """Call it so often, the first time within that time.  It must neither block nor raise."""
        with self._lock:
            known = self._rounds.get(interval_s)
            if known is None:
                known = self._rounds[interval_s] = _Round(time.monotonic() + interval_s)
                os.eventfd_write(self._bell, 1)
            known.looks[look] = None

    def take_back(self, interval_s: float, look: Look) -> None:
        """It is not called any more from now on; nothing if it has returned True."""
        with self._lock:
            known = self._rounds.get(interval_s)
            if known is not None:
                known.looks.pop(look, None)

    def post_at_departure(self, file: int, semaphore: int) -> None:
        """Post the semaphore when the last reader of this write end leaves.  Raises OSError if it cannot be done."""
        with self._lock:
            self._semaphores[file] = semaphore
        self._epoll.register(file, select.EPOLLET)  # errors are told in any case; closing it ends that

    def forget(self, file: int) -> None:
        """The write end is to be closed."""
        with self._lock:
            self._semaphores.pop(file, None)

    def _run(self) -> None:
        while True:
            for file, _ in self._epoll.poll(self._pause()):
                with self._lock:
                    semaphore = self._semaphores.get(file)
                    if semaphore is not None:
                        libc.sem_post(semaphore)
                    elif file == self._bell:
                        os.eventfd_read(self._bell)
            self._look()

    def _pause(self) -> float | None:
        with self._lock:
            for interval_s in [interval_s for interval_s, found in self._rounds.items() if not found.looks]:
                del self._rounds[interval_s]
            due = min((found.due for found in self._rounds.values()), default=None)
        return None if due is None else max(due - time.monotonic(), 0)

    def _look(self) -> None:
        now = time.monotonic()
        with self._lock:
            due = [
                (interval_s, found, [*found.looks]) for interval_s, found in self._rounds.items() if found.due <= now
            ]
        for interval_s, found, looks in due:
            begin = time.monotonic()
            for look in looks:
                with self._lock:
                    if look in found.looks and look():
                        del found.looks[look]
            end = time.monotonic()
            found.due = end + max(interval_s, SHARE * (end - begin))


_made: list[Watch] = []


def watch() -> Watch:
    """The one of this process.  Raises OSError if no descriptor is left."""
    if not _made:
        _made.append(Watch())
    return _made[0]


def forget(file: int) -> None:
    """The write end is to be closed: nobody is woken any more when its reader leaves."""
    for made in _made:
        made.forget(file)
