"""`shmtrace remove`: remove channels."""

from __future__ import annotations

import click


@click.command
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option(
    "--drain", is_flag=True, help="Remove the name at once although a reader is there, who still gets the rest."
)
@click.option(
    "--stale", is_flag=True, help="All stale channels: of another boot or version, or of a program that died."
)
def command(names: tuple[str, ...], *, drain: bool, stale: bool) -> None:
    """Remove the channels NAME...

    A channel that a reader has open is not removed, but see --drain.
    """
    if not names and not stale:
        raise click.UsageError("name a channel, or give --stale")
    from shmtrace.channel import list_channels, remove_channel

    of_the_dead = [str(row["name"]) for row in list_channels() if row["state"] == "stale"] if stale else []
    for name in dict.fromkeys([*names, *of_the_dead]):
        remove_channel(name, drain=drain)
