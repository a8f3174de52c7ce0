"""shmtrace: `with shmtrace.record(DIR)` around the job; a worker attaches, and an event is a blob.  All defaults."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import shmtrace

from .peer import Recovered, plain_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "shmtrace"
PACKAGES = ("shmtrace",)
WARNING = None  # it tells the number
_LIMIT_S = 300


def command(directory: Path, module: str, arguments: list[str]) -> list[str]:
    """As it is."""
    del directory
    return plain_command(module, arguments)


@contextmanager
def recording(directory: Path) -> Iterator[None]:
    """Nothing is handed: a worker inherits $SHMTRACE."""
    with shmtrace.record(directory / "trace"):
        yield


def emitter(handed: None, directory: Path) -> Callable[[str], object]:
    """An event is a blob."""
    del handed, directory
    event = shmtrace.attach().event
    return lambda text: event(text.encode())


def finish() -> None:
    """Nothing is to be done."""


def recover(directory: Path) -> Recovered:
    """Blobs, and the counts of the loss records."""
    trace = directory / "trace"
    if not (trace / "metadata").exists():
        return Recovered((), ["there is no trace"])
    found = Recovered(())

    def texts() -> Iterator[str]:
        for record in shmtrace.read(trace, warn=found.undecodable.append):
            if record.kind == "loss" and record.fields["reason"] != "gap":  # that one counts packets
                found.told += int(str(record.fields["count"]))
            elif record.kind == "event":
                blob = record.fields["blob"]
                assert isinstance(blob, bytes)
                yield blob.decode(errors="replace")

    found.texts = texts()
    found.second_reader = _babeltrace2(trace)
    return found


def _babeltrace2(trace: Path) -> int | None:
    """Blobs in a trace, as babeltrace2 counts them; None without it."""
    program = shutil.which("babeltrace2")
    if program is None:
        return None
    with subprocess.Popen([program, trace], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        count = sum(b" blob: {" in line for line in process.stdout)
        if process.wait(_LIMIT_S):
            raise RuntimeError(f"babeltrace2 cannot read {trace}")
    return count
