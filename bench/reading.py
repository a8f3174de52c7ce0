"""Reading compared, on one trace, in one run: `python -m bench.reading [--events N] [--trace DIR]`.

babeltrace2 counts (its sink `dummy`) and prints; our fast reader decodes into columns, and converts to Parquet and for
Perfetto.  VizTracer saves as many events of its own as JSON, of which only the saving is timed.  Cpu time depends less
on what else the machine does; by the clock, Parquet is written while the next records are decoded.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import multiprocessing
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import shmtrace
from bench.machine import machine

if TYPE_CHECKING:
    from collections.abc import Callable

EVENTS = 3_000_000
ROUNDS = 3
FORK = multiprocessing.get_context("fork")


def record(directory: Path, events: int, processes: int) -> None:
    """A trace of blobs, tracepoints and spans, in equal parts, of some processes: of as many lanes, on as many cpus."""
    with shmtrace.record(directory, mode="block", block_ms=60_000) as channel:
        writers = [FORK.Process(target=write, args=(channel, events // processes)) for _ in range(processes)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()


def write(channel: shmtrace.Channel, events: int) -> None:
    """The part of one process."""
    tick = channel.tracepoint("tick", number="u64", latency="f64", path="str")
    load = channel.span("load", shard="u32")
    event, blob = channel.event, hashlib.sha256(b"blob").digest()  # not text, as most blobs are
    for number in range(events // 4):
        event(blob)
        with load(number & 7):
            tick(number, number * 0.001, "/index")


def decode(trace: Path) -> int:
    """Into columns; how many records there are."""
    from shmtrace.reader import columns

    return sum(map(len, columns.read(trace)))


def decode_fields(trace: Path) -> int:
    """Into columns, with pid, tid and event of each record, and each field of each event."""
    from shmtrace.reader import columns

    count = 0
    for batch in columns.read(trace):
        assert len(batch.pid) == len(batch.tid) == len(batch.name_id) == len(batch)
        count += len(batch)
        for class_id in batch.class_ids():
            batch.fields(class_id)
    return count


def convert(trace: Path) -> None:
    """To one file of Parquet."""
    from shmtrace.export.parquet import write_events
    from shmtrace.reader import columns

    with tempfile.TemporaryFile() as out:
        write_events(columns.read(trace), out)


def perfetto(trace: Path) -> None:
    """To one file for Perfetto's UI."""
    from shmtrace.export.perfetto import packets
    from shmtrace.reader import columns

    with tempfile.TemporaryFile() as out:
        out.writelines(packets(columns.read(trace)))


def viztracer(events: int) -> Callable[[], object]:
    """What saves so many events: instants with arguments and slices, in equal parts."""
    from viztracer import VizTracer

    tracer = VizTracer(tracer_entries=events + 1000, verbose=0)
    tracer.start()
    for number in range(events // 2):
        tracer.log_instant("tick", {"number": number, "latency": number * 0.001, "path": "/index"})
        with tracer.log_event("load"):
            pass
    tracer.stop()

    def save() -> None:
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            tracer.save(f"{directory}/trace.json")

    return save


def babeltrace2(trace: Path, *options: str) -> None:
    """Its text goes nowhere."""
    subprocess.run(["babeltrace2", trace, *options], stdout=subprocess.DEVNULL, check=True)


def seconds_of(call: Callable[[], object]) -> tuple[float, float]:
    """By the clock; cpu time of this process and of those that it starts."""

    def used() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime

    begin, begin_cpu = time.perf_counter(), used()
    call()
    return time.perf_counter() - begin, used() - begin_cpu


def measure(trace: Path, count: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Seconds of each way, by the clock and of cpu time: medians of some rounds, in which they take turns."""
    ways: dict[str, Callable[[], object]] = {
        "columns": lambda: decode(trace),
        "columns, all fields": lambda: decode_fields(trace),
    }
    if importlib.util.find_spec("pyarrow"):
        ways["Parquet"] = lambda: convert(trace)
    if importlib.util.find_spec("perfetto"):
        ways["Perfetto"] = lambda: perfetto(trace)
    if shutil.which("babeltrace2"):
        ways["babeltrace2, counting"] = lambda: babeltrace2(trace, "-o", "dummy")
        ways["babeltrace2, text"] = lambda: babeltrace2(trace)
    for name in ("columns", "Parquet", "Perfetto"):  # compiles what is not in the cache
        if name in ways:
            ways[name]()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            seconds[name].append(seconds_of(way))
        if importlib.util.find_spec("viztracer"):
            seconds.setdefault("VizTracer saves", []).append(seconds_of(viztracer(count)))
    return {
        name: (statistics.median(clock for clock, _ in times), statistics.median(cpu for _, cpu in times))
        for name, times in seconds.items()
    }


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description="Reading compared, on one trace, in one run.")
    parser.add_argument("--events", type=int, default=EVENTS, help="of the trace that is made")
    parser.add_argument("--processes", type=int, default=1, help="that write it")
    parser.add_argument("--trace", type=Path, help="use this one")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        trace = options.trace or Path(directory, "trace")
        if options.trace is None:
            record(trace, options.events, options.processes)
        count = decode(trace)
        seconds = measure(trace, count, options.rounds)
        lanes = len(list(trace.glob("stream_*")))
    print(f"{count:,} records; lanes {lanes}, {', '.join(f'{name} {value}' for name, value in machine().items())}\n")
    print("| way | seconds | times `columns` | cpu seconds | times | million records a cpu second |")
    print("|---|---:|---:|---:|---:|---:|")
    first, first_cpu = seconds["columns"]
    for name, (clock, cpu) in seconds.items():
        rate = count / cpu / 1e6
        print(f"| {name} | {clock:.3f} | {clock / first:.2f} | {cpu:.3f} | {cpu / first_cpu:.2f} | {rate:.2f} |")


if __name__ == "__main__":
    main()
