"""Read the trace that `walk_stdlib.py` left: what was slowest to parse, and who did how much.

docs/examples/slowest.py trace/
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

import shmtrace


def main(directory: str) -> None:
    """Print a short report."""
    files: list[dict[str, Any]] = []
    functions: list[dict[str, Any]] = []
    events_of: Counter[int | None] = Counter()
    for record in shmtrace.read(directory):
        blob = record.fields.get("blob")
        if not isinstance(blob, bytes):
            continue
        events_of[record.pid] += 1
        event = json.loads(blob)
        if event["what"] == "file":
            files.append(event)
        elif event["what"] == "longest function":
            functions.append(event)

    print("slowest to parse:")
    for file in sorted(files, key=lambda file: -file["parse_ns"])[:5]:
        print(f"  {file['parse_ns'] / 1e6:7.1f} ms  {file['lines']:6,} lines  {file['path']}")
    print("longest functions:")
    for function in sorted(functions, key=lambda function: -function["lines"])[:5]:
        print(f"  {function['lines']:6,} lines  {function['name']}  {function['path']}:{function['line']}")
    print("events by process:")
    for pid, count in sorted(events_of.items(), key=str):
        print(f"  {count:8,}  {'unknown' if pid is None else pid}")


if __name__ == "__main__":
    main(*sys.argv[1:])
