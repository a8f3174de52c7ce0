"""`shmtrace collect`: the collector, in the foreground."""

from __future__ import annotations

import click


@click.command
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option("--all", "all_channels", is_flag=True, help="Every channel of this user, those to come included.")
@click.option("--session", type=int, metavar="PID", hidden=True)  # end, and remove the channel, when PID is gone
def command(names: tuple[str, ...], *, all_channels: bool, session: int | None) -> int:
    """Serve the FIFOs of the channels NAME... until SIGTERM."""
    if bool(names) == all_channels:
        raise click.UsageError("name the channels, or give --all")
    from shmtrace import collector

    return collector.main(names, all_channels=all_channels, session=session)
