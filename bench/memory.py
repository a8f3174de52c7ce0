"""Memory of reading a large trace of many short-lived processes: `python -m bench.memory [--gigabytes N]`.

A trace is recorded once and sent through a pipe again and again, each time later and of other processes, so that it
needs no disk.  What is measured is the greatest resident memory of the command at the other end.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import shmtrace
from shmtrace import wire
from shmtrace.reader.description import describe
from shmtrace.reader.stream import Packet, Parser, heads

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

GIGABYTE = 10**9
PROCESSES = 32  # of the trace that is repeated
EVENTS = 30_000
PAUSE_CYCLES = 1 << 20  # between two repetitions
LOOK_S = 0.02  # between two looks at a reader's memory
COMMANDS = {
    "Parquet": ("convert", "-", "-o", "{directory}/events.parquet"),
    "tables": ("convert", "-", "-o", "{directory}/tables/"),
    "query of spans": (
        "query",
        "-",
        "SELECT name, count(*), avg(duration_ns) FROM spans GROUP BY name ORDER BY name",
    ),
    "report": ("report", "-", "-o", "{directory}/report.html"),
    "JSON lines": ("convert", "-", "-o", "-"),
}


def _work(number: int, events: int) -> None:
    channel = shmtrace.attach()
    tick = channel.tracepoint("tick", number="u64", latency="f64", path="str")
    load, depth = channel.span("load", shard="u32"), channel.counter("depth")
    load.begin(number)  # is never ended
    for at in range(events // 4):
        with load(at & 7):
            tick(at, at * 0.001, "/index")
        depth(at % 17)


def record(path: Path, events: int = EVENTS, processes: int = PROCESSES) -> None:
    """What a FIFO gives of some processes that write so many events together."""
    context = get_context("fork")
    with shmtrace.record(path.with_suffix(".d"), mode="block", block_ms=60_000):
        for number in range(processes):
            worker = context.Process(target=_work, args=(number, events // processes))
            worker.start()
            worker.join()
    text = (path.with_suffix(".d") / "metadata").read_text()
    uuid = describe(text).uuid
    with path.open("wb") as out:
        out.write(wire.metadata_packet(text, uuid))
        for lane in sorted(path.with_suffix(".d").glob("stream_*")):
            out.write(lane.read_bytes())


class Repeated:
    """A stream whose packets are given again and again."""

    def __init__(self, data: bytes) -> None:
        parser = Parser()
        items = [*parser.feed(data), *parser.end()]
        packets = [item for item in items if isinstance(item, Packet)]
        self.head = data[: packets[0].offset]
        self.body = np.frombuffer(b"".join(packet.data for packet in packets), np.uint64).copy()
        times, numbers, starts, monotonic = [], [], [], []
        at = 0
        for packet in packets:
            times += [at + wire.PACKET.timestamp_begin, at + wire.PACKET.timestamp_end]
            numbers.append(at + wire.PACKET.packet_seq_num)
            for head in heads(packet):
                times.append(at + head.body - wire.RECORD_BYTES)
                if head.id == wire.ID_WRITER:
                    starts.append(at + head.body + wire.WRITER_BODY.start)
                elif head.id == wire.ID_CLOCK:
                    times.append(at + head.body + wire.CLOCK_BODY.cycles)
                    monotonic += [at + head.body + wire.CLOCK_BODY.monotonic, at + head.body + wire.CLOCK_BODY.realtime]
            at += len(packet.data)
        self._times, self._numbers, self._starts, self._monotonic = (
            np.array(places, np.int64) // 8 for places in (times, numbers, starts, monotonic)
        )
        stamps = self.body[self._times]
        self._later = np.uint64(int(stamps.max()) - int(stamps.min()) + PAUSE_CYCLES)
        clocks = self.body[self._monotonic]
        self._clocks_later = np.uint64(int(clocks[::2].max() - clocks[::2].min()) + 10**6 if len(clocks) else 0)
        self._lanes = self._per_lane(packets)

    @staticmethod
    def _per_lane(packets: Sequence[Packet]) -> npt.NDArray[np.uint64]:
        """How many packets the lane of each packet has."""
        lanes = [packet.lane for packet in packets]
        return np.array([lanes.count(lane) for lane in lanes], np.uint64)

    def step(self) -> None:
        """The next repetition: later, and of other processes."""
        self.body[self._times] += self._later
        self.body[self._numbers] += self._lanes
        self.body[self._starts] += np.uint64(1)
        self.body[self._monotonic] += self._clocks_later

    def send(self, descriptor: int, size: int) -> int:
        """So many bytes, about; how many repetitions that were."""
        steps = 0
        with os.fdopen(descriptor, "wb", buffering=0) as out:
            left = size - out.write(self.head)
            while left > 0:
                view = self.body.data.cast("B")
                while view:
                    view = view[out.write(view) :]
                left -= self.body.nbytes
                steps += 1
                self.step()
        return steps


def _peak_kib(pid: int) -> int:
    """The most memory that a process has had so far; 0 if it has just ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def measure(data: bytes, size: int, command: Sequence[str]) -> dict[str, Any]:
    """What a command that reads the trace takes: MB of memory, seconds; and of how many processes the trace was."""
    repeated = Repeated(data)
    reading, writing = os.pipe()
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "shmtrace", *command], stdin=reading, stdout=subprocess.DEVNULL)
    os.close(reading)
    found: list[int] = []
    sender = threading.Thread(target=lambda: found.append(repeated.send(writing, size)))
    sender.start()
    peak_kib = 0
    while process.poll() is None:  # what wait4 tells also covers the process that this one was forked from
        peak_kib = max(peak_kib, _peak_kib(process.pid))
        time.sleep(LOOK_S)
    sender.join()
    assert process.returncode == 0
    return {
        "mb": peak_kib * 1024 / 1e6, "seconds": time.perf_counter() - begin, "repetitions": found[0],
    }  # fmt: skip


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description="Memory of reading a large trace.")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of the trace")
    parser.add_argument("--events", type=int, default=EVENTS, help="of the trace that is repeated")
    parser.add_argument("--only", choices=COMMANDS, action="append", help="of the commands")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        path = Path(directory, "trace")
        record(path, options.events)
        data = path.read_bytes()
        print(f"{options.gigabytes:g} GB, a trace of {len(data) / 1e6:.1f} MB and {PROCESSES} processes repeated\n")
        print("| command | memory, MB | seconds | processes |")
        print("|---|---:|---:|---:|", flush=True)
        for name in options.only or COMMANDS:
            command = [argument.format(directory=directory) for argument in COMMANDS[name]]
            found = measure(data, int(options.gigabytes * GIGABYTE), command)
            processes = PROCESSES * found["repetitions"]
            print(f"| {name} | {found['mb']:.0f} | {found['seconds']:.0f} | {processes:,} |", flush=True)


if __name__ == "__main__":
    main()
