"""The start of a worker: a fresh interpreter until its first event is written, and the memory that it then has more.

Address randomisation is what the machine has, which is on everywhere.  The clock is the machine's, so that the end of a
process, which may wait for threads, is not counted.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .costs import spread
from .peers import PEERS, shmtrace_event

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BARE, COMPILER = "bare", "numba"
OTHERS = {BARE: "pass", COMPILER: "import numba"}
TITLES = {BARE: "the bare interpreter", COMPILER: "import numba alone"}
RUNS_A_SECOND = 4
# Memory of mappings of shared memory is the segment's; that is not this process's own.
REPORT = """
import time
print(time.monotonic_ns())
own = resident = 0
counted = True
for line in open("/proc/self/smaps"):
    words = line.split()
    if not words[0].endswith(":"):
        counted = not line.rstrip().partition("/")[2].startswith("dev/shm/")
    elif counted and words[0] in {"Private_Dirty:", "Private_Hugetlb:"}:
        own += int(words[1])
    elif counted and words[0] == "Rss:":
        resident += int(words[1])
print(own, resident, flush=True)
import os
os._exit(0)
"""


def measure(names: Sequence[str], seconds: float, environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """Milliseconds and KiB beyond the bare interpreter; about `seconds` for each of them, in turn."""
    programs = OTHERS | {
        name: program for name in names if (program := getattr(PEERS[name], "FIRST_EVENT", None)) is not None
    }
    runs = max(round(seconds * RUNS_A_SECOND), 1)
    samples: dict[str, list[tuple[float, float, float]]] = {name: [] for name in programs}
    with shmtrace_event.recorded_channel() as channel:
        complete = os.environ | dict(environment) | channel
        complete.pop("PYTHONDONTWRITEBYTECODE", None)  # a worker's modules were compiled long ago
        for run in range(runs + 1):
            for name, program in programs.items():
                found = _run(program, complete)
                if run:  # what is read for the first time is not in the cache
                    samples[name].append(found)
    bare = [statistics.median(values) for values in zip(*samples[BARE], strict=True)]
    return [
        {
            "peer": name,
            "ms": spread([(ms if name == BARE else ms - bare[0]) for ms, _, _ in values]),
            "own_kib": statistics.median(own for _, own, _ in values) - (0 if name == BARE else bare[1]),
            "resident_kib": statistics.median(resident for *_, resident in values) - (0 if name == BARE else bare[2]),
        }
        for name, values in samples.items()
    ]


def _run(program: str, environment: Mapping[str, str]) -> tuple[float, float, float]:
    """Milliseconds to the first event; KiB of memory that is written and of this process alone, and resident at all."""
    begin = time.monotonic_ns()
    result = subprocess.run(
        [sys.executable, "-c", f"{program}\n{REPORT}"],
        env=environment, cwd=Path(__file__).parents[1], check=True, stdout=subprocess.PIPE, text=True, timeout=60,
    )  # fmt: skip
    end, own, resident = map(int, result.stdout.split()[-3:])
    return (end - begin) / 1e6, own, resident
