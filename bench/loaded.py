"""A machine without an idle cpu: `python -m bench.loaded`.

Busy loops run beside a producer, the collector and its readers.  One channel is written at full speed: how many of its
events are missed?  Another one gets a hundred events a second, which carry their time: how long are they on their way?
Both have the same collector, which is started with various options, each of them with and without busy loops.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import shmtrace

from . import consumer, numbered
from .latency import percentile
from .usage import usage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

RATE = 100  # events a second whose time is taken
VARIANTS: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "--nice 10": ("--nice", "10"),
    "--nice -10": ("--nice", "-10"),
    "--cpus 0": ("--cpus", "0"),
}
LIMIT_S = 100


def spin() -> None:
    """Keep a cpu busy."""
    while True:
        pass


def listen(fifo: str, told: Connection) -> None:
    """Read a channel to its end; tells how old each event was when it came, in ms."""
    from shmtrace import wire
    from shmtrace.reader.stream import Packet, Parser, heads

    parser = Parser()
    ages: list[float] = []
    file = os.open(fifo, os.O_RDONLY)
    while data := os.read(file, 1 << 20):
        now = time.monotonic_ns()
        packets = [item for item in [*parser.feed(data), *parser.idle()] if isinstance(item, Packet)]
        blobs = [
            bytes(packet.data[head.body : head.body + head.size])
            for packet in packets
            for head in heads(packet)
            if head.id == wire.ID_BLOB
        ]
        ages += [(now - int(blob)) / 1e6 for blob in blobs]
    told.send(ages)


def flood(channel: shmtrace.Channel, seconds: float) -> numbered.Tally:
    """Emit at full speed."""
    end = time.monotonic() + seconds
    return next(tally for tally in numbered.emitting(channel, 0, 1 << 40) if time.monotonic() > end)


def measure(options: Sequence[str], loops: int, seconds: float) -> dict[str, Any]:
    """One variant.  Raises AssertionError if its account is not right."""
    context = multiprocessing.get_context("spawn")
    names = [f"loaded-{os.getpid()}-{which}" for which in ("flooded", "timed")]
    with ExitStack() as stack:
        flooded, timed = (stack.enter_context(shmtrace.create_channel(name)) for name in names)
        for name in names:
            stack.callback(shmtrace.remove_channel, name)
        collector = subprocess.Popen(
            [sys.executable, "-m", "shmtrace", "collect", *options, *names], stderr=subprocess.DEVNULL
        )
        stack.callback(collector.kill)
        cat = subprocess.Popen(["cat", str(flooded.fifo)], stdout=subprocess.DEVNULL)
        stack.callback(cat.kill)
        ours, theirs = context.Pipe()
        listener = context.Process(target=listen, args=(str(timed.fifo), theirs))
        listener.start()
        theirs.close()
        stack.callback(listener.kill)
        limit = time.monotonic() + LIMIT_S
        while not (flooded.enabled and timed.enabled):
            assert time.monotonic() < limit, "recording did not begin"
            assert collector.poll() is None, f"collect {' '.join(options)} ended"
            time.sleep(0.01)
        for _ in range(loops):
            stack.enter_context(consumer.forked(spin))
        before = usage(collector.pid)
        tally = flood(flooded, seconds)
        count = max(int(seconds * RATE), 2)
        begin = time.monotonic()
        for number in range(count):
            time.sleep(max(begin + number / RATE - time.monotonic(), 0))
            assert timed.event(b"%d" % time.monotonic_ns())
        collector_s = usage(collector.pid).cpu_s - before.cpu_s
        collector.terminate()
        collector.wait(LIMIT_S)
        ages = ours.recv()
        stats = flooded.stats()
    assert len(ages) == count
    assert tally.accepted == stats["delivered"]
    assert tally.emitted - tally.accepted == sum(stats["missed"].values())
    return {
        "emitted": tally.emitted, "missed": tally.emitted - tally.accepted,
        "missed_share": 1 - tally.accepted / tally.emitted, "collector_ns": collector_s / tally.accepted * 1e9,
        "p50_ms": percentile(ages, 50), "p99_ms": percentile(ages, 99), "most_ms": max(ages),
    }  # fmt: skip


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.loaded", description=__doc__)
    parser.add_argument("--loops", type=int, nargs="+", default=[0, 2, 8], help="busy loops beside")
    parser.add_argument("--seconds", type=float, default=3, help="of each part")
    given = parser.parse_args()
    for name, options in VARIANTS.items():
        if "-10" in options and os.geteuid() != 0:
            print(f"left out: {name}: needs root", file=sys.stderr)
            continue
        for loops in given.loops:
            print(json.dumps({"collector": name, "loops": loops, **measure(options, loops, given.seconds)}))


if __name__ == "__main__":
    main()
