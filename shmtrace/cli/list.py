"""`shmtrace list`: this user's channels."""

from __future__ import annotations

import click


@click.command
def command() -> None:
    """List the channels of this user; without one, print nothing."""
    from shmtrace.channel import list_channels

    rows = [
        (
            row["name"],
            row["state"],
            f"{row['pages']} x {row['page_size']}" if row["pages"] else "-",
            row["mode"] or "-",
            "yes" if row["reader"] else "-",
            row["collector"] or "-",
            row["why"] or "",
        )
        for row in list_channels()
    ]
    if rows:
        _print_table([("NAME", "STATE", "PAGES", "MODE", "READER", "COLLECTOR", ""), *rows])


def _print_table(rows: list[tuple[object, ...]]) -> None:
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
