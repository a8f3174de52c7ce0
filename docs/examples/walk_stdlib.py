"""Parse the sources of the standard library with a pool of processes, and emit events for what is found.

    shmtrace run -o trace/ docs/examples/walk_stdlib.py [--start-method METHOD] [--workers N] [--files N]

Nothing here knows who records, or whether anybody does: run by plain Python the program does the same work, and
`event` returns False.
"""

from __future__ import annotations

import argparse
import ast
import json
import multiprocessing
import os
import sys
import sysconfig
import time
import warnings
from pathlib import Path

import shmtrace

channel = shmtrace.attach()
warnings.simplefilter("ignore", SyntaxWarning)  # what the parser thinks of old sources


def sources() -> list[Path]:
    """The files of the standard library, without what was installed beside it."""
    root = Path(sysconfig.get_path("stdlib"))
    return sorted(path for path in root.rglob("*.py") if "site-packages" not in path.parts)


def emit(what: str, **fields: object) -> int:
    """Emit one event, as a JSON object; returns how many were recorded: 1 or 0."""
    return int(channel.event(json.dumps({"what": what, **fields}).encode()))


def walk(path: Path) -> tuple[int, int]:
    """Parse one file; emit an event for it, one for each of its classes, and one for its longest function.

    Returns how many events were emitted and how many of them were recorded.
    """
    text = path.read_bytes()
    begin = time.perf_counter_ns()
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:  # the library keeps broken files for its own tests
        return 1, emit("unparsable", path=str(path), bytes=len(text), error=str(error))
    took = time.perf_counter_ns() - begin

    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    recorded = emit(
        "file",
        path=str(path),
        bytes=len(text),
        lines=text.count(b"\n"),
        parse_ns=took,
        classes=len(classes),
        functions=len(functions),
    )
    for node in classes:
        bases = [ast.unparse(base) for base in node.bases]
        recorded += emit("class", path=str(path), line=node.lineno, name=node.name, bases=bases)
    if functions:
        longest = max(functions, key=lambda node: (node.end_lineno or 0) - node.lineno)
        lines = (longest.end_lineno or 0) - longest.lineno + 1
        recorded += emit("longest function", path=str(path), line=longest.lineno, name=longest.name, lines=lines)
    return 1 + len(classes) + bool(functions), recorded


def main() -> None:
    """Walk, and say on stdout what was done."""
    parser = argparse.ArgumentParser(description="Parse the standard library in a pool of processes.")
    parser.add_argument("--start-method", choices=multiprocessing.get_all_start_methods(), default="spawn")
    parser.add_argument("--workers", type=int, default=max(2, os.cpu_count() or 1))
    parser.add_argument("--files", type=int, help="stop after that many")
    options = parser.parse_args()

    files = sources()[: options.files]
    with multiprocessing.get_context(options.start_method).Pool(options.workers) as pool:
        counts = pool.map(walk, files, chunksize=8)
        pool.close()
        pool.join()
    emitted, recorded = (sum(column) for column in zip(*counts, strict=True))
    print(f"{len(files)} files, {options.workers} workers, {emitted} events emitted, {recorded} recorded")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
