"""`shmtrace convert`: a trace in another format."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shmtrace.reader import Record

    _Write: TypeAlias = Callable[[Iterator[Record], BinaryIO], None]


def _write_jsonl(records: Iterator[Record], out: BinaryIO) -> None:
    from shmtrace.export.text import json_line

    out.writelines(json_line(record).encode("utf-8", "backslashreplace") + b"\n" for record in records)
    out.flush()


_WRITERS: dict[str, _Write] = {".jsonl": _write_jsonl}


@click.command
@click.argument("trace")
@click.option("-o", "--output", metavar="OUT", required=True, help="Where to: *.jsonl, or - for JSON lines to stdout.")
def command(trace: str, output: str) -> None:
    """Convert TRACE, a directory, a file that holds what `cat` read from a FIFO, or - for stdin.

    The suffix of OUT says into what: .jsonl is JSON lines.
    """
    from shmtrace.reader import read

    write = _WRITERS.get(".jsonl" if output == "-" else Path(output).suffix)
    if write is None:
        raise click.UsageError(f"{output}: what format is that? A name that ends in {' or '.join(_WRITERS)}, or -")
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
