"""A soak: so many events, exact counts, and nothing that grows.  `python -m bench.soak --events 1e9`.

Producers emit numbered events (`bench.numbered`), and a consumer checks every byte that leaves the FIFO
(`bench.audit`).  At the end this must hold, to the event:

* for each producer, emitted = accepted + refused, and what it accepted is what came, each number once;
* for each cpu, what came is what the channel counts as delivered, what packets told is what it counts as missed;
* in all, emitted = delivered + missed + lost, with nothing lost; bytes of payload in are bytes out;
* all pages wait again, no lane is held, no word was found damaged.

Now and then the private memory and the open files of collector, consumer and producers are looked at.  When a fifth of
the events are emitted they may not grow any more: memory by a megabyte at most, files not at all.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import shmtrace

from . import numbered
from .collecting import cpu_seconds

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Iterator, Sequence

GROWTH_BYTES = 1 << 20
WARM_UP = 5  # in the first of so many parts of the run things may grow
LIMIT_S = 100
WORDS = 6  # that a producer tells: its tally, its tid, its cpu time


class Sample(NamedTuple):
    """What a process has at a moment."""

    bytes: int
    files: int


def sample(pid: int) -> Sample | None:
    """Private memory and open files; None: it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return None
    lines = [line for line in status.splitlines() if line.startswith("RssAnon:")]
    return Sample(int(lines[0].split()[1]) * 1024, files) if lines else None


def produce(name: str, number: int, events: int, told: ctypes.Array[ctypes.c_longlong], *, kernel: bool) -> None:
    """One producer's work, and what it tells."""
    emitting = numbered.emitting_in_a_kernel if kernel else numbered.emitting
    tally = numbered.Tally()
    for tally in emitting(shmtrace.open_channel(name), number, events):
        told[WORDS * number] = tally.emitted
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu_ns = round((usage.ru_utime + usage.ru_stime) * 1e9)
    told[WORDS * number : WORDS * (number + 1)] = [*tally.words(), os.getpid(), cpu_ns]


@contextmanager
def audited(channel: shmtrace.Channel, producers: int) -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[str]]]:
    """The channel has a collector and the consumer that checks everything: both processes."""
    stats = channel.stats()
    counts = map(str, (stats["lanes"], len(stats["cpus"]), producers))
    with ExitStack() as stack:
        consumer = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "bench.audit", str(channel.fifo), *counts],
                cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        stack.callback(consumer.kill)
        collector = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "shmtrace", "collect", channel.name], stderr=subprocess.DEVNULL, text=True
            )
        )
        stack.callback(collector.kill)
        limit = time.monotonic() + LIMIT_S
        while not channel.enabled:
            assert consumer.poll() is None, consumer.communicate()[1]
            assert time.monotonic() < limit, "recording did not begin"
            time.sleep(0.01)
        yield collector, consumer


def growth(samples: Sequence[Sample | None]) -> Sample:
    """How far a process has gone beyond what it had first.

    Files are open for a moment now and then, to look at another process; so what counts is the least of each half.
    """
    bytes_, files = zip(*(entry or Sample(0, 0) for entry in samples), strict=True)
    half = len(files) // 2
    living = [count for count in files[half:] if count]
    more = min(living) - min(files[:half]) if half and living else 0
    return Sample(max(bytes_) - bytes_[0], more)


def check(
    told: Sequence[Sequence[int]], stats: dict[str, Any], audit: dict[str, Any], threads: Sequence[tuple[int, int]]
) -> None:
    """Everything adds up, to the event.  Raises AssertionError."""
    for number, ((emitted, accepted, size, digest, *_), came, thread) in enumerate(
        zip(told, audit["sources"], threads, strict=True)
    ):
        said = (accepted, size, digest)
        assert said == (came["delivered"], came["bytes"], came["digest"]), (number, said, came)
        assert accepted <= emitted
        assert not accepted or thread == (came["pid"], came["tid"]), (number, thread, came)
    cpus = stats["cpus"]
    assert audit["delivered_by_cpu"] == [cpu["delivered"] for cpu in cpus], (audit, stats)
    assert audit["told_by_cpu"] == [sum(cpu["missed"].values()) for cpu in cpus], (audit, stats)
    emitted, accepted = sum(row[0] for row in told), sum(row[1] for row in told)
    assert sum(stats["lost"].values()) == 0, stats
    assert stats["delivered"] == accepted, (accepted, stats)
    assert emitted - accepted == sum(stats["missed"].values()), (emitted, accepted, stats)
    assert (stats["pages_waiting"], stats["damaged_words"]) == (stats["pages"], 0), stats


