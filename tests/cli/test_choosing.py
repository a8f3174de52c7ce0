"""`tail` and `convert`: which records are shown, and how."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

import commands
import shmtrace

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(100)
STATUSES = [200, 404, 500, 503]


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded trace: four requests in spans, a counter, a span that stays open."""
    directory: Path = tmp_path_factory.mktemp("traces") / "trace"
    with shmtrace.record(directory) as channel:
        request = channel.tracepoint("request", status="u16", path="str")
        load = channel.span("load", shard="u32")
        for number, status in enumerate(STATUSES):
            with load(number):
                request(status, f"/api/{number}" if number % 2 else "/index")
        channel.counter("depth")(1)
        channel.span("left").begin()
    return directory


def names(lines: str) -> list[str]:
    return [json.loads(line)["name"] for line in lines.splitlines()]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--name", "request"], ["request"] * 4),
        (["--name", "req*", "--name", "depth"], ["request"] * 4 + ["depth"]),
        (["--where", "status >= 500"], ["request"] * 2),
        (["--where", "status >= 500 and path.startswith('/api')"], ["request"]),
        (["--where", "kind == 'begin'", "--name", "load"], ["load"] * 4),
        (["--pid", str(os.getpid()), "--name", "depth"], ["depth"]),
        (["--pid", "1"], []),
    ],
)
def test_tail_and_convert_show_what_was_chosen(trace: Path, options: list[str], expected: list[str]) -> None:
    assert names(commands.run("convert", trace, "-o", "-", *options).stdout) == expected
    assert names(commands.run("tail", trace, "--json", *options).stdout) == expected


def test_text_tells_the_open_spans_that_were_chosen(trace: Path) -> None:
    assert commands.run("tail", trace, "--name", "left").stdout.splitlines()[-1].startswith("open: left ")
    assert "open:" not in commands.run("tail", trace, "--name", "request").stdout


def test_convert_writes_the_lines_that_tail_prints(trace: Path, tmp_path: Path) -> None:
    options = ("--where", "status > 400", "--time", "relative")
    done = commands.run("convert", trace, "-o", tmp_path / "out.txt", *options)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = (tmp_path / "out.txt").read_text()
    assert text == commands.run("tail", trace, *options).stdout
    lines = text.splitlines()
    assert [line.rpartition("status=")[2] for line in lines] == [
        "404 path='/api/1'",
        "500 path='/index'",
        "503 path='/api/3'",
    ]
    assert lines[0].lstrip().startswith("+0.000000000 ")


def test_an_expression_that_is_not_understood_is_one_line(trace: Path) -> None:
    for arguments in (("tail", trace), ("convert", trace, "-o", "-")):
        done = commands.run(*arguments, "--where", "open('x')")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("shmtrace: --where: \"open('x')\" at character 1 is not understood")
        assert len(done.stderr.splitlines()) == 1


def test_times_of_json_lines_cannot_be_chosen(trace: Path) -> None:
    for arguments in (("tail", trace, "--json"), ("convert", trace, "-o", "-")):
        done = commands.run(*arguments, "--time", "delta")
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


def on_terminal(*arguments: str | Path, **environment: str) -> str:
    """What a command writes to a terminal."""
    main, side = pty.openpty()
    with subprocess.Popen(
        [*commands.SHMTRACE, *map(str, arguments)], stdout=side, env={**os.environ, "TERM": "xterm", **environment}
    ) as process:
        os.close(side)
        parts = []
        while True:
            try:
                part = os.read(main, 4096)
            except OSError:  # EIO: nobody has the other end open any more
                break
            parts.append(part)
        os.close(main)
        assert process.wait(50) == 0
    return b"".join(parts).decode().replace("\r\n", "\n")


def test_colours_are_for_terminals_unless_asked_for(trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain = commands.run("tail", trace, "--name", "request").stdout
    assert "\x1b" not in plain
    shown = on_terminal("tail", trace, "--name", "request")
    assert re.sub(r"\x1b\[[0-9;]*m", "", shown) == plain
    assert shown != plain
    assert commands.run("tail", trace, "--name", "request", "--color", "always").stdout == shown
    assert on_terminal("tail", trace, "--name", "request", "--color", "never") == plain
    assert on_terminal("tail", trace, "--name", "request", NO_COLOR="1") == plain
    assert on_terminal("tail", trace, "--name", "request", TERM="dumb") == plain
