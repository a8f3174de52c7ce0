"""Programs in C: built in place, into a directory that goes with the block, and told line by line what to do."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .peer import Cost, Emitter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOURCES = Path(__file__).parent / "c"
COMPILER = "gcc"


def missing() -> str | None:
    """Why nothing can be built here; None if it can."""
    return None if shutil.which(COMPILER) else f"there is no {COMPILER}"


@contextmanager
def built(source: str, *options: str) -> Iterator[Path]:
    """The program made of a file."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        program = Path(directory, "program")
        flags = ["-O2", "-march=native", f"-I{SOURCES}", "-o", str(program)]
        subprocess.run([COMPILER, *flags, str(SOURCES / source), *options], check=True)
        yield program


@contextmanager
def started(program: Path, size: int, *options: str) -> Iterator[Callable[[int], Cost]]:
    """It runs; gives what emits.  What it says is measured inside: there is no Python in it."""
    with subprocess.Popen(
        [program, str(size), *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        def emit(count: int) -> Cost:
            stdin.write(f"{count}\n")
            seconds, cpu_seconds = map(float, stdout.readline().split())
            return Cost(seconds, cpu_seconds)

        yield emit
        stdin.close()


@contextmanager
def emitter(program: Path, size: int, *options: str) -> Iterator[Emitter]:
    """The program runs; a forked process starts one of its own."""
    with started(program, size, *options) as emit:
        made = Emitter(emit)
        made.in_child = lambda: emitter(program, size, *options)
        yield made
