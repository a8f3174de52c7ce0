"""`shmtrace record` and `shmtrace tail NAME`, with a collector that is a few lines of this file."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import shmtrace.cli
import shmtrace.segment
from reader.build import small_trace
from reader.fifo import Channel
from shmtrace.reader import read
from shmtrace.reader.source import FifoSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

    from reader.build import Trace

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Channel:
    channel = Channel(tmp_path / "app")
    monkeypatch.setattr(shmtrace.segment, "open_streamed", lambda name: channel if name == "app" else None)
    return channel


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(shmtrace.cli.main, [*map(str, arguments)])


def collect(channel: Channel, trace: Trace, *, goodbye: bool = True, interrupt: bool = False) -> threading.Thread:
    """Sends the trace as soon as somebody reads."""

    def run() -> None:
        limit = time.monotonic() + 10
        while time.monotonic() < limit:
            with suppress(OSError), channel.collector(goodbye=goodbye) as sink:
                os.write(sink, trace.stream)
                channel.records += 12
                if interrupt:
                    time.sleep(0.2)
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.2)
                return
            time.sleep(0.01)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.fixture
def trace() -> Iterator[Trace]:
    yield small_trace()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_channel_is_recorded_until_its_collector_ends(tmp_path: Path, channel: Channel, trace: Trace) -> None:
    thread = collect(channel, trace)
    result = invoke("record", "app", "-o", tmp_path / "new" / "trace")
    thread.join()
    size = len(trace.stream) - 37
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == (
        f"shmtrace: 12 events, {size / 1000:.1f} kB, 2 writers, 0 missed, 0 lost -> {tmp_path}/new/trace\n"
    )
    assert len(list(read(tmp_path / "new" / "trace"))) == 12


@pytest.mark.parametrize("arguments", [("record", "app", "-o", "DIR"), ("tail", "app")])
def test_an_interrupt_is_the_end_and_no_failure(
    tmp_path: Path, channel: Channel, trace: Trace, arguments: tuple[str, ...]
) -> None:
    thread = collect(channel, trace, interrupt=True)
    result = invoke(*(tmp_path / "trace" if word == "DIR" else word for word in arguments))
    thread.join()
    assert result.exit_code == 0


def test_a_killed_collector_ends_it_only_with_once(tmp_path: Path, channel: Channel, trace: Trace) -> None:
    thread = collect(channel, trace, goodbye=False)
    result = invoke("record", "app", "-o", tmp_path / "trace", "--once")
    thread.join()
    assert result.exit_code == 0
    assert result.stderr.splitlines()[0] == "shmtrace: the collector of channel app was killed: ending"
    assert len(list(read(tmp_path / "trace"))) == 12


def test_a_directory_that_is_not_empty_is_wrong_usage(tmp_path: Path, channel: Channel) -> None:
    result = invoke("record", "app", "-o", tmp_path)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "is not empty" in result.stderr
    assert channel.fifo.exists()


def test_a_second_recorder_is_refused_and_leaves_no_directory(tmp_path: Path, channel: Channel) -> None:
    with FifoSource(channel):
        result = invoke("record", "app", "-o", tmp_path / "trace")
    assert result.exit_code == 1
    assert result.stderr.startswith("shmtrace: channel app is being read by another recorder or tail")
    assert not (tmp_path / "trace").exists()


def test_a_full_disk_is_a_failure_that_is_counted(
    tmp_path: Path, channel: Channel, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_recorder: object, _name: str, _data: memoryview) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shmtrace.reader.recorder.Recorder._append", full)
    thread = collect(channel, trace)
    result = invoke("record", "app", "-o", tmp_path / "trace")
    thread.join()
    summary, error = result.stderr.splitlines()
    assert result.exit_code == 1
    assert "No space left on device" in error
    assert " lost -> " in summary


def test_tail_prints_a_line_for_each_event(channel: Channel, trace: Trace) -> None:
    thread = collect(channel, trace)
    result = invoke("tail", "app")
    thread.join()
    lines = result.stdout.splitlines()
    assert (result.exit_code, result.stderr, len(lines)) == (0, "", 12)
    assert "python[100] main[100] blob blob='0.0'" in lines[0]


def test_tail_prints_json(channel: Channel, trace: Trace) -> None:
    thread = collect(channel, trace)
    result = invoke("tail", "app", "--json")
    thread.join()
    assert [json.loads(line)["name"] for line in result.stdout.splitlines()] == ["blob"] * 12
