"""Writer numbers: whose they are, and that they are given out again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import shmtrace
from commands import running, until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


PRANGE = """
import numba
import shmtrace

channel = shmtrace.attach()


def emit(number):
    channel.event(b"%d" % number)


@numba.njit(parallel=True)
def kernel(count):
    for number in numba.prange(count):
        with numba.objmode():
            emit(number)


numba.set_num_threads(2)
kernel(1000)
"""


def emit_in_child(channel: shmtrace.Channel, blobs: list[bytes]) -> int:
    child = os.fork()
    if child == 0:
        ok = all(map(channel.event, blobs))
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    return child


def test_numbers_of_processes_that_ended_are_given_out_again_and_each_event_keeps_its_process(
    channel_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shmtrace.channel.WRITERS", 8)
    channel = shmtrace.create_channel(channel_name, page_size=4096, pages=16)
    trace = tmp_path / "trace"
    emitted: dict[int, list[bytes]] = {}
    with running("collect", channel_name) as collector, running("record", channel_name, "-o", trace) as recorder:
        until(lambda: channel.enabled)
        for number in range(20):
            until(lambda: len(channel.writers()) < 7)
            blobs = [b"%d of %d" % (i, number) for i in range(number)]
            emitted[emit_in_child(channel, blobs)] = blobs
        collector.terminate()
        assert recorder.wait(20) == 0
    shmtrace.remove_channel(channel_name)
    found: dict[int, list[bytes]] = {pid: [] for pid in emitted}
    for record in shmtrace.read(trace):
        assert record.kind == "event"
        assert record.pid is not None
        blob = record.fields["blob"]
        assert isinstance(blob, bytes)
        found[record.pid].append(blob)
    assert found == emitted


def test_with_a_full_table_events_are_recorded_under_the_unknown_writer(
    channel_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shmtrace.channel.WRITERS", 2)
    channel = shmtrace.create_channel(channel_name, page_size=4096, pages=16)
    trace = tmp_path / "trace"
    with running("collect", channel_name) as collector, running("record", channel_name, "-o", trace) as recorder:
        until(lambda: channel.enabled)
        assert channel.event(b"known")
        emit_in_child(channel, [b"unknown"])
        collector.terminate()
        assert recorder.wait(20) == 0
    shmtrace.remove_channel(channel_name)
    assert {record.fields["blob"]: record.pid for record in shmtrace.read(trace)} == {
        b"known": os.getpid(),
        b"unknown": None,
    }


def test_threads_of_a_parallel_kernel_are_writers_of_their_own(tmp_path: Path) -> None:
    program = tmp_path / "kernel.py"
    program.write_text(PRANGE)
    with running("run", "-o", tmp_path / "trace", program) as run:
        assert run.wait(60) == 0
    records = [record for record in shmtrace.read(tmp_path / "trace") if record.kind == "event"]
    assert {record.fields["blob"] for record in records} == {b"%d" % number for number in range(1000)}
    assert len(records) == 1000
    assert len({record.tid for record in records}) == 2
