"""`shmtrace tail DIR`: a directory that is being recorded, or was."""

from __future__ import annotations

import fcntl
import os
import signal
from typing import TYPE_CHECKING

import pytest

import commands
from reader.build import small_trace

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)


def test_a_directory_that_is_complete_is_printed_to_its_end(tmp_path: Path) -> None:
    trace = small_trace().save_directory(tmp_path / "trace")
    for arguments in ((trace,), (trace, "--once"), (trace, "--json")):
        done = commands.run("tail", *arguments)
        assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 12)


def test_a_directory_needs_no_slash_to_be_one(tmp_path: Path) -> None:
    small_trace().save_directory(tmp_path / "trace")
    assert len(commands.run("tail", "trace", cwd=tmp_path).stdout.splitlines()) == 12


def test_a_directory_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    done = commands.run("tail", tmp_path / "nothing")
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_directory_that_is_being_recorded_is_followed_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    trace = small_trace()
    path = trace.save_directory(tmp_path / "trace")
    lock = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with commands.running("tail", path) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert len([process.stdout.readline() for _ in range(12)]) == 12
            with (path / "stream_0_0").open("ab") as file:
                file.write(trace.lane(0).at(9000).blob(b"late").packet())
            assert "late" in process.stdout.readline()
            process.send_signal(number)
            assert process.wait(20) == 0
            assert (process.stdout.read(), process.stderr.read()) == ("", "")
    finally:
        os.close(lock)
