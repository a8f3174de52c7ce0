"""channel.event, recorded into a trace directory by `shmtrace record`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .shmtrace_event import channel, collecting, emitter, wait_until_enabled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peer import Emitter

NAME = "shmtrace event, to files"


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """Recorder in the place of `cat`."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, channel() as made:
        command = [sys.executable, "-m", "shmtrace", "record", made.name, "-o", str(Path(name, "trace"))]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as recorder, collecting(made) as collector:
            wait_until_enabled(made, collector, recorder)
            yield emitter(made, size)
