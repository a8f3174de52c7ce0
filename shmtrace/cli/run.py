"""`shmtrace run`: run a program and record the events of all its processes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from shmtrace.channel import Channel
    from shmtrace.session import Session

_NOT_EXECUTABLE, _NOT_FOUND = 126, 127  # as shells have it
_SIGNALLED = 128
_LOOK_S = 0.2


@click.command(
    context_settings={"allow_interspersed_args": False},
    options_metavar="[-o DIR] [--mode M] [--functions]",
)
@click.option("-o", "directory", metavar="DIR", type=click.Path(path_type=Path), help="Directory of the trace.")
@click.option(
    "--mode",
    type=click.Choice(["drop", "block", "overwrite"]),
    default="drop",
    help="When no page waits, drop the event (the default), wait, or overwrite the oldest ones.",
)
@click.option("--functions", is_flag=True, help="Record the calls of Python functions, in all processes.")
@click.option(
    "--include",
    metavar="MODULE",
    multiple=True,
    help="--functions of this module and those inside only; a pattern, too.  May be given again.",
)
@click.option(
    "--exclude", metavar="MODULE", multiple=True, help="--functions of all modules but this one.  May be given again."
)
@click.option("-m", "is_module", is_flag=True, help="PROGRAM is the name of a module.")
@click.argument("program")
@click.argument("arguments", metavar="[ARG ...]", nargs=-1, type=click.UNPROCESSED)
def command(
    directory: Path | None, mode: str, include: tuple[str, ...], exclude: tuple[str, ...],
    program: str, arguments: tuple[str, ...], *, functions: bool, is_module: bool,
) -> int:  # fmt: skip
    """Run PROGRAM and record the events of its processes.

    A PROGRAM that ends in .py runs under this Python, anything else is a command on PATH.  The exit status is that of
    PROGRAM.
    """
    from shmtrace.reader.errors import DirectoryNotEmpty
    from shmtrace.session import Session

    if directory is None:
        directory = Path(f"shmtrace-{_stem(program)}-{time.strftime('%Y%m%d-%H%M%S')}")
    line = [*_beginning(program, is_module=is_module), *arguments]
    extra = _function_variables(include, exclude) if functions or include or exclude else {}
    try:
        with _forwarded_signals() as children, Session(directory, prefix=_stem(program), mode=mode) as session:
            children.append(_start(line, {"SHMTRACE": session.channel.name, **extra}))
            status = _wait(children[0], session)
            _tell_of_those_left(session.channel)
    except DirectoryNotEmpty as error:
        raise click.UsageError(str(error)) from None
    return status if status >= 0 else _SIGNALLED - status


def _wait(child: subprocess.Popen[bytes], session: Session) -> int:
    while True:
        try:
            return child.wait(_LOOK_S)
        except subprocess.TimeoutExpired:
            session.tend()


class _CannotRun(click.ClickException):
    exit_code = _NOT_EXECUTABLE

    def __init__(self, program: str, why: str) -> None:
        super().__init__(f"{program}: {why}")


class _NotFound(_CannotRun):
    exit_code = _NOT_FOUND


def _beginning(program: str, *, is_module: bool) -> list[str]:
    """What the command line of the program begins with."""
    if is_module:
        return [sys.executable, "-m", program]
    path = Path(program)
    if path.suffix == ".py" and path.is_file():
        return [sys.executable, program]
    if (found := shutil.which(program)) is not None:
        return [found]
    if os.sep in program and path.exists():
        raise _CannotRun(program, "is not executable")
    raise _NotFound(program, "not found")


def _function_variables(include: tuple[str, ...], exclude: tuple[str, ...]) -> dict[str, str]:
    """What tells the processes to record their functions; the code for that is compiled here, and not by them."""
    from shmtrace.instrument.functions import VARIABLE
    from shmtrace.native import functions

    for pattern in (*include, *exclude):
        if not pattern or "," in pattern or pattern.startswith("-"):
            raise click.UsageError(f"{pattern!r} is no name of a module and no pattern of such")
    functions("hooks")
    return {VARIABLE: ",".join([*(include or ("*",)), *(f"-{pattern}" for pattern in exclude)])}


def _start(line: list[str], variables: dict[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(line, env={**os.environ, **variables})
    except OSError as error:
        raise _CannotRun(line[0], error.strerror or str(error)) from None


def _stem(program: str) -> str:
    """The program's name, of the characters that a channel's name may have."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", Path(program).stem.lstrip("."))[:40].lstrip(".-") or "program"


@contextmanager
def _forwarded_signals() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Until the end of the block SIGTERM and SIGHUP go to the child in the list, and SIGINT does nothing here.

    The terminal sends SIGINT to the program as well; what that means is the program's business.  The handler is a
    function because a signal that is ignored stays ignored in a child; for the same reason one that is ignored already
    (nohup) is left alone.
    """
    children: list[subprocess.Popen[bytes]] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        if not children:  # nothing has begun: the session ends, and leaves nothing
            raise SystemExit(_SIGNALLED + number)
        if number != signal.SIGINT:
            children[0].send_signal(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, handle)
        yield children
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell_of_those_left(channel: Channel) -> None:
    pids = sorted({int(writer["pid"]) for writer in channel.writers() if writer["alive"]})
    if pids:
        subject = "1 process still runs" if len(pids) == 1 else f"{len(pids)} processes still run"
        emitters = "it emits" if len(pids) == 1 else "they emit"
        numbers = ", ".join(map(str, pids))
        click.echo(f"shmtrace: {subject}: {numbers}; what {emitters} from now on is not recorded", err=True)
