"""`shmtrace path`: where a channel's FIFO is."""

from __future__ import annotations

import click


@click.command
@click.argument("name")
def command(name: str) -> None:
    """Print the path of the FIFO of the channel NAME."""
    from shmtrace.channel import open_channel

    with open_channel(name) as channel:
        click.echo(channel.fifo)
