"""Event classes: one id for one class, and announced in the stream before the first record that has it."""

from __future__ import annotations

import ctypes
import subprocess
from typing import TYPE_CHECKING

import pytest

import shmtrace
from commands import running, until
from shmtrace import wire
from shmtrace.classes import classes, define
from shmtrace.errors import TracepointConflict
from shmtrace.native.loader import load
from shmtrace.segment import open_segment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def channel_of_16_pages(channel_name: str) -> str:
    shmtrace.create_channel(channel_name, page_size=4096, pages=16)
    return channel_name


def test_the_same_definition_gives_the_same_id(channel_of_16_pages: str) -> None:
    first, second = open_segment(channel_of_16_pages), open_segment(channel_of_16_pages)
    request = define(first, "request", fields="status:u16 path:str")
    assert request.id == wire.FIRST_ID
    assert define(second, "load", kind="begin").id == wire.FIRST_ID + 1
    assert define(second, "request", fields="status:u16 path:str") == request
    assert [found.name for found in classes(first)] == ["request", "load"]
    shmtrace.remove_channel(channel_of_16_pages)


def test_a_definition_with_other_fields_is_refused_by_name(channel_of_16_pages: str) -> None:
    segment = open_segment(channel_of_16_pages)
    define(segment, "request", fields="status:u16")
    with pytest.raises(TracepointConflict, match="'request'"):
        define(segment, "request", fields="status:u32")
    shmtrace.remove_channel(channel_of_16_pages)


@pytest.mark.peers
def test_a_class_defined_while_somebody_reads_is_described_before_its_first_record(
    channel_of_16_pages: str, tmp_path: Path, peer: Callable[[str], str], record_as: Callable[[bytes, int, bytes], int]
) -> None:
    babeltrace2 = peer("babeltrace2")
    channel = shmtrace.open_channel(channel_of_16_pages)
    segment = open_segment(channel_of_16_pages)
    trace = tmp_path / "trace"
    with running("collect", channel.name) as collector, running("record", channel.name, "-o", trace) as recorder:
        until(lambda: channel.enabled)
        assert channel.event(b"before")
        until(lambda: segment.delivered() == 1)
        request = define(segment, "request", fields="status:u16 path:str", level=30)
        assert record_as(channel._context, request.id, bytes(8) + (200).to_bytes(2, "little") + b"/index\0")
        assert channel.event(b"after")
        collector.terminate()
        assert recorder.wait(20) == 0
    shmtrace.remove_channel(channel.name)
    shown = subprocess.run([babeltrace2, trace], capture_output=True, text=True, timeout=60)
    assert shown.stderr == ""
    assert "request: { cpu_id" in shown.stdout
    assert '{ __span = 0, __context = 0, status = 200, path = "/index" }' in shown.stdout
    assert [record.name for record in shmtrace.read(trace)] == ["blob", "request", "blob"]


@pytest.fixture(scope="module")
def record_as() -> Callable[[bytes, int, bytes], int]:
    """Records a body under any id, with the code that tracepoints will have: the core, compiled for this test."""
    from shmtrace.native import desk, objects, writers
    from shmtrace.native.compiler import compile_object

    record, register, registered = desk.record_at_length, writers.register, writers.registered

    def record_body(context: int, identifier: int, data: int, size: int) -> int:
        me = registered(context)
        if me == 0:
            me = register(context)
        return record(context, me, identifier, data, size)

    code = load(compile_object([record_body]))
    call = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)(code["record_body"])

    def address(value: bytes) -> int:
        return id(value) + objects.BYTES_DATA

    return lambda context, identifier, body: int(call(address(context), identifier, address(body), len(body)))
