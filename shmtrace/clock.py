"""Which clock a channel has, and readings of it beside the kernel's clocks."""

from __future__ import annotations

import ctypes
import os
import time

from .layout import CLOCK_MONOTONIC, CLOCK_TSC
from .native import functions

CLOCKSOURCES = "/sys/devices/system/clocksource/clocksource0/available_clocksource"


def choose_clock() -> int:
    """CLOCK_TSC if the time stamp counter runs at one speed, never stops, and the kernel trusts it.

    $SHMTRACE_CLOCK (tsc or monotonic) overrides.
    """
    chosen = os.environ.get("SHMTRACE_CLOCK")
    if chosen in ("tsc", "monotonic"):
        return CLOCK_TSC if chosen == "tsc" else CLOCK_MONOTONIC
    try:
        with open("/proc/cpuinfo", "rb") as file:
            flags = file.read(16384).partition(b"flags")[2].partition(b"\n")[0].split()
        with open(CLOCKSOURCES, "rb") as file:
            sources = file.read().split()
    except OSError:
        return CLOCK_MONOTONIC
    return CLOCK_TSC if b"constant_tsc" in flags and b"nonstop_tsc" in flags and b"tsc" in sources else CLOCK_MONOTONIC


def read_clocks(kind: int) -> tuple[int, int, int]:
    """The channel's clock, CLOCK_MONOTONIC and CLOCK_REALTIME (ns), read together."""
    if kind == CLOCK_MONOTONIC:
        best = (0, 0, 0, 1 << 62)
        for _ in range(8):
            before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
            if after - before < best[3]:
                middle = (before + after) // 2
                best = (middle, middle, wall, after - before)
        return best[:3]
    clocks = (ctypes.c_uint64 * 3)()
    ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(functions("producer")["read_clocks"])(ctypes.addressof(clocks))
    return clocks[0], clocks[1], clocks[2]
