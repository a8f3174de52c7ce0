"""`shmtrace report`: a trace as one page of HTML."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from shmtrace.cli import Complaints, source_of, strict_option

from .progress import shown


@click.command
@click.argument("traces", metavar="TRACE...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="OUT.html", required=True, help="Where to; - is stdout.")
@click.option("--json", "as_json", is_flag=True, help="What the page shows, as one JSON object, instead of the page.")
@strict_option
def command(traces: tuple[str, ...], output: str, *, as_json: bool, strict: bool) -> None:
    """Show what is in TRACE, a directory, a file that holds what `cat` read from a FIFO, or - for stdin, on one page.

    Several are merged by time.

    The busiest spans and their latencies, rates over time, what was lost, processes, counters, and the spans that
    killed workers left open.  The page needs nothing else, no network either.
    """
    from shmtrace.export.report import Summary, render
    from shmtrace.reader import columns

    source, complaints = source_of(traces), Complaints()
    data = Summary(shown(columns.read(source, warn=complaints), source)).data()
    if as_json:
        import json

        text = json.dumps(data) + "\n"
    else:
        text = render(
            data, f"Trace {', '.join('from stdin' if trace == '-' else Path(trace).resolve().name for trace in traces)}"
        )
    written = text.encode("utf-8", "backslashreplace")
    if output == "-":
        sys.stdout.buffer.write(written)
    else:
        Path(output).write_bytes(written)
    if strict:
        complaints.settle()
