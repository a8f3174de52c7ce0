"""Running commands in tests: the real ones, as processes, with a time limit."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

SHMTRACE = (sys.executable, "-m", "shmtrace")
LIMIT_S = 100  # a first run on a cold cache compiles


def run(
    *arguments: str | Path, cwd: Path | None = None, command: Sequence[str] = SHMTRACE, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `shmtrace` with `arguments`."""
    return subprocess.run(
        [*command, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


@contextmanager
def running(
    *arguments: str | Path, cwd: Path | None = None, command: Sequence[str] = SHMTRACE
) -> Iterator[subprocess.Popen[str]]:
    """Run `shmtrace` with `arguments` beside the block, as a process group of its own; what is left of it is killed."""
    with subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Wait for a condition."""
    limit = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.01)
