"""What `tail` reads: channels by name, directories, FIFOs."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from shmtrace import segment as segments
from shmtrace.errors import ShmtraceError
from shmtrace.layout import CONTROL
from shmtrace.reader.following import LATE_S
from shmtrace.reader.source import WAIT_MS, FifoSource, PipeSource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shmtrace.reader.source import Stop
    from shmtrace.segment import Segment

__all__ = ["Place", "place_of", "refuse_twice"]

READ_S = 0.05  # a record may come so much later than its channel's flush interval


class Place(NamedTuple):
    """Where something to read is."""

    name: str  # as somebody gave it
    path: Path  # of the directory or the FIFO
    segment: Segment | None  # of the channel whose FIFO that is

    @property
    def is_stream(self) -> bool:
        """It is no directory."""
        return self.segment is not None or self.path.is_fifo()

    @property
    def late_s(self) -> float:
        """So much later than others a record may come."""
        return LATE_S if self.segment is None else self.segment.u32(CONTROL.flush_ms) / 1000 + READ_S

    def stream(self, stop: Stop, *, once: bool, wait_ms: int = WAIT_MS) -> FifoSource | PipeSource:
        """Opens the FIFO."""
        if self.segment is None:
            return PipeSource(self.path, stopping=stop, wait_ms=wait_ms)
        return FifoSource(self.segment, once=once, stopping=stop, wait_ms=wait_ms)


def place_of(source: str) -> Place:
    """A directory or FIFO, if there is a slash in it or it is a directory; else a channel."""
    path = Path(source)
    if "/" in source or path.is_dir():
        return Place(source, path, _channel_of(path) if path.is_fifo() else None)
    segment = segments.open_streamed(source)
    return Place(source, Path(segment.fifo), segment)


def _channel_of(fifo: Path) -> Segment | None:
    """The channel that a FIFO is of, if it is of one."""
    with contextlib.suppress(ShmtraceError, OSError):
        segment = segments.open_streamed(fifo.name)
        if fifo.samefile(segment.fifo):
            return segment
        segment.unmap()
    return None


def refuse_twice(places: Iterable[Place]) -> None:
    """Says so if two of them are one."""
    seen: dict[str, str] = {}
    for place in places:
        before = seen.setdefault(os.path.realpath(place.path), place.name)
        if before is not place.name:
            also = f"{place.name} is named twice" if before == place.name else f"{before} and {place.name} are the same"
            raise click.UsageError(f"{also}: once is enough")
