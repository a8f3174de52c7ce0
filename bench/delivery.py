"""End to end: one producer as fast as it can, until its last event has arrived in another process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from . import process
from .costs import spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAMES = ("shmtrace_event", "pipe_write", "zmq_push", "queue_put", "faster_fifo_put", "iceoryx2_send", "logging_queue")
REPETITIONS = 3
TRIAL = 2000  # events that tell how many fit into the time


def measure(
    names: Sequence[str], seconds: float, environment: Mapping[str, str], size: int = 32
) -> list[dict[str, Any]]:
    """Events a second that arrived; about `seconds` for each peer and repetition."""
    samples: dict[str, list[float]] = {}
    accounts: dict[str, dict[str, int]] = {}
    for _ in range(REPETITIONS):
        for name in names:
            with process.worker(name, size, environment) as worker:
                once = worker.emit(TRIAL).seconds / TRIAL
                before, _ = worker.wait()
                count = max(int(seconds / once), TRIAL)
                begin = time.perf_counter()
                worker.emit(count)
                emitting = time.perf_counter() - begin
                arrived, waiting = worker.wait()
                samples.setdefault(name, []).append((arrived - before) / (emitting + waiting))
                found = process.accounts(worker.emitted, worker.end())
                accounts[name] = {key: value + accounts.get(name, {}).get(key, 0) for key, value in found.items()}
    return [{"peer": name, "per_s": spread(values), **accounts[name]} for name, values in samples.items()]
