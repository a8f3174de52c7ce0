"""`shmtrace run`: the program is untouched, its status is passed on, its events are in the directory."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import commands
import leftovers
import shmtrace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def program(tmp_path: Path, channel_name: str) -> Callable[[str], Path]:
    """Writes a program whose channel gets a name of this test run: `run` names channels after programs."""

    def write(text: str) -> Path:
        path = tmp_path / f"{channel_name}.py"
        path.write_text(text)
        return path

    return write


@pytest.fixture(autouse=True)
def nothing_left(channel_name: str) -> Iterator[None]:
    """No test here leaves a segment behind."""
    yield
    assert not [path.name for path in leftovers.shared_memory(os.getpid()) if f"{channel_name}-" in path.name]


def blobs(directory: Path) -> list[object]:
    return [record.fields["blob"] for record in shmtrace.read(directory) if record.name == "blob"]


EMIT = "import shmtrace, sys; shmtrace.attach().event(' '.join(sys.argv[1:]).encode())\n"


def test_a_program_that_ends_in_py_runs_under_this_python(tmp_path: Path, program: Callable[[str], Path]) -> None:
    path = program(EMIT + "print(sys.executable)")
    result = commands.run("run", "-o", tmp_path / "trace", path, "a", "b")
    assert (result.returncode, result.stdout) == (0, f"{sys.executable}\n"), result.stderr
    assert blobs(tmp_path / "trace") == [b"a b"]


def test_the_last_line_on_stderr_is_the_summary(tmp_path: Path, program: Callable[[str], Path]) -> None:
    result = commands.run("run", "-o", tmp_path / "trace", program(EMIT + "print('mine', file=sys.stderr)"))
    lines = result.stderr.splitlines()
    assert lines[0] == "mine"
    assert re.fullmatch(r"shmtrace: 1 events, .+, 1 writers, 0 missed, 0 lost -> .*trace", lines[-1])


def test_options_behind_the_program_are_the_programs(tmp_path: Path, program: Callable[[str], Path]) -> None:
    path = program(EMIT)
    result = commands.run("run", "-o", tmp_path / "trace", "--", path, "-o", "x", "--mode", "--", "-m")
    assert result.returncode == 0, result.stderr
    assert blobs(tmp_path / "trace") == [b"-o x --mode -- -m"]


def test_a_module_runs_as_python_m_does(tmp_path: Path, program: Callable[[str], Path]) -> None:
    path = program(EMIT)
    result = commands.run("run", "-o", "trace", "-m", path.stem, "-o", "x", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert blobs(tmp_path / "trace") == [b"-o x"]


def test_anything_else_is_a_command_on_path(tmp_path: Path, program: Callable[[str], Path]) -> None:
    path = program("#!/bin/sh\necho $SHMTRACE; exec cat\n")
    path = path.rename(path.with_suffix(""))
    path.chmod(0o755)
    search = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        [*commands.SHMTRACE, "run", "-o", str(tmp_path / "trace"), path.name],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PATH": search},
    ) as process:  # fmt: skip
        stdout, stderr = process.communicate("input\n", timeout=commands.LIMIT_S)
    assert process.returncode == 0, stderr
    assert re.fullmatch(rf"{path.name}-\d+\ninput\n", stdout), "its stdin and stdout are ours"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("raise SystemExit(7)", 7),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 128 + signal.SIGKILL),
        ("1 / 0", 1),
    ],
)
def test_the_exit_status_is_passed_on(tmp_path: Path, program: Callable[[str], Path], text: str, status: int) -> None:
    result = commands.run("run", "-o", tmp_path / "trace", program(EMIT + text), "x")
    assert result.returncode == status
    assert result.stderr.splitlines()[-1].startswith("shmtrace: 1 events, ")
    assert blobs(tmp_path / "trace") == [b"x"]


def test_the_directory_is_named_after_the_program_by_default(tmp_path: Path, program: Callable[[str], Path]) -> None:
    path = program(EMIT)
    assert commands.run("run", path, cwd=tmp_path).returncode == 0
    (directory,) = tmp_path.glob("shmtrace-*")
    assert re.fullmatch(rf"shmtrace-{path.stem}-\d{{8}}-\d{{6}}", directory.name)


def test_a_directory_that_is_not_empty_is_wrong_usage(tmp_path: Path, program: Callable[[str], Path]) -> None:
    result = commands.run("run", "-o", tmp_path, program(EMIT))
    assert result.returncode == 2
    assert re.fullmatch(rf"shmtrace: {tmp_path} is not empty.*\n", result.stderr)


@pytest.mark.parametrize("name", ["there-is-no-such-program", "no-such-file.py", "./no-such-file"])
def test_a_program_that_is_not_there_is_exit_status_127(tmp_path: Path, name: str) -> None:
    result = commands.run("run", name, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (127, f"shmtrace: {name}: not found\n")
    assert not list(tmp_path.iterdir()), "nothing was begun"


def test_a_program_that_is_not_executable_is_exit_status_126(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = commands.run("run", "./file", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (126, "shmtrace: ./file: is not executable\n")


def test_ctrl_c_is_the_programs_business(tmp_path: Path, program: Callable[[str], Path]) -> None:
    path = program(
        EMIT
        + """
