"""End to end: one Python producer as fast as it can, collector, `cat > /dev/null`; what arrives, what is missed."""

from __future__ import annotations

import time
from itertools import repeat
from typing import Any

from bench.shmtrace_event import channel, collected


def measure(seconds: float, size: int = 32) -> dict[str, Any]:
    """Events a second that left the FIFO, and how many were missed."""
    blob = bytes(size)
    with channel() as made, collected(made):
        event = made.event
        accepted = 0
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds:
            accepted += sum(map(event, repeat(blob, 100_000)))
        emitting = time.perf_counter() - begin
        while (stats := made.stats())["delivered"] < accepted:
            time.sleep(0.001)
        delivering = time.perf_counter() - begin
        missed = sum(stats["missed"].values())
        return {
            "accepted": accepted, "delivered": stats["delivered"], "missed": missed,
            "emitted_per_s": (accepted + missed) / emitting, "delivered_per_s": accepted / delivering,
        }  # fmt: skip
