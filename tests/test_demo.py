"""The main job: a pool of processes that walks the standard library, recorded and read."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import commands
import leftovers
import shmtrace

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent


@pytest.fixture
def walk(tmp_path: Path, channel_name: str) -> Path:
    """The example, under a name that makes its channel one of this test run."""
    return Path(shutil.copy(ROOT / "docs/examples/walk_stdlib.py", tmp_path / f"{channel_name}.py"))


def events(directory: Path) -> list[tuple[int | None, dict[str, object]]]:
    found = []
    for record in shmtrace.read(directory):
        blob = record.fields.get("blob")
        if isinstance(blob, bytes):
            found.append((record.pid, json.loads(blob)))
    return found


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_every_event_of_every_worker_is_recorded(tmp_path: Path, walk: Path, method: str) -> None:
    arguments = ("--start-method", method, "--workers", "3", "--files", "60")
    result = commands.run("run", "-o", tmp_path / "trace", walk, *arguments)
    assert result.returncode == 0, result.stderr
    found = re.fullmatch(r"60 files, 3 workers, (\d+) events emitted, (\d+) recorded\n", result.stdout)
    assert found is not None, result.stdout
    emitted, recorded = map(int, found.groups())
    assert emitted == recorded == len(events(tmp_path / "trace"))
    assert sum(event["what"] in {"file", "unparsable"} for _, event in events(tmp_path / "trace")) == 60
    assert len({pid for pid, _ in events(tmp_path / "trace")} - {None}) in {1, 2, 3}
    assert f"shmtrace: {emitted:,} events, " in result.stderr


def test_without_shmtrace_the_program_does_the_same(walk: Path) -> None:
    import sys

    result = commands.run(walk, "--workers", "2", "--files", "10", command=[sys.executable])
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("10 files, 2 workers, ")
    assert result.stdout.endswith(" 0 recorded\n")


def test_the_report_names_files_functions_and_processes(tmp_path: Path, walk: Path) -> None:
    import sys

    assert commands.run("run", "-o", tmp_path / "trace", walk, "--files", "40").returncode == 0
    result = commands.run(ROOT / "docs/examples/slowest.py", tmp_path / "trace", command=[sys.executable])
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("/") >= 6
    for title in ("slowest to parse:", "longest functions:", "events by process:"):
        assert title in result.stdout


@pytest.mark.peers
def test_babeltrace2_counts_the_same_events_of_each_process(
    tmp_path: Path, walk: Path, peer: Callable[[str], str]
) -> None:
    assert commands.run("run", "-o", tmp_path / "trace", walk, "--files", "60").returncode == 0
    result = commands.run(tmp_path / "trace", command=[peer("babeltrace2")])
    assert (result.returncode, result.stderr) == (0, "")
    assert len(re.findall(r"^\[.* blob: ", result.stdout, re.MULTILINE)) == len(events(tmp_path / "trace"))


def test_ctrl_c_in_the_middle_leaves_a_valid_trace_and_nothing_else(tmp_path: Path, walk: Path) -> None:
    with commands.running("run", "-o", tmp_path / "trace", walk, "--workers", "2") as process:
        commands.until(lambda: any(path.stat().st_size for path in (tmp_path / "trace").glob("stream_*")))
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=commands.LIMIT_S)
    assert process.returncode not in {0, None}
    assert re.match(r"shmtrace: [\d,]+ events?, ", stderr.splitlines()[-1]), stderr
    commands.until(lambda: not leftovers.started())
    assert events(tmp_path / "trace")


@pytest.mark.heavy
def test_the_whole_demo_works_twice_in_a_row() -> None:
    for _ in range(2):
        result = commands.run(command=[str(ROOT / "tools/demo")])
        assert result.returncode == 0, result.stderr
        assert re.search(r"shmtrace: [\d,]+ events, .* 0 missed, 0 lost -> ", result.stderr)
        assert "slowest to parse:" in result.stdout
