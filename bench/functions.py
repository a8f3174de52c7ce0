"""What tracing of functions adds to a call: `python -m bench.functions`, beside VizTracer in the same run.

The programs are those that VizTracer measures itself with: fib, quicksort, hanoi.  Each round starts a process
for each tracer and program, in turn; it calls the program untraced and traced, in turn, too, and the fastest of each
counts, as whatever else the machine does only adds.  What VizTracer takes to save is not counted; of shmtrace
collector and reader run beside it, and all is delivered.  "unread" is shmtrace without them: what the interpreter takes
for its hooks.  "clock" is two hooks that only read the time-stamp counter: less is not possible for whoever wants to
know when a call began and ended.  VizTracer is told to leave calls of C functions out, as shmtrace does.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
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
MONITORS = sys.version_info >= (3, 12)  # else no hook is this cheap
LIMIT_S = 120


def fib(number: int) -> int:
    """The obvious way."""
    if number <= 1:
        return 1
    return fib(number - 1) + fib(number - 2)


def hanoi(height: int, source: str, target: str, spare: str) -> None:
    """Moves the towers."""
    if height == 1:
        return
    hanoi(height - 1, source, spare, target)
    hanoi(height - 1, spare, target, source)


def quicksort(numbers: list[int]) -> list[int]:
    """Into new lists, around one that is drawn by lot."""
    if len(numbers) < 2:
        return numbers
    pivot = numbers[random.randint(0, len(numbers) - 1)]  # noqa: S311  (not for secrets)
    low, same, high = [], [], []
    for number in numbers:
        if number < pivot:
            low.append(number)
        elif number == pivot:
            same.append(number)
        else:
            high.append(number)
    return quicksort(low) + same + quicksort(high)


def sort() -> None:
    """The same numbers each time."""
    random.seed(1)
    quicksort(random.choices(range(10**5), k=5000))  # noqa: S311  (not for secrets)


PROGRAMS: dict[str, Callable[[], object]] = {
    "fib": lambda: fib(20),
    "quicksort": sort,
    "hanoi": lambda: hanoi(15, "a", "b", "c"),
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
def with_clock() -> Iterator[Callable[[bool], None]]:
    """Hooks that read the counter and do nothing else."""
    import numba

    from shmtrace.native import intrinsics as do
    from shmtrace.native.types import make_type

    nothing, last = id(None), ctypes.c_int64()
    place = ctypes.addressof(last)

    def step(_self: int, _arguments: int, _count: int, _names: int) -> int:
        do.store64(place, do.cycles())
        return nothing

    class Base:
        __slots__ = ()

    at = Base.__basicsize__
    hook = make_type("bench.functions.Clock", base=Base, basic_size=at + 8, vectorcall_at=at)()
    compiled = numba.cfunc("int64(int64, int64, int64, int64)")(step)  # a vectorcallfunc
    ctypes.c_uint64.from_address(id(hook) + at).value = compiled.address
    monitoring: Any = getattr(sys, "monitoring")  # noqa: B009  (mypy looks at 3.11)
    tool, events = monitoring.PROFILER_ID, monitoring.events
    monitoring.use_tool_id(tool, "clock")
    for event in (events.PY_START, events.PY_RETURN):
        monitoring.register_callback(tool, event, hook)
    yield lambda on: monitoring.set_events(tool, (events.PY_START | events.PY_RETURN) if on else 0)
    monitoring.free_tool_id(tool)


@contextmanager
def with_viztracer() -> Iterator[Callable[[bool], None]]:
    """The same."""
    from viztracer import VizTracer

    tracer = VizTracer(ignore_c_function=True, verbose=0, tracer_entries=2_000_000)
    yield lambda on: tracer.start() if on else tracer.stop()
    tracer.clear()


TRACERS = {"unread": with_nobody, "clock": with_clock, "shmtrace": with_shmtrace, "viztracer": with_viztracer}


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
    lacking = {name for name, there in (("viztracer", find_spec("viztracer")), ("clock", MONITORS)) if not there}
    found = [tracer for tracer in tracers if tracer not in lacking]
    rows: list[dict[str, Any]] = []
    for _ in range(rounds):
        for program in PROGRAMS:
            for tracer in found:
                command = [sys.executable, "-m", "bench.functions", "--one", tracer, program]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=LIMIT_S)
                rows.append(json.loads(done.stdout))
    return rows


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """Lines for people: medians, also of the rounds' ratios, as a machine may be slow for a round or two."""
    lines = [f"{'program':10} {'plain':>8} {''.join(f'{tracer:>10}' for tracer in TRACERS)} {'ratio':>7}   ns a call"]
    for program in PROGRAMS:
        of = [row for row in rows if row["program"] == program]
        added = {tracer: [row["added_ns"] for row in of if row["tracer"] == tracer] or [math.nan] for tracer in TRACERS}
        ratios = (ours / theirs for ours, theirs in zip(added["shmtrace"], added["viztracer"], strict=False))
        plain = statistics.median(row["plain_ns"] for row in of)
        costs = "".join(f"{statistics.median(cost):10.1f}" for cost in added.values())
        lines.append(f"{program:10} {plain:8.1f} {costs} {statistics.median(ratios):7.3f}")
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
