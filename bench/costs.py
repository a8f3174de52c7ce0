"""What an event costs, peer beside peer: rounds in which each has its turn, so that a slow minute hits all of them.

When its turn comes, the others have used the caches: a peer's first events in a round are its cost when it is cold.
Ahead of each turn is a pause, in which the collector or consumer of the peer before comes to its end.
"""

from __future__ import annotations

import statistics
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from . import process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROUNDS = 15
PAUSE_S = 0.04


def measure(
    names: Sequence[str], sizes: Sequence[int], seconds: float, environment: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Nanoseconds an event, and what became of the events; `seconds` for each peer and size."""
    return [row for size in sizes for row in _measure(names, size, seconds, environment)]


def _measure(names: Sequence[str], size: int, seconds: float, environment: Mapping[str, str]) -> list[dict[str, Any]]:
    with ExitStack() as stack:
        workers = [stack.enter_context(process.worker(name, size, environment)) for name in names]
        counts = {worker: worker.suited(seconds / ROUNDS, size) for worker in workers}
        samples: dict[process.Worker, list[tuple[float, float, float]]] = {worker: [] for worker in workers}
        for _ in range(ROUNDS):
            for worker in workers:
                count = counts[worker]
                time.sleep(PAUSE_S)
                cold = worker.emit(process.WARM_UP)
                warm = worker.emit(count)
                samples[worker].append(
                    (
                        warm.seconds / count * 1e9,
                        warm.cpu_seconds / count * 1e9,
                        cold.seconds / process.WARM_UP * 1e9,
                    )
                )
        rows = []
        for worker in workers:
            print(f"{size} bytes: counting the events of {worker.name}", file=sys.stderr)
            wall, cpu, cold_wall = map(spread, zip(*samples[worker], strict=True))
            row = {"peer": worker.name, "size": size, "ns": wall, "cpu_ns": cpu, "cold_ns": cold_wall}
            rows.append(row | process.accounts(worker.emitted, worker.end()))
        return rows


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return {"median": median, "low": low, "high": high}
