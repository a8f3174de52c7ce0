"""`shmtrace path`: where a channel's FIFO is."""

from __future__ import annotations

import click


@click.command
@click.argument("name")
def command(name: str) -> None:
    """Print the path of the FIFO of the channel NAME."""
    from shmtrace.segment import open_streamed

    click.echo(open_streamed(name).fifo)
