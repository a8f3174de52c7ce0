"""What an event costs when many processes write at once: cpu time of all of them, their start excluded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import process
from .costs import spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAMES = ("shmtrace_event", "lttng_c", "pipe_write", "queue_put")
PROCESSES = (1, 2, 4, 16, 64)
REPETITIONS = 3
LEAST = 2000  # events of a process


def measure(
    names: Sequence[str], processes: Sequence[int], seconds: float, environment: Mapping[str, str], size: int = 32
) -> list[dict[str, Any]]:
    """Cpu nanoseconds an event, and what became of the events; about `seconds` for each of them, in turn."""
    samples: dict[tuple[str, int], list[float]] = {}
    accounts: dict[tuple[str, int], dict[str, int]] = {}
    for _ in range(REPETITIONS):
        for number in processes:
            for name in names:
                with process.worker(name, size, environment) as worker:
                    once = worker.emit(process.WARM_UP).seconds / process.WARM_UP
                    count = int(max(seconds / REPETITIONS / once / number, LEAST))
                    cost = worker.emit_together(count, number)
                    samples.setdefault((name, number), []).append(cost.cpu_seconds / count / number * 1e9)
                    found = process.accounts(worker.emitted, worker.end())
                    before = accounts.get((name, number), {})
                    accounts[name, number] = {key: value + before.get(key, 0) for key, value in found.items()}
    return [
        {"peer": name, "processes": number, "size": size, "cpu_ns": spread(values), **accounts[name, number]}
        for (name, number), values in samples.items()
    ]
