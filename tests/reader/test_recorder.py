"""The recorder: a trace directory that is valid at any time, and that others can follow."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reader.build import Trace, parse, small_trace
from shmtrace import wire
from shmtrace.reader import DirectoryNotEmpty, OutputFailed, read
from shmtrace.reader.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(60)


def record(trace: Trace, path: Path, delivered: int = 0) -> Recorder:
    counts = iter([0, delivered])
    with Recorder(path, delivered=lambda: next(counts)) as recorder:
        recorder.add(parse(trace.stream))
    return recorder


def files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_lanes_have_files_of_their_own_and_the_description_is_text(tmp_path: Path) -> None:
    trace = small_trace()
    record(trace, tmp_path / "new" / "trace")
    assert files(tmp_path / "new" / "trace") == {
        "metadata": trace.text.encode(),
        "stream_0_0": b"".join(trace.lanes[0].packets),
        "stream_1_1": b"".join(trace.lanes[1].packets),
    }


def test_files_are_private(tmp_path: Path) -> None:
    record(small_trace(), tmp_path / "trace")
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "trace").iterdir()} == {0o600}


def test_a_new_description_replaces_the_old_one(tmp_path: Path) -> None:
    trace = small_trace().define(wire.event(16, "late", ""))
    record(trace, tmp_path / "trace")
    assert (tmp_path / "trace" / "metadata").read_text() == trace.text


def test_garbage_and_copies_are_not_written(tmp_path: Path) -> None:
    trace = small_trace()
    stream = trace.metadata + b"garbage" + trace.parts[1] + trace.parts[1] + trace.parts[2][:50]
    with Recorder(tmp_path / "trace", delivered=lambda: 0) as recorder:
        recorder.add(parse(stream))
    assert files(tmp_path / "trace")["stream_0_0"] == trace.parts[1]
    assert set(files(tmp_path / "trace")) == {"metadata", "stream_0_0"}


def test_the_summary_counts(tmp_path: Path) -> None:
    trace = Trace()
    lane = trace.lane()
    lane.writer(1, 100).writer(2, 100, 101).blob(b"").packet()
    lane.writer(1, 100).loss(40).blob(b"").packet(sequence=4, discarded=1000)
    trace.lane(1).writer(9, 200).packet()
    recorder = record(trace, tmp_path / "trace", delivered=123_456)
    size = sum(map(len, files(tmp_path / "trace").values()))
    assert recorder.bytes == size
    counts = f"123,456 events, {size / 1000:.1f} kB, 3 writers, 1,000 missed, 43 lost"
    assert recorder.summary() == f"{counts} -> {tmp_path / 'trace'}"


@pytest.mark.parametrize("made", ["file", ".hidden"])
def test_a_directory_that_is_not_empty_is_refused(tmp_path: Path, made: str) -> None:
    (tmp_path / made).touch()
    with pytest.raises(DirectoryNotEmpty, match="not empty"):
        Recorder(tmp_path, delivered=lambda: 0)


def test_a_directory_that_is_being_recorded_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shmtrace.reader.recorder.LOCK_S", 0.05)
    with (
        Recorder(tmp_path / "trace", delivered=lambda: 0),
        pytest.raises(OutputFailed, match="being recorded already"),
    ):
        Recorder(tmp_path / "trace", delivered=lambda: 0)


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputFailed, match="cannot be made"):
        Recorder(tmp_path / "file" / "trace", delivered=lambda: 0)


def test_more_lanes_than_files_may_be_open(tmp_path: Path) -> None:
    trace = Trace()
    for turn in range(2):
        for number in range(60):
            trace.lane(number).at(turn).blob(b"").packet()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = sum(1 for _ in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, hard))
    try:
        recorder = record(trace, tmp_path / "trace")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert recorder.failure is None
    for lane in trace.lanes.values():
        assert files(tmp_path / "trace")[f"stream_0_{lane.number}"] == b"".join(lane.packets)


def test_a_full_disk_leaves_whole_packets_and_counts_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = Trace()
    for number in range(4):
        trace.lane().at(number).writer(1, 100).blob(b"1").blob(b"2").packet()
    whole = len(trace.parts[1])
    writev = os.writev

    def nearly_full(descriptor: int, views: list[memoryview]) -> int:
        return writev(descriptor, [b"".join(views)[: whole + 50]])

    def full(_descriptor: int, _data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    write = os.write
    monkeypatch.setattr("os.writev", nearly_full)
    monkeypatch.setattr("os.write", lambda file, data: (full if len(data) == whole - 50 else write)(file, data))
    counts = iter([0, 8])
    with Recorder(tmp_path / "trace", delivered=lambda: next(counts)) as recorder:
        recorder.add(parse(trace.stream))
    monkeypatch.undo()
    assert recorder.failure is not None
    assert "No space left on device" in str(recorder.failure)
    assert (recorder.lost, recorder.events) == (6, 2)
    assert files(tmp_path / "trace")["stream_0_0"] == trace.parts[1]
    assert len(list(read(tmp_path / "trace"))) == 2


@pytest.mark.peers
def test_babeltrace_reads_what_was_recorded(tmp_path: Path, peer: Callable[[str], str]) -> None:
    babeltrace = peer("babeltrace2")
    fields = " ".join(template.format(f"f_{kind}") for kind, template in wire.FIELD_TYPES.items())
    trace = Trace().define(wire.event(16, 'all "types"', fields, 6, "begin"))
    body = bytes(1 + 2 + 4 + 8 + 1 + 2 + 4 + 8 + 4 + 8 + 1) + b"text\0" + b"\3\0abc"
    for number in range(3):
        for lane in (trace.lane(0), trace.lane(5, cpu=2)):
            lane.at(1000 * number).writer(7, 100).clock(number, number, number).loss(3)
            lane.add(16, body, writer=7).blob(b"abc", writer=7).add(wire.ID_LOG, b"\x80").add(wire.ID_PADDING, b"x")
            lane.packet()
    trace.lane(6).packet()  # a lane with nothing but a count
    record(trace, tmp_path / "trace")
    done = subprocess.run([babeltrace, tmp_path / "trace"], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 2 * 3 * 7
    assert sum(record.kind != "loss" for record in read(tmp_path / "trace")) == 2 * 3 * 3


RECORDER = """
import sys, time
from reader.build import Trace, parse
from shmtrace.reader.recorder import Recorder
from shmtrace.reader.stream import Parser
with Recorder(sys.argv[1], delivered=lambda: 0) as recorder:
    print("locked", flush=True)
    parser, trace = Parser(), Trace()
    sys.stdin.readline()
    recorder.add(parser.feed(trace.metadata))
    for number in range(20):
        lane = trace.lane(number % 3)
        recorder.add(parser.feed(lane.at(100 * number).blob(str(number).encode()).packet()) + parser.idle())
        time.sleep(0.02)
    print("written", flush=True)
    sys.stdin.readline()
"""


def test_a_directory_is_followed_until_its_recorder_ends(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", RECORDER, tmp_path / "trace"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "locked\n"
            records = read(tmp_path / "trace", follow=True)  # there is no description yet
            process.stdin.write("\n")
            process.stdin.flush()
            live = [next(records) for _ in range(20)]
            assert process.stdout.readline() == "written\n"
            assert process.poll() is None  # all of them came before the end
            process.stdin.write("\n")
            process.stdin.flush()
            assert list(records) == []
            assert process.wait(20) == 0
        finally:
            process.kill()
    assert sorted(record.cycles for record in live) == [100 * number for number in range(20)]
    assert live == sorted(read(tmp_path / "trace"), key=live.index)


def test_a_recorder_that_was_killed_ends_its_followers_too(tmp_path: Path) -> None:
    path = small_trace().save_directory(tmp_path / "trace")
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    records = read(path, follow=True)
    assert len([next(records) for _ in range(12)]) == 12
    with (path / "stream_0_0").open("ab") as file:
        file.write(b"half a packet")
    time.sleep(0.1)
    os.close(descriptor)
    with pytest.warns(match="13 bytes skipped"):
        assert list(records) == []
