"""`shmtrace convert`: a trace in another format."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from shmtrace.cli import Complaints, strict_option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from shmtrace.reader import Record
    from shmtrace.reader.batch import Batch


def _write_jsonl(records: Iterable[Record], out: BinaryIO) -> None:
    from shmtrace.export.text import json_line

    out.writelines(json_line(record).encode("utf-8", "backslashreplace") + b"\n" for record in records)
    out.flush()


def _write_parquet(batches: Iterable[Batch], out: BinaryIO) -> None:
    from shmtrace.export.parquet import write_events

    write_events(batches, out)


_FROM_RECORDS: dict[str, Callable[[Any, BinaryIO], None]] = {".jsonl": _write_jsonl}
_FROM_BATCHES: dict[str, Callable[[Any, BinaryIO], None]] = {".parquet": _write_parquet}


@click.command
@click.argument("trace")
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    required=True,
    help="Where to: *.jsonl, *.parquet, DIR/ for Parquet of all tables, or - for JSON lines to stdout.",
)
@strict_option
def command(trace: str, output: str, *, strict: bool) -> None:
    """Convert TRACE, a directory, a file that holds what `cat` read from a FIFO, or - for stdin.

    The suffix of OUT says into what: .jsonl is JSON lines, .parquet a row an event.  A directory gets a directory of
    Parquet files for each table that `shmtrace query` has.
    """
    complaints = Complaints()
    _convert(sys.stdin.buffer if trace == "-" else trace, output, complaints)
    if strict:
        complaints.settle()


def _convert(source: str | BinaryIO, output: str, warn: Callable[[str], None]) -> None:
    suffix = ".jsonl" if output == "-" else Path(output).suffix
    if output.endswith("/") or Path(output).is_dir():
        _write_directory(source, Path(output), warn)
        return
    items: Iterator[Any]
    if suffix in _FROM_RECORDS:
        from shmtrace.reader import read

        items = read(source, warn=warn)
    elif suffix in _FROM_BATCHES:
        items = _batches(source, warn)
    else:
        known = ", ".join((*_FROM_RECORDS, *_FROM_BATCHES))
        raise click.UsageError(f"{output}: what format is that? A name that ends in {known} or /, or -")
    write = {**_FROM_RECORDS, **_FROM_BATCHES}[suffix]
    if output == "-":
        write(items, sys.stdout.buffer)
        return
    # What is no trace leaves no file behind, and an older one as it was.
    first = list(itertools.islice(items, 1))
    with Path(output).open("wb") as out:
        write(itertools.chain(first, items), out)


def _batches(source: str | BinaryIO, warn: Callable[[str], None]) -> Iterator[Batch]:
    from shmtrace.reader import columns
    from shmtrace.reader.errors import needs_extra

    with needs_extra("arrow", what="Parquet"):
        import shmtrace.export.parquet  # noqa: F401
    return columns.read(source, warn=warn)


def _write_directory(source: str | BinaryIO, directory: Path, warn: Callable[[str], None]) -> None:
    from shmtrace.reader.errors import DirectoryNotEmpty, needs_extra

    batches = _batches(source, warn)
    with needs_extra("arrow", what="a directory of tables"):
        from shmtrace.export.parquet import write_tables
        from shmtrace.export.query import save_spans
    if directory.exists() and any(directory.iterdir()):
        raise DirectoryNotEmpty(f"{directory} is not empty: name a directory that is empty or does not exist yet")
    first = list(itertools.islice(batches, 1))
    write_tables(itertools.chain(first, batches), directory)
    save_spans(directory)
