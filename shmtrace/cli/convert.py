"""`shmtrace convert`: a trace in another format."""

from __future__ import annotations

import contextlib
import functools
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from shmtrace.cli import Complaints, end_at_sigterm, source_of, strict_option

from .choosing import choosing_options, make_filter, make_lines, refuse_times
from .progress import shown, shown_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from shmtrace.export.filters import Wanted
    from shmtrace.reader import Record
    from shmtrace.reader.batch import Batch
    from shmtrace.reader.records import Source

LINES, TEXT, PARQUET, PERFETTO = ".jsonl", ".txt", ".parquet", ".pftrace"


def _write_lines(line: Callable[[Record], str], records: Iterable[Record], out: BinaryIO) -> None:
    out.writelines(line(record).encode("utf-8", "backslashreplace") + b"\n" for record in records)
    out.flush()


@click.command
@click.argument("traces", metavar="TRACE...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    required=True,
    help="*.jsonl, *.txt, *.pftrace, *.parquet, DIR/ for Parquet of all tables, or - for JSON lines on stdout.",
)
@choosing_options
@strict_option
def command(
    traces: tuple[str, ...], output: str, names: tuple[str, ...], pids: tuple[int, ...], where: str | None,
    times: str | None, color: str, *, strict: bool,
) -> None:  # fmt: skip
    """Convert TRACE, a directory, a file that holds what `cat` read from a FIFO, or - for stdin.

    Several are merged by time.

    The suffix of OUT says into what: .jsonl is JSON lines, .txt lines for people, .pftrace what Perfetto's UI opens,
    .parquet a row an event.  A directory gets a directory of Parquet files for each table that `shmtrace query` has.

    EXPR compares columns (name, kind, level, cpu, pid, tid, process, thread, time_ns, span, parent, task, of several
    traces also host, channel) and fields, as Python would; docs/views.md has all of it.
    """
    end_at_sigterm()
    source, merged = source_of(traces), len(traces) > 1
    suffix = LINES if output == "-" else Path(output).suffix
    complaints = Complaints()
    if output.endswith("/") or Path(output).is_dir():
        _refuse_choice(names, pids, where, times)
        _write_directory(source, Path(output), complaints, merged=merged)
    elif suffix == PARQUET:
        _refuse_choice(names, pids, where, times)
        _write(_batches(source, complaints), functools.partial(_write_parquet, merged=merged), output)
    elif suffix == PERFETTO:
        _refuse_choice(names, pids, where, times)
        write_perfetto(source, output, complaints)
    elif suffix == LINES and not (names or pids or where is not None):
        refuse_times(times)
        _write(*_all_lines(source, complaints, output), output)
    elif suffix in {LINES, TEXT}:
        line = _line_maker(suffix, times, color)
        wanted = make_filter(names, pids, where)
        _write(_records(source, complaints, wanted, output), functools.partial(_write_lines, line), output)
    else:
        raise click.UsageError(
            f"{output}: what format is that? A name that ends in {LINES}, {TEXT}, {PERFETTO}, {PARQUET} or /, or -"
        )
    if strict:
        complaints.settle()


def _all_lines(
    source: Source | list[Source], warn: Callable[[str], None], output: str
) -> tuple[Iterator[Any], Callable[[Any, BinaryIO], None]]:
    """All that there is as JSON lines, through columns if there is a compiler: that is several times as fast."""
    from shmtrace.native.plain import has_numba

    if not has_numba():
        return _records(source, warn, None, output), functools.partial(_write_lines, _line_maker(LINES, None, "never"))
    from shmtrace.export.jsonl import write_json_lines
    from shmtrace.reader import columns

    return shown(columns.read(source, warn=warn), source, output), write_json_lines


def _line_maker(suffix: str, times: str | None, color: str) -> Callable[[Record], str]:
    from shmtrace.export.text import json_line

    if suffix == TEXT:
        return make_lines(times, color, terminal=False)
    refuse_times(times)
    return json_line


def _records(
    source: Source | list[Source], warn: Callable[[str], None], wanted: Wanted | None, output: str
) -> Iterator[Record]:
    """The records that are wanted."""
    from shmtrace.reader import columns, read

    records: Iterator[Record]
    if isinstance(source, list):
        batches = shown(columns.read(source, warn=warn), source, output)
        records = (record for batch in batches for record in batch.records())
    else:
        records = shown_records(read(source, warn=warn), source, output)
    return records if wanted is None else filter(wanted, records)


def _refuse_choice(names: tuple[str, ...], pids: tuple[int, ...], where: str | None, times: str | None) -> None:
    if names or pids or where is not None or times is not None:
        raise click.UsageError(
            "--name, --pid, --where and --time are for lines: of tables, `shmtrace query` chooses with SQL"
        )


def _write(items: Iterator[Any], write: Callable[[Any, BinaryIO], None], output: str) -> None:
    if output == "-":
        write(items, sys.stdout.buffer)
        return
    # What is no trace leaves no file behind, and an older one as it was.
    first = list(itertools.islice(items, 1))
    with Path(output).open("wb") as out:
        write(itertools.chain(first, items), out)


def write_perfetto(source: Source | list[Source], output: str, warn: Callable[[str], None]) -> None:
    """A trace as Perfetto has it."""
    from shmtrace.reader import columns
    from shmtrace.reader.errors import needs_extra
    from shmtrace.reader.sorting import in_order

    with needs_extra("perfetto", what="Perfetto's format"):
        from shmtrace.export.perfetto import packets
    with contextlib.ExitStack() as stack:
        if isinstance(source, list):
            trace: Source | list[Source] = [stack.enter_context(in_order(one, warn)) for one in source]
        else:
            trace = stack.enter_context(in_order(source, warn))
        _write(packets(shown(columns.read(trace, warn=warn), trace)), _write_pieces, output)


def _write_pieces(pieces: Iterable[bytes], out: BinaryIO) -> None:
    out.writelines(pieces)


def _write_parquet(batches: Iterable[Batch], out: BinaryIO, *, merged: bool) -> None:
    from shmtrace.export.parquet import write_events

    write_events(batches, out, merged=merged)


def _batches(source: Source | list[Source], warn: Callable[[str], None]) -> Iterator[Batch]:
    from shmtrace.reader import columns
    from shmtrace.reader.errors import needs_extra

    with needs_extra("arrow", what="Parquet"):
        import shmtrace.export.parquet  # noqa: F401
    return shown(columns.read(source, warn=warn), source)


def _write_directory(
    source: Source | list[Source], directory: Path, warn: Callable[[str], None], *, merged: bool
) -> None:
    from shmtrace.reader.errors import DirectoryNotEmpty, needs_extra

    batches = _batches(source, warn)
    with needs_extra("arrow", what="a directory of tables"):
        from shmtrace.export.parquet import write_tables
    if directory.exists() and any(directory.iterdir()):
        raise DirectoryNotEmpty(f"{directory} is not empty: name a directory that is empty or does not exist yet")
    first = list(itertools.islice(batches, 1))
    write_tables(itertools.chain(first, batches), directory, merged=merged)
