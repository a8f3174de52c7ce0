"""As many writers as a channel has numbers for: `python -m bench.writers`.

4,094 threads of 128 processes and one of this process write beside each other, which makes 4,095.  They emit numbered
events, and a consumer checks every byte (`bench.audit`): each event bears pid and tid of the thread that emitted it.
When all of them have ended their numbers must be free again, for a second wave of other processes.

Beside that there is a second channel with one writer, this process.  What an event costs there and here is measured in
turn, while the others wait.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import statistics
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import shmtrace

from . import numbered
from .soak import audited, check
from .usage import usage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

LIMIT_S = 100
ROUNDS = 15
STACK_BYTES = 1 << 18


@dataclass
class Size:
    """What is asked for."""

    writers: int = 4094
    processes: int = 128
    waves: int = 2
    events: int = 100  # of each
    loop: int = 50_000  # events of a round in which their cost is measured


def write(name: str, producers: range, events: int, told: Connection) -> None:
    """A process with a thread for each producer; the threads live until something is said."""
    channel = shmtrace.open_channel(name)
    rows: list[list[int]] = []
    together, end = threading.Barrier(len(producers) + 1), threading.Event()

    def run(producer: int) -> None:
        tally = numbered.Tally()
        begin = time.thread_time_ns()
        tally.emit(channel, producer)
        first_ns = time.thread_time_ns() - begin
        for _ in range(events - 1):
            tally.emit(channel, producer)
        rows.append([producer, *tally.words(), threading.get_native_id(), first_ns])
        together.wait(LIMIT_S)
        end.wait()

    threading.stack_size(STACK_BYTES)
    threads = [threading.Thread(target=run, args=(producer,)) for producer in producers]
    for thread in threads:
        thread.start()
    together.wait(LIMIT_S)
    told.send((os.getpid(), rows))
    told.recv()
    end.set()
    for thread in threads:
        thread.join()


@contextmanager
def wave(name: str, first: int, size: Size) -> Iterator[list[tuple[int, list[int]]]]:
    """So many threads that have written, and wait; pid and row of each."""
    context = multiprocessing.get_context("spawn")
    pipes, children = [], []
    try:
        for number in range(size.processes):
            ours, theirs = context.Pipe()
            producers = range(
                first + size.writers * number // size.processes, first + size.writers * (number + 1) // size.processes
            )
            children.append(context.Process(target=write, args=(name, producers, size.events, theirs)))
            children[-1].start()
            theirs.close()
            pipes.append(ours)
        told = [pipe.recv() for pipe in pipes]
        yield [(pid, row) for pid, rows in told for row in rows]
        for pipe in pipes:
            pipe.send("end")
        for child in children:
            child.join(LIMIT_S)
    finally:
        for child in children:
            child.kill()


def cost(tally: numbered.Tally, channel: shmtrace.Channel, producer: int, events: int) -> float:
    """Cpu nanoseconds of an event."""
    before = time.thread_time_ns()
    for found in numbered.emitting(channel, producer, events, tally):
        tally = found
    return (time.thread_time_ns() - before) / events


def measure(size: Size) -> dict[str, Any]:
    """The figures.  Raises AssertionError where something does not add up."""
    names = [f"writers-{os.getpid()}-{which}" for which in ("many", "one")]
    producers = size.writers * size.waves + 1  # the last one is this process
    figures: dict[str, Any] = dataclasses.asdict(size)
    with ExitStack() as stack:
        many, one = (stack.enter_context(shmtrace.create_channel(name)) for name in names)
        for name in names:
            stack.callback(shmtrace.remove_channel, name)
        collector, consumer = stack.enter_context(audited(many, producers))
        stack.enter_context(audited(one, 1))
        alone, beside = numbered.Tally(), numbered.Tally()
        before = usage(collector.pid)
        ratios, found, first_ns, idle_cpu = [], [], [], 0.0
        for number in range(size.waves):
            with wave(names[0], number * size.writers, size) as rows:
                found += rows
                first_ns += [row[-1] for _, row in sorted(rows, key=lambda entry: entry[1][0])]
                stats = many.stats()
                figures["numbered"], figures["unnumbered"] = stats["writers"], stats["unnumbered"]
                assert stats["unnumbered"] == 0, "there were not enough numbers"
                assert stats["writers"] >= size.writers, "not all have a number at the same time"
                for _ in range(ROUNDS):
                    costs = cost(alone, one, 0, size.loop), cost(beside, many, producers - 1, size.loop)
                    ratios.append(costs[1] / costs[0])
                idle = usage(collector.pid)
                time.sleep(2)
                idle_cpu = (usage(collector.pid).cpu_s - idle.cpu_s) / 2
            limit = time.monotonic() + LIMIT_S
            while len(many.writers()) > 1:
                assert time.monotonic() < limit, "the numbers of threads that ended are not given back"
                time.sleep(0.05)
        after = usage(collector.pid)
        accepted = sum(row[2] for _, row in found) + beside.accepted
        limit = time.monotonic() + LIMIT_S
        while many.stats()["delivered"] < accepted and time.monotonic() < limit:
            time.sleep(0.05)
        collector.terminate()
        printed, said = consumer.communicate(timeout=LIMIT_S)
        assert consumer.returncode == 0, said
        collector.wait(LIMIT_S)
        stats = many.stats()
    found.sort(key=lambda entry: entry[1][0])
    threads = [(pid, row[5]) for pid, row in found] + [(os.getpid(), threading.get_native_id())]
    check([*(row[1:5] for _, row in found), beside.words()], stats, json.loads(printed), threads)
    tenth = max(size.writers // 10, 1)
    return figures | {
        "delivered": stats["delivered"], "missed": sum(stats["missed"].values()),
        "event_ratio": statistics.median(ratios),
        "event_ratio_quartiles": statistics.quantiles(ratios, n=4)[::2],
        "first_event_us": [statistics.median(part) / 1e3 for part in (first_ns[:tenth], first_ns[-tenth:])],
        "idle_cpu": idle_cpu, "collector_s": after.cpu_s - before.cpu_s,
        "collector_grew_kib": (after.private_bytes - before.private_bytes) >> 10,
    }  # fmt: skip


def main() -> None:
    """The command line."""
    usual = Size()
    parser = argparse.ArgumentParser(prog="python -m bench.writers", description=__doc__)
    parser.add_argument("--writers", type=int, default=usual.writers)
    parser.add_argument("--processes", type=int, default=usual.processes, help="whose threads they are")
    parser.add_argument("--waves", type=int, default=usual.waves, help="one after the other")
    parser.add_argument("--events", type=int, default=usual.events, help="of each writer")
    parser.add_argument(
        "--loop", type=int, default=usual.loop, help="events of a round in which their cost is measured"
    )
    print(json.dumps(measure(Size(**vars(parser.parse_args()))), indent=2))


if __name__ == "__main__":
    main()
