"""What other ways to write a record would cost: `python -m bench.stores`.

A program in C (`c/stores.c`) writes records of 48 bytes in bursts, the ways taking turns, while other threads send what
was written into a pipe and empty that.  It is the bare work, without lanes, so a way that gains nothing here gains
nothing in a tracer.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess

from . import native
from .costs import spread
from .machine import machine

PLAIN = "plain"
ROUNDS = 40


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Of each way: nanoseconds a record, and the ratio of the median to that of plain stores."""
    with native.built("stores.c", "-pthread") as program:
        lines = subprocess.run([program, str(rounds)], check=True, capture_output=True, text=True, timeout=300).stdout
    found: dict[str, list[float]] = {}
    for line in lines.splitlines():
        way, _, ns = line.partition("\t")
        found.setdefault(way, []).append(float(ns))
    plain = statistics.median(found[PLAIN])
    return {way: {**spread(ns), "ratio": statistics.median(ns) / plain} for way, ns in found.items()}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    if why := native.missing():
        raise SystemExit(f"bench.stores: {why}")
    print(machine())
    for way, ns in measure(rounds).items():
        print(f"{way:30} {ns['median']:6.1f} ns  {ns['low']:6.1f} to {ns['high']:6.1f}  {ns['ratio']:5.2f}")


if __name__ == "__main__":
    main()
