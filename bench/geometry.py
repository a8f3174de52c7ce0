"""Page sizes compared: `python -m bench.geometry`.

What an event costs, what the collector costs, and how long a pause of the collector is ridden out by one Python loop
that emits 32-byte blobs as fast as it can.
"""

from __future__ import annotations

import os
import signal
import statistics
import time

from bench.collecting import cpu_seconds
from bench.machine import machine
from bench.peer import calling
from bench.peers.shmtrace_event import channel, collected

TOTAL_BYTES = 32 << 20
PAGE_SIZES = (4096, 16_384, 32_768, 65_536, 131_072, 524_288)
ROUNDS = 5
COUNT = 1_000_000


def measure(page_size: int) -> tuple[float, int, float, float]:
    """Ns an event; events missed; cpu seconds of the collector a GB; ms without a miss while it is stopped."""
    blob = bytes(32)
    with channel(page_size=page_size, pages=TOTAL_BYTES // page_size) as made, collected(made):
        event, emit = made.event, calling(made.event, blob)
        collector = made.stats()["collector"]
        used = cpu_seconds(collector)
        cost = statistics.median(emit(COUNT).seconds / COUNT * 1e9 for _ in range(ROUNDS))
        missed = made.missed
        time.sleep(0.2)
        collected_gb = ROUNDS * COUNT * 48 / 1e9
        used = (cpu_seconds(collector) - used) / collected_gb
        os.kill(collector, signal.SIGSTOP)
        begin = time.perf_counter()
        while event(blob):
            pass
        ridden = time.perf_counter() - begin
        os.kill(collector, signal.SIGCONT)
        return cost, missed, used, ridden * 1e3


def main() -> None:
    """Print a table."""
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    print(f"{'page size':>10}{'pages':>8}{'ns an event':>14}{'missed':>8}{'collector, s/GB':>18}{'ridden out, ms':>16}")
    for page_size in PAGE_SIZES:
        cost, missed, used, ridden = measure(page_size)
        print(f"{page_size:10,}{TOTAL_BYTES // page_size:8,}{cost:14.1f}{missed:8,}{used:18.2f}{ridden:16.1f}")


if __name__ == "__main__":
    main()
