"""`shmtrace warmup`: compile now what would be compiled at first use."""

from __future__ import annotations

import click


@click.command
def command() -> None:
    """Compile the core into the cache and print where that is."""
    from shmtrace import native

    directory = native.warmup()
    if directory is None:
        raise click.ClickException("there is no cache: no directory for it is private to this user; see SHMTRACE_CACHE")
    click.echo(directory)
