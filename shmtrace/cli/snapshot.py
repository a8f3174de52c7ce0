"""`shmtrace snapshot`: what is in a channel's pages now."""

from __future__ import annotations

from pathlib import Path

import click


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
def command(name: str, directory: Path) -> None:
    """Write what is in the pages of the channel NAME now into a directory, as `record` does.

    Nobody is stopped, and the processes may all be dead.  In the mode overwrite these are the newest events of each
    lane; in the others, those that the collector has not sent.
    """
    from shmtrace.collector.snapshot import take_snapshot
    from shmtrace.reader import DirectoryNotEmpty
    from shmtrace.segment import open_segment

    try:
        recorder = take_snapshot(open_segment(name), directory)
    except DirectoryNotEmpty as error:
        raise click.UsageError(str(error)) from None
    click.echo(f"shmtrace: {recorder.summary()}", err=True)
