"""`shmtrace query`: SQL over a trace."""

from __future__ import annotations

import contextlib
import csv
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shmtrace.cli import Complaints, end_at_sigterm, source_of, strict_option

from .progress import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from shmtrace.reader.batch import Batch

ROWS_AT_ONCE = 1000  # of which the widths of a table's columns are made
WIDEST = 80  # column of a table that is not the last


@click.command
@click.argument("traces", metavar="TRACE...", nargs=-1, required=True)
@click.argument("sql")
@click.option("--json", "style", flag_value="json", help="JSON lines instead of a table.")
@click.option("--csv", "style", flag_value="csv", help="CSV with a header instead of a table.")
@strict_option
def command(traces: tuple[str, ...], sql: str, style: str | None, *, strict: bool) -> None:
    """Ask TRACE, a directory, a file that holds what `cat` read from a FIFO, or - for stdin, in SQL (DuckDB's).

    Several are merged by time.

    TRACE may also be a directory that `shmtrace convert -o DIR/` made.  Tables are events, spans, counters, writers,
    losses, and one of each tracepoint, span and counter, under its name; "show tables" and "describe NAME" tell more.
    """
    from shmtrace.reader.errors import needs_extra

    with needs_extra("arrow", what="query"):
        from shmtrace.export import query
    end_at_sigterm()
    complaints = Complaints()
    with contextlib.ExitStack() as stack:
        try:
            path = Path(traces[0])
            if len(traces) == 1 and traces[0] != "-" and query.is_dataset(path):
                result = stack.enter_context(query.open_dataset(path, sql))
            else:
                made = query.answer(lambda: _batches(traces, complaints), sql, merged=len(traces) > 1)
                result = stack.enter_context(made)
            names = [column[0] for column in result.description or ()]
            rows = itertools.chain.from_iterable(iter(lambda: result.fetchmany(ROWS_AT_ONCE), []))
            {"json": _write_json, "csv": _write_csv, None: _write_table}[style](names, rows)
        except query.QueryError as error:
            raise click.UsageError(str(error)) from None
    if strict:
        complaints.settle()


def _batches(traces: tuple[str, ...], warn: Callable[[str], None]) -> Iterable[Batch]:
    from shmtrace.reader import columns

    source = source_of(traces)
    return shown(columns.read(source, warn=warn), source)


def _write_json(names: list[str], rows: Iterable[tuple[object, ...]]) -> None:
    from shmtrace.export.text import encode, plain_fields

    for row in rows:
        click.echo(encode(plain_fields(dict(zip(names, row, strict=True)))))


def _write_csv(names: list[str], rows: Iterable[tuple[object, ...]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)


def _write_table(names: list[str], rows: Iterable[tuple[object, ...]]) -> None:
    """Columns side by side, as wide as the first rows need; numbers stand at the right."""
    rows = iter(rows)
    first = list(itertools.islice(rows, ROWS_AT_ONCE))
    widths = [
        min(WIDEST, max(map(len, column)))
        for column in zip(names, *([_text(v) for v in row] for row in first), strict=True)
    ]
    right = [all(isinstance(row[at], (int, float, type(None))) for row in first) for at in range(len(names))]
    for row in itertools.chain([names], first, rows):
        cells = (
            text.rjust(width) if numeric else text.ljust(width)
            for text, width, numeric in zip(map(_text, row), widths, right, strict=True)
        )
        click.echo("  ".join(cells).rstrip())


def _text(value: object) -> str:
    if value is None:
        return ""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
