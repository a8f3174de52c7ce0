"""`shmtrace query`, and `convert` to Parquet."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

import commands
from hostile.streams import rich_trace
from reader.build import small_trace
from shmtrace.reader import read

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("pyarrow")
duckdb = pytest.importorskip("duckdb")
pytestmark = pytest.mark.timeout(100)
COUNTS = "SELECT name, kind, count(*) AS n FROM events GROUP BY ALL ORDER BY ALL"


def test_a_query_prints_a_table_whose_columns_are_aligned(tmp_path: Path) -> None:
    done = commands.run("query", small_trace().save(tmp_path / "trace"), COUNTS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "name  kind    n\nblob  event  12\n"


@pytest.mark.parametrize("save", ["save", "save_directory"])
def test_scripts_get_json_lines_or_csv(tmp_path: Path, save: str) -> None:
    trace = getattr(rich_trace(), save)(tmp_path / "trace")
    as_json = commands.run("query", trace, COUNTS, "--json").stdout
    as_csv = commands.run("query", trace, COUNTS, "--csv").stdout
    rows = [json.loads(line) for line in as_json.splitlines()]
    assert [{**row, "n": str(row["n"])} for row in rows] == list(csv.DictReader(io.StringIO(as_csv)))
    assert sum(row["n"] for row in rows) == len(list(read(trace, warn=lambda _: None)))


def test_a_trace_may_come_from_stdin() -> None:
    done = subprocess.run(
        [*commands.SHMTRACE, "query", "-", COUNTS, "--csv"], input=small_trace().stream, capture_output=True, timeout=90
    )
    assert (done.returncode, done.stdout) == (0, b"name,kind,n\nblob,event,12\n")


def test_the_tables_are_shown(tmp_path: Path) -> None:
    done = commands.run("query", rich_trace().save(tmp_path / "trace"), "show tables", "--csv")
    assert done.stdout.split() == [
        "name",
        "blob",
        "counters",
        "events",
        "losses",
        "numbers",
        "spans",
        "texts",
        "writers",
    ]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT * FRM events", 'syntax error at or near "events"'),
        ("SELECT nope FROM events", 'column "nope" not found'),
        ("SELECT * FROM nope", "The tables are blob, counters, events, losses, numbers, spans, texts, writers"),
    ],
)
def test_a_mistake_in_sql_is_one_line(tmp_path: Path, sql: str, said: str) -> None:
    done = commands.run("query", rich_trace().save(tmp_path / "trace"), sql)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr


def test_what_is_no_trace_is_one_line(tmp_path: Path) -> None:
    done = commands.run("query", tmp_path / "none", COUNTS)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert f"{tmp_path}/none cannot be read" in done.stderr


def test_without_its_packages_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "pyarrow.py").write_text("raise ModuleNotFoundError('No module named pyarrow', name='pyarrow')")
    trace = small_trace().save(tmp_path / "trace")
    for arguments in (("query", trace, COUNTS), ("convert", trace, "-o", tmp_path / "x.parquet")):
        done = commands.run(*arguments, PYTHONPATH=f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert "pip install 'shmtrace[arrow]'" in done.stderr


def test_a_trace_becomes_parquet(tmp_path: Path) -> None:
    done = commands.run("convert", small_trace().save(tmp_path / "trace"), "-o", tmp_path / "out.parquet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    rows = duckdb.sql(f"SELECT fields FROM '{tmp_path}/out.parquet'").fetchall()
    records = read(tmp_path / "trace")
    assert [json.loads(fields)["blob"] for (fields,) in rows] == [bytes.decode(r.fields["blob"]) for r in records]  # type: ignore[arg-type]


def test_a_trace_becomes_a_directory_of_tables_that_can_be_asked(tmp_path: Path) -> None:
    trace = rich_trace().save(tmp_path / "trace")
    done = commands.run("convert", trace, "-o", f"{tmp_path}/out/")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    asked = [commands.run("query", place, COUNTS, "--csv").stdout for place in (trace, tmp_path / "out")]
    assert asked[0] == asked[1] != ""
    again = commands.run("convert", trace, "-o", f"{tmp_path}/out/")
    assert (again.returncode, len(again.stderr.splitlines())) == (1, 1)
    assert "not empty" in again.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("query", COUNTS),
        ("convert", "-o", "out.jsonl"),
        ("convert", "-o", "out.parquet"),
        ("convert", "-o", "out.pftrace"),
        ("report", "-o", "out.html"),
    ],
)
def test_damage_is_named_and_a_failure_only_where_asked_for(tmp_path: Path, command: tuple[str, ...]) -> None:
    trace = small_trace().garbage(b"garbage").save(tmp_path / "trace")
    arguments: list[str | Path] = [command[0], trace, *command[1:]]
    usual, strict = commands.run(*arguments, cwd=tmp_path), commands.run(*arguments, "--strict", cwd=tmp_path)
    assert (usual.returncode, len(usual.stderr.splitlines())) == (0, 1)
    assert strict.returncode == 1
    assert strict.stderr == usual.stderr + "shmtrace: the trace is damaged, as said above; what could be read was\n"
    assert strict.stdout == usual.stdout


@pytest.mark.parametrize("command", [("query", "-", COUNTS), ("convert", "-", "-o", "out.pftrace")])
def test_a_command_that_is_ended_takes_its_temporary_files_along(tmp_path: Path, command: tuple[str, ...]) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    stream = small_trace().save(tmp_path / "trace").read_bytes()
    with subprocess.Popen(
        [*commands.SHMTRACE, *command], cwd=tmp_path, env={**os.environ, "TMPDIR": str(scratch)},
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(stream)
        process.stdin.flush()
        commands.until(lambda: list(scratch.iterdir()))  # more of the stream may come: it waits
        process.terminate()
        _, said = process.communicate(timeout=commands.LIMIT_S)
    assert process.returncode not in {0, -signal.SIGTERM}
    assert len(said.splitlines()) <= 1
    assert list(scratch.iterdir()) == []
