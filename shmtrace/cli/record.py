"""`shmtrace record`: a channel's FIFO into a trace directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from shmtrace.reader.stream import Item


@click.command
@click.argument("name")
@click.option(
    "-o",
    "--output",
    "directory",
    metavar="DIR",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to; made if need be, and must be empty.",
)
@click.option("--once", is_flag=True, help="End, instead of waiting for another one, when the collector was killed.")
def command(name: str, directory: Path, *, once: bool) -> None:
    """Record the channel NAME into a directory that babeltrace2 and Trace Compass open.

    It ends when the collector ends or the channel is removed, and at Ctrl-C or SIGTERM.
    """
    from shmtrace.reader import DirectoryNotEmpty
    from shmtrace.reader.recorder import Recorder
    from shmtrace.reader.source import FifoSource, stop_on_signals
    from shmtrace.segment import open_streamed

    if directory.is_dir() and any(directory.iterdir()):  # said before anything is opened
        raise click.UsageError(f"{directory} is not empty: name a directory that is empty or does not exist yet")
    segment = open_streamed(name)
    before = segment.delivered()  # ahead of opening the FIFO, upon which recording begins
    with stop_on_signals() as stop, FifoSource(segment, once=once, stopping=stop) as source:
        try:
            recorder = Recorder(directory, delivered=lambda: segment.delivered() - before)
        except DirectoryNotEmpty as error:
            raise click.UsageError(str(error)) from None
        with recorder:
            for items in source.batches():
                recorder.add(items)
                _tell(name, items)
                items.clear()  # so that the parser can use its memory again
                if recorder.failure is not None:
                    stop.requested = True  # what the reader has taken already comes, and is counted
            source.close()  # from now on the counts do not change
            click.echo(f"shmtrace: {recorder.summary()}", err=True)
    if recorder.failure is not None:
        raise recorder.failure


def _tell(name: str, items: list[Item]) -> None:
    """Name the bytes that were passed over."""
    from shmtrace.reader.stream import Skipped

    for item in items:
        if isinstance(item, Skipped):
            click.echo(f"shmtrace: {name}: byte {item.offset}: {item.size} bytes skipped: {item.why}", err=True)
