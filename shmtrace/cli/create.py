"""`shmtrace create`: make a channel."""

from __future__ import annotations

import click

from shmtrace.layout import MODES


@click.command
@click.argument("name")
@click.option("--page-size", type=int, help="Bytes of a page, a multiple of 4096.")
@click.option("--pages", type=int, help="Pages in all; they are shared by all cpus.")
@click.option("--mode", type=click.Choice(list(MODES)), default="drop", show_default=True, help="When no page waits.")
@click.option(
    "--flush-ms", type=int, default=100, show_default=True, help="Send partly filled pages at least that often."
)
@click.option(
    "--block-ms", type=int, default=1000, show_default=True, help="Longest wait of an event in the mode block."
)
def command(name: str, page_size: int | None, pages: int | None, mode: str, flush_ms: int, block_ms: int) -> None:
    """Create the channel NAME and print the path of its FIFO (mode overwrite: there is none)."""
    from shmtrace.channel import create_channel

    with create_channel(
        name, page_size=page_size, pages=pages, mode=mode, flush_ms=flush_ms, block_ms=block_ms
    ) as channel:
        if mode != "overwrite":
            click.echo(channel.fifo)
