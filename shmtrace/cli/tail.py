"""`shmtrace tail`: what is being recorded, as text, live."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

from .choosing import choosing_options, make_filter, make_lines, refuse_times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from shmtrace.export.filters import Wanted
    from shmtrace.export.lines import Lines
    from shmtrace.reader import Record
    from shmtrace.reader.following import FollowedDirectory, FollowedStream
    from shmtrace.reader.records import Decoder
    from shmtrace.reader.source import Stop
    from shmtrace.reader.spans import Spans
    from shmtrace.reader.stream import Item

    from .sources import Place


@click.command
@click.argument("sources", metavar="NAME|DIR|FIFO...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="JSON lines instead of text.")
@click.option(
    "--once",
    is_flag=True,
    help="Do not wait: NAME ends when its collector was killed, DIR at its end, recorded or not.",
)
@choosing_options
def command(
    sources: tuple[str, ...], names: tuple[str, ...], pids: tuple[int, ...], where: str | None, times: str | None,
    color: str, *, as_json: bool, once: bool,
) -> None:  # fmt: skip
    """Print the events of the channel NAME, or of the directory DIR that is being recorded.

    Whatever has a slash in it, or is a directory, is a DIR, or a FIFO: that of a channel, or one that something else
    writes a channel's stream into.  A channel has one recorder or tail at a time; beside a recorder, give its
    directory.

    Several are merged by time, as far as that is known after a quarter of a second.

    At the end, text tells which spans have begun and not ended.

    EXPR compares columns (name, kind, level, cpu, pid, tid, process, thread, time_ns, span, parent, task, of several
    also host, channel) and fields, as Python would; docs/views.md has all of it.
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

    with stop_on_signals() as stop, _batches(sources, stop, once=once) as batches:
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
def _batches(sources: tuple[str, ...], stop: Stop, *, once: bool) -> Iterator[Iterable[Iterable[Record]]]:
    from shmtrace.reader.following import Timeline
    from shmtrace.reader.records import Decoder, follow_directory

    from .sources import place_of, refuse_twice

    places = [place_of(source) for source in sources]
    refuse_twice(places)
    first = places[0]
    with ExitStack() as stack:
        if len(places) > 1:
            yield Timeline([_followed(place, n, stack, stop, once=once) for n, place in enumerate(places)])
        elif first.is_stream:
            decoder, stream = Decoder(_complain), first.stream(stop, once=once)
            stack.enter_context(stream)
            yield (_records(decoder, items, first.name) for items in stream.batches())
        else:
            yield follow_directory(first.path, _complain, lambda: once or stop.requested)


def _followed(
    place: Place, number: int, stack: ExitStack, stop: Stop, *, once: bool
) -> FollowedDirectory | FollowedStream:
    """One of several."""
    from shmtrace.reader.following import FollowedDirectory, FollowedStream

    if not place.is_stream:
        return FollowedDirectory(place.path, number, _complain, lambda: once or stop.requested)
    stream = place.stream(stop, once=once, wait_ms=0)
    stack.enter_context(stream)
    return FollowedStream(place.name, number, _complain, stream.batches(), place.late_s)


def _records(decoder: Decoder, items: list[Item], source: str) -> Iterator[Record]:
    decoder.learn(items, contexts=True)  # a lane may come ahead of the one where its contexts are defined
    return decoder.records(items, source)


def _complain(line: str) -> None:
    click.echo(f"shmtrace: {line}", err=True)
