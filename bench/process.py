"""Workers, seen from the runner: each is a peer in a process of its own, and counts what it was told to emit."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .peer import Cost, Counted
from .peers import PEERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

LIMIT_S = 300  # for one answer
WARM_UP = 200  # events of a worker, and of each process that it forks
ROUND_EVENTS, ROUND_BYTES = 200_000, 1 << 24  # at most: less than fits into any peer's buffer


@contextmanager
def served(names: Iterable[str]) -> Iterator[dict[str, str]]:
    """What peers need beside them; gives the environment for their workers."""
    environment: dict[str, str] = {}
    with ExitStack() as stack:
        for serving in {serving for name in names if (serving := getattr(PEERS[name], "serving", None))}:
            environment |= stack.enter_context(serving())
        yield environment


class Worker:
    """One peer that runs."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self.emitted = WARM_UP
        self._process = process
        self._ask()

    def emit(self, count: int) -> Cost:
        """So many events."""
        self.emitted += count
        return Cost(*self._ask(str(count)))

    def emit_together(self, count: int, processes: int) -> Cost:
        """So many events in each of so many processes."""
        self.emitted += (WARM_UP + count) * processes
        return Cost(*self._ask(f"{count} {processes}"))

    def wait(self) -> tuple[int, float]:
        """Until all have arrived, or no more comes: how many have, and the seconds until the last was there."""
        number, seconds = self._ask(f"arrived {self.emitted}")
        return int(number), seconds

    def end(self) -> Counted | None:
        """What became of all of them; None where nobody can count."""
        found = self._ask(f"end {self.emitted}")
        return Counted(*map(int, found)) if found else None

    def suited(self, seconds: float, size: int) -> int:
        """How many events take about that long; few enough for a round."""
        once = self.emit(WARM_UP).seconds / WARM_UP
        return int(max(min(seconds / once, ROUND_EVENTS, ROUND_BYTES / size), 100))

    def _ask(self, line: str = "") -> list[float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if line:
            self._process.stdin.write(f"{line}\n")
        if not select.select([self._process.stdout], [], [], LIMIT_S)[0]:
            self._process.kill()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{PEERS[self.name].NAME} ended at {line!r}, status {self._process.wait()}")
        return [] if answer == "-\n" else [float(word) for word in answer.split()]


@contextmanager
def worker(name: str, size: int, environment: Mapping[str, str]) -> Iterator[Worker]:
    """Its peer is set up and warm."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.worker", name, str(size)],
        cwd=Path(__file__).parents[1],
        env=os.environ | dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        try:
            yield Worker(name, process)
        except BaseException:
            process.terminate()
            raise


def accounts(emitted: int, counted: Counted | None) -> dict[str, int]:
    """Such that emitted = delivered + told + untold; without the last three where nobody can count."""
    if counted is None:
        return {"emitted": emitted}
    untold = emitted - counted.delivered - counted.told
    return {"emitted": emitted, "delivered": counted.delivered, "told": counted.told, "untold": untold}
