"""What tracing of functions adds to a call: `python -m bench.functions`, beside VizTracer in the same run.

The programs are of the kind that VizTracer measures itself with: fib, quicksort, hanoi.  Each round starts a process
for each tracer and program, in turn; it calls the program untraced and traced, in turn, too, and the fastest of each
counts, as whatever else the machine does only adds.  What VizTracer takes to save is not counted; of shmtrace
collector and reader run beside it, and all is delivered.  "unread" is shmtrace without them: what the interpreter takes
for its hooks.  VizTracer is told to leave calls of C functions out, as shmtrace does.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shmtrace import Channel

REPEATS = 15
LIMIT_S = 120


def fib(number: int) -> int:
    """The obvious way."""
    return number if number < 2 else fib(number - 1) + fib(number - 2)


def hanoi(height: int, source: str, target: str, spare: str) -> int:
    """Moves of the towers."""
    if height == 0:
        return 0
    return hanoi(height - 1, source, spare, target) + 1 + hanoi(height - 1, spare, target, source)


def partition(numbers: list[int], low: int, high: int) -> int:
    """Where the last one belongs."""
    last, at = numbers[high], low
    for number in range(low, high):
        if numbers[number] < last:
            numbers[at], numbers[number] = numbers[number], numbers[at]
            at += 1
    numbers[at], numbers[high] = numbers[high], numbers[at]
    return at


def quicksort(numbers: list[int], low: int, high: int) -> None:
    """In place."""
    if low < high:
        middle = partition(numbers, low, high)
        quicksort(numbers, low, middle - 1)
        quicksort(numbers, middle + 1, high)


def sort() -> None:
    """The same numbers each time."""
    numbers = random.Random(1).choices(range(10**6), k=5000)  # noqa: S311  (not for secrets)
    quicksort(numbers, 0, len(numbers) - 1)


PROGRAMS: dict[str, Callable[[], object]] = {
    "fib": lambda: fib(20),
    "quicksort": sort,
    "hanoi": lambda: hanoi(14, "a", "b", "c"),
}


def count_calls(program: Callable[[], object]) -> int:
    """Calls of Python functions that a program makes."""
    calls = 0

    def hook(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(hook)
    program()
    sys.setprofile(None)
    return calls


def switch_of(made: Channel) -> Callable[[bool], None]:
    """Switches tracing into a channel on and off."""
    from shmtrace.instrument.functions import Functions

    installed: list[Functions] = []

    def switch(on: bool) -> None:  # noqa: FBT001  (as VizTracer's)
        if on:
            installed.append(Functions(made))
            installed[-1].install()
        else:
            installed.pop().uninstall()

    return switch


@contextmanager
def with_shmtrace() -> Iterator[Callable[[bool], None]]:
    """Switches tracing on and off."""
    from .peers.shmtrace_event import channel, collecting, wait_until_enabled

    with (
        channel() as made,
        subprocess.Popen(["cat", str(made.fifo)], stdout=subprocess.DEVNULL) as reader,
        collecting(made) as collector,
    ):
        wait_until_enabled(made, collector, reader)
        yield switch_of(made)
        assert made.missed == 0, f"{made.missed} calls were not recorded"


@contextmanager
def with_nobody() -> Iterator[Callable[[bool], None]]:
    """The same, but nobody reads: what the interpreter takes to call hooks that do nothing."""
    from .peers.shmtrace_event import channel

    with channel() as made:
        yield switch_of(made)


@contextmanager
def with_viztracer() -> Iterator[Callable[[bool], None]]:
    """The same."""
    from viztracer import VizTracer

    tracer = VizTracer(ignore_c_function=True, verbose=0, tracer_entries=2_000_000)
    yield lambda on: tracer.start() if on else tracer.stop()
    tracer.clear()


TRACERS = {"shmtrace": with_shmtrace, "unread": with_nobody, "viztracer": with_viztracer}


def seconds(program: Callable[[], object]) -> float:
    """Of one call."""
    begin = time.perf_counter()
    program()
    return time.perf_counter() - begin


def measure_here(tracer: str, program: str) -> dict[str, Any]:
    """Nanoseconds that a call gets slower by, in this process."""
    call = PROGRAMS[program]
    calls = count_calls(call)
    plain, others = [], []
    with TRACERS[tracer]() as switch:
        for _ in range(REPEATS):
            call()
            plain.append(seconds(call))
            switch(True)
            call()
            others.append(seconds(call))
            switch(False)
    untraced, traced = min(plain), min(others)
    return {
        "tracer": tracer, "program": program, "calls": calls,
        "added_ns": 1e9 * (traced - untraced) / calls, "plain_ns": 1e9 * untraced / calls,
    }  # fmt: skip


def measure(rounds: int, tracers: tuple[str, ...] = tuple(TRACERS)) -> list[dict[str, Any]]:
    """All programs with all tracers that are installed, in turn."""
    found = [tracer for tracer in tracers if tracer != "viztracer" or find_spec(tracer) is not None]
    rows: list[dict[str, Any]] = []
    for _ in range(rounds):
        for program in PROGRAMS:
            for tracer in found:
                command = [sys.executable, "-m", "bench.functions", "--one", tracer, program]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=LIMIT_S)
                rows.append(json.loads(done.stdout))
    return rows


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """Lines for people: medians, and the ratio."""
    lines = [f"{'program':10} {'plain':>8} {'unread':>8} {'shmtrace':>10} {'viztracer':>10} {'ratio':>7}   ns a call"]
    for program in PROGRAMS:
        of = [row for row in rows if row["program"] == program]
        added = {
            tracer: statistics.median([row["added_ns"] for row in of if row["tracer"] == tracer] or [float("nan")])
            for tracer in TRACERS
        }
        plain = statistics.median(row["plain_ns"] for row in of)
        lines.append(
            f"{program:10} {plain:8.1f} {added['unread']:8.1f} {added['shmtrace']:10.1f} {added['viztracer']:10.1f}"
            f" {added['shmtrace'] / added['viztracer']:7.2f}"
        )
    return lines


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("TRACER", "PROGRAM"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure_here(*options.one)))
        return
    rows = measure(options.rounds)
    print(json.dumps(rows) if options.json else "\n".join(summary(rows)))


if __name__ == "__main__":
    main()
