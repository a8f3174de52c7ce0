"""`shmtrace tail DIR`: a directory that is being recorded, or was."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

import commands
import shmtrace
from reader.build import small_trace
from reader.test_merging import save, trace
from recording import collected

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)


def test_a_directory_that_is_complete_is_printed_to_its_end(tmp_path: Path) -> None:
    trace = small_trace().save_directory(tmp_path / "trace")
    for arguments in ((trace,), (trace, "--once"), (trace, "--json")):
        done = commands.run("tail", *arguments)
        assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 12)


def test_a_directory_needs_no_slash_to_be_one(tmp_path: Path) -> None:
    small_trace().save_directory(tmp_path / "trace")
    assert len(commands.run("tail", "trace", cwd=tmp_path).stdout.splitlines()) == 12


def test_a_directory_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    done = commands.run("tail", tmp_path / "nothing")
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_directory_that_is_being_recorded_is_followed_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    trace = small_trace()
    path = trace.save_directory(tmp_path / "trace")
    lock = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with commands.running("tail", path) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert len([process.stdout.readline() for _ in range(12)]) == 12
            with (path / "stream_0_0").open("ab") as file:
                file.write(trace.lane(0).at(9000).blob(b"late").packet())
            assert "late" in process.stdout.readline()
            process.send_signal(number)
            assert process.wait(20) == 0
            assert (process.stdout.read(), process.stderr.read()) == ("", "")
    finally:
        os.close(lock)


def two(directory: Path) -> list[Path]:
    """Directories of two channels of one host, a record by turns."""
    return save(
        directory,
        trace([100, 300], host="one", boot=1, channel="a"),
        trace([200, 400], host="one", boot=1, channel="b"),
    )


def ticks(lines: str) -> list[tuple[str, int]]:
    found = [json.loads(line) for line in lines.splitlines()]
    return [(line["channel"], line["fields"]["n"]) for line in found if line["name"] == "tick"]


def test_several_directories_are_merged_by_time(tmp_path: Path) -> None:
    paths = two(tmp_path)
    done = commands.run("tail", "--json", *paths)
    assert (done.returncode, done.stderr) == (0, "")
    assert ticks(done.stdout) == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert sorted(done.stdout.splitlines()) == sorted(commands.run("convert", *paths, "-o", "-").stdout.splitlines())
    assert "one/b " in commands.run("tail", *paths).stdout


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("channel == 'b'", [("b", 0), ("b", 1)]),
        ("host.startswith('on') and channel != 'b' and n == 1", [("a", 1)]),
        ("host == 'two'", []),
    ],
)
def test_hosts_and_channels_of_several_can_be_chosen(
    tmp_path: Path, where: str, expected: list[tuple[str, int]]
) -> None:
    paths = two(tmp_path)
    assert ticks(commands.run("tail", "--json", *paths, "--where", where).stdout) == expected
    assert ticks(commands.run("convert", *paths, "-o", "-", "--where", where).stdout) == expected


def test_channels_are_merged_as_they_are_recorded_by_name_and_by_fifo(new_name: Callable[[], str]) -> None:
    with shmtrace.create_channel(new_name()) as one, shmtrace.create_channel(new_name()) as other:
        with commands.running("tail", "--json", one.name, other.fifo) as process:
            with collected(one), collected(other):
                commands.until(lambda: one.enabled and other.enabled)
                for number in range(100):
                    (one, other)[number % 2].event(f"{number}".encode())
                assert process.stdout is not None
                lines = [json.loads(process.stdout.readline()) for _ in range(100)]
            assert process.wait(commands.LIMIT_S) == 0  # both collectors said goodbye
        channels = [line["channel"] for line in lines]
        shmtrace.remove_channel(one.name)
        shmtrace.remove_channel(other.name)
    assert [line["fields"]["blob"] for line in lines] == [f"{number}" for number in range(100)]
    assert channels == [one.name, other.name] * 50


def test_a_fifo_of_no_channel_is_read_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (path, _) = two(tmp_path)
    with commands.running("tail", "--json", path, tmp_path / "fifo") as process:
        (tmp_path / "fifo").write_bytes(trace([200, 400], host="two", boot=1, channel="b").stream)
        out, error = process.communicate(timeout=commands.LIMIT_S)
    assert (process.returncode, error) == (0, "")
    assert sorted(ticks(out)) == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


def test_what_is_wrong_with_one_of_several_is_one_line(tmp_path: Path, new_name: Callable[[], str]) -> None:
    (path, other) = two(tmp_path)
    (tmp_path / "file").write_bytes(b"no trace")
    name = new_name()
    for arguments, status, says in (
        ((path, tmp_path / "nothing"), 1, "nothing cannot be read: No such file"),
        ((path, tmp_path / "file"), 1, "file cannot be read: Not a directory"),
        ((path, name), 1, f"there is no channel {name!r}"),
        ((path, other, path), 2, "is named twice: once is enough"),
        ((path, tmp_path / "0" / ".." / "0"), 2, "are the same: once is enough"),
        ((), 2, "NAME|DIR|FIFO"),
    ):
        done = commands.run("tail", *arguments)
        assert (done.returncode, done.stdout) == (status, "")
        assert says in done.stderr
        assert len(done.stderr.splitlines()) == 1
