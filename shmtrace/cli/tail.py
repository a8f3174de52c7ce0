"""`shmtrace tail`: what is being recorded, as text, live."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .choosing import choosing_options, make_filter, make_lines, refuse_times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shmtrace.export.filters import Wanted
    from shmtrace.export.lines import Lines
    from shmtrace.reader import Record
    from shmtrace.reader.records import Decoder
    from shmtrace.reader.source import Stop
    from shmtrace.reader.spans import Spans
    from shmtrace.reader.stream import Item


@click.command
@click.argument("source", metavar="NAME|DIR")
@click.option("--json", "as_json", is_flag=True, help="JSON lines instead of text.")
@click.option(
    "--once",
    is_flag=True,
    help="Do not wait: NAME ends when its collector was killed, DIR at its end, recorded or not.",
)
@choosing_options
def command(
    source: str, names: tuple[str, ...], pids: tuple[int, ...], where: str | None, times: str | None, color: str,
    *, as_json: bool, once: bool,
) -> None:  # fmt: skip
    """Print the events of the channel NAME, or of the directory DIR that is being recorded.

    Whatever has a slash in it, or is a directory, is a DIR.  A channel has one recorder or tail at a time; beside a
    recorder, give its directory.

    At the end, text tells which spans have begun and not ended.

    EXPR compares columns (name, kind, level, cpu, pid, tid, process, thread, time_ns, span, parent, task) and fields,
    as Python would; docs/views.md has all of it.
    """
    from shmtrace.export.text import json_line
    from shmtrace.reader.source import stop_on_signals
    from shmtrace.reader.spans import Spans

    if as_json:
        refuse_times(times)
    wanted = make_filter(names, pids, where)
    lines = make_lines(times, color)
    line: Callable[[Record], str] = json_line if as_json else lines
    out = sys.stdout.buffer
    spans = Spans()

    def write(text: str) -> None:
        out.write(text.encode("utf-8", "backslashreplace") + b"\n")

    with stop_on_signals() as stop, _batches(source, stop, once=once) as batches:
        for batch in batches:
            for record in batch:
                if wanted is None or wanted(record):
                    write(line(record))
                if not as_json:
                    spans.add(record)
            out.flush()
        if not stop.requested:
            for text in _open_lines(spans, wanted, lines):
                write(text)
            out.flush()


def _open_lines(spans: Spans, wanted: Wanted | None, lines: Lines) -> Iterator[str]:
    """Which spans have begun and not ended, of those that are wanted."""
    from shmtrace.export.text import open_span_line

    for span in spans:
        if wanted is None or wanted(span.begin):
            lossy = spans.losses > span.losses
            yield open_span_line(span, spans.around(span.begin), lossy=lossy, when=lines.since)
    if spans.forgotten and wanted is None:
        yield f"open: {spans.forgotten:,} more that began earlier, if they did not end"


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
