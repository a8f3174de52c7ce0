"""Who lives, asked on behalf of all channels of a collector, which often have the same writers.

Good news is remembered for a second: that a process lives, that it maps a segment.  Bad news is asked for each time.
"""

from __future__ import annotations

import time

from .. import process

FRESH_S = 1.0
MOST = 10_000  # processes that are remembered

_alive: dict[tuple[int, int], float] = {}
_mapped: dict[int, tuple[float, frozenset[bytes]]] = {}


def is_dead(pid: int, start: int) -> bool:
    """As `process.is_dead`; what died within the last second may count as alive."""
    now = time.monotonic()
    if now - _alive.get((pid, start), -FRESH_S) < FRESH_S:
        return False
    if process.is_dead(pid, start):
        return True
    if len(_alive) > MOST:
        _alive.clear()
    _alive[pid, start] = now
    return False


def has_left(pid: int, device: int, inode: int) -> bool:
    """As `process.has_left`; who left within the last second may not be told yet."""
    now = time.monotonic()
    asked, files = _mapped.get(pid, (-FRESH_S, frozenset()))
    if now - asked < FRESH_S and process.file_mark(device, inode) in files:
        return False
    files = process.mapped_files(pid)
    if len(_mapped) > MOST:
        _mapped.clear()
    _mapped[pid] = now, files
    return bool(files) and process.file_mark(device, inode) not in files
