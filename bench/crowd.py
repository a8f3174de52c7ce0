"""Many of everything: `python -m bench.crowd`.  Cpus that the machine has not, 4,094 writers.

Each is run beside the ordinary case, in the same minute, and given as a ratio to it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shmtrace

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOB = b"x" * 32


def cpu_seconds(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def channels(
    count: int, page_size: int | None = None, pages: int | None = None
) -> Iterator[tuple[list[shmtrace.Channel], int]]:
    """So many channels, each with a reader, and the pid of the collector of them all."""
    names = [f"crowd-{os.getpid()}-{number}" for number in range(count)]
    with ExitStack() as stack:
        made = []
        for name in names:
            made.append(stack.enter_context(shmtrace.create_channel(name, page_size=page_size, pages=pages)))
            stack.callback(shmtrace.remove_channel, name)
        collector = subprocess.Popen([sys.executable, "-m", "shmtrace", "collect", *names], stderr=subprocess.DEVNULL)
        script = 'for fifo; do cat < "$fifo" > /dev/null & done; wait'
        reader = subprocess.Popen(["sh", "-c", script, "sh", *(str(channel.fifo) for channel in made)])
        for end in (reader.wait, collector.wait, collector.terminate):  # the last one first
            stack.callback(end)
        while not all(channel.enabled for channel in made):
            time.sleep(0.05)
        yield made, collector.pid


def time_events(channel: shmtrace.Channel, count: int) -> float:
    """Nanoseconds an event."""
    event = channel.event
    begin = time.perf_counter()
    for _ in range(count):
        event(BLOB)
    return (time.perf_counter() - begin) / count * 1e9


def many_cpus(slots: int, events: int) -> dict[str, Any]:
    """An event, and an idle second of the collector, with so many cpu slots; this cpu is the last of them."""
    results = {}
    for cpus, cpu in ((os.cpu_count() or 1, 0), (slots, slots - 1)):
        os.environ |= {"SHMTRACE_CPUS": str(cpus), "SHMTRACE_CPU": str(cpu)}
        with channels(1) as ((channel,), collector):
            time_events(channel, events // 10)
            cost = min(time_events(channel, events) for _ in range(5))
            before = cpu_seconds(collector)
            time.sleep(2)
            results[cpus] = (cost, (cpu_seconds(collector) - before) / 2)
            assert channel.missed == 0
    del os.environ["SHMTRACE_CPUS"], os.environ["SHMTRACE_CPU"]
    (cost, idle), (many_cost, many_idle) = results.values()
    return {"cpu_slots": slots, "event_ratio": many_cost / cost, "idle_cpu": idle, "idle_cpu_many": many_idle}


def many_writers(writers: int) -> dict[str, Any]:
    """Threads that live beside each other, each with a number of its own."""
    with channels(1) as ((channel,), _collector):
        emitted = []
        together = threading.Barrier(writers + 1)

        def write() -> None:
            emitted.append(sum(channel.event(BLOB) for _ in range(10)))
            together.wait()
            together.wait()

        threading.stack_size(65_536)
        threads = [threading.Thread(target=write) for _ in range(writers)]
        for thread in threads:
            thread.start()
        together.wait()
        stats = channel.stats()
        together.wait()
        for thread in threads:
            thread.join()
        return {
            "threads": writers, "numbered": stats["writers"], "unnumbered": stats["unnumbered"],
            "accepted": sum(emitted), "missed": channel.missed,
        }  # fmt: skip


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpus", type=int, default=256)
    parser.add_argument("--writers", type=int, default=2040)
    parser.add_argument("--events", type=int, default=200_000)
    options = parser.parse_args()
    print(json.dumps(many_cpus(options.cpus, options.events)))
    print(json.dumps(many_writers(options.writers)))


if __name__ == "__main__":
    main()
