"""Options that `tail` and `convert` share: which records, and how their lines look."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmtrace.export.filters import Wanted
    from shmtrace.export.lines import Lines

    _Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--name", "names", metavar="PATTERN", multiple=True, help='Only records of this name, as "req*".'
    ),
    click.option("--pid", "pids", metavar="N", type=int, multiple=True, help="Only records of this process."),
    click.option(
        "--where", metavar="EXPR", help="""Only where this holds, as 'status >= 500 and path.startswith("/api")'."""
    ),
    click.option(
        "--time", "times", type=click.Choice(["wall", "relative", "delta"]),
        help="Times in text: local (the usual), seconds since the first line, or since the one before.",
    ),
    click.option(
        "--color", "color", type=click.Choice(["auto", "always", "never"]), default="auto",
        help="Colours in text: on a terminal, unless NO_COLOR is set (auto).",
    ),
)  # fmt: skip


def choosing_options(command: _Command) -> _Command:
    """Adds the options: names, pids, where, times, color."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def make_filter(names: tuple[str, ...], pids: tuple[int, ...], where: str | None) -> Wanted | None:
    """The test that the options make; None: everything is wanted."""
    from shmtrace.export.filters import InvalidExpression, wanted

    try:
        return wanted(names, pids, where)
    except InvalidExpression as error:
        raise click.UsageError(f"--where: {error}") from None


def make_lines(times: str | None, color: str, *, terminal: bool | None = None) -> Lines:
    """What makes lines for people; `terminal`: whether that is where they go, if it is not stdout."""
    from shmtrace.export.lines import Lines

    if color == "auto":
        shown = sys.stdout.isatty() if terminal is None else terminal
        coloured = shown and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    else:
        coloured = color == "always"
    return Lines(times=times or "wall", coloured=coloured)


def refuse_times(times: str | None) -> None:
    """JSON lines have one time, whatever was asked for."""
    if times is not None:
        raise click.UsageError("--time is for text: JSON lines have time_ns")
