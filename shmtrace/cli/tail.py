"""`shmtrace tail`: what is being recorded, as text, live."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shmtrace.reader import Record
    from shmtrace.reader.source import Stop


@click.command
@click.argument("source", metavar="NAME|DIR")
@click.option("--json", "as_json", is_flag=True, help="JSON lines instead of text.")
@click.option(
    "--once",
    is_flag=True,
    help="Do not wait: NAME ends when its collector was killed, DIR at its end, recorded or not.",
)
def command(source: str, *, as_json: bool, once: bool) -> None:
    """Print the events of the channel NAME, or of the directory DIR that is being recorded.

    Whatever has a slash in it, or is a directory, is a DIR.  A channel has one recorder or tail at a time; beside a
    recorder, give its directory.  At the end, spans that have begun and not ended are named, with what came last in
    them: where a killed process was.
    """
    from shmtrace.export.text import json_line, open_line, text_line
    from shmtrace.reader.source import stop_on_signals
    from shmtrace.reader.spans import Spans

    line: Callable[[Record], str] = json_line if as_json else text_line
    out = sys.stdout.buffer
    spans = Spans()
    with stop_on_signals() as stop, _batches(source, stop, once=once) as batches:
        for batch in batches:
            for record in batch:
                spans.add(record)
                out.write(line(record).encode("utf-8", "backslashreplace") + b"\n")
            out.flush()
        for span in () if as_json else spans:
            out.write(open_line(span).encode("utf-8", "backslashreplace") + b"\n")
        out.flush()


@contextmanager
def _batches(source: str, stop: Stop, *, once: bool) -> Iterator[Iterator[Iterator[Record]]]:
    from shmtrace.reader.records import Decoder, follow_directory
    from shmtrace.reader.source import FifoSource
    from shmtrace.segment import open_streamed

    if "/" in source or Path(source).is_dir():
        yield follow_directory(Path(source), _complain, stopping=lambda: once or stop.requested)
        return
    decoder = Decoder(_complain)
    with FifoSource(open_streamed(source), once=once, stopping=stop) as fifo:
        yield (decoder.records(items, source) for items in fifo.batches())


def _complain(line: str) -> None:
    click.echo(f"shmtrace: {line}", err=True)
