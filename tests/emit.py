"""Programs that write events, as users' programs do, for the tests; and how a test runs one.

A program is told the channel by $SHMTRACE, as every program is, and its options as JSON: `emit.py PROGRAM OPTIONS`.
It prints what it did as JSON: a `Tally` for each thread that wrote.  A payload is known by its producer and number, and
carries a checksum.
"""

from __future__ import annotations

import functools
import itertools
import json
import multiprocessing
import os
import random
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from shmtrace import attach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from multiprocessing.synchronize import Barrier

    from shmtrace import Channel

LIMIT_S = 100
BLOCK = 2000  # payloads made ahead, so that the calls of `event` follow each other closely
NOISE = random.Random(2005).randbytes(1 << 17)
HEADER = struct.Struct("<III")  # producer, number, checksum of all the rest
MARKS = struct.Struct("<II")  # producer, number


class Tally(NamedTuple):
    """What a thread did."""

    producer: int
    pid: int
    tid: int
    accepted: int
    refused: int
    refused_numbers: list[int]  # of a program that writes a given number of events

    @property
    def accepted_numbers(self) -> list[int]:
        refused = set(self.refused_numbers)
        return [number for number in range(self.accepted + self.refused) if number not in refused]


def payload(producer: int, number: int, size: int) -> bytes:
    """A blob of `size` bytes; one that is too short for the header is noise alone."""
    start = (producer * 31 + number * 7919) % (1 << 16)
    if size < HEADER.size:
        return NOISE[start : start + size]
    rest = NOISE[start : start + size - HEADER.size]
    return HEADER.pack(producer, number, zlib.crc32(rest, zlib.crc32(MARKS.pack(producer, number)))) + rest


def read_payload(blob: bytes) -> tuple[int, int]:
    """Producer and number of a payload with a header; AssertionError if a byte of it is not as it was."""
    producer, number, checksum = HEADER.unpack_from(blob)
    assert checksum == zlib.crc32(blob[HEADER.size :], zlib.crc32(MARKS.pack(producer, number)))
    return producer, number


# -- for tests


def run(channel: str, program: str, **options: object) -> list[Tally]:
    """Run a program to its end."""
    with started(channel, program, **options) as finish:
        return finish()


@contextmanager
def started(channel: str, program: str, **options: object) -> Iterator[Callable[[], list[Tally]]]:
    """Run a program beside the block; call what this gives to wait for its end.  It does not outlive the block."""
    with subprocess.Popen(
        [sys.executable, __file__, program, json.dumps(options)],
        env={**os.environ, "SHMTRACE": channel},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        process_group=0,
    ) as process:

        def finish() -> list[Tally]:
            printed, _ = process.communicate(timeout=LIMIT_S)
            assert process.returncode == 0
            return [Tally(*tally) for tally in json.loads(printed)]

        try:
            yield finish
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)


def by_pid(tallies: Iterable[Tally]) -> dict[int, int]:
    """How many events of each process were accepted; a process none of whose events were is not in a trace."""
    counts = Counter[int]()
    for tally in tallies:
        counts[tally.pid] += tally.accepted
    return dict(+counts)


# -- the programs


@functools.cache
def channel() -> Channel:
    return attach()


def emit(
    producer: int,
    events: int,
    sizes: Sequence[int],
    *,
    burst: int = BLOCK,
    wait: Callable[[], object] = lambda: None,
) -> Tally:
    """Write a number of events, as fast as can be, with a pause after each `burst`; `sizes` are used over and over.

    Before the first one, `wait` for the others.
    """
    event = channel().event
    results: list[bool] = []
    for start in range(0, events, BLOCK):
        numbers = range(start, min(start + BLOCK, events))
        payloads = [payload(producer, number, sizes[number % len(sizes)]) for number in numbers]
        if start == 0:
            wait()
        for at in range(0, len(payloads), burst):
            results += map(event, payloads[at : at + burst])
            time.sleep(0)
    refused = [number for number, result in enumerate(results) if not result]
    return Tally(producer, os.getpid(), threading.get_native_id(), events - len(refused), len(refused), refused)


def emit_until(producer: int, stop: Path, sizes: Sequence[int]) -> Tally:
    """Write events until there is a file named `stop`."""
    event = channel().event
    limit = time.monotonic() + LIMIT_S
    counts = Counter[bool]()
    for start in itertools.count(step=100):
        numbers = range(start, start + 100)
        counts.update(map(event, [payload(producer, number, sizes[number % len(sizes)]) for number in numbers]))
        if stop.exists() or time.monotonic() > limit:
            break
        time.sleep(0.0005)
    return Tally(producer, os.getpid(), threading.get_native_id(), counts[True], counts[False], [])


def pool(method: str, workers: int, events: int, sizes: Sequence[int]) -> list[Tally]:
    """A process pool, each of whose workers writes; and so does the process that made it, before and after."""
    before = emit(0, events, sizes)
    context = multiprocessing.get_context(method)
    with context.Pool(workers, initializer=_meet, initargs=(context.Barrier(workers),)) as processes:
        tallies = processes.map(
            functools.partial(_work, events=events, sizes=sizes), range(1, workers + 1), chunksize=1
        )
        processes.close()
        processes.join()
    return [before, *tallies, emit(workers + 1, events, sizes)]


_barrier: list[Barrier] = []


def _meet(barrier: Barrier) -> None:
    _barrier.append(barrier)


def _work(producer: int, events: int, sizes: Sequence[int]) -> Tally:
    return emit(producer, events, sizes, wait=_barrier[0].wait)  # so no worker gets two


def threads(count: int, events: int, sizes: Sequence[int]) -> list[Tally]:
    """Threads of one process."""
    tallies: list[Tally] = []
    everybody = [
        threading.Thread(target=lambda producer=producer: tallies.append(emit(producer, events, sizes)))
        for producer in range(count)
    ]
    for thread in everybody:
        thread.start()
    for thread in everybody:
        thread.join()
    return tallies


def processes(
    *,
    count: int,
    sizes: Sequence[int],
    events: int = 0,
    burst: int = BLOCK,
    stop: str = "",
    pin: int | None = None,
    cpus: Sequence[int] = (),
) -> list[Tally]:
    """Processes that attach by themselves and write beside each other.

    With `stop` they do until there is a file of this name, else a number of events.  All are pinned to the cpu `pin`;
    or producer n is on the cpu cpus[n], as far as shmtrace is to know.
    """
    if pin is not None:
        os.sched_setaffinity(0, {pin})
    with tempfile.TemporaryDirectory() as directory:
        barrier, children = multiprocessing.get_context("fork").Barrier(count), []
        for producer in range(count):
            child = os.fork()
            if child == 0:
                if cpus:
                    os.environ["SHMTRACE_CPU"] = str(cpus[producer])
                tally = (
                    emit_until(producer, Path(stop), sizes)
                    if stop
                    else emit(producer, events, sizes, burst=burst, wait=barrier.wait)
                )
                Path(directory, str(producer)).write_text(json.dumps(tally))
                os._exit(0)
            children.append(child)
        statuses = [os.waitpid(child, 0)[1] for child in children]
        assert not any(statuses)
        return [Tally(*json.loads(Path(directory, str(producer)).read_text())) for producer in range(count)]


PROGRAMS: dict[str, Callable[..., list[Tally]]] = {"pool": pool, "threads": threads, "processes": processes}


def main(program: str, options: str) -> None:
    arguments: dict[str, Any] = json.loads(options)
    print(json.dumps(PROGRAMS[program](**arguments)))


if __name__ == "__main__":
    main(*sys.argv[1:])
