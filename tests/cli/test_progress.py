"""Long conversions show how far they are, on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
from typing import TYPE_CHECKING

import pytest

import commands
import shmtrace
from reader.build import small_trace

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(100)
COMMANDS = {
    "Perfetto": ("convert", "TRACE", "-o", "out.pftrace"),
    "Parquet": ("convert", "TRACE", "-o", "out.parquet"),
    "text": ("convert", "TRACE", "-o", "out.txt"),
    "JSON lines": ("convert", "TRACE", "-o", "out.jsonl"),
    "chosen JSON lines": ("convert", "TRACE", "-o", "-", "--name", "blob"),
    "text of two": ("convert", "TRACE", "TRACE", "-o", "out.txt"),
    "report": ("report", "TRACE", "-o", "out.html"),
    "query": ("query", "TRACE", "SELECT count(*) FROM events"),
}


def on_terminal(directory: Path, arguments: tuple[str, ...], *, stdout: bool = False) -> str:
    """What a command says on stderr, which is a terminal; with `stdout` that is the same one."""
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [*commands.SHMTRACE, *arguments],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=theirs if stdout else subprocess.DEVNULL,
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
    pytest.importorskip({"Perfetto": "perfetto", "Parquet": "pyarrow", "query": "duckdb"}.get(what, "numpy"))
    getattr(small_trace(), save)(tmp_path / "trace")
    arguments = tuple("trace" if argument == "TRACE" else argument for argument in COMMANDS[what])
    assert "100%" in on_terminal(tmp_path, arguments)
    done = commands.run(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("chosen", [(), ("--name", "blob")])
def test_lines_that_go_to_the_terminal_have_no_bar_among_them(tmp_path: Path, chosen: tuple[str, ...]) -> None:
    small_trace().save(tmp_path / "trace")
    said = on_terminal(tmp_path, ("convert", "trace", "-o", "-", *chosen), stdout=True)
    assert len(said.splitlines()) == 12
    assert all(line.startswith("{") for line in said.splitlines())


def test_how_far_records_are_is_told_in_bytes_of_packets(tmp_path: Path) -> None:
    made = small_trace()
    for path in (made.save(tmp_path / "trace"), made.save_directory(tmp_path / "directory")):
        records = shmtrace.read(path)
        assert records.bytes_read == 0
        next(records)
        first = records.bytes_read
        assert len(list(records)) == 11
        assert first < records.bytes_read == sum(len(part) for part in made.parts[1:])
