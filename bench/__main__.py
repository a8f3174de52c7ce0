"""Runs all benchmarks in turn and prints a table; `--json FILE` writes the figures, `--seconds` says how long."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import delivery, floor_len, pipe_write, shmtrace_event, shmtrace_off

if TYPE_CHECKING:
    from collections.abc import Callable

PEERS = (floor_len, shmtrace_off, shmtrace_event, pipe_write)
ROUNDS = 15


def machine() -> dict[str, Any]:
    """Facts about this machine that figures depend on."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": model[0].partition(": ")[2] if model else platform.machine(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def time_loop(function: Callable[[bytes], object], blob: bytes, count: int) -> float:
    """Seconds of `count` calls in a Python loop, the loop included."""
    begin = time.perf_counter()
    for _ in range(count):
        function(blob)
    return time.perf_counter() - begin


def costs(seconds: float, blob: bytes) -> dict[str, dict[str, float]]:
    """Nanoseconds a call: median and quartiles over rounds in which each peer has its turn."""
    with ExitStack() as stack:
        functions = {peer.NAME: stack.enter_context(peer.running()) for peer in PEERS}
        counts = {}
        for name, function in functions.items():
            once = time_loop(function, blob, 1000) / 1000
            counts[name] = max(int(seconds / len(PEERS) / ROUNDS / once), 100)
        samples: dict[str, list[float]] = {name: [] for name in functions}
        for _ in range(ROUNDS):
            for name, function in functions.items():
                samples[name].append(time_loop(function, blob, counts[name]) / counts[name] * 1e9)
    result = {}
    for name, values in samples.items():
        low, median, high = statistics.quantiles(values, n=4)
        result[name] = {"median_ns": median, "low_ns": low, "high_ns": high}
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="for the costs, and half of it for the delivery")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    facts = machine()
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    found = costs(options.seconds, bytes(32))
    ours = found[shmtrace_event.NAME]["median_ns"]
    print(f"\n{'32 bytes from Python, ns a call':34}{'median':>8}{'quartiles':>18}{'of an event':>14}")
    for name, figures in found.items():
        spread = f"{figures['low_ns']:.1f} to {figures['high_ns']:.1f}"
        print(f"{name:34}{figures['median_ns']:8.1f}{spread:>18}{figures['median_ns'] / ours:14.2f}")
    delivered = delivery.measure(options.seconds / 2)
    print(
        f"\none producer, collector, cat > /dev/null: {delivered['delivered_per_s'] / 1e6:.1f} million events a second "
        f"delivered, {delivered['missed']:,} of {delivered['accepted'] + delivered['missed']:,} missed"
    )
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "costs": found, "delivery": delivered}, indent=1))


if __name__ == "__main__":
    main()
