"""What the collector costs, against the least that can be: writev of the same pages to the same reader, in a loop.

Both write to a FIFO that `cat > /dev/null` reads, beside a process that keeps one cpu busy: the producer, or one that
only spins.  The bare loop looks at nothing: its pages are always full, nobody writes them, and nothing is done about
them but one writev of a packet header's length and a page each.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import subprocess
import tempfile
import time
from itertools import repeat
from pathlib import Path
from typing import Any

from . import consumer
from .costs import spread
from .peers.shmtrace_event import channel, collected

REPETITIONS = 7
HEADER_BYTES = 128  # about a packet's
PIPE_BYTES = 1 << 20  # the collector's
RECORD_HEADER_BYTES = 16
BURST = 100_000


def measure(seconds: float, size: int = 32) -> dict[str, Any]:
    """Cpu seconds a GB of records, in turn; about `seconds` in all."""
    with channel() as made:
        stats = made.stats()
        page_size, pages = stats["page_size"], stats["pages"]
    collector: list[float] = []
    bare: list[float] = []
    accounts: list[tuple[int, int]] = []
    for _ in range(REPETITIONS):
        used, emitted, delivered = _collector(seconds / REPETITIONS / 2, size)
        count = delivered * (size + RECORD_HEADER_BYTES)
        collector.append(used / count * 1e9)
        accounts.append((emitted, delivered))
        bare.append(_bare(max(count // page_size, 1), page_size, pages) / count * 1e9)
    return {
        "size": size, "page_size": page_size, "pages": pages,
        "collector_s_per_gb": spread(collector), "writev_s_per_gb": spread(bare),
        "ratio": spread([ours / theirs for ours, theirs in zip(collector, bare, strict=True)]),
        "emitted": sum(emitted for emitted, _ in accounts), "delivered": sum(delivered for _, delivered in accounts),
    }  # fmt: skip


def cpu_seconds(pid: int) -> float:
    """What the threads of a process have used, in the scheduler's words."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def _collector(seconds: float, size: int) -> tuple[float, int, int]:
    """Cpu seconds that it used; events emitted; events delivered."""
    blob = bytes(size)
    with channel() as made, collected(made):
        pid = made.stats()["collector"]
        event = made.event
        before = cpu_seconds(pid)
        emitted = accepted = 0
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            accepted += sum(map(event, repeat(blob, BURST)))
            emitted += BURST
        while (delivered := made.stats()["delivered"]) < accepted:
            time.sleep(0.001)
        return cpu_seconds(pid) - before, emitted, delivered


def _spin() -> None:
    while True:
        pass


def _bare(writes: int, page_size: int, pages: int) -> float:
    """Cpu seconds of so many writes."""
    with mmap.mmap(-1, page_size * pages) as memory, tempfile.TemporaryDirectory(prefix="bench-") as directory:
        for place in range(0, len(memory), mmap.PAGESIZE):
            memory[place] = 1
        view = memoryview(memory)
        header = bytes(HEADER_BYTES)
        parts = [(header, view[place : place + page_size]) for place in range(0, len(memory), page_size)]
        fifo = Path(directory, "fifo")
        os.mkfifo(fifo)
        with (
            subprocess.Popen(["cat", fifo], stdout=subprocess.DEVNULL),
            fifo.open("wb", buffering=0) as file,
            consumer.forked(_spin),
        ):
            descriptor = file.fileno()
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            used = time.process_time()
            for number in range(writes):
                # It blocks, so it writes all.
                assert os.writev(descriptor, parts[number % pages]) == HEADER_BYTES + page_size
            used = time.process_time() - used
        for _, part in parts:
            part.release()
        view.release()
    return used
