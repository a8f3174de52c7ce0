"""Records out of streams and directories."""

from __future__ import annotations

import io
import math
import os
import struct
import subprocess
from typing import TYPE_CHECKING, BinaryIO

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reader.build import BOOT_NS, FREQUENCY, Trace, describe, small_trace
from shmtrace import wire
from shmtrace.reader import NotATrace, Record, TraceWarning, read

if TYPE_CHECKING:
    import pathlib

pytestmark = pytest.mark.timeout(60)
REQUEST = wire.event(16, "request", "uint16_t _status; string _path;", 6)


def records(trace: Trace | bytes) -> list[Record]:
    return list(read(io.BytesIO(trace if isinstance(trace, bytes) else trace.stream)))


def complaints(source: pathlib.Path | BinaryIO) -> tuple[list[Record], list[str]]:
    lines: list[str] = []
    return list(read(source, warn=lines.append)), lines


def test_a_blob_has_time_cpu_lane_writer_and_bytes() -> None:
    trace = Trace()
    trace.lane(3, cpu=2).at(2 * FREQUENCY).writer(7, 100, 101, "python", "pool").blob(b"\xff", writer=7, cpu=5).packet()
    assert records(trace) == [
        Record(
            BOOT_NS + 2 * 10**9, 2 * 10**9, 2 * FREQUENCY, "blob", "event", 5, 3, 100, 101, "python", "pool",
            {"blob": b"\xff"}, process_start=11,
        )
    ]  # fmt: skip


def test_a_tracepoint_has_its_name_and_fields() -> None:
    trace = Trace().define(REQUEST)
    trace.lane().add(16, struct.pack("<H", 200) + b"/index\0").packet()
    (record,) = records(trace)
    assert (record.name, record.kind, record.fields) == ("request", "event", {"status": 200, "path": "/index"})


@pytest.mark.parametrize("kind", ["begin", "end", "counter"])
def test_spans_and_counters_have_their_kind(kind: str) -> None:
    trace = Trace().define(wire.event(17, "load", "", kind=kind))
    trace.lane().add(17).packet()
    assert [(record.name, record.kind, record.fields) for record in records(trace)] == [("load", kind, {})]


def test_a_class_may_be_defined_while_records_come() -> None:
    trace = Trace()
    trace.lane().blob(b"1").packet()
    trace.define(REQUEST).lane().add(16, struct.pack("<H", 200) + b"\0").packet()
    assert [record.name for record in records(trace)] == ["blob", "request"]


def test_a_log_record_is_its_map() -> None:
    trace = Trace()
    fields = {"message": "cache miss", "tried": 3, "deep": {"list": [1, None, 0.5]}}
    trace.lane().add(wire.ID_LOG, msgpack.packb(fields)).packet()
    assert [(record.name, record.kind, record.fields) for record in records(trace)] == [("log", "log", fields)]


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"\x93\1\2\3", b"\x81\xa1a", b"\x81\xa1a" * 500 + b"\1", b"\x81\x80\1", b"\x80\x80"]
)
def test_a_log_record_that_is_no_map_is_bytes(body: bytes) -> None:
    trace = Trace()
    trace.lane().add(wire.ID_LOG, body).packet()
    assert [record.fields for record in records(trace)] == [{"msgpack": body}]


def test_writers_clocks_and_padding_do_not_show() -> None:
    trace = Trace()
    trace.lane().writer(7, 100).clock(0, 0, 0).add(wire.ID_PADDING, b"x" * 9).blob(b"shown").packet()
    assert [record.fields for record in records(trace)] == [{"blob": b"shown"}]


def test_a_writer_is_known_from_its_announcement_on_until_the_number_is_reused() -> None:
    trace = Trace()
    lane = trace.lane()
    lane.writer(7, 100).blob(b"", writer=7).packet()
    lane.blob(b"", writer=7).packet()
    lane.writer(7, 200).blob(b"", writer=7).packet()
    assert [record.pid for record in records(trace)] == [100, 100, 200]


def test_a_writer_is_announced_for_each_lane() -> None:
    trace = Trace()
    trace.lane(0).writer(7, 100).blob(b"", writer=7).packet()
    trace.lane(1).blob(b"", writer=7).packet()
    trace.lane(1).writer(7, 200).blob(b"", writer=7).packet()
    assert [record.pid for record in records(trace)] == [100, None, 200]


