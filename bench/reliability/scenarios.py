"""The variants of the job."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    """How the workers emit, and how they end."""

    name: str
    title: str
    ending: str  # kill: half of the workers by SIGKILL; recycle: tasks of a pool; exit: such tasks, by os._exit
    divisor: int  # of the number of events that is asked for
    pause_s: float = 0.0  # between two events of a worker

    def tasks(self, workers: int) -> int:
        """Processes that emit: the pool has each worker replaced once."""
        return workers if self.ending == "kill" else 2 * workers

    def events(self, asked: int) -> int:
        """Events of a worker that is not killed."""
        return max(asked // self.divisor, 10)


SCENARIOS = (
    Scenario("paced-kill", "Half of the workers killed, 1,000 events a second each", "kill", 50, 0.001),
    Scenario("fast-kill", "Half of the workers killed, as fast as they can", "kill", 1),
    Scenario("exit", "Pool, one task a process, ended by os._exit", "exit", 20),
    Scenario("recycle", "Pool, one task a process, ended by the pool", "recycle", 20),
)
