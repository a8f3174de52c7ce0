"""`shmtrace enable` and `shmtrace disable`: switch events on and off while programs run."""

from __future__ import annotations

import click


def make_command(name: str, which: str) -> click.Command:
    """The command of this name."""

    @click.command(name)
    @click.argument("channel", metavar="NAME")
    @click.argument("pattern")
    @click.option("--level", metavar="LEVEL", help=f"Only events of this level and {which}: debug, info, ...")
    def command(channel: str, pattern: str, level: str | None) -> None:
        from shmtrace.channel import open_channel

        opened = open_channel(channel)
        try:
            count = getattr(opened, name)(pattern, _number(level))
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        click.echo(
            f"{name}d {count} event{'' if count == 1 else 's'} of {channel!r}; the rule holds for later ones, too"
        )

    return command


def _number(level: str | None) -> str | int | None:
    return int(level) if level is not None and level.isdecimal() else level


command = make_command("enable", "above")
command.help = """Switch on the events of the channel NAME that match PATTERN, "req*" as in a shell.

It holds for all processes, and for events that are defined later."""
