"""Who wrote on which cpu: one slice for what a thread wrote on a cpu in a row."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .output import ENDED, stamps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...reader.batch import Batch
    from ...reader.rows import Array
    from .output import Output
    from .tracks import Tracks

__all__ = ["Cpus"]

PAUSE_NS = 5_000_000  # a thread that wrote nothing on a cpu for so long was not there


class _Run(NamedTuple):
    """Records of one thread on one cpu, in a row."""

    cpu: int
    thread: int
    begin_ns: int
    end_ns: int


@dataclasses.dataclass
class _Cpu:
    """A cpu's track, and the slice on it that is not written yet."""

    track: bytes
    label: bytes
    begin_ns: int
    end_ns: int


class Cpus:
    """Makes slices of who wrote where."""

    def __init__(self, output: Output, tracks: Tracks) -> None:
        self._output = output
        self._tracks = tracks
        self._uuid = 0
        self._cpus: dict[tuple[str, int], _Cpu] = {}  # by host and number

    def add(self, batch: Batch, when_ns: Array) -> None:
        """The records of a batch, which come at these times."""
        for run in _runs(batch, when_ns):
            host = self._tracks.writers[run.thread].host
            self._add_run(host, run, self._tracks.labels[run.thread])

    def _add_run(self, host: str, run: _Run, label: bytes) -> None:
        cpu = self._cpus.get((host, run.cpu))
        if cpu is None:
            self._cpus[host, run.cpu] = _Cpu(self._new_track(host, run.cpu), label, run.begin_ns, run.end_ns)
        elif cpu.label == label and 0 <= run.begin_ns - cpu.end_ns <= PAUSE_NS:
            cpu.end_ns = run.end_ns
        else:
            self._write(cpu)
            cpu.label, cpu.begin_ns, cpu.end_ns = label, run.begin_ns, run.end_ns

    def _new_track(self, host: str, cpu: int) -> bytes:
        if not self._uuid:
            self._uuid = self._output.new_uuid()
            self._output.describe(self._uuid, "cpus: who wrote")
        name = f"{host} cpu {cpu}".lstrip()
        return self._output.describe(self._output.new_uuid(), name, self._uuid, sibling_order_rank=cpu)

    def _write(self, cpu: _Cpu) -> None:
        for common, when_ns in ((cpu.label, cpu.begin_ns), (ENDED, cpu.end_ns)):
            self._output.event(stamps(np.array([when_ns])), common, cpu.track)

    def finish(self) -> None:
        """What is known when there is nothing more."""
        for cpu in self._cpus.values():
            self._write(cpu)


def _runs(batch: Batch, when_ns: Array) -> Iterator[_Run]:
    """Of each cpu in turn."""
    rows = np.flatnonzero(batch.thread_id >= 0)
    order = rows[np.argsort(batch.cpu[rows], kind="stable")]
    if not len(order):
        return
    cpus, threads, times = batch.cpu[order], batch.thread_id[order], when_ns[order]
    pauses = np.diff(times)
    new = (np.diff(cpus) != 0) | (np.diff(threads) != 0) | (pauses > PAUSE_NS) | (pauses < 0)
    begins = np.concatenate(([0], np.flatnonzero(new) + 1))
    ends = np.concatenate((begins[1:] - 1, [len(order) - 1]))
    columns = (cpus[begins], threads[begins], times[begins], times[ends])
    yield from map(_Run, *(column.tolist() for column in columns))
