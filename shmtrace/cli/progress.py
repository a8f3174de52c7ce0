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

    from shmtrace.reader.batch import Batch
    from shmtrace.reader.records import Source

__all__ = ["shown"]


def shown(batches: Iterable[Batch], source: Source | list[Source]) -> Iterator[Batch]:
    """The batches of a trace, with a bar of the bytes of the records that were read.  Of a pipe nobody knows them."""
    size = _size(source) if sys.stderr.isatty() else 0
    if not size:
        yield from batches
        return
    with click.progressbar(length=size, label="shmtrace", file=sys.stderr) as bar:
        for batch in batches:
            yield batch
            bar.update(min(int(batch.size.sum()) + RECORD_BYTES * len(batch), size - bar.pos))
        bar.update(size - bar.pos)  # what is no record: heads of packets, and what could not be read


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