import time
try:
    print("ready", flush=True)
    while True:
        time.sleep(0.01)
except KeyboardInterrupt:
    shmtrace.attach().event(b"interrupted")
    sys.exit(5)
"""
    )
    with commands.running("run", "-o", tmp_path / "trace", path, "begun") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does
        _, stderr = process.communicate(timeout=commands.LIMIT_S)
    assert process.returncode == 5, stderr
    assert blobs(tmp_path / "trace") == [b"begun", b"interrupted"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_and_sighup_are_forwarded(
    tmp_path: Path, program: Callable[[str], Path], number: signal.Signals
) -> None:
    path = program(EMIT + "import time; print('ready', flush=True); time.sleep(60)")
    with commands.running("run", "-o", tmp_path / "trace", path, "begun") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, stderr = process.communicate(timeout=commands.LIMIT_S)
    assert process.returncode == 128 + number, stderr
    assert blobs(tmp_path / "trace") == [b"begun"]


def test_workers_left_over_are_told_and_not_awaited(tmp_path: Path, program: Callable[[str], Path]) -> None:
    path = program(
        EMIT
        + """
import os, time
ready, told = os.pipe()
if os.fork() == 0:
    shmtrace.attach().event(b"worker")
    os.write(told, b"!")
    os.closerange(0, 3)
    time.sleep(60)
    os._exit(0)
os.read(ready, 1)
"""
    )
    result = commands.run("run", "-o", tmp_path / "trace", path, "main")
    assert result.returncode == 0
    (pid,) = leftovers.started()
    os.kill(pid, signal.SIGKILL)
    told = f"shmtrace: 1 process still runs: {pid}; what it emits from now on is not recorded"
    assert result.stderr.splitlines()[-2] == told
    assert set(blobs(tmp_path / "trace")) == {b"main", b"worker"}


def test_when_run_is_killed_the_channel_goes_and_the_trace_is_whole(
    tmp_path: Path, program: Callable[[str], Path], channel_name: str
) -> None:
    path = program(EMIT + "import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    with commands.running("run", "-o", tmp_path / "trace", path, "begun") as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
        process.wait(30)
        commands.until(
            lambda: not [path for path in leftovers.shared_memory(os.getpid()) if f"{channel_name}-" in path.name]
        )
        os.kill(child, signal.SIGKILL)
    commands.until(lambda: not leftovers.started())
    assert blobs(tmp_path / "trace") == [b"begun"]


@pytest.mark.peers
def test_babeltrace2_counts_the_same(
    tmp_path: Path, program: Callable[[str], Path], peer: Callable[[str], str]
) -> None:
    path = program("import shmtrace\nchannel = shmtrace.attach()\nfor n in range(1000): channel.event(b'%d' % n)\n")
    assert commands.run("run", "-o", tmp_path / "trace", path).returncode == 0
    result = commands.run(tmp_path / "trace", command=[peer("babeltrace2")])
    assert (result.returncode, result.stderr) == (0, "")
    assert len(re.findall(r"^\[.*\] .*\bblob: ", result.stdout, re.MULTILINE)) == 1000


def test_a_collector_that_is_killed_is_replaced_while_the_program_runs(
    program: Callable[[str], Path], tmp_path: Path
) -> None:
    path = program("""
import os, signal, time
import shmtrace

channel = shmtrace.attach()
for number in range(3):
    assert channel.event(b"%d" % number)
    killed = channel.stats()["collector"]
    os.kill(killed, signal.SIGKILL)
    limit = time.monotonic() + 50
    while channel.stats()["collector"] == killed and time.monotonic() < limit:
        time.sleep(0.01)
""")
    result = commands.run("run", "-o", tmp_path / "trace", path)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("the collector was killed; another one goes on\n") == 3
    blobs = [record.fields["blob"] for record in shmtrace.read(tmp_path / "trace") if record.kind == "event"]
    assert blobs == [b"0", b"1", b"2"]
