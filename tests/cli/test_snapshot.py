"""`shmtrace snapshot`, and `shmtrace run` in the modes that are not `drop`."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import commands
import leftovers
import shmtrace
import shmtrace.cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from click.testing import Result

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch, channel_name: str) -> Iterator[shmtrace.Channel]:
    """A flight recorder."""
    monkeypatch.setenv("SHMTRACE_CPUS", "1")
    channel = shmtrace.create_channel(channel_name, page_size=4096, pages=32, mode="overwrite")
    yield channel
    with suppress(shmtrace.ChannelNotFound):
        shmtrace.remove_channel(channel_name)


@pytest.fixture
def program(tmp_path: Path, channel_name: str) -> Iterator[Callable[[str], Path]]:
    """Writes a program whose channel gets a name of this test run: `run` names channels after programs."""

    def write(text: str) -> Path:
        path = tmp_path / f"{channel_name}.py"
        path.write_text(text)
        return path

    yield write
    assert not [path.name for path in leftovers.shared_memory(os.getpid()) if f"{channel_name}-" in path.name]


def invoke(*arguments: str | Path) -> Result:
    """The command in this process, where a test is not about the process."""
    return CliRunner().invoke(shmtrace.cli.main, [*map(str, arguments)])


def blobs(trace: Path) -> list[object]:
    return [record.fields["blob"] for record in shmtrace.read(trace) if record.name == "blob"]


# -- snapshot


def test_what_is_in_the_pages_is_in_the_directory_and_the_summary_counts_it(
    channel: shmtrace.Channel, tmp_path: Path
) -> None:
    for number in range(100):
        channel.event(b"%d" % number)
    trace = tmp_path / "missing" / "trace"
    result = commands.run("snapshot", channel.name, "-o", trace)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    assert re.fullmatch(
        rf"shmtrace: 100 events, [\d.]+ k?B, 1 writers, 0 missed, 0 lost -> {re.escape(str(trace))}\n", result.stderr
    )
    assert blobs(trace) == [b"%d" % number for number in range(100)]


def test_the_summary_says_what_was_overwritten(channel: shmtrace.Channel, tmp_path: Path) -> None:
    for number in range(20_000):
        channel.event(b"%d" % number)
    result = invoke("snapshot", channel.name, "-o", tmp_path / "trace")
    kept = len(blobs(tmp_path / "trace"))
    assert f"shmtrace: {kept:,} events, " in result.output
    assert f" 0 lost, {20_000 - kept:,} overwritten -> " in result.output


@pytest.mark.peers
def test_babeltrace2_reads_it_without_a_complaint(
    channel: shmtrace.Channel, tmp_path: Path, peer: Callable[[str], str]
) -> None:
    for number in range(20_000):
        channel.event(b"%d" % number)
    invoke("snapshot", channel.name, "-o", tmp_path / "trace")
    result = commands.run(tmp_path / "trace", command=[peer("babeltrace2")])
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count(" blob: ") == len(blobs(tmp_path / "trace"))


def test_two_snapshots_of_a_quiet_channel_are_the_same(channel: shmtrace.Channel, tmp_path: Path) -> None:
    for number in range(5000):
        channel.event(b"%d" % number)
    first, second = tmp_path / "first", tmp_path / "second"
    assert [invoke("snapshot", channel.name, "-o", trace).exit_code for trace in (first, second)] == [0, 0]
    assert blobs(first) == blobs(second) != []


def test_an_empty_channel_gives_an_empty_trace(channel: shmtrace.Channel, tmp_path: Path) -> None:
    result = invoke("snapshot", channel.name, "-o", tmp_path / "trace")
    assert result.exit_code == 0
    assert result.output.startswith("shmtrace: 0 events, ")
    assert blobs(tmp_path / "trace") == []


def test_a_directory_that_is_not_empty_is_wrong_usage(channel: shmtrace.Channel, tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    result = invoke("snapshot", channel.name, "-o", tmp_path)
    assert result.exit_code == 2
    assert f"{tmp_path} is not empty" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["something"]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [((), 2), (("name",), 2), (("no-such-channel", "-o", "trace"), 1), (("not/a name", "-o", "trace"), 2)],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], status: int
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("snapshot", *arguments)
    assert result.exit_code == status
    assert result.output
    assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_made_is_one_line(channel: shmtrace.Channel, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = invoke("snapshot", channel.name, "-o", tmp_path / "file" / "trace")
    assert result.exit_code == 1
    assert len(result.output.splitlines()) == 1


# -- run

EMIT = "import shmtrace, sys\nchannel = shmtrace.attach()\n"


def test_run_in_the_mode_overwrite_ends_with_the_snapshot(tmp_path: Path, program: Callable[[str], Path]) -> None:
    path = program(EMIT + "print(all(channel.event(b'%d' % number) for number in range(1000)))")
    result = commands.run("run", "--mode", "overwrite", "-o", tmp_path / "trace", path)
    assert (result.returncode, result.stdout) == (0, "True\n"), result.stderr
    assert re.fullmatch(r"shmtrace: 1,000 events, .+, 1 writers, 0 missed, 0 lost -> .*trace\n", result.stderr)
    assert blobs(tmp_path / "trace") == [b"%d" % number for number in range(1000)]


@pytest.mark.parametrize(
    ("end", "status"), [("os.kill(os.getpid(), 9)", 137), ("os.abort()", 134), ("raise SystemExit(3)", 3)]
)
def test_run_in_the_mode_overwrite_ends_with_the_snapshot_when_the_program_crashes(
    tmp_path: Path, program: Callable[[str], Path], end: str, status: int
) -> None:
    path = program(EMIT + f"import os\nchannel.event(b'the last words')\n{end}")
    result = commands.run("run", "--mode", "overwrite", "-o", tmp_path / "trace", path)
    assert result.returncode == status
    assert result.stderr.splitlines()[-1].startswith("shmtrace: 1 events, ")
    assert blobs(tmp_path / "trace") == [b"the last words"]


def test_run_in_the_mode_overwrite_into_a_directory_that_is_not_empty_is_wrong_usage(
    tmp_path: Path, program: Callable[[str], Path]
) -> None:
    path = program(EMIT + "print('started')")
    result = commands.run("run", "--mode", "overwrite", "-o", tmp_path, path)
    assert (result.returncode, result.stdout) == (2, "")


def test_run_in_the_mode_block_misses_nothing(tmp_path: Path, program: Callable[[str], Path]) -> None:
    count = 50_000  # many times what the pages hold
    path = program(EMIT + f"blob = bytes(2000)\nprint(all(channel.event(blob) for _ in range({count})))")
    result = commands.run("run", "--mode", "block", "-o", tmp_path / "trace", path)
    assert (result.returncode, result.stdout) == (0, "True\n"), result.stderr
    assert result.stderr.splitlines()[-1].startswith(f"shmtrace: {count:,} events, ")
    assert " 0 missed, 0 lost -> " in result.stderr
