"""Long conversions show how far they are, on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
from typing import TYPE_CHECKING

import pytest

import commands
from reader.build import small_trace

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(100)
COMMANDS = {
    "Perfetto": ("convert", "TRACE", "-o", "out.pftrace"),
    "Parquet": ("convert", "TRACE", "-o", "out.parquet"),
    "report": ("report", "TRACE", "-o", "out.html"),
    "query": ("query", "TRACE", "SELECT count(*) FROM events"),
}


def on_terminal(directory: Path, arguments: tuple[str, ...]) -> str:
    """What a command says on stderr, which is a terminal."""
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [*commands.SHMTRACE, *arguments],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            timeout=commands.LIMIT_S,
        )
        assert done.returncode == 0
        os.close(theirs)
        theirs = -1
        said = b""
        try:
            while data := os.read(ours, 1 << 16):
                said += data
        except OSError:  # the terminal has no other end any more
            pass
        return said.decode()
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)


@pytest.mark.parametrize("what", COMMANDS)
@pytest.mark.parametrize("save", ["save", "save_directory"])
def test_a_conversion_shows_how_far_it_is_on_a_terminal_and_only_there(tmp_path: Path, what: str, save: str) -> None:
    pytest.importorskip({"Perfetto": "perfetto", "report": "numpy"}.get(what, "duckdb"))
    getattr(small_trace(), save)(tmp_path / "trace")
    arguments = tuple("trace" if argument == "TRACE" else argument for argument in COMMANDS[what])
    assert "100%" in on_terminal(tmp_path, arguments)
    done = commands.run(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
