"""From the event to its consumer at a low rate; all peers at the same time, each in processes of its own.

The events carry the time at which they were emitted.  Of shmtrace the consumer reads what `shmtrace tail --json`
prints: collector, FIFO, decoding, JSON and a pipe are on the way, and a flush interval, which is the channel's option.
What a short one costs is how often the collector is woken.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from . import consumer
from .peers import PEERS
from .peers.shmtrace_event import channel, collecting, wait_until_enabled
from .usage import usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

RATE = 100  # events a second
FLUSH_MS = (1, 10, 100)
WARM_UP = 20
SIZE = 20
SHARES = (50, 99, 99.9)  # percentiles
NAMES = ("pipe_write", "queue_put", "zmq_push")
TAIL = "shmtrace_tail"


class Ends(NamedTuple):
    """Of a peer."""

    send: Callable[[bytes], object]
    receive: Callable[[], bytes]
    collector: int | None = None  # pid


@contextmanager
def tailed(flush_ms: int) -> Iterator[Ends]:
    """A channel and what `tail` prints of it."""
    with (
        channel(flush_ms=flush_ms) as made,
        subprocess.Popen(
            [sys.executable, "-m", "shmtrace", "tail", made.name, "--json"], stdout=subprocess.PIPE
        ) as tail,
        collecting(made) as collector,
    ):
        wait_until_enabled(made, collector, tail)
        stdout = tail.stdout
        assert stdout is not None

        def receive() -> bytes:
            while True:
                record = json.loads(stdout.readline())
                if record["kind"] == "event":
                    blob: str = record["fields"]["blob"]
                    return blob.encode()

        yield Ends(made.event, receive, collector.pid)


@contextmanager
def of_peer(name: str) -> Iterator[Ends]:
    """A peer's two ends."""
    with PEERS[name].running(SIZE) as emitter:
        assert emitter.send is not None
        assert emitter.receive is not None
        yield Ends(emitter.send, emitter.receive)


def samples(send: Callable[[bytes], object], receive: Callable[[], bytes], count: int) -> list[float]:
    """Milliseconds of each event; the first ones warm up."""
    words = consumer.shared_words(1 + count)

    def consume() -> None:
        taken = 0
        while taken < count:
            received = receive()
            now = time.monotonic_ns()
            for place in range(0, len(received), SIZE):
                words[1 + taken] = now - int(received[place : place + SIZE])
                taken += 1
            words[0] = taken

    with consumer.forked(consume):
        begin = time.monotonic()
        for number in range(count):
            time.sleep(max(begin + number / RATE - time.monotonic(), 0))
            send(b"%0*d" % (SIZE, time.monotonic_ns()))
        assert consumer.wait_for(lambda: words[0], count) == count, "some have not arrived"
    return [words[1 + number] / 1e6 for number in range(WARM_UP, count)]


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that so many percent do not exceed."""
    return sorted(values)[max(math.ceil(len(values) * share / 100) - 1, 0)]


def measure(names: Sequence[str], seconds: float) -> list[dict[str, Any]]:
    """Percentiles in ms; how often a second the collector was woken, and its part of a cpu."""
    count = WARM_UP + max(int(seconds * RATE), 1)
    keys = [*(f"{TAIL} {flush_ms}" for flush_ms in FLUSH_MS), *names]
    with ExitStack() as stack:
        processes = {
            key: stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "bench.latency", str(count), *key.split()],
                    cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True,
                )
            )
            for key in keys
        }  # fmt: skip
        rows = []
        for key, process in processes.items():
            printed, _ = process.communicate(timeout=60 + 2 * seconds)
            if process.returncode:
                raise RuntimeError(f"the latency of {key} was not measured")
            name, *flush_ms = key.split()
            found = json.loads(printed)
            row: dict[str, Any] = {"peer": name, "flush_ms": int(flush_ms[0]) if flush_ms else None, "events": count}
            row |= {f"p{share}_ms": percentile(found["ms"], share) for share in SHARES}
            rows.append(row | {"collector_wakes_s": found["wakes_s"], "collector_cpu": found["cpu"]})
        return rows


def main() -> None:
    """One peer's."""
    count, name, *flush_ms = sys.argv[1:]
    ends = partial(tailed, int(flush_ms[0])) if name == TAIL else partial(of_peer, name)
    with ends() as (send, receive, collector):
        before, begin = usage(collector) if collector else None, time.monotonic()
        found: dict[str, Any] = {"ms": samples(send, receive, int(count)), "wakes_s": None, "cpu": None}
        if collector and before:
            after, seconds = usage(collector), time.monotonic() - begin
            found |= {"wakes_s": (after.wakes - before.wakes) / seconds, "cpu": (after.cpu_s - before.cpu_s) / seconds}
        print(json.dumps(found))


if __name__ == "__main__":
    main()
