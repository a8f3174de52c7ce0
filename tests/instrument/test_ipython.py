"""The magic, with a real shell of IPython."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

import commands
import shmtrace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CELL = """
with load(3):
    depth(1)
with load(4):
    channel.log("note", a=1)
channel.event(b"raw")
request(200)
request(404)
"""


@pytest.fixture
def shell(
    package: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Any]]:
    """Runs a cell, and gives what IPython gives; what a cell with a magic showed is `_` of the next one."""
    package("IPython")
    gc.collect()  # channels of earlier tests would be led into a cell's record, too
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    made = InteractiveShell(
        config=Config({"HistoryManager": {"enabled": False}, "InteractiveShell": {"colors": "nocolor"}})
    )
    made.run_cell(
        "import shmtrace\n"
        "channel = shmtrace.attach()\n"
        "load, depth = channel.span('load', shard='u8'), channel.counter('depth')\n"
        "request = channel.tracepoint('request', status='u16')\n"
        "%load_ext shmtrace\n"
    ).raise_error()
    yield made.run_cell
    made.run_cell("channel.close()")
    made.restore_sys_module_state()


def test_a_cell_is_recorded_whenever_its_channel_was_attached(
    shell: Callable[[str], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "a trace"
    shell(f"%%shmtrace -o '{directory}'\n{CELL}").raise_error()
    records = list(shmtrace.read(directory))
    assert [record.kind for record in records] == ["begin", "counter", "end", "begin", "log", "end", *3 * ["event"]]
    assert [record.fields["status"] for record in records if record.name == "request"] == [200, 404]
    assert capsys.readouterr().err.rstrip().endswith(f"-> {directory}")
    shell(CELL).raise_error()
    assert "SHMTRACE" not in os.environ


def test_it_gives_a_table_of_spans_and_counts(shell: Callable[[str], Any], capsys: pytest.CaptureFixture[str]) -> None:
    shell(f"%%shmtrace\n{CELL}").raise_error()
    summary = shell("_").result
    rows = {(row.name, row.kind): row for row in summary.rows}
    assert {key: row.count for key, row in rows.items()} == {
        ("load", "span"): 2, ("request", "event"): 2, ("depth", "counter"): 1, ("note", "log"): 1, ("blob", "event"): 1,
    }  # fmt: skip
    span = rows["load", "span"]
    assert 0 < span.longest_ns <= span.total_ns
    assert summary.rows[0] is span
    heading, first, *_, last = repr(summary).splitlines()
    assert heading.split()[:3] == ["name", "kind", "count"]
    assert first.split()[:3] == ["load", "span", "2"]
    assert last == "records: 9"
    captured = capsys.readouterr()
    assert captured.err == ""
    assert repr(summary) in captured.out


def test_the_table_of_a_notebook_shows_names_as_they_are(shell: Callable[[str], Any]) -> None:
    shell("%%shmtrace\nchannel.log('<b>&')").raise_error()
    assert '<td style="text-align:left">&lt;b&gt;&amp;</td>' in shell("_").result._repr_html_()


def test_a_line_is_recorded_and_its_table_can_be_kept(shell: Callable[[str], Any]) -> None:
    shell("kept = %shmtrace request(1); request(2)").raise_error()
    (row,) = shell("kept").result.rows
    assert (row.name, row.count) == ("request", 2)


@pytest.mark.parametrize("magic", ["", "%%shmtrace\n"])
def test_a_cell_that_was_edited_is_run_again(
    shell: Callable[[str], Any], capsys: pytest.CaptureFixture[str], magic: str
) -> None:
    """With the magic in it, or with that in another cell."""
    for kind in ("u8", "f64", "str"):
        value = "'1'" if kind == "str" else "1"
        cell = f"{magic}again = shmtrace.attach()\nstep = again.tracepoint('step', value='{kind}')\nstep({value})"
        shell(cell).raise_error()
        if not magic:
            shell(f"%%shmtrace\nassert step({value})").raise_error()
        assert [(row.name, row.count) for row in shell("_").result.rows] == [("step", 1)]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("use", "names"),
    [
        ("step(1)", ["step"]),
        ("count(1)", ["count"]),
        ("work.begin(1); work.end()", ["work"]),
        ("with work(1): pass", ["work"]),
        ("worked()", ["work"]),
        ("worked_in_steps()", ["work"]),
        ("for item in cells.iter([1], 'loop'): pass", ["loop wait", "loop work"]),
        ("cells.event(b'')", ["blob"]),
        ("cells.event(bytearray())", ["blob"]),
        ("with cells.reserve(1): pass", ["blob"]),
        ("cells.log('noted')", ["noted"]),
        ("log.warning('told')", ["test"]),
        ("with cells.context(a=1): step(1)", ["step"]),
        ("kernel()", ["step"]),
        ("with cells.context(a=1): kernel()", ["step"]),
        ("cells.tracepoint('new')()", ["new"]),
    ],
)
def test_what_attached_in_a_cell_is_recorded_in_the_next_one(
    shell: Callable[[str], Any], use: str, names: list[str]
) -> None:
    shell(
        """%%shmtrace
