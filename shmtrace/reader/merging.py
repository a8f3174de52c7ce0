"""Several traces as one timeline: batches of each, merged by time in windows, in bounded memory.

Traces of one boot have one monotonic clock, by which they are merged; what comes of that is merged by the wall clock.
Of each trace a batch is held.  What is before the earliest of their ends is complete: it becomes the next batch.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..native.rows import WIDE
from .rows import Growing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .batch import Batch
    from .description import EventClass
    from .records import Writer
    from .rows import Array

__all__ = ["Origin", "merge", "merge_boots", "with_origin"]

MOST_THREADS = 1 << 16  # beside those of the traces, before the others are forgotten


class Origin(NamedTuple):
    """Which trace a record is of."""

    host: str
    channel: str


def with_origin(batches: Iterator[Batch], origin: Origin) -> Iterator[Batch]:
    """The same, and they know their trace; threads of two hosts are two."""
    known: Growing[Writer] | None = None
    threads: Growing[Writer] = Growing()
    for batch in batches:
        if batch.threads is not known:
            known, threads = batch.threads, Growing()
        threads.extend(thread._replace(host=origin.host) for thread in batch.threads[len(threads) :])
        yield dataclasses.replace(batch, threads=threads, origins=[origin])


def merge_boots(traces: Sequence[tuple[bytes, Iterator[Batch]]]) -> Iterator[Batch]:
    """Batches of several traces; each stands beside its boot's id."""
    boots: dict[bytes, list[Iterator[Batch]]] = {}
    for boot, batches in traces:
        boots.setdefault(boot, []).append(batches)
    merged = [merge(of_boot, "monotonic_ns") for of_boot in boots.values()]
    return merged[0] if len(merged) == 1 else merge(merged, "time_ns")


def merge(traces: Sequence[Iterator[Batch]], column: str) -> Iterator[Batch]:
    """Batches of several traces, by one of their times; of equal ones, those of the first trace come first."""
    union = _Union()
    sources = [_Source(batches, column) for batches in traces]
    while sources := [source for source in sources if source.fill()]:
        until = min(source.last for source in sources)
        parts = [part for source in sources if (part := source.take(until)) is not None]
        yield union.join(parts)


class _Part(NamedTuple):
    """Rows of a trace's batch, and the times by which they are merged."""

    source: _Source
    batch: Batch
    times: Array


class _Source:
    """A trace, of which a batch is held."""

    def __init__(self, batches: Iterator[Batch], column: str) -> None:
        self._batches = batches
        self._column = column
        self._batch: Batch | None = None
        self._times = np.empty(0, np.int64)
        self._at = 0
        self._latest = np.iinfo(np.int64).min
        self.classes = np.empty(0, np.int32)  # numbers in the union
        self.threads = np.empty(0, np.int32)
        self.known: Growing[Writer] | None = None
        self.union_threads: Growing[Writer] | None = None  # in which the numbers of threads are

    def fill(self) -> bool:
        """There is something in the batch that is held."""
        while self._batch is None or self._at == len(self._times):
            self._batch = next(self._batches, None)
            if self._batch is None:
                return False
            times = np.maximum.accumulate(getattr(self._batch, self._column))
            self._times = np.maximum(times, self._latest)  # a stream's lanes follow each other
            self._at = 0
        return True

    @property
    def last(self) -> int:
        return int(self._times[-1])

    def take(self, until: int) -> _Part | None:
        """What is not later than that."""
        begin, self._at = self._at, int(np.searchsorted(self._times, until, "right"))
        if begin == self._at:
            return None
        assert self._batch is not None
        self._latest = self._times[self._at - 1]
        rows = slice(begin, self._at)
        return _Part(self, self._batch.some(rows), self._times[rows])


class _Union:
    """The classes, threads and origins of all traces."""

    def __init__(self) -> None:
        self._classes: Growing[EventClass] = Growing()
        self._class_numbers: dict[EventClass, int] = {}
        self._threads: Growing[Writer] = Growing()
        self._thread_numbers: dict[Writer, int] = {}
        self._origins: list[Origin] = []

    def join(self, parts: Sequence[_Part]) -> Batch:
        """One batch of all these rows."""
        self._forget_threads(parts)
        order = np.argsort(np.concatenate([part.times for part in parts]), kind="stable")
        moved: dict[str, list[Array]] = {"class_id": [], "thread_id": [], "context": [], "origin": [], "start": []}
        data: list[Array] = []
        contexts: list[bytes] = []
        used = 0
        for part in parts:
            batch, source = part.batch, part.source
            self._learn(source, batch)
            begin, end = int(batch.start.min()), int((batch.start + batch.size).max())
            data.append(batch.data[begin:end])
            moved["class_id"].append(source.classes[batch.class_id])
            moved["thread_id"].append(np.append(source.threads, np.int32(-1))[batch.thread_id])
            moved["context"].append(np.where(batch.context >= 0, batch.context + len(contexts), -1).astype(np.int32))
            moved["origin"].append(self._origin_numbers(batch.origins)[batch.origin])
            moved["start"].append((batch.start + (used - begin)).astype(np.int32))
            contexts += batch.contexts
            used += end - begin
        first = parts[0].batch
        same = {name: [getattr(part.batch, name) for part in parts] for name in first.columns() if name not in moved}
        columns: dict[str, Any] = {name: np.concatenate(arrays)[order] for name, arrays in (moved | same).items()}
        return dataclasses.replace(
            first, **columns, data=np.concatenate([*data, np.zeros(WIDE, np.uint8)]), classes=self._classes,
            threads=self._threads, contexts=contexts, origins=self._origins,
        )  # fmt: skip

    def _learn(self, source: _Source, batch: Batch) -> None:
        new = [self._class_number(made) for made in batch.classes[len(source.classes) :]]
        source.classes = np.append(source.classes, np.array(new, np.int32))
        if source.known is not batch.threads or source.union_threads is not self._threads:
            source.known, source.union_threads = batch.threads, self._threads
            source.threads = np.empty(0, np.int32)
        numbers = []
        for thread in batch.threads[len(source.threads) :]:
            number = self._thread_numbers.get(thread)
            if number is None:
                number = self._thread_numbers[thread] = len(self._threads)
                self._threads.append(thread)
            numbers.append(number)
        source.threads = np.append(source.threads, np.array(numbers, np.int32))

    def _class_number(self, made: EventClass) -> int:
        """Two channels give one tracepoint two ids."""
        key = made if made.id < 0 else dataclasses.replace(made, id=0)
        number = self._class_numbers.get(key)
        if number is None:
            number = self._class_numbers[key] = len(self._classes)
            self._classes.append(made)
        return number

    def _forget_threads(self, parts: Sequence[_Part]) -> None:
        if len(self._threads) > MOST_THREADS + 2 * sum(len(part.batch.threads) for part in parts):
            self._threads, self._thread_numbers = Growing(), {}

    def _origin_numbers(self, origins: list[Origin]) -> Array:
        numbers = []
        for origin in origins:
            if origin not in self._origins:
                self._origins.append(origin)
            numbers.append(self._origins.index(origin))
        return np.array(numbers, np.uint16)
