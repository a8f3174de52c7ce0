"""Many cpus: `python -m bench.slots` makes a channel for 256 of them, beside one for those that there are.

Cpus that the machine has not are simulated: $SHMTRACE_CPUS is the number of slots of a new channel, $SHMTRACE_CPU the
cpu that a process believes to be on.

* A process on each of the cpus emits numbered events; a consumer checks every byte (`bench.audit`), and for each cpu
  what was emitted there is what came from there.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from itertools import repeat
from typing import TYPE_CHECKING, Any

import shmtrace

from . import numbered
from .soak import audited, channel_emptied
from .usage import usage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

LIMIT_S = 100
ROUNDS = 7
IDLE_S = 3.0


@contextmanager
def variables(**values: str) -> Iterator[None]:
    """Environment variables, for what is made or started in the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def write(name: str, producer: int, events: int, told: Connection) -> None:
    """One process' events."""
    with shmtrace.open_channel(name) as channel:
        tally = numbered.Tally()
        for _ in range(events):
            tally.emit(channel, producer)
    told.send(tally.words())


def spread(slots: int, events: int, at_once: int) -> dict[str, Any]:
    """A process on each cpu, some at once: each cpu has delivered what was emitted there.  Raises AssertionError."""
    context = multiprocessing.get_context("spawn")
    name = f"slots-{os.getpid()}"
    with ExitStack() as stack:
        with variables(SHMTRACE_CPUS=str(slots)):
            channel = stack.enter_context(shmtrace.create_channel(name, page_size=4096, pages=4 * slots))
        stack.callback(shmtrace.remove_channel, name)
        collector, consumer = stack.enter_context(audited(channel, slots))
        told: list[list[int]] = []
        for first in range(0, slots, at_once):
            waiting = []
            for cpu in range(first, min(first + at_once, slots)):
                ours, theirs = context.Pipe()
                with variables(SHMTRACE_CPU=str(cpu)):
                    child = context.Process(target=write, args=(name, cpu, events, theirs))
                    child.start()
                theirs.close()
                waiting.append((child, ours))
            for child, ours in waiting:
                told.append(ours.recv())
                child.join()
        channel_emptied(channel, sum(row[1] for row in told))
        collector.terminate()
        printed, said = consumer.communicate(timeout=LIMIT_S)
        assert consumer.returncode == 0, said
        collector.wait(LIMIT_S)
        cpus = channel.stats()["cpus"]
    audit = json.loads(printed)
    for cpu, row, came in zip(cpus, told, audit["sources"], strict=True):
        assert row[1:] == [came["delivered"], came["bytes"], came["digest"]], (cpu, row, came)
        assert cpu["delivered"] == row[1], (cpu, row)
        assert sum(cpu["missed"].values()) == row[0] - row[1], (cpu, row)
    assert audit["delivered_by_cpu"] == [cpu["delivered"] for cpu in cpus]
    emitted, accepted = sum(row[0] for row in told), sum(row[1] for row in told)
    return {"slots": slots, "emitted": emitted, "delivered": accepted, "missed": emitted - accepted}


@contextmanager
def collected(slots: int, cpu: int) -> Iterator[tuple[shmtrace.Channel, int]]:
    """A channel with so many slots that is read; this process is on that cpu; the pid of the collector."""
    name = f"slots-{os.getpid()}-{slots}"
    with ExitStack() as stack:
        with variables(SHMTRACE_CPUS=str(slots), SHMTRACE_CPU=str(cpu)):
            channel = stack.enter_context(shmtrace.create_channel(name))
        stack.callback(shmtrace.remove_channel, name)
        collector = subprocess.Popen([sys.executable, "-m", "shmtrace", "collect", name], stderr=subprocess.DEVNULL)
        reader = subprocess.Popen(["cat", str(channel.fifo)], stdout=subprocess.DEVNULL)
        for end in (reader.wait, collector.wait, collector.terminate):  # the last one first
            stack.callback(end)
        limit = time.monotonic() + LIMIT_S
        while not channel.enabled:
            assert time.monotonic() < limit, "recording did not begin"
            time.sleep(0.01)
        yield channel, collector.pid


def emit(channel: shmtrace.Channel, collector: int, events: int) -> tuple[float, float]:
    """Cpu nanoseconds of an event here, and in the collector until all have left."""
    before, begin = usage(collector).cpu_s, time.thread_time_ns()
    accepted = sum(map(channel.event, repeat(bytes(32), events)))
    ours = (time.thread_time_ns() - begin) / events
    time.sleep(0.3)  # the flush is over
    return ours, (usage(collector).cpu_s - before) / accepted * 1e9


def trickle(channel: shmtrace.Channel, collector: int) -> float:
    """Cpu of the collector while an event comes every 20 ms, so that it has one to send at each flush."""
    before, begin = usage(collector).cpu_s, time.monotonic()
    while time.monotonic() - begin < IDLE_S / ROUNDS * 2:
        channel.event(b"x")
        time.sleep(0.02)
    return (usage(collector).cpu_s - before) / (time.monotonic() - begin)


def idle(collector: int) -> float:
    """Cpu of the collector while nothing happens."""
    before, begin = usage(collector).cpu_s, time.monotonic()
    time.sleep(IDLE_S)
    return (usage(collector).cpu_s - before) / (time.monotonic() - begin)


def compare(slots: int, events: int) -> dict[str, Any]:
    """Of many slots against few; medians of ratios, cpu of the collector."""
    few = os.cpu_count() or 1
    with collected(few, 0) as ours, collected(slots, slots - 1) as many:
        for channel, collector in (ours, many):
            emit(channel, collector, events // 10)
        pairs = [(emit(*ours, events), emit(*many, events)) for _ in range(ROUNDS)]
        trickles = [(trickle(*ours), trickle(*many)) for _ in range(ROUNDS)]
        idles = idle(ours[1]), idle(many[1])
    return {
        "slots": [few, slots],
        "event_ratio": statistics.median(many[0] / few[0] for few, many in pairs),
        "collector_ratio": statistics.median(many[1] / few[1] for few, many in pairs),
        "trickle_cpu": [statistics.median(row) for row in zip(*trickles, strict=True)],
        "idle_cpu": list(idles),
    }  # fmt: skip


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.slots", description=__doc__)
    parser.add_argument("--slots", type=int, default=256)
    parser.add_argument("--events", type=int, default=1000, help="of each cpu")
    parser.add_argument("--loop", type=int, default=300_000, help="events of a round in which their cost is measured")
    parser.add_argument("--at-once", type=int, default=32, help="processes beside each other")
    given = parser.parse_args()
    print(json.dumps(spread(given.slots, given.events, given.at_once)))
    print(json.dumps(compare(given.slots, given.loop), indent=2))


if __name__ == "__main__":
    main()