import logging, numba
from shmtrace.instrument.logging import Handler
cells = shmtrace.attach()
step, count = cells.tracepoint('step', value='u8'), cells.counter('count')
work = cells.span('work', value='u8')
worked = work(1)(lambda: None)
@work(1)
def in_steps():
    yield 1
worked_in_steps = lambda: list(in_steps())
log = logging.Logger('test')
log.addHandler(Handler(channel=cells))
@numba.njit(nogil=True)
def kernel():
    return step(1)
"""
    ).raise_error()
    for _ in range(2):
        shell(f"%%shmtrace\n{use}").raise_error()
        summary = shell("_").result
        assert sorted(row.name for row in summary.rows) == names


def test_threads_of_a_kernel_record_from_the_first_on_in_each_cell(shell: Callable[[str], Any]) -> None:
    shell(
        """%%shmtrace
import numba, threading
cells = shmtrace.attach()
step = cells.tracepoint('step', value='u8')
@numba.njit(nogil=True)
def kernel():
    for _ in range(10):
        step(1)
kernel()
"""
    ).raise_error()
    shell("%%shmtrace\nthread = threading.Thread(target=kernel)\nthread.start()\nthread.join()").raise_error()
    assert [(row.name, row.count) for row in shell("_").result.rows] == [("step", 10)]


def test_processes_that_a_cell_starts_are_recorded(shell: Callable[[str], Any]) -> None:
    code = "import shmtrace; shmtrace.attach().log('child')"
    shell(f"%%shmtrace\nimport subprocess, sys\nsubprocess.run([sys.executable, '-c', {code!r}])").raise_error()
    assert [row.name for row in shell("_").result.rows] == ["child"]


def test_what_was_closed_stays_closed(shell: Callable[[str], Any]) -> None:
    shell("other = shmtrace.attach()\nstale = other.tracepoint('request', other='f64')\nother.close()").raise_error()
    shell("%%shmtrace\nstale(0.5)\nrequest(1)\nother.event(b'')").raise_error()
    assert [(row.name, row.count) for row in shell("_").result.rows] == [("request", 1)]


def test_what_a_cell_closes_stays_closed(
    shell: Callable[[str], Any], channel_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shmtrace.create_channel(channel_name):
        monkeypatch.setenv("SHMTRACE", channel_name)
        shell("other = shmtrace.attach()").raise_error()
        assert shell("other.segment is not None").result
        shell("%%shmtrace\nother.event(b'')\nother.close()").raise_error()
        assert shell("other.segment is None").result
    shmtrace.remove_channel(channel_name)


@pytest.mark.heavy  # it compiles
@pytest.mark.timeout(300)
def test_a_span_of_a_time_without_object_code_is_recorded(tmp_path: Path) -> None:
    program = f"""
import shmtrace
from shmtrace.instrument.redirect import redirected
load = shmtrace.attach().span("load", shard="u8")
with shmtrace.record({str(tmp_path / "trace")!r}) as made, redirected(made, None), load(1):
    pass
"""
    done = commands.run("-c", program, command=[sys.executable], SHMTRACE_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert [record.kind for record in shmtrace.read(tmp_path / "trace")] == ["begin", "end"]


def test_a_cell_that_fails_has_failed_and_shows_its_table(
    shell: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    result = shell("%%shmtrace\nwith load(1):\n    {}['missing']")
    assert "the traced code ended with KeyError" in str(result.error_in_exec)
    shown = capsys.readouterr().out
    assert shown.count("KeyError: 'missing'") == 1
    (line,) = (line for line in shown.splitlines() if line.startswith("load "))
    assert line.split()[-1] == "1"  # failed


def test_wrong_usage_is_told(shell: Callable[[str], Any], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = shell(f"%%shmtrace -o {tmp_path}\nrequest(1)")
    assert "is not empty" in str(result.error_in_exec)
    result = shell("%%shmtrace request(1)\nrequest(2)")
    assert str(result.error_in_exec) == "%%shmtrace takes -o DIR, and not 'request(1)'"