def soak(events: int, producers: int, mode: str, *, kernel: bool = False, period_s: float = 0.5) -> dict[str, Any]:
    """The figures.  Raises AssertionError where something does not add up or grows."""
    name = f"soak-{os.getpid()}"
    context = multiprocessing.get_context("spawn")
    told = context.Array("q", WORDS * producers, lock=False)
    shares = [events // producers + (number < events % producers) for number in range(producers)]
    with ExitStack() as stack:
        channel = stack.enter_context(shmtrace.create_channel(name, mode=mode))
        stack.callback(shmtrace.remove_channel, name)
        collector, consumer = stack.enter_context(audited(channel, producers))
        children = [
            context.Process(target=produce, args=(name, number, share, told), kwargs={"kernel": kernel})
            for number, share in enumerate(shares)
        ]
        begin = time.perf_counter()
        for child in children:
            child.start()
            stack.callback(child.kill)
        pids = [collector.pid, consumer.pid, *(child.pid or 0 for child in children)]
        idle_s = cpu_seconds(collector.pid)
        samples = []
        while any(child.is_alive() for child in children):
            time.sleep(period_s)
            if all(told[WORDS * number] * WARM_UP > share for number, share in enumerate(shares)):
                samples.append([sample(pid) for pid in pids])
        for child in children:
            child.join()
            assert child.exitcode == 0, "a producer failed"
        seconds = time.perf_counter() - begin
        channel_emptied(channel, sum(told[1::WORDS]))
        collector_s = cpu_seconds(collector.pid) - idle_s
        collector.terminate()
        printed, said = consumer.communicate(timeout=LIMIT_S)
        assert consumer.returncode == 0, said
        collector.wait(LIMIT_S)
        stats = channel.stats()
    audit = json.loads(printed)
    rows = [told[at : at + WORDS] for at in range(0, len(told), WORDS)]
    check(rows, stats, audit, [(row[4], row[4]) for row in rows])
    assert samples, "the run was too short to see whether anything grows"
    grown = [growth(column) for column in zip(*samples, strict=True)]
    for process, pid, grew in zip(["collector", "consumer", *["producer"] * producers], pids, grown, strict=True):
        assert grew.bytes < GROWTH_BYTES, f"the memory of the {process} {pid} grew by {grew.bytes:,} bytes"
        assert grew.files <= 0, f"the {process} {pid} has {grew.files} files more than before"
    delivered, emitted = stats["delivered"], sum(row[0] for row in rows)
    return {
        "events": events, "emitted": emitted, "delivered": delivered, "missed": sum(stats["missed"].values()),
        "lost": sum(stats["lost"].values()), "producers": producers, "mode": mode, "kernel": kernel,
        "seconds": seconds, "received_bytes": audit["received_bytes"], "packets": audit["packets"],
        "delivered_by_cpu": audit["delivered_by_cpu"], "missed_by_cpu": audit["told_by_cpu"],
        "producers_ns": sum(row[5] for row in rows) / emitted,
        "collector_ns": collector_s / delivered * 1e9, "consumer_ns": audit["cpu_s"] / delivered * 1e9,
        "private_kib": [entry.bytes >> 10 for entry in samples[0] if entry], "samples": len(samples),
        "grown_kib": [entry.bytes >> 10 for entry in grown],
    }  # fmt: skip


def channel_emptied(channel: shmtrace.Channel, accepted: int) -> None:
    """Wait until all that was accepted has left."""
    limit = time.monotonic() + LIMIT_S
    while channel.stats()["delivered"] < accepted and time.monotonic() < limit:
        time.sleep(0.05)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--events", type=float, default=1e8, help="in all, as 1e9; default: 1e8")
    parser.add_argument("--producers", type=int, default=2)
    parser.add_argument("--mode", choices=["drop", "block"], default="drop")
    parser.add_argument("--kernel", action="store_true", help="producers are code of numba, which is faster")
    options = parser.parse_args()
    print(json.dumps(soak(int(options.events), options.producers, options.mode, kernel=options.kernel), indent=2))


if __name__ == "__main__":
    main()
