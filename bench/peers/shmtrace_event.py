"""channel.event, with collector and `cat > /dev/null` running."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import shmtrace
from bench.consumer import wait_for
from bench.peer import Counted, Emitter, calling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.peer import Cost

NAME = "shmtrace event"
FIRST_EVENT = "import shmtrace; shmtrace.attach().event(b'first event')"


@contextmanager
def channel(**options: Any) -> Iterator[shmtrace.Channel]:  # noqa: ANN401 - those of create_channel
    """A channel that nobody reads."""
    name = f"bench-{os.getpid()}-{time.monotonic_ns()}"
    made = shmtrace.create_channel(name, **options)
    try:
        yield made
    finally:
        shmtrace.remove_channel(name, drain=True)


@contextmanager
def collecting(made: shmtrace.Channel) -> Iterator[subprocess.Popen[bytes]]:
    """The channel has a collector."""
    command = [sys.executable, "-m", "shmtrace", "collect", made.name]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as collector:
        try:
            yield collector
        finally:
            collector.terminate()


def wait_until_enabled(made: shmtrace.Channel, *processes: subprocess.Popen[bytes]) -> None:
    """Wait for collector and reader."""
    while not made.enabled:
        assert all(process.poll() is None for process in processes), "the collector or the reader ended"
        time.sleep(0.01)


@contextmanager
def collected(made: shmtrace.Channel, out: int = subprocess.DEVNULL) -> Iterator[None]:
    """The channel has a collector, and `cat` as its reader, which writes into a descriptor."""
    with (
        subprocess.Popen(["cat", made.fifo], stdout=out) as reader,
        collecting(made) as collector,
    ):
        wait_until_enabled(made, collector, reader)
        yield


@contextmanager
def recorded_channel() -> Iterator[dict[str, str]]:
    """A channel that is being recorded, for fresh processes."""
    with channel() as made, collected(made):
        yield {"SHMTRACE": made.name}


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """Events leave through the FIFO."""
    with channel() as made, collected(made):
        yield emitter(made, size)


def emitter(made: shmtrace.Channel, size: int) -> Emitter:
    """Counts by what the channel says."""

    def delivered() -> int:
        number: int = made.stats()["delivered"]
        return number

    def told() -> int:
        stats = made.stats()
        number: int = sum(stats["missed"].values()) + sum(stats["lost"].values())
        return number

    def counted(emitted: int) -> Counted:
        wait_for(lambda: delivered() + told(), emitted)
        return Counted(delivered(), told())

    return Emitter(calling(made.event, bytes(size)), counted=counted, arrived=delivered)


def of_records(made: shmtrace.Channel, size: int, each: int, emit: Callable[[int], Cost]) -> Emitter:
    """Each event is so many records."""
    found = emitter(made, size)
    count_records = found.counted
    assert count_records is not None

    def counted(emitted: int) -> Counted:
        records = count_records(each * emitted)
        return Counted(records.delivered // each, -(-records.told // each))

    return Emitter(emit, counted=counted)
