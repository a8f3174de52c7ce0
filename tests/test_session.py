"""`shmtrace.record` and what it shares with `shmtrace run`: collector, recorder and channel for one block."""

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
from shmtrace.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def nothing_left(channel_name: str) -> Iterator[None]:
    """No test here leaves a segment of its channel behind."""
    yield
    assert not [path.name for path in leftovers.shared_memory(os.getpid()) if channel_name in path.name]


def blobs(directory: Path) -> list[object]:
    return [record.fields["blob"] for record in shmtrace.read(directory) if record.name == "blob"]


def summary(stderr: str) -> str:
    return stderr.splitlines()[-1]


def test_events_of_the_block_are_in_the_directory(tmp_path: Path, channel_name: str) -> None:
    with shmtrace.record(tmp_path / "trace", name=channel_name) as channel:
        assert channel.name == channel_name
        assert all(channel.event(b"%d" % number) for number in range(1000))
    assert blobs(tmp_path / "trace") == [b"%d" % number for number in range(1000)]


def test_recording_is_on_from_the_first_line_of_the_block(tmp_path: Path, channel_name: str) -> None:
    with shmtrace.record(tmp_path / "trace", name=channel_name) as channel:
        assert channel.enabled
        assert channel.event(b"first")


def test_the_channel_is_off_and_gone_after_the_block(tmp_path: Path, channel_name: str) -> None:
    with shmtrace.record(tmp_path / "trace", name=channel_name) as channel:
        pass
    assert channel.event(b"late") is False
    with pytest.raises(shmtrace.ChannelNotFound):
        shmtrace.open_channel(channel_name)


def test_processes_started_in_the_block_are_recorded(tmp_path: Path, channel_name: str) -> None:
    program = "import os, shmtrace; shmtrace.attach().event(str(os.getpid()).encode())"
    with shmtrace.record(tmp_path / "trace", name=channel_name):
        children = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(3)]
        assert [child.wait(commands.LIMIT_S) for child in children] == [0, 0, 0]
    assert set(blobs(tmp_path / "trace")) == {str(child.pid).encode() for child in children}
    records = [record for record in shmtrace.read(tmp_path / "trace") if record.kind == "event"]
    assert {record.pid for record in records} == {child.pid for child in children}


