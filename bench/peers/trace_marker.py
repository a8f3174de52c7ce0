"""The kernel's trace_marker: os.write into its ring buffer, where there is tracefs.

A process a cpu reads while it is timed, and throws away what it has read.  If they are too slow the buffer overwrites
its oldest events, and says how many.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.peer import Counted, Emitter, calling_with_two

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "kernel trace_marker"
TRACING = Path("/sys/kernel/tracing")
BUFFER_KB = 16_384  # a cpu; an instance of its own, so that nobody else's trace is touched


def missing() -> str | None:
    """Root may mount it."""
    if os.access(TRACING / "trace_marker", os.W_OK):
        return None
    return "no tracefs is mounted, or it is not ours: `mount -t tracefs none /sys/kernel/tracing`"


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """In an instance."""
    instance = TRACING / "instances" / f"bench-{os.getpid()}"
    instance.mkdir()
    try:
        (instance / "buffer_size_kb").write_text(str(BUFFER_KB))
        descriptor = os.open(instance / "trace_marker", os.O_WRONLY)

        def counted(_: int) -> Counted:
            statistics = [path.read_text() for path in (instance / "per_cpu").glob("cpu*/stats")]
            return Counted(
                _sum(statistics, "entries") + _sum(statistics, "read events"),
                _sum(statistics, "overrun") + _sum(statistics, "dropped events"),
            )

        readers = [
            subprocess.Popen(["cat", path], stdout=subprocess.DEVNULL)
            for path in (instance / "per_cpu").glob("cpu*/trace_pipe_raw")
        ]
        yield Emitter(calling_with_two(os.write, descriptor, b"x" * size), counted=counted)
        os.close(descriptor)
        for reader in readers:
            reader.kill()
            reader.wait()
    finally:
        instance.rmdir()


def _sum(statistics: list[str], name: str) -> int:
    return sum(
        int(line.partition(": ")[2]) for text in statistics for line in text.splitlines() if line.startswith(f"{name}:")
    )
