"""The torture, briefly: nothing breaks.  And it would notice if something did.

`tools/torture` runs it for as long as asked.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import commands
import emit
import shmtrace
from recording import recorded
from torture import Broken
from torture.books import Books
from torture.consumers import Trace
from torture.ledger import ACCEPTED, REFUSED, Entry, Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

TORTURE = [sys.executable, "-m", "torture"]
HERE = str(Path(__file__).parent)
EVENTS = 5


def torture(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return commands.run(*options, "--seed", "2005", command=TORTURE, PYTHONPATH=HERE, TMPDIR=str(tmp_path))


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("producers", "drop"),
        ("producers", "overwrite"),
        ("collectors", "drop"),
        ("readers", "block"),
        ("everything", "drop"),
        ("stops", "block"),
        ("forks", "drop"),
    ],
)
def test_a_short_torture_breaks_nothing(kind: str, mode: str, tmp_path: Path) -> None:
    result = torture(tmp_path, "--kind", kind, "--mode", mode, "--seconds", "1")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1].startswith("total")
    assert not list(tmp_path.iterdir())


@pytest.mark.heavy
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["drop", "block", "overwrite"])
def test_a_longer_torture_of_every_kind_breaks_nothing(mode: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [*TORTURE, "--mode", mode, "--seconds", "20"],
        env={**os.environ, "PYTHONPATH": HERE, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert (result.returncode, result.stderr) == (0, ""), result.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_torture_leaves_nothing(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes would be found at the end of the test run."""
    monkeypatch.setenv("PYTHONPATH", HERE)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with commands.running("--kind", "everything", "--seconds", "50", command=TORTURE) as process:
        commands.until(lambda: list(tmp_path.glob("*/trace-*")))
        process.send_signal(number)
        process.communicate(timeout=commands.LIMIT_S)
        assert process.returncode == 128 + number
    assert not [path for path in Path("/dev/shm").iterdir() if f".t{process.pid}-" in path.name]
    assert not list(tmp_path.iterdir())


@pytest.fixture
def trace(channel_name: str, tmp_path: Path) -> Iterator[Trace]:
    """What process 0, this one, wrote."""
    with shmtrace.create_channel(channel_name) as channel, recorded(channel, tmp_path / "trace"):
        assert all(channel.event(emit.payload(0, number, 100)) for number in range(EVENTS))
    yield Trace(tmp_path / "trace", is_whole=True)
    shmtrace.remove_channel(channel_name)


def books(states: bytes, *, ended: bool = True, pid: int | None = None) -> Books:
    return Books({0: Entry(0, os.getpid() if pid is None else pid, 0, ended, states)})


def test_the_judge_is_content_when_all_is_there(trace: Trace) -> None:
    judge = books(bytes([ACCEPTED] * EVENTS))
    judge.read(trace)
    assert (judge.delivered, judge.missing(), judge.extra()) == (EVENTS, {}, 0)


def test_the_judge_names_events_that_are_missing(trace: Trace) -> None:
    judge = books(bytes([ACCEPTED] * EVENTS + [REFUSED, ACCEPTED]))
    judge.read(trace)
    assert judge.missing() == {0: [EVENTS + 1]}


def test_the_judge_allows_one_open_event_of_a_process_that_was_killed(trace: Trace) -> None:
    judge = books(bytes([ACCEPTED] * (EVENTS - 1)), ended=False)
    judge.read(trace)
    assert (judge.missing(), judge.extra()) == ({}, 1)


@pytest.mark.parametrize(
    ("judge", "complaint"),
    [
        (books(bytes([ACCEPTED] * (EVENTS - 1))), "delivered, but it was never written"),
        (books(bytes([ACCEPTED] * (EVENTS - 2)), ended=False), "delivered, but it was never written"),
        (books(bytes([ACCEPTED, REFUSED, ACCEPTED, ACCEPTED, ACCEPTED])), "event 1 .* delivered, but it was refused"),
        (books(bytes([ACCEPTED] * EVENTS), pid=1), "written by pid 1, read as"),
        (Books({}), "there was no such process"),
    ],
)
def test_the_judge_names_what_should_not_be_there(judge: Books, complaint: str, trace: Trace) -> None:
    with pytest.raises(Broken, match=complaint):
        judge.read(trace)


def test_the_judge_names_what_is_delivered_twice(trace: Trace) -> None:
    judge = books(bytes([ACCEPTED] * EVENTS))
    judge.read(trace)
    with pytest.raises(Broken, match=r"event 0 .* delivered twice"):
        judge.read(trace)


def test_the_ledger_keeps_what_a_killed_process_wrote() -> None:
    ledger = Ledger()
    slots = ledger.take(3)
    assert slots is not None
    pid = os.fork()
    if pid == 0:
        at = ledger.begin(slots[1], 7)
        ledger.memory[at], ledger.memory[at + 1] = ACCEPTED, REFUSED
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert list(ledger.entries()) == [Entry(slots[1], pid, 7, ended=False, states=bytes([ACCEPTED, REFUSED]))]
    ledger.close()
