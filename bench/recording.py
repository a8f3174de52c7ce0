"""From a full FIFO into files: `python -m bench.recording`, the recorder beside ways that look at less.

A real stream is recorded once; `cat` writes it into a pipe again and again, and each way in turn takes it out.  What
is counted is the cpu time of the taker.

* `read, write`: into one file, with no look at anything.
* `splice`: the header of each packet is read, the rest goes into its lane's file without passing through the process.
* `recorder`: what `shmtrace record` does with it.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from bench.consumer import wait_for
from bench.costs import spread
from bench.machine import machine
from bench.peer import calling
from bench.peers.shmtrace_event import channel, collected
from shmtrace import wire
from shmtrace.layout import fields_of
from shmtrace.reader.recorder import Recorder
from shmtrace.reader.stream import Parser, struct_of

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK_BYTES = 1 << 20
ROUNDS = 9
BLOB_BYTES = 32
MAGIC_BYTES = 4
LEFT_OUT = 0.1  # of a stream: descriptions that are repeated are not kept


def stream(path: Path, megabytes: int) -> None:
    """What a collector writes of so many megabytes of events."""
    count = (megabytes << 20) // (BLOB_BYTES + wire.RECORD_BYTES)
    with path.open("wb") as file, channel(mode="block", block_ms=60_000) as made, collected(made, file.fileno()):
        calling(made.event, bytes(BLOB_BYTES))(count)
        wait_for(lambda: int(made.stats()["delivered"]), count)


def read_and_write(pipe: int, directory: Path) -> None:
    """Into one file."""
    buffer = bytearray(CHUNK_BYTES)
    with (directory / "stream").open("wb", buffering=0) as out, memoryview(buffer) as view:
        while count := os.readv(pipe, [buffer]):
            out.write(view[:count])


def splice(pipe: int, directory: Path) -> None:
    """Headers are read, the rest is spliced."""
    files: dict[str, int] = {}
    with ExitStack() as stack:
        while magic := _exactly(pipe, MAGIC_BYTES):
            table = wire.PACKET if int.from_bytes(magic, "little") == wire.PACKET_MAGIC else wire.METADATA
            layout = struct_of(table)
            header = magic + _exactly(pipe, layout.size - MAGIC_BYTES)
            fields = dict(zip(fields_of(table), layout.unpack(header), strict=True))
            name = "stream_{cpu_id}_{lane}".format(**fields) if table is wire.PACKET else "metadata"
            if name not in files:
                file = stack.enter_context((directory / name).open("wb", buffering=0))
                files[name] = file.fileno()
            os.write(files[name], header)
            left = fields["packet_size"] // 8 - layout.size
            while left:
                left -= os.splice(pipe, files[name], left)


def _exactly(pipe: int, count: int) -> bytes:
    """So many bytes; none at the end."""
    data = b""
    while len(data) < count and (more := os.read(pipe, count - len(data))):
        data += more
    return data


def record(pipe: int, directory: Path) -> None:
    """As `shmtrace record`."""
    parser = Parser()
    with Recorder(directory, delivered=lambda: 0) as recorder:
        while True:
            with parser.room(CHUNK_BYTES) as room:
                count = os.readv(pipe, [room])
            if not count:
                break
            recorder.add(parser.fed(count))
        recorder.add(parser.end())


WAYS: dict[str, Callable[[int, Path], None]] = {"read, write": read_and_write, "splice": splice, "recorder": record}


def measure(path: Path, directory: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Cpu seconds a GB of each way, in turn; files go into a directory of `directory`."""
    gigabytes = path.stat().st_size / 1e9
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, way in WAYS.items():
            with tempfile.TemporaryDirectory(prefix="bench-", dir=directory) as place:
                found[name].append(_cpu_seconds(way, path, Path(place)) / gigabytes)
                kept = sum(file.stat().st_size for file in Path(place).iterdir())
                if kept < (1 - LEFT_OUT) * path.stat().st_size:
                    raise RuntimeError(f"{name} lost something: of {path.stat().st_size:,} bytes it kept {kept:,}")
    return {name: spread(values) for name, values in found.items()}


def _cpu_seconds(way: Callable[[int, Path], None], path: Path, place: Path) -> float:
    pipe, other = os.pipe()
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, CHUNK_BYTES)
        with subprocess.Popen(["cat", path], stdout=other):
            os.close(other)
            other = -1
            used = time.process_time()
            way(pipe, place)
            return time.process_time() - used
    finally:
        os.close(pipe)
        if other >= 0:
            os.close(other)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description="From a full FIFO into files: ways compared.")
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--directory", type=Path, nargs="+", default=[Path("/dev/shm"), Path("/var/tmp")])  # noqa: S108
    options = parser.parse_args()
    print(", ".join(f"{key} {value}" for key, value in machine().items()), end="\n\n")
    print("| way | into files of | cpu s/GB | quartiles |")
    print("|---|---|---:|---:|")
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        path = Path(made, "stream")
        stream(path, options.megabytes)
        for directory in options.directory:
            for name, values in measure(path, directory, options.rounds).items():
                print(
                    f"| {name} | {directory} | {values['median']:.2f} | {values['low']:.2f} to {values['high']:.2f} |"
                )


if __name__ == "__main__":
    main()
