"""How many instructions a call takes: `python -m bench.instructions`, counted by valgrind, the same in each run.

Each shape runs in two processes with different numbers of calls, and so does `len(b)`; what a call of the shape takes
more than one of `len(b)` is left.  valgrind knows no AVX-512, so numba is told to compile for an older cpu, into
a cache of its own.  The channel is a flight recorder and the cpu is given, so that nothing else has a part in it.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
import timeit
from pathlib import Path

import shmtrace
from shmtrace.layout import CONTEXT, CPU_RSEQ
from shmtrace.native.builtin import address_of

FEW, MANY = 10_000, 30_000
BLOB = b"x" * 32
STATEMENTS = {
    "len": "len(blob)",
    "event": "event(blob)",
    "tracepoint": 'request(200, 0.5, "/index")',
    "counter": "depth(17)",
    "span": "with plain: pass",
    "span with a field": "with load(3): pass",
    "log of two fields": 'log("cache miss", key="a1", tried=3)',
}
LIMIT_S = 300


def put_cpu(channel: shmtrace.Channel) -> None:
    """Let this thread be on cpu 0, as the kernel would tell it (rseq), which valgrind does not let it do."""
    libc = ctypes.CDLL(None)
    libc.pthread_self.restype = ctypes.c_size_t
    word = ctypes.c_ssize_t.in_dll(libc, "__rseq_offset").value + 4
    ctypes.c_uint32.from_address(libc.pthread_self() + word).value = 0
    context = address_of(channel._context)  # noqa: SLF001
    block_at = ctypes.c_uint64.from_address(context + CONTEXT.block_at).value
    for field, value in ((CONTEXT.cpu_kind, CPU_RSEQ), (CONTEXT.cpu_word, word), (CONTEXT.plain, block_at)):
        ctypes.c_int64.from_address(context + field).value = value


def run_here(shape: str, count: int) -> None:
    """What the counted process does."""
    channel = shmtrace.create_channel(f"instructions-{os.getpid()}", mode="overwrite", page_size=1 << 16, pages=256)
    try:
        put_cpu(channel)
        names = {
            "blob": BLOB, "event": channel.event, "log": channel.log,
            "request": channel.tracepoint("request", status="u16", latency="f64", path="str"),
            "depth": channel.counter("depth"), "plain": channel.span("plain"),
            "load": channel.span("load", shard="u32"),
        }  # fmt: skip
        timeit.Timer(STATEMENTS[shape], globals=names).timeit(count)
    finally:
        channel.close()
        shmtrace.remove_channel(channel.name)


def count_instructions(shape: str, count: int, cache: str) -> int:
    """Of a whole process."""
    environment = {
        **os.environ, "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "",
        "SHMTRACE_CACHE": cache, "PYTHONHASHSEED": "0",
    }  # fmt: skip
    command = [sys.executable, "-m", "bench.instructions", "--one", shape, str(count)]
    if next(Path(cache).iterdir(), None) is None:  # compile once, at full speed
        subprocess.run(command, env=environment, check=True, timeout=LIMIT_S)
    valgrind = ["valgrind", "--tool=cachegrind", "--cache-sim=no", f"--cachegrind-out-file={os.devnull}"]
    done = subprocess.run(
        [*valgrind, *command], env=environment, check=True, timeout=LIMIT_S, stderr=subprocess.PIPE, text=True
    )
    found = re.search(r"I +refs: +([\d,]+)", done.stderr)
    assert found is not None, done.stderr
    return int(found[1].replace(",", ""))


def measure(shapes: list[str]) -> dict[str, float]:
    """Instructions of a call, `len(b)` and those above it."""
    with tempfile.TemporaryDirectory() as cache:
        each = {
            shape: (count_instructions(shape, MANY, cache) - count_instructions(shape, FEW, cache)) / (MANY - FEW)
            for shape in ("len", *shapes)
        }
    return {shape: number if shape == "len" else number - each["len"] for shape, number in each.items()}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help=", ".join(STATEMENTS))
    parser.add_argument("--one", nargs=2, metavar=("SHAPE", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_here(options.one[0], int(options.one[1]))
    elif shutil.which("valgrind") is None:
        sys.exit("bench.instructions: valgrind is not installed")
    else:
        for shape, number in measure(options.shapes or list(STATEMENTS)[1:]).items():
            print(f"{shape:20} {number:8.1f}{'   instructions a loop' if shape == 'len' else '   more'}")


if __name__ == "__main__":
    main()
