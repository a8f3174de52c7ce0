"""A FIFO with a fake channel and a fake collector."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from shmtrace.layout import CONTROL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Channel:
    """A FIFO and the few numbers of a segment that count here."""

    name = "app"

    def __init__(self, fifo: Path) -> None:
        self.fifo = fifo
        self.numbers = {CONTROL.goodbyes: 3, CONTROL.removed: 0, CONTROL.collector_pid: 0, CONTROL.reader: 0}
        self.records = 0
        os.mkfifo(fifo)

    def u32(self, offset: int) -> int:
        return self.numbers[offset]

    def delivered(self) -> int:
        return self.records

    @contextlib.contextmanager
    def collector(self, *, goodbye: bool = True) -> Iterator[int]:
        descriptor = os.open(self.fifo, os.O_WRONLY | os.O_NONBLOCK)
        try:
            yield descriptor
            self.numbers[CONTROL.goodbyes] += goodbye
        finally:
            os.close(descriptor)
