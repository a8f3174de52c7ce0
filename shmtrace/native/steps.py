"""The steps that another process can observe, by number: a process may be killed or stopped ahead of each of them.

The jitted code says `step(STEP.P7)` directly ahead of the step of that name, which is described at the head of lanes.py
(producers) or collect.py (collector).  It compiles to nothing.  Only after `watch`, which is for tests, is other code
compiled from the same source, that calls a function there: one that kills its own process at step k, or stops it.
"""

from __future__ import annotations

import ctypes

from . import loader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

HOOK = "shmtrace_at_step"
PRODUCER_STEPS = (
    "V1", "V2", "P2", "P3", "P5", "P6", "P7", "P8", "P9", "P9a", "P10", "P10a", "P11", "P12", "P13", "O1", "O2", "B1",
    "B2",
)  # fmt: skip
COLLECTOR_STEPS = (  # R3 and R4 are C8 and C9, E5 and R5 are P12
    "C2", "C5", "C6", "C4", "C7", "C8", "C9", "C10", "E1", "E2", "E3", "E4", "R2", "Q1", "W2", "D1", "D2",
)  # fmt: skip
STEPS = PRODUCER_STEPS + COLLECTOR_STEPS  # a step's number is its index

_watchers: list[object] = []


def watch(function: Callable[[int], None]) -> None:
    """Let `function` be called with its number ahead of each step.  Before this process has any jitted code."""
    watcher = ctypes.CFUNCTYPE(None, ctypes.c_int64)(function)
    _watchers.append(watcher)
    address = ctypes.cast(watcher, ctypes.c_void_p).value
    assert address is not None
    loader.hooks[HOOK] = address
