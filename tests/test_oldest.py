"""The oldest packages that pyproject.toml allows, installed and used: the bounds are true."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

import commands

ROOT = Path(__file__).parent.parent
INSTALL_S, TESTS_S = 400, 400
EXTRAS = ("arrow", "perfetto", "tui")
TOOLS = ("hypothesis", "pytest", "pytest-timeout", "pytest-xdist")
TESTS = (
    "tests/export",
    "tests/cli/test_query.py",
    "tests/cli/test_convert.py",
    "tests/test_kernel_withs.py",
    "tests/test_top.py",
)
PROGRAM = """
import numba
import shmtrace

channel = shmtrace.attach()
request = channel.tracepoint("request", status="u16", latency="f64", path="str")
load = channel.span("load", shard="u32")


@numba.njit
def kernel(count):
    for status in range(count):
        with load(status):
            request(status, 0.5, "kernel")


with load(3):
    request(200, 0.013, path="/index")
    channel.log("cache miss", key="a1", tried=3)
kernel(10)
"""
SHOWN = "status=200 latency=0.013 path='/index'"


@pytest.mark.heavy
@pytest.mark.timeout(INSTALL_S + TESTS_S + 200)
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the oldest packages are those of the oldest Python")
def test_the_oldest_packages_do(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [package for extra in EXTRAS for package in project["optional-dependencies"][extra]]
    oldest = [package.replace(">=", "==") for package in (*project["dependencies"], *extras)]
    assert all("==" in package for package in oldest)
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    install = [python, "-m", "pip", "install", "--quiet", str(ROOT), *oldest, *TOOLS]
    done = subprocess.run(install, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    assert done.returncode == 0, done.stderr
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    shmtrace = [str(python), "-m", "shmtrace"]
    environment = {"SHMTRACE_CACHE": str(tmp_path), "PYTHONPATH": ""}
    recorded = commands.run("run", "-o", tmp_path / "trace", program, command=shmtrace, cwd=tmp_path, **environment)
    assert recorded.returncode == 0, recorded.stderr
    shown = commands.run("tail", tmp_path / "trace", command=shmtrace, cwd=tmp_path, **environment)
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert sum("request" in line and "kernel" in line for line in lines) == 10
    assert [sum(f"{end} load" in line for line in lines) for end in "><"] == [11, 11]
    assert any(SHOWN in line for line in lines), shown.stdout
    assert any("cache miss" in line for line in lines)
    wrong = commands.run("frobnicate", command=shmtrace, cwd=tmp_path, **environment)
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1), wrong.stderr
    # another test run: with the mark of this one it would take our processes for its own
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SHMTRACE_")}
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
    tests = subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, text=True, timeout=TESTS_S, check=False)
    assert tests.returncode == 0, tests.stdout
