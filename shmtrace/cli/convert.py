"""`shmtrace convert`: a trace in another format."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import click

from shmtrace.wire import RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shmtrace.reader import Record
    from shmtrace.reader.batch import Batch

    _Write: TypeAlias = Callable[[Iterator[Record], BinaryIO], None]


def _write_jsonl(records: Iterator[Record], out: BinaryIO) -> None:
    from shmtrace.export.text import json_line

    out.writelines(json_line(record).encode("utf-8", "backslashreplace") + b"\n" for record in records)
    out.flush()


_WRITERS: dict[str, _Write] = {".jsonl": _write_jsonl}
PERFETTO = ".pftrace"


def write_perfetto(source: str | BinaryIO, path: Path, warn: Callable[[str], None]) -> None:
    """A trace as Perfetto has it.  Raises NotATrace, and click's exception if the library is not installed."""
    try:
        from shmtrace.export.perfetto import packets
    except ImportError as error:
        raise click.ClickException(
            f"Perfetto's format needs the extra `perfetto`: pip install 'shmtrace[perfetto]' ({error})"
        ) from None
    from shmtrace.reader import columns
    from shmtrace.reader.sorting import in_order

    with in_order(source, warn) as (ordered, size):
        pieces = packets(_shown(columns.read(ordered, warn=warn), size))
        first = list(itertools.islice(pieces, 1))
        with path.open("wb") as out:
            out.writelines(itertools.chain(first, pieces))


def _shown(batches: Iterator[Batch], size: int) -> Iterator[Batch]:
    """How far it is, on a terminal."""
    if not sys.stderr.isatty():
        yield from batches
        return
    with click.progressbar(length=size, label="shmtrace: converting", file=sys.stderr) as bar:
        for batch in batches:
            yield batch
            bar.update(int(batch.size.sum()) + RECORD_BYTES * len(batch))
        bar.update(max(0, size - bar.pos))


@click.command
@click.argument("trace")
@click.option(
    "-o", "--output", metavar="OUT", required=True, help="Where to: *.jsonl, *.pftrace, or - for JSON lines to stdout."
)
def command(trace: str, output: str) -> None:
    """Convert TRACE, a directory, a file that holds what `cat` read from a FIFO, or - for stdin.

    The suffix of OUT says into what: .jsonl is JSON lines, .pftrace is for Perfetto's UI.
    """
    from shmtrace.reader import read

    suffix = ".jsonl" if output == "-" else Path(output).suffix
    if suffix == PERFETTO:
        write_perfetto(sys.stdin.buffer if trace == "-" else trace, Path(output), _complain)
        return
    write = _WRITERS.get(suffix)
    if write is None:
        known = " or ".join((*_WRITERS, PERFETTO))
        raise click.UsageError(f"{output}: what format is that? A name that ends in {known}, or -")
    records = read(sys.stdin.buffer if trace == "-" else trace, warn=_complain)
    if output == "-":
        write(records, sys.stdout.buffer)
        return
    # What is no trace leaves no file behind, and an older one as it was.
    first = list(itertools.islice(records, 1))
    with Path(output).open("wb") as out:
        write(itertools.chain(first, records), out)


def _complain(line: str) -> None:
    click.echo(f"shmtrace: {line}", err=True)
