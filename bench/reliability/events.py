"""An event's text, which says who emitted it and is known to the last character; and the memory where workers count."""

from __future__ import annotations

import mmap
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 64  # characters of an event
TEXT = re.compile(r"worker (\d{4}) event (\d{10}) .*")
_FILLER = "abcdefghijklmnopqrstuvwxyz012345678"
_GO, _FIRST = 0, 1  # words of the memory: may the workers begin, and then two for each of them
_READY, _EMITTED = 0, 1


def text(worker: int, number: int) -> str:
    """The event `number` of a worker."""
    return f"worker {worker:04} event {number:010} {_FILLER}"


assert len(text(0, 0)) == SIZE


def parse(found: str) -> tuple[int, int] | None:
    """Worker and number of an event; None if a character of it is not as it was."""
    match = TEXT.fullmatch(found)
    if match is None or found != text(int(match[1]), int(match[2])):
        return None
    return int(match[1]), int(match[2])


class Counts:
    """Memory that workers, job and judge share, and that outlives each of them: a mapped file."""

    def __init__(self, path: Path, workers: int) -> None:
        self.workers = workers
        size = 8 * (_FIRST + 2 * workers)
        with path.open("a+b") as file:
            file.truncate(size)
            self._words = memoryview(mmap.mmap(file.fileno(), size)).cast("Q")

    def start(self) -> None:
        """Let the workers begin."""
        self._words[_GO] = 1

    @property
    def started(self) -> bool:
        return bool(self._words[_GO])

    def set_ready(self, worker: int) -> None:
        self._words[self._place(worker, _READY)] = 1

    @property
    def ready(self) -> int:
        """Workers that are ready to begin."""
        return sum(self._words[self._place(worker, _READY)] for worker in range(self.workers))

    def slot(self, worker: int) -> memoryview[int]:
        """A word for the number of events that this worker emitted: of its calls that returned."""
        place = self._place(worker, _EMITTED)
        return self._words[place : place + 1]

    @property
    def emitted(self) -> list[int]:
        """Of each worker."""
        return [self._words[self._place(worker, _EMITTED)] for worker in range(self.workers)]

    @staticmethod
    def _place(worker: int, word: int) -> int:
        return _FIRST + 2 * worker + word
