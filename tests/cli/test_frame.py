"""The frame of the command line: commands, errors, exit status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

import commands
import shmtrace
import shmtrace.cli

if TYPE_CHECKING:
    from click.testing import Result


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(shmtrace.cli.main, list(arguments))


def test_the_version_is_that_of_the_package() -> None:
    result = invoke("--version")
    assert (result.exit_code, result.stdout) == (0, f"shmtrace {shmtrace.__version__}\n")


def test_every_command_file_is_listed_and_has_help() -> None:
    files = {path.stem for path in Path(shmtrace.cli.__file__).parent.glob("*.py")} - {
        "__init__",
        "choosing",
        "progress",
        "sources",
    }  # what commands are made of
    context = click.Context(shmtrace.cli.main)
    listed = shmtrace.cli.main.list_commands(context)
    assert set(listed) == files
    for name in listed:
        result = invoke(name, "--help")
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith(f"Usage: shmtrace {name} ")


def test_commands_stand_in_the_order_of_the_contract() -> None:
    listed = shmtrace.cli.main.list_commands(click.Context(shmtrace.cli.main))
    assert [
        name for name in ("run", "create", "remove", "list", "path", "stat", "collect") if name in listed
    ] == listed[:7]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["create"], "Missing argument 'NAME'"),
        (["create", "a", "--mode", "sometimes"], "'sometimes' is not one of 'drop', 'overwrite', 'block'"),
        (["create", "a", "--pages", "many"], "'many' is not a valid integer"),
        (["create", "a", "b"], "unexpected extra argument (b)"),
        (["remove"], "name a channel, or give --stale"),
        (["collect"], "name the channels, or give --all"),
        (["collect", "a", "--all"], "name the channels, or give --all"),
        (["stat", "--jsn", "a"], "No such option '--jsn'"),
        (["run"], "Missing argument 'PROGRAM'"),
        (["run", "-o"], "Option '-o' requires an argument"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_status_2(arguments: list[str], what: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("shmtrace: ")
    assert what in result.stderr
    assert result.stderr.count("\n") == 1


def test_no_command_shows_the_help_and_is_wrong_usage() -> None:
    result = invoke()
    assert result.exit_code == 2
    assert "Usage: shmtrace" in result.stderr


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (shmtrace.ChannelNotFound("there is no channel 'a'"), 1, "shmtrace: there is no channel 'a'\n"),
        (shmtrace.ShmtraceError("first\nsecond"), 1, "shmtrace: first second\n"),
        (PermissionError(13, "Permission denied", "/there"), 1, "shmtrace: /there: Permission denied\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_of_a_command_are_one_line(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, said: str
) -> None:
    @click.command
    def failing() -> None:
        raise error

    monkeypatch.setattr(type(shmtrace.cli.main), "get_command", lambda *_: failing)
    result = invoke("fail")
    assert (result.exit_code, result.stderr) == (status, said)


def test_a_reader_that_has_seen_enough_ends_the_command_quietly() -> None:
    program = """
import click, shmtrace.cli
@click.command
def endless():
    while True:
        print("line")
type(shmtrace.cli.main).get_command = lambda *_: endless
shmtrace.cli.main(["endless"])
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) == 0
        assert process.stderr.read() == b""


def test_ctrl_c_is_exit_status_130() -> None:
    program = """
import click, os, shmtrace.cli, time
@click.command
def waiting():
    print("ready", flush=True)
    while True:
        time.sleep(0.01)
type(shmtrace.cli.main).get_command = lambda *_: waiting
shmtrace.cli.main(["waiting"])
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == b""


def test_python_m_shmtrace_is_the_same_command_line() -> None:
    result = commands.run("--version")
    assert (result.returncode, result.stdout) == (0, f"shmtrace {shmtrace.__version__}\n")


def test_listing_the_commands_imports_neither_numba_nor_numpy() -> None:
    program = (
        "import sys, shmtrace.cli\n"
        "try: shmtrace.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'numba', 'numpy', 'llvmlite', 'msgpack'} & set(sys.modules)))"
    )
    result = commands.run("-c", program, command=[sys.executable])
    assert result.stdout.splitlines()[-1] == "[]", result.stderr
