"""`shmtrace convert`: a trace in another format."""

from __future__ import annotations

import functools
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import click

from .choosing import choosing_options, make_filter, make_lines, refuse_times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shmtrace.reader import Record

    _Write: TypeAlias = Callable[[Iterator[Record], BinaryIO], None]


def _write_jsonl(records: Iterator[Record], out: BinaryIO) -> None:
    from shmtrace.export.text import json_line

    _write_lines(json_line, records, out)


def _write_lines(line: Callable[[Record], str], records: Iterator[Record], out: BinaryIO) -> None:
    out.writelines(line(record).encode("utf-8", "backslashreplace") + b"\n" for record in records)
    out.flush()


_WRITERS: dict[str, _Write] = {".jsonl": _write_jsonl}
TEXT = ".txt"  # is written with the options for lines


@click.command
@click.argument("trace")
@click.option(
    "-o", "--output", metavar="OUT", required=True, help="Where to: *.jsonl, *.txt, or - for JSON lines to stdout."
)
@choosing_options
def command(
    trace: str, output: str, names: tuple[str, ...], pids: tuple[int, ...], where: str | None, times: str | None,
    color: str,
) -> None:  # fmt: skip
    """Convert TRACE, a directory, a file that holds what `cat` read from a FIFO, or - for stdin.

    The suffix of OUT says into what: .jsonl is JSON lines, .txt lines for people.

    EXPR compares columns (name, kind, level, cpu, pid, tid, process, thread, time_ns, span, parent, task) and fields,
    as Python would; docs/views.md has all of it.
    """
    from shmtrace.reader import read

    suffix = ".jsonl" if output == "-" else Path(output).suffix
    if suffix == TEXT:
        write: _Write | None = functools.partial(_write_lines, make_lines(times, color, terminal=False))
    else:
        write = _WRITERS.get(suffix)
        refuse_times(times)
    if write is None:
        known = ", ".join((*_WRITERS, TEXT))
        raise click.UsageError(f"{output}: what format is that? A name that ends in {known}, or -")
    wanted = make_filter(names, pids, where)
    records = read(sys.stdin.buffer if trace == "-" else trace, warn=_complain)
    if wanted is not None:
        records = filter(wanted, records)
    if output == "-":
        write(records, sys.stdout.buffer)
        return
    # What is no trace leaves no file behind, and an older one as it was.
    first = list(itertools.islice(records, 1))
    with Path(output).open("wb") as out:
        write(itertools.chain(first, records), out)


def _complain(line: str) -> None:
    click.echo(f"shmtrace: {line}", err=True)
