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
    from shmtrace.reader.records import Decoder
    from shmtrace.reader.source import Stop
    from shmtrace.reader.stream import Item


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
    recorder, give its directory.

    At the end, text tells which spans have begun and not ended.
    """
    from shmtrace.export.text import json_line, open_span_line, text_line
    from shmtrace.reader.source import stop_on_signals
    from shmtrace.reader.spans import Spans

    line: Callable[[Record], str] = json_line if as_json else text_line
    out = sys.stdout.buffer
    spans = Spans()

    def write(text: str) -> None:
        out.write(text.encode("utf-8", "backslashreplace") + b"\n")

    with stop_on_signals() as stop, _batches(source, stop, once=once) as batches:
        for batch in batches:
            for record in batch:
                write(line(record))
                if not as_json:
                    spans.add(record)
            out.flush()
        if not stop.requested:
            for span in spans:
                write(open_span_line(span, spans.around(span.begin), lossy=spans.losses > span.losses))
            if spans.forgotten:
                write(f"open: {spans.forgotten:,} more that began earlier, if they did not end")
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
        yield (_records(decoder, items, source) for items in fifo.batches())


def _records(decoder: Decoder, items: list[Item], source: str) -> Iterator[Record]:
    decoder.learn(items, contexts=True)  # a lane may come ahead of the one where its contexts are defined
    return decoder.records(items, source)


def _complain(line: str) -> None:
    click.echo(f"shmtrace: {line}", err=True)
