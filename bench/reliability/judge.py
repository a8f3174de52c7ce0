"""Runs a job, ends it if it hangs, and counts what is left of its events."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .events import parse
from .job import victims
from .peers import PEERS
from .worker import Task

if TYPE_CHECKING:
    from collections.abc import Iterable

_SAID = "said"
_POLL_S = 0.05
_TERM_LIMIT_S = 5


@dataclass
class Result:
    """Of one job."""

    peer: str
    scenario: str
    emitted: int  # calls that returned
    recovered: int  # of these
    emitted_by_killed: int
    recovered_of_killed: int
    beyond: int  # events that were recovered although their call had not returned
    twice: int
    undecodable: int
    told: int  # lost events that the peer tells by number
    warned: bool  # the peer said on stderr that it drops events
    second_reader: int | None  # events that another program counts
    hung: bool
    seconds: float

    @property
    def share(self) -> float:
        return self.recovered / self.emitted

    @property
    def share_of_killed(self) -> float:
        return self.recovered_of_killed / self.emitted_by_killed


def run(peer: str, scenario: str, *, workers: int, events: int, seed: str, patience_s: float) -> Result:
    """Do the job once, in a directory that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="reliability-") as name:
        directory = Path(name)
        task = Task(peer, scenario, name, workers, events, seed)
        begin = time.monotonic()
        hung = not _watch(task, directory, patience_s)
        seconds = time.monotonic() - begin
        return _count(task, directory, hung=hung, seconds=seconds)


def _watch(task: Task, directory: Path, patience_s: float) -> bool:
    """Whether the job came to its end; if for so long neither a count nor a file has changed, it does not."""
    command = PEERS[task.peer].command(directory, "bench.reliability.job", [json.dumps(asdict(task))])
    scratch = directory / "scratch"  # workers that are killed do not remove their temporary files
    scratch.mkdir()
    with (
        (directory / _SAID).open("wb") as said,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "TMPDIR": str(scratch)},
        ) as job,
    ):  # fmt: skip
        ended = False
        try:
            ended = _progresses(task, directory, job, patience_s)
        finally:
            if not ended or job.returncode:
                _end(job)
    if ended and job.returncode:
        raise RuntimeError(f"{task.peer}, {task.scenario_name}: {(directory / _SAID).read_text(errors='replace')}")
    return ended


def _progresses(task: Task, directory: Path, job: subprocess.Popen[bytes], patience_s: float) -> bool:
    """Until a job ends, which is True, or stands still for so long."""
    counts = task.counts()
    seen, since = None, time.monotonic()
    while job.poll() is None:
        time.sleep(_POLL_S)
        now = counts.ready, counts.emitted, _sizes(directory)
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > patience_s:
            return False
    return True


def _sizes(directory: Path) -> list[tuple[str, int]]:
    sizes = []
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):
            sizes.append((path.name, path.stat().st_size))
    return sizes


def _end(job: subprocess.Popen[bytes]) -> None:
    """End all processes of a job: at first politely, which lets multiprocessing's tracker remove its semaphores."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(job.pid, signal_number)
        limit = time.monotonic() + _TERM_LIMIT_S
        while _has_members(job) and time.monotonic() < limit:
            time.sleep(_POLL_S)


def _has_members(job: subprocess.Popen[bytes]) -> bool:
    job.poll()
    try:
        os.killpg(job.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _count(task: Task, directory: Path, *, hung: bool, seconds: float) -> Result:
    peer = PEERS[task.peer]
    emitted = task.counts().emitted
    killed = victims(task).keys() if task.scenario.ending == "kill" else range(len(emitted))
    found = peer.recover(directory)
    tally = Tally.of(found.texts, emitted)
    said = (directory / _SAID).read_text(errors="replace")
    return Result(
        peer=task.peer,
        scenario=task.scenario_name,
        emitted=sum(emitted),
        recovered=sum(tally.recovered),
        emitted_by_killed=sum(emitted[worker] for worker in killed),
        recovered_of_killed=sum(tally.recovered[worker] for worker in killed),
        beyond=tally.beyond,
        twice=tally.twice,
        undecodable=tally.undecodable + len(found.undecodable),
        told=found.told,
        warned=peer.WARNING is not None and re.search(peer.WARNING, said) is not None,
        second_reader=found.second_reader,
        hung=hung,
        seconds=seconds,
    )


@dataclass
class Tally:
    """What was recovered, against what was emitted."""

    recovered: list[int]  # by worker
    beyond: int = 0
    twice: int = 0
    undecodable: int = 0

    @classmethod
    def of(cls, texts: Iterable[str], emitted: list[int]) -> Tally:
        """Count."""
        tally = cls([0] * len(emitted))
        seen = [bytearray(count) for count in emitted]
        beyond = set[tuple[int, int]]()
        for text in texts:
            event = parse(text)
            if event is None or event[0] >= len(emitted):
                tally.undecodable += 1
                continue
            worker, number = event
            if number >= emitted[worker]:
                tally.twice += event in beyond
                beyond.add(event)
            elif seen[worker][number]:
                tally.twice += 1
            else:
                seen[worker][number] = 1
                tally.recovered[worker] += 1
        tally.beyond = len(beyond)
        return tally
