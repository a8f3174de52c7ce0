"""What a worker of the job does."""

from __future__ import annotations

import itertools
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .events import Counts, text
from .peers import PEERS
from .scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .scenarios import Scenario

_COUNTS = "counts"


@dataclass(frozen=True)
class Task:
    """A job, as its processes are told of it."""

    peer: str
    scenario_name: str
    directory: str
    workers: int
    events: int  # that a worker emits unless it is killed
    seed: str  # of which workers are killed, and when

    @property
    def scenario(self) -> Scenario:
        return next(scenario for scenario in SCENARIOS if scenario.name == self.scenario_name)

    def counts(self) -> Counts:
        """The memory in which the workers count."""
        return Counts(Path(self.directory, _COUNTS), self.scenario.tasks(self.workers))


def emit_all(task: Task, worker: int, emit: Callable[[str], object], numbers: Iterable[int], pause_s: float) -> None:
    """Emit, and after each call that returned say so in the shared memory."""
    emitted = task.counts().slot(worker)
    begin = time.monotonic()
    for number in numbers:
        if pause_s:
            with suppress(ValueError):  # late already
                time.sleep(begin + number * pause_s - time.monotonic())
        emit(text(worker, number))
        emitted[0] = number + 1


def work(task: Task, worker: int, handed: Any, endless: bool) -> None:  # noqa: ANN401, FBT001 - a process's arguments
    """A process of its own; an endless one is going to be killed."""
    peer = PEERS[task.peer]
    emit = peer.emitter(handed, Path(task.directory))
    counts = task.counts()
    counts.set_ready(worker)
    while not counts.started:
        time.sleep(0.001)
    numbers = itertools.count() if endless else range(task.events)
    emit_all(task, worker, emit, numbers, task.scenario.pause_s)
    peer.finish()


class Pooled:
    """In a worker of the pool: what `prepare` made for `work_pooled`."""

    task: Task
    emit: Callable[[str], object]


def prepare(task: Task, handed: Any) -> None:  # noqa: ANN401
    """A worker of the pool begins."""
    Pooled.task = task
    Pooled.emit = staticmethod(PEERS[task.peer].emitter(handed, Path(task.directory)))


def work_pooled(worker: int) -> None:
    """One task of the pool, after which its process ends: by `os._exit` at once, or as the pool ends it."""
    task = Pooled.task
    emit_all(task, worker, Pooled.emit, range(task.events), task.scenario.pause_s)
    if task.scenario.ending == "exit":
        os._exit(0)
    PEERS[task.peer].finish()
