"""`shmtrace stat`: a channel's numbers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="The same as one JSON object.")
@click.option("--prometheus", is_flag=True, help="The same in the text format of Prometheus.")
def command(name: str, *, as_json: bool, prometheus: bool) -> None:
    """Print the state of the channel NAME and what it counted."""
    if as_json and prometheus:
        raise click.UsageError("--json or --prometheus, not both")
    from shmtrace.channel import open_channel

    with open_channel(name) as channel:
        stats = channel.stats()
    if as_json:
        click.echo(json.dumps(stats))
        return
    if prometheus:
        from shmtrace.metrics import exposition

        click.echo(exposition([stats]), nl=False)
        return
    rows = list(_rows(stats))
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        click.echo(f"{label.ljust(width)}  {value}")


def _rows(stats: dict[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in stats.items():
        label = prefix + key.replace("_", " ")
        if isinstance(value, dict):
            yield from _rows(value, label + " ")
        elif isinstance(value, list):
            for number, item in enumerate(value):
                if isinstance(item, dict):
                    yield label, " ".join(f"{name}={content}" for name, content in item.items())
                else:
                    yield f"{label} {number}", str(item)
        else:
            yield label, _text(key, value)


def _text(key: str, value: object) -> str:
    if value is None:
        return "-"
    if type(value) is int and not key.endswith("pid"):
        return f"{value:,}"
    return str(value)
