"""Facts about this machine that figures depend on."""

from __future__ import annotations

import math
import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


COPIED_BYTES = 64 << 20


def machine() -> dict[str, Any]:
    """What it is."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": model[0].partition(": ")[2] if model else platform.machine(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of what is compared."""
    return {package: metadata.version(package) for package in sorted(set(packages))}


def load() -> float:
    """How many processes wanted to run in the last minute: other work makes figures doubtful."""
    return os.getloadavg()[0]


def memory_gb_per_s() -> float:
    """What memcpy of 64 MB reaches: the floor of all copying."""
    source, target = bytes(COPIED_BYTES), bytearray(COPIED_BYTES)
    view = memoryview(target)
    best = math.inf
    for _ in range(5):
        begin = time.perf_counter()
        view[:] = source
        best = min(best, time.perf_counter() - begin)
    return COPIED_BYTES / best / 1e9
