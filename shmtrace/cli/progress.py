"""How far a long conversion is, on stderr if that is a terminal; otherwise nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shmtrace.wire import RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from click._termui_impl import ProgressBar

    from shmtrace.reader.batch import Batch
    from shmtrace.reader.records import Record, Records, Source

__all__ = ["shown", "shown_records"]

BETWEEN = 1 << 10  # records, between two looks at how far they are


def shown(batches: Iterable[Batch], source: Source | list[Source], output: str = "") -> Iterator[Batch]:
    """The batches of a trace, with a bar of the bytes of the records that were read.  Of a pipe nobody knows them.

    `output` is where lines go while it is read; - is stdout.
    """
    bar = _bar(source, output)
    if bar is None:
        yield from batches
        return
    with bar:
        for batch in batches:
            yield batch
            _move(bar, bar.pos + int(batch.size.sum()) + RECORD_BYTES * len(batch))
        _move(bar)


def shown_records(records: Records, source: Source, output: str) -> Iterator[Record]:
    """As `shown`, of a trace's records."""
    bar = _bar(source, output)
    if bar is None:
        yield from records
        return
    with bar:
        for number, record in enumerate(records):
            yield record
            if number % BETWEEN == 0:
                _move(bar, records.bytes_read)
        _move(bar)


def _bar(source: Source | list[Source], output: str) -> ProgressBar[int] | None:
    """On a terminal, if no lines come there, too."""
    beside_lines = output == "-" and sys.stdout.isatty()
    size = _size(source) if sys.stderr.isatty() and not beside_lines else 0
    return click.progressbar(length=size, label="shmtrace", file=sys.stderr) if size else None


def _move(bar: ProgressBar[int], to: int | None = None) -> None:
    """To so many bytes, or to the end, which has what is no record: heads of packets, and what could not be read."""
    end = bar.length or 0
    bar.update((end if to is None else min(to, end)) - bar.pos)


def _size(source: Source | list[Source]) -> int:
    """Bytes of a trace or of several; 0: not known."""
    if isinstance(source, list):
        sizes = [_size(one) for one in source]
        return sum(sizes) if all(sizes) else 0
    if not isinstance(source, (str, os.PathLike)):
        return 0
    path = Path(source)
    try:
        if path.is_dir():
            return sum(file.stat().st_size for file in path.glob("stream_*"))
        return path.stat().st_size if path.is_file() else 0
    except OSError:  # the reader says so
        return 0
