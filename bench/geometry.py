"""Page sizes and numbers of lanes compared: `python -m bench.geometry`.

* Page sizes: what an event costs, what the collector costs, and how long a pause of the collector is ridden out by one
  Python loop that emits 32-byte blobs as fast as it can.
* Lanes a cpu: what an event costs where one process writes, and where many do, which are preempted in the middle of
  an event; and how many of their events were refused because no lane was free.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import statistics
import time
from unittest import mock

import shmtrace
from bench.collecting import cpu_seconds
from bench.machine import machine
from bench.peer import calling
from bench.peers.shmtrace_event import channel, collected

TOTAL_BYTES = 32 << 20
PAGE_SIZES = (4096, 16_384, 32_768, 65_536, 131_072, 524_288)
ROUNDS = 5
COUNT = 1_000_000
LANES_COUNT = 200_000
LANES = (2, 4, 8, 16, 32)
WRITERS = 32


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


def measure_lanes(lanes: int, count: int = LANES_COUNT) -> tuple[float, float, int, int]:
    """Cpu ns an event of one process; of WRITERS at a time; their events without a lane, and without a page."""
    with (
        mock.patch("shmtrace.channel.LANES_PER_CPU", lanes),
        channel() as made,
        collected(made),
    ):
        alone = statistics.median(_cpu_ns(made.name, count) for _ in range(ROUNDS))
        with multiprocessing.get_context("fork").Pool(WRITERS) as pool:
            among = statistics.median(pool.starmap(_cpu_ns, [(made.name, count)] * WRITERS, 1))
        missed = made.stats()["missed"]
        return alone, among, missed["no_lane"], missed["no_page"]


def _cpu_ns(name: str, count: int) -> float:
    """Of an event, in a process of its own or in this one."""
    with shmtrace.open_channel(name) as channel:
        return calling(channel.event, bytes(32))(count).cpu_seconds / count * 1e9


def main() -> None:
    """Print two tables."""
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    print(f"{'page size':>10}{'pages':>8}{'ns an event':>14}{'missed':>8}{'collector, s/GB':>18}{'ridden out, ms':>16}")
    for page_size in PAGE_SIZES:
        cost, missed, used, ridden = measure(page_size)
        print(f"{page_size:10,}{TOTAL_BYTES // page_size:8,}{cost:14.1f}{missed:8,}{used:18.2f}{ridden:16.1f}")
    print(f"{'lanes a cpu':>12}{'cpu ns':>10}{f'of {WRITERS}':>10}{'no lane':>10}{'no page':>12}{'emitted':>12}")
    for lanes in LANES:
        alone, among, no_lane, no_page = measure_lanes(lanes)
        print(f"{lanes:12}{alone:10.1f}{among:10.1f}{no_lane:10,}{no_page:12,}{WRITERS * LANES_COUNT:12,}")


if __name__ == "__main__":
    main()