def test_an_unknown_writer_has_neither_pid_nor_names() -> None:
    trace = Trace()
    trace.lane().writer(65535, 100).blob(b"", writer=65535).packet()
    assert [record[7:11] for record in records(trace)] == [(None, None, None, None)]


def test_losses_show_with_reason_and_count() -> None:
    trace = Trace()
    lane = trace.lane(4, cpu=2)
    lane.at(10).blob(b"").packet()
    lane.at(20).loss(11).at(21).blob(b"").packet(sequence=3, discarded=5)
    losses = [record for record in records(trace) if record.kind == "loss"]
    assert [(record.fields["reason"], record.fields["count"], record.cycles) for record in losses] == [
        ("gap", 2, 20),
        ("missed", 5, 20),
        ("unread", 11, 20),
    ]
    assert all((record.name, record.cpu, record.lane, record.pid) == ("loss", 2, 4, None) for record in losses)


def test_a_later_clock_record_tells_of_the_records_before_it(tmp_path: pathlib.Path) -> None:
    trace = Trace()
    trace.lane(0).at(10).blob(b"").packet()
    trace.lane(1).at(20).clock(FREQUENCY, 77, 1_799_999_999_999_999_999).packet()
    expected = (1_799_999_999_999_999_999 - 77 + 77 + (10 - FREQUENCY) // 2, 77 + (10 - FREQUENCY) // 2)
    for source in (io.BytesIO(trace.stream), trace.save(tmp_path / "file"), trace.save_directory(tmp_path / "dir")):
        assert [record[:2] for record in read(source)] == [expected]


def test_file_directory_and_pipe_give_the_same_records(tmp_path: pathlib.Path) -> None:
    trace = small_trace()
    file = list(read(trace.save(tmp_path / "trace.bin")))
    assert len(file) == 12
    assert sorted(file, key=repr) == sorted(read(str(trace.save_directory(tmp_path / "trace"))), key=repr)
    with subprocess.Popen(["cat", tmp_path / "trace.bin"], stdout=subprocess.PIPE) as cat:
        assert cat.stdout is not None
        assert list(read(cat.stdout)) == file  # type: ignore[arg-type]


def test_the_lanes_of_a_directory_are_merged_by_time(tmp_path: pathlib.Path) -> None:
    trace = Trace()
    for cycles in (10, 40, 20, 30, 50, 15):
        lane = trace.lane(cycles % 3)
        lane.at(max(cycles, lane.cycles)).blob(b"").packet()
    times = [record.time_ns for record in read(trace.save_directory(tmp_path / "trace"))]
    assert len(times) == 6
    assert times == sorted(times)


def test_only_lane_files_of_a_directory_are_read(tmp_path: pathlib.Path) -> None:
    path = small_trace().save_directory(tmp_path / "trace")
    for name in ("notes", "stream_0", ".stream_0_0", "stream_1_1.bak"):
        (path / name).write_bytes(b"garbage")
    (path / "stream_7_7").mkdir()
    records, lines = complaints(path)
    assert (len(records), lines) == (12, [])


def test_what_is_skipped_is_named_with_file_and_byte(tmp_path: pathlib.Path) -> None:
    trace = small_trace()
    path = trace.garbage(b"garbage").save(tmp_path / "trace.bin")
    records, lines = complaints(path)
    at = len(trace.stream) - 7 - len(trace.parts[-2])
    assert len(records) == 10
    assert [line.split(" bytes skipped: ")[0] for line in lines] == [f"{path}: byte {at}: {len(trace.parts[-2]) + 7}"]


def test_a_cut_directory_is_read_and_named(tmp_path: pathlib.Path) -> None:
    path = small_trace().save_directory(tmp_path / "trace")
    file = path / "stream_1_1"
    os.truncate(file, file.stat().st_size - 1)
    records, lines = complaints(path)
    assert len(records) == 10
    assert len(lines) == 1
    assert lines[0].startswith(f"{file}: byte ")


def test_problems_are_warnings_when_nobody_wants_the_lines() -> None:
    with pytest.warns(TraceWarning, match="7 bytes skipped"):
        list(read(io.BytesIO(b"garbage" + small_trace().stream)))


def test_the_rest_of_a_packet_with_a_damaged_record_is_named() -> None:
    trace = Trace()
    lane = trace.lane()
    damaged = bytearray(lane.blob(b"1").blob(b"2").packet())
    lane.blob(b"3").packet()
    damaged[wire.PACKET_BYTES + 24 + wire.RECORD.size] = 99
    records, lines = complaints(io.BytesIO(trace.metadata + damaged + trace.parts[2]))
    assert [record.fields["blob"] for record in records] == [b"1", b"3"]
    assert [line.split(": the rest")[0] for line in lines] == [f"stream: byte {len(trace.metadata) + 104}"]


def test_records_without_a_description_are_named_once() -> None:
    trace = Trace()
    trace.lane().add(30).add(30).blob(b"").packet()
    records, lines = complaints(io.BytesIO(trace.stream))
    assert len(records) == 1
    assert ["event class 30" in line for line in lines] == [True]


def test_a_record_that_is_shorter_than_its_class_is_named() -> None:
    trace = Trace().define(REQUEST)
    trace.lane().add(16, b"\0").blob(b"").packet()
    records, lines = complaints(io.BytesIO(trace.stream))
    assert len(records) == 1
    assert ["'request'" in line for line in lines] == [True]


@pytest.mark.parametrize("content", [b"", b"text\n" * 9, bytes(100), wire.metadata_packet("nothing", bytes(16))])
def test_a_file_that_is_no_trace_is_refused(tmp_path: pathlib.Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(NotATrace, match=r"file is no trace"):
        list(read(tmp_path / "file"))


@pytest.mark.parametrize("follow", [False, True])
def test_a_directory_that_is_no_trace_is_refused(tmp_path: pathlib.Path, *, follow: bool) -> None:
    with pytest.raises(NotATrace, match="metadata"):
        list(read(tmp_path, follow=follow))


def test_a_path_that_does_not_exist_is_refused_at_once(tmp_path: pathlib.Path) -> None:
    with pytest.raises(NotATrace, match="No such file"):
        read(tmp_path / "nothing")


def test_an_unreadable_description_of_another_version_is_named() -> None:
    trace = small_trace()
    stream = trace.stream + wire.metadata_packet("/* CTF 1.8 */", b"".join(trace.parts)[4:20])
    assert len(complaints(io.BytesIO(stream))[1]) == 1


def test_a_description_that_makes_no_sense_is_named_once() -> None:
    trace = Trace(describe(frequency=0))
    trace.lane().blob(b"").packet()
    records, lines = complaints(io.BytesIO(trace.stream))
    assert [record.time_ns for record in records] == [0]
    assert [line.split(":")[0] for line in lines] == ["stream"]


def test_numbers_that_are_none_come_through() -> None:
    trace = Trace().define(wire.event(16, "x", "float64_t _value;"))
    trace.lane().add(16, struct.pack("<d", math.nan)).packet()
    (record,) = records(trace)
    value = record.fields["value"]
    assert isinstance(value, float)
    assert math.isnan(value)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_flipped_bytes_are_survived(data: st.DataObject) -> None:
    trace = Trace(describe(REQUEST))
    lane = trace.lane()
    for number in range(4):
        lane.at(100 * number).writer(7, 100).clock(number * FREQUENCY, number, number)
        lane.add(16, struct.pack("<H", 200) + b"/index\0").add(wire.ID_LOG, b"\x81\xa1a\1").loss(1).packet()
    stream = bytearray(trace.stream)
    for _ in range(data.draw(st.integers(1, 20))):
        stream[data.draw(st.integers(len(trace.metadata), len(stream) - 1))] = data.draw(st.integers(0, 255))
    complaints(io.BytesIO(stream))


def test_a_pipe_is_read_while_it_is_written() -> None:
    trace = small_trace()
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as source, os.fdopen(writer, "wb", buffering=0) as sink:
        sink.write(trace.metadata + trace.parts[1])
        got = read(source)
        assert [next(got).fields["blob"] for _ in range(2)] == [b"0.0", b""]
        sink.write(b"".join(trace.parts[2:]))
        sink.close()
        assert len(list(got)) == 10


def test_a_description_that_is_sent_again_keeps_what_is_known_of_clock_and_writers() -> None:
    trace = Trace()
    trace.lane().at(0).writer(7, 100).clock(0, 0, 5).blob(b"", writer=7).packet()
    trace.text = describe(REQUEST, frequency=FREQUENCY + 1)
    trace.garbage(trace.metadata).lane().blob(b"", writer=7).packet()
    assert [(record.time_ns, record.pid) for record in records(trace)] == [(5, 100), (5, 100)]
