"""What a process has and has used, as the kernel says it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """Of all threads of a process that live."""

    cpu_s: float
    wakes: int  # times that a thread went to sleep, to be woken later
    threads: int
    files: int
    private_bytes: int


def usage(pid: int) -> Usage:
    """Raises OSError if there is no such process any more."""
    cpu_ns = wakes = threads = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        cpu_ns += int((task / "schedstat").read_text().split()[0])
        wakes += _field(task / "status", "voluntary_ctxt_switches:")
        threads += 1
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Usage(cpu_ns / 1e9, wakes, threads, files, _field(Path(f"/proc/{pid}/status"), "RssAnon:") * 1024)


def _field(path: Path, name: str) -> int:
    """A number of one of the kernel's tables; 0: it has none, as that of a process that ends."""
    return next((int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(name)), 0)
