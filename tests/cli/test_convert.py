"""`shmtrace convert`: directories, saved streams and pipes, to JSON lines."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

import commands
from reader.build import small_trace

if TYPE_CHECKING:
    from pathlib import Path

BLOBS = ["0.0", "0.1", "0.2", "1.0", "1.1", "1.2"]
pytestmark = pytest.mark.timeout(60)


def blobs(lines: str) -> list[str]:
    return sorted(blob for line in lines.splitlines() if "." in (blob := json.loads(line)["fields"]["blob"]))


@pytest.mark.parametrize("save", ["save", "save_directory"])
def test_a_trace_becomes_json_lines(tmp_path: Path, save: str) -> None:
    trace = getattr(small_trace(), save)(tmp_path / "trace")
    done = commands.run("convert", trace, "-o", tmp_path / "out.jsonl")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert blobs((tmp_path / "out.jsonl").read_text()) == BLOBS


def test_a_dash_is_stdin_and_stdout() -> None:
    done = subprocess.run(
        [*commands.SHMTRACE, "convert", "-", "-o", "-"], input=small_trace().stream, capture_output=True, timeout=50
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert blobs(done.stdout.decode()) == BLOBS


@pytest.mark.parametrize("name", ["out", "out.text", "out.json"])
def test_an_unknown_suffix_is_refused_with_those_that_work(tmp_path: Path, name: str) -> None:
    done = commands.run("convert", small_trace().save(tmp_path / "trace"), "-o", tmp_path / name)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert ".jsonl" in done.stderr


def test_what_is_no_trace_is_one_line_and_leaves_the_output_alone(tmp_path: Path) -> None:
    (tmp_path / "trace").write_bytes(b"nothing")
    (tmp_path / "out.jsonl").write_text("older")
    done = commands.run("convert", tmp_path / "trace", "-o", tmp_path / "out.jsonl")
    assert done.returncode == 1
    assert done.stderr.startswith(f"shmtrace: {tmp_path}/trace is no trace")
    assert len(done.stderr.splitlines()) == 1
    assert (tmp_path / "out.jsonl").read_text() == "older"


def test_garbage_is_named_and_the_rest_converted(tmp_path: Path) -> None:
    trace = small_trace().garbage(b"garbage").save(tmp_path / "trace")
    done = commands.run("convert", trace, "-o", "-")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 10
    assert done.stderr.startswith(f"shmtrace: {trace}: byte ")


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    done = commands.run("convert", small_trace().save(tmp_path / "trace"), "-o", tmp_path / "no" / "out.jsonl")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert str(tmp_path / "no") in done.stderr


def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path: Path) -> None:
    trace = small_trace()
    for number in range(5000):
        trace.lane().at(5000 + number).blob(b"x" * 100).packet()
    with commands.running("convert", trace.save(tmp_path / "trace"), "-o", "-") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) == 0
        assert process.stderr.read() == ""
