"""The plugin of pytest, with the real pytest in processes of its own."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import commands
import shmtrace
from instrument.recorded import see

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from instrument.recorded import Seen

MODULE = "shmtrace.instrument.pytest"
ROOT = Path(__file__).parents[2]
IS_INSTALLED = any(found.value == MODULE for found in entry_points(group="pytest11"))

APPLICATION = """
import shmtrace

channel = shmtrace.attach()
request = channel.tracepoint("request", status="u16")
load = channel.span("load", shard="u8")
depth = channel.counter("depth")

def serve(status):
    with load(3):
        request(status)
    depth(1)
    channel.log("served", status=status)
    channel.event(b"raw")
"""


class Project:
    """A project with tests, and what pytest says to them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "application.py").write_text(APPLICATION)
        (directory / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\naddopts = -p no:cacheprovider\n")

    def run(self, tests: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        (self.directory / "test_it.py").write_text(tests)
        plugin = () if IS_INSTALLED else ("-p", MODULE)
        path = os.pathsep.join([str(self.directory), str(ROOT), os.environ.get("PYTHONPATH", "")])
        return commands.run(
            "-m", "pytest", *plugin, *arguments, cwd=self.directory, command=[sys.executable],
            PYTHONPATH=path, **environment,
        )  # fmt: skip

    def passes(self, tests: str, count: int, *arguments: str) -> str:
        result = self.run(tests, *arguments)
        assert result.returncode == 0, result.stdout + result.stderr
        assert f"{count} passed" in result.stdout
        return result.stdout


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # if this is one, what is run here is none
    return Project(tmp_path)


def test_it_is_an_entry_point_of_pytest() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"shmtrace": MODULE}


def test_the_example_of_the_page_passes(project: Project) -> None:
    example = re.search(r"# file: test_shop\.py\n(.*?)```", (ROOT / "docs/bridges.md").read_text(), re.DOTALL)
    assert example is not None
    project.passes(example[1], 1)


def test_the_events_of_a_test_are_there_whenever_their_channel_was_attached(project: Project) -> None:
    project.passes(
        """
import subprocess, sys
import shmtrace
from application import serve

def test_one(shmtrace_events):
    serve(200)
    serve(404)
    assert [r.fields["status"] for r in shmtrace_events.named("request")] == [200, 404]
    kinds = [r.kind for r in shmtrace_events.all()]
    assert kinds == 2 * ["begin", "event", "end", "counter", "log", "event"]
    begin, request = shmtrace_events.all()[:2]
    assert (begin.name, begin.fields, request.span) == ("load", {"shard": 3}, begin.span)

def test_two(shmtrace_events):
    assert shmtrace_events.all() == []
    shmtrace.attach().event(b"attached now")
    shmtrace_events.channel.log("by hand")
    assert [r.name for r in shmtrace_events.all()] == ["blob", "by hand"]

def test_without():
    serve(500)

def test_of_other_processes(shmtrace_events):
    worker = subprocess.Popen([sys.executable, "-c", "import application; application.serve(201)"])
    (record,) = shmtrace_events.wait_for("served", timeout_s=60)
    assert record.fields["status"] == 201
    assert record.pid == worker.pid
    worker.wait()

def test_three(shmtrace_events):
    serve(200)
    assert len(shmtrace_events.named("request")) == 1
""",
        5,
    )


def test_a_module_that_attaches_in_a_test_is_there_in_the_next_one(project: Project) -> None:
    tests = """
def test_one(shmtrace_events):
    from application import serve
    serve(1)
    assert len(shmtrace_events.named("request")) == 1
def test_between():
    from application import channel, serve
    serve(2)
    assert not channel.enabled
def test_two(shmtrace_events):
    from application import serve
    serve(3)
    assert [r.fields["status"] for r in shmtrace_events.named("request")] == [3]
"""
    project.passes(tests, 3)


def test_tests_may_define_events_of_one_name_each_its_own_way(project: Project) -> None:
    tests = """
import pytest, shmtrace
kept = []
@pytest.mark.parametrize("kind", ["u8", "f64", "u8"])
def test_one(shmtrace_events, kind):
    channel = shmtrace.attach()
    kept.append(channel)
    channel.tracepoint("mine", value=kind)(1)
    assert [r.fields for r in shmtrace_events.named("mine")] == [{"value": 1}]
def test_an_older_one(shmtrace_events):
    kept[0].tracepoint("mine", value="u8")(2)
    assert [r.fields for r in shmtrace_events.named("mine")] == [{"value": 2}]
"""
    project.passes(tests, 4)


def test_what_does_not_come_and_what_does_not_fit_is_told(project: Project) -> None:
    result = project.run("""
def test_waits(shmtrace_events):
    shmtrace_events.channel.event(b"x")
    shmtrace_events.wait_for("request", timeout_s=0.1)
def test_too_many(shmtrace_events):
    for _ in range(1500):
        shmtrace_events.channel.event(bytes(60_000))
    shmtrace_events.all()
def test_strict(shmtrace_events):
    shmtrace_events.channel.tracepoint("t", n="u8")(300)
""")
    assert "0 records 'request' within 0.1 s, not 1; there are: blob" in result.stdout
    assert "recorded more than its channel holds" in result.stdout
    assert "OverflowError: t: n=300" in result.stdout
    assert "3 failed" in result.stdout


TESTS = """
import subprocess, sys
import pytest
from application import request, serve

@pytest.fixture
def broken():
    raise KeyError("setup")

def test_passes():
    serve(200)
    subprocess.run([sys.executable, "-c", "import application; application.request(201)"], check=True)
def test_fails():
    request(500)
    assert 1 == 2
def test_skips():
    pytest.skip("not now")
@pytest.mark.skip
def test_is_skipped(): ...
@pytest.mark.xfail
def test_xfails():
    raise ValueError
@pytest.mark.xfail
def test_xpasses(): ...
def test_breaks(broken): ...
def test_with_events(shmtrace_events):
    request(204)
    assert len(shmtrace_events.named("request")) == 1
"""
OUTCOMES = {
    ("passes", "setup"): "passed", ("passes", "call"): "passed", ("passes", "teardown"): "passed",
    ("fails", "setup"): "passed", ("fails", "call"): "failed", ("fails", "teardown"): "passed",
    ("skips", "setup"): "passed", ("skips", "call"): "skipped", ("skips", "teardown"): "passed",
    ("is_skipped", "setup"): "skipped", ("is_skipped", "teardown"): "passed",
    ("xfails", "setup"): "passed", ("xfails", "call"): "xfailed", ("xfails", "teardown"): "passed",
    ("xpasses", "setup"): "passed", ("xpasses", "call"): "xpassed", ("xpasses", "teardown"): "passed",
    ("breaks", "setup"): "failed", ("breaks", "teardown"): "passed",
    ("with_events", "setup"): "passed", ("with_events", "call"): "passed", ("with_events", "teardown"): "passed",
}  # fmt: skip


def outcomes(seen: list[Seen]) -> dict[tuple[str, str], object]:
    """By test and phase."""
    begins = {(one.own["pid"], one.own["span"]): one for one in seen if one.kind == "begin" and "test" in one.name}
    found = {}
    for one in seen:
        begin = begins.get((one.own["pid"], one.own["span"])) if one.kind == "end" else None
        if begin is not None:
            test = str(begin.fields["test"]).removeprefix("test_it.py::test_")
            found[test, begin.name.removeprefix("test ")] = one.fields["outcome"]
    return found


def with_pids(directory: Path) -> list[Seen]:
    records = list(shmtrace.read(directory))
    found = [see(record) for record in records]
    for seen, record in zip(found, records, strict=True):
        seen.own["pid"] = record.pid
    return found


@pytest.mark.parametrize("workers", [0, 2])
def test_a_recorded_run_has_a_span_for_each_phase_of_each_test(
    project: Project, package: Callable[[str], None], workers: int
) -> None:
    if workers:
        package("xdist")
    result = project.run(TESTS, "--shmtrace", "trace", *(["-n", str(workers)] if workers else []))
    assert re.search(r"2 failed, |1 failed, ", result.stdout), result.stdout + result.stderr
    assert re.search(r"shmtrace: \d+ events, .* -> trace", result.stderr)
    seen = with_pids(project.directory / "trace")
    assert outcomes(seen) == OUTCOMES
    failed = next(one for one in seen if one.fields.get("outcome") == "failed" and one.name == "test call")
    assert failed.fields["exception"] == "AssertionError"
    requests = {one.fields["status"]: one for one in seen if one.name == "request"}
    assert set(requests) == {200, 201, 500}
    calls = {
        (one.own["pid"], one.own["span"]): one.fields["test"]
        for one in seen
        if one.kind == "begin" and one.name == "test call"
    }
    request = requests[500].own
    assert calls[request["pid"], request["span"]] == "test_it.py::test_fails"
    load = next(one.own for one in seen if one.kind == "begin" and one.name == "load")
    assert calls[load["pid"], load["parent"]] == "test_it.py::test_passes"


def test_an_interrupted_test_is_told(project: Project) -> None:
    project.run("def test_it():\n    raise KeyboardInterrupt\n", "--shmtrace", "trace")
    assert outcomes(with_pids(project.directory / "trace")) == {
        ("it", "setup"): "passed",
        ("it", "call"): "interrupted",
    }


def test_a_test_that_kills_its_process_is_shown_as_open(project: Project) -> None:
    others = shmtrace_channels()
    project.run("import os\ndef test_it():\n    os.kill(os.getpid(), 9)\n", "--shmtrace", "trace")
    commands.until(lambda: set(shmtrace_channels()) <= set(others))
    shown = commands.run("tail", project.directory / "trace").stdout
    assert "open: test call test='test_it.py::test_it'" in shown


def shmtrace_channels() -> list[str]:
    """Channels of recorded runs that are still there."""
    return [line for line in commands.run("list").stdout.splitlines() if line.startswith("record-")]


def test_a_program_that_has_imported_shmtrace_can_call_pytest(project: Project) -> None:
    """Of a plugin's package that is there already, pytest complains that it cannot rewrite its assertions."""
    (project.directory / "shmtrace-1.dist-info").mkdir()
    (project.directory / "shmtrace-1.dist-info/METADATA").write_text("Name: shmtrace\nVersion: 1\n")
    (project.directory / "shmtrace-1.dist-info/RECORD").write_text("shmtrace/__init__.py,,\n")
    (project.directory / "shmtrace-1.dist-info/entry_points.txt").write_text(f"[pytest11]\nshmtrace = {MODULE}\n")
    (project.directory / "test_it.py").write_text("def test_it(shmtrace_events): ...\n")
    result = commands.run(
        "-c", "import sys, pytest, shmtrace; sys.exit(pytest.main(['-W', 'error']))", cwd=project.directory,
        command=[sys.executable], PYTHONPATH=f"{project.directory}{os.pathsep}{ROOT}",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_directory_that_is_not_empty_is_refused(project: Project) -> None:
    result = project.run("def test_it(): ...\n", "--shmtrace", ".")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--shmtrace: . is not empty" in result.stderr


def test_who_does_not_use_it_does_not_pay_for_it(project: Project) -> None:
    project.passes(
        """
def test_it():
    import sys
    heavy = {"shmtrace.channel", "shmtrace.reader", "shmtrace.session", "numba", "numpy", "msgpack", "ctypes"}
    assert "shmtrace.instrument.pytest" in sys.modules
    assert not {name for name in sys.modules if name.startswith("shmtrace.")} - {
        "shmtrace.instrument", "shmtrace.instrument.pytest"
    }
    assert not heavy - {"ctypes"} & set(sys.modules)
""",
        1,
    )