@pytest.mark.parametrize("before", [None, "another"])
def test_the_variable_is_set_in_the_block_and_restored(
    tmp_path: Path, channel_name: str, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    if before is not None:
        monkeypatch.setenv("SHMTRACE", before)
    with shmtrace.record(tmp_path / "trace", name=channel_name):
        assert os.environ["SHMTRACE"] == channel_name
    assert os.environ.get("SHMTRACE") == before


def test_an_exception_of_the_block_passes_through_and_its_events_are_kept(tmp_path: Path, channel_name: str) -> None:
    def failing() -> None:
        with shmtrace.record(tmp_path / "trace", name=channel_name) as channel:
            channel.event(b"before")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert blobs(tmp_path / "trace") == [b"before"]


def test_the_last_line_on_stderr_is_the_summary(
    tmp_path: Path, channel_name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with shmtrace.record(tmp_path / "trace", name=channel_name) as channel:
        for _ in range(1234):
            channel.event(b"x" * 8)
    said = summary(capfd.readouterr().err)
    assert re.fullmatch(r"shmtrace: 1,234 events, .+, 1 writers, 0 missed, 0 lost -> .+", said)
    assert said.endswith(str(tmp_path / "trace"))


def test_a_directory_that_is_not_empty_is_refused_by_name(tmp_path: Path, channel_name: str) -> None:
    (tmp_path / "something").touch()
    with (
        pytest.raises(shmtrace.ShmtraceError, match=re.escape(f"{tmp_path} is not empty")),
        shmtrace.record(tmp_path, name=channel_name),
    ):
        pytest.fail("recorded")


def test_an_empty_directory_is_used_and_missing_parents_are_made(tmp_path: Path, new_name: Callable[[], str]) -> None:
    for directory in (tmp_path / "a" / "b", tmp_path / "empty"):
        if directory.name == "empty":
            directory.mkdir()
        with shmtrace.record(directory, name=new_name()) as channel:
            channel.event(b"x")
        assert blobs(directory) == [b"x"]


def test_a_name_that_is_taken_is_refused(tmp_path: Path, channel_name: str) -> None:
    with shmtrace.create_channel(channel_name, pages=16):
        with pytest.raises(shmtrace.ChannelExists), shmtrace.record(tmp_path / "trace", name=channel_name):
            pytest.fail("recorded")
        shmtrace.remove_channel(channel_name)


def test_a_mode_without_a_stream_is_refused(tmp_path: Path, channel_name: str) -> None:
    with (
        pytest.raises(shmtrace.ShmtraceError, match="snapshot"),
        shmtrace.record(tmp_path / "trace", name=channel_name, mode="overwrite"),
    ):
        pytest.fail("recorded")


def test_names_made_up_differ_when_blocks_are_nested(tmp_path: Path) -> None:
    with shmtrace.record(tmp_path / "outer") as outer, shmtrace.record(tmp_path / "inner") as inner:
        assert outer.name != inner.name
        outer.event(b"outer")
        inner.event(b"inner")
    assert blobs(tmp_path / "outer") == [b"outer"]
    assert blobs(tmp_path / "inner") == [b"inner"]


def test_a_recorder_that_cannot_start_is_our_error_and_nothing_is_left(tmp_path: Path, channel_name: str) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(shmtrace.ShmtraceError, match="the recorder ended at once: "),
        Session(tmp_path / "file" / "trace", name=channel_name),
    ):
        pytest.fail("recorded")


def test_a_child_forked_in_the_block_that_leaves_it_ends_nothing(tmp_path: Path, channel_name: str) -> None:
    with shmtrace.record(tmp_path / "trace", name=channel_name) as channel:
        child = os.fork()
        if child:
            assert os.waitpid(child, 0) == (child, 0)
            assert channel.event(b"still recorded")
        else:
            channel.event(b"child")
    if child == 0:
        os._exit(0)
    assert set(blobs(tmp_path / "trace")) == {b"child", b"still recorded"}


def test_when_the_process_of_the_session_is_killed_the_rest_ends_and_the_channel_goes(
    tmp_path: Path, channel_name: str
) -> None:
    program = f"""
import shmtrace, time
with shmtrace.record({str(tmp_path / "trace")!r}, name={channel_name!r}) as channel:
    channel.event(b"last words")
    print("ready", flush=True)
    time.sleep(60)
"""
    with commands.running("-c", program, command=[sys.executable]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.kill()
        process.wait(30)
        commands.until(lambda: not [path for path in leftovers.shared_memory(os.getpid()) if channel_name in path.name])
    commands.until(lambda: not leftovers.started())
    assert blobs(tmp_path / "trace") == [b"last words"]


def test_ctrl_c_in_the_block_keeps_what_was_recorded(tmp_path: Path, channel_name: str) -> None:
    program = f"""
import shmtrace, time
with shmtrace.record({str(tmp_path / "trace")!r}, name={channel_name!r}) as channel:
    channel.event(b"before")
    print("ready", flush=True)
    while True:
        time.sleep(0.01)  # the interpreter misses a signal for as long, if it comes just ahead of that
"""
    with commands.running("-c", program, command=[sys.executable]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in stderr
    assert "shmtrace: 1 events, " in stderr
    assert blobs(tmp_path / "trace") == [b"before"]


def test_a_collector_killed_in_the_block_is_replaced_and_nothing_is_lost(
    tmp_path: Path, channel_name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with shmtrace.record(tmp_path / "trace", name=channel_name) as channel:
        assert channel.event(b"before")
        os.kill(channel.stats()["collector"], signal.SIGKILL)
        assert channel.event(b"after")
    assert set(blobs(tmp_path / "trace")) == {b"after", b"before"}
    assert "the collector was killed; another one goes on\n" in capfd.readouterr().err


def test_a_channel_that_the_block_closes_is_recorded_and_removed_like_any_other(
    tmp_path: Path, channel_name: str
) -> None:
    with shmtrace.record(tmp_path / "trace", name=channel_name) as channel:
        assert channel.event(b"before it is closed")
        channel.close()
    assert blobs(tmp_path / "trace") == [b"before it is closed"]
    assert not [path for path in leftovers.shared_memory(os.getpid()) if channel_name in path.name]
