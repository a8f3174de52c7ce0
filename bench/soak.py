"""A soak: so many events, exact counts, and memory that does not grow.  `python -m bench.soak --events 1e9`.

Producers, collector and `wc -c` run until all events are emitted.  Then accepted = delivered + lost and refused =
missed must hold to the event, the bytes that came out of the FIFO must be those that the collector says it wrote, and
neither a producer's nor the collector's memory may have grown by more than a megabyte between the first tenth and the
end.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shmtrace

if TYPE_CHECKING:
    import ctypes

BLOB = b"x" * 32
BLOCK = 100_000
GROWTH_BYTES = 1 << 20
PERIOD_S = 1.0


def produce(name: str, events: int, counts: ctypes.Array[ctypes.c_longlong], number: int) -> None:
    """Emit, and note accepted and refused."""
    event = shmtrace.open_channel(name).event
    accepted = 0
    for begin in range(0, events, BLOCK):
        count = min(BLOCK, events - begin)
        accepted += sum([event(BLOB) for _ in range(count)])
        counts[2 * number], counts[2 * number + 1] = accepted, begin + count - accepted


def private_bytes(pid: int) -> int:
    """What a process has for itself."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Private_Dirty", "Private_Clean")))


def soak(events: int, producers: int, mode: str) -> dict[str, Any]:
    """The figures.  Raises AssertionError where one does not hold."""
    name = f"soak-{os.getpid()}"
    context = multiprocessing.get_context("spawn")
    counts = context.Array("q", 2 * producers, lock=False)
    with shmtrace.create_channel(name, mode=mode) as channel:
        collector = subprocess.Popen([sys.executable, "-m", "shmtrace", "collect", name], stderr=subprocess.DEVNULL)
        reader = subprocess.Popen(
            ["sh", "-c", 'exec wc -c < "$0"', str(channel.fifo)], stdout=subprocess.PIPE, text=True
        )
        children = [
            context.Process(target=produce, args=(name, events // producers, counts, number))
            for number in range(producers)
        ]
        try:
            while not channel.enabled:
                time.sleep(0.01)
            begin = time.perf_counter()
            for child in children:
                child.start()
            pids = [collector.pid, *(child.pid or 0 for child in children)]
            memory: list[list[int]] = []
            while any(child.is_alive() for child in children):
                time.sleep(PERIOD_S)
                memory.append([private_bytes(pid) for pid in pids])
            seconds = time.perf_counter() - begin
            collector.terminate()
            collector.wait(100)
            received = int(reader.communicate(timeout=100)[0])
            stats = channel.stats()
        finally:
            for child in children:
                child.kill()
            collector.kill()
            reader.kill()
            shmtrace.remove_channel(name)
    accepted, refused = sum(counts[::2]), sum(counts[1::2])
    lost, missed = sum(stats["lost"].values()), sum(stats["missed"].values())
    assert accepted + refused == events // producers * producers
    assert accepted == stats["delivered"] + lost, (accepted, stats)
    assert refused == missed, (refused, stats)
    alive = [row for row in memory if all(row)]
    early = alive[len(alive) // 10] if alive else [0]
    growth = max(last - first for first, last in zip(early, alive[-1] if alive else [0], strict=True))
    assert growth < GROWTH_BYTES, f"memory grew by {growth} bytes"
    return {
        "events": events, "producers": producers, "mode": mode, "seconds": seconds, "accepted": accepted,
        "delivered": stats["delivered"], "lost": lost, "missed": missed, "received_bytes": received,
        "growth_bytes": growth, "collector_private_bytes": alive[-1][0] if alive else None,
        "producer_private_bytes": alive[-1][1] if alive else None,
    }  # fmt: skip


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=float, default=1e8)
    parser.add_argument("--producers", type=int, default=2)
    parser.add_argument("--mode", choices=["drop", "block"], default="drop")
    options = parser.parse_args()
    print(json.dumps(soak(int(options.events), options.producers, options.mode), indent=2))


if __name__ == "__main__":
    main()
