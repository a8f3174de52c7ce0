"""The stream: offsets that others rely on, and a description that babeltrace2 takes and fills from the same tables."""

from __future__ import annotations

import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from reader.build import UUID, Trace, describe
from shmtrace import wire
from shmtrace.layout import CLOCK_MONOTONIC, CLOCK_TSC, fields_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize(
    ("table", "offsets"),
    [
        (wire.PACKET, {"magic": 0, "uuid": 4, "stream_id": 20, "timestamp_begin": 24, "timestamp_end": 32,
                       "content_size": 40, "packet_size": 48, "packet_seq_num": 56, "events_discarded": 64,
                       "cpu_id": 72, "lane": 76}),
        (wire.RECORD, {"cycles": 0, "id": 8, "cpu": 10, "writer": 12, "size": 14}),
        (wire.METADATA, {"magic": 0, "uuid": 4, "checksum": 20, "content_size": 24, "packet_size": 28,
                         "compression": 32, "encryption": 33, "checksum_scheme": 34, "major": 35, "minor": 36}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_a_field_is_where_the_format_has_it(table: type, offsets: dict[str, int]) -> None:
    assert fields_of(table) == offsets


@pytest.mark.parametrize(
    ("table", "size"),
    [
        (wire.METADATA, wire.METADATA_BYTES), (wire.PACKET, wire.PACKET_BYTES), (wire.RECORD, wire.RECORD_BYTES),
        (wire.WRITER_BODY, wire.WRITER_BODY_BYTES), (wire.LOSS_BODY, wire.LOSS_BODY_BYTES),
        (wire.CLOCK_BODY, wire.CLOCK_BODY_BYTES),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_fields_follow_each_other_without_gaps_as_in_ctf(table: type, size: int) -> None:
    end = 0
    for field, offset in fields_of(table).items():
        assert offset == end, field
        end = offset + wire.WIDTHS[table.__annotations__[field]]
    assert end == size


def test_records_and_packets_stay_aligned() -> None:
    assert wire.RECORD_BYTES % wire.RECORD_ALIGNMENT == wire.PACKET_BYTES % wire.RECORD_ALIGNMENT == 0


def test_each_reserved_event_has_a_reserved_name() -> None:
    assert {name for _, name, _ in wire.RESERVED_EVENTS} == wire.RESERVED_NAMES


def test_headers_have_the_sizes_of_the_format() -> None:
    assert (wire.PACKET_CONTEXT_AT, wire.PACKET_BYTES - wire.PACKET_CONTEXT_AT) == (24, 56)
    assert (wire.RECORD_BYTES, wire.METADATA_BYTES) == (16, 37)
    assert (wire.PACKET_MAGIC, wire.METADATA_MAGIC) == (0xC1FC1FC1, 0x75D11D57)


def test_reserved_ids_are_below_the_first_of_the_users() -> None:
    assert [(number, name) for number, name, _ in wire.RESERVED_EVENTS] == list(
        enumerate(["blob", "writer", "loss", "padding", "clock", "log", "blob"])
    )
    assert wire.FIRST_ID == 16


@pytest.mark.parametrize(("size", "padded"), [(0, 0), (1, 8), (7, 8), (8, 8), (9, 16), (65_535, 65_536)])
def test_bodies_are_padded_to_8_bytes(size: int, padded: int) -> None:
    assert wire.padded(size) == padded


def test_a_packet_of_metadata_says_its_own_length() -> None:
    packet = wire.metadata_packet("/* CTF 1.8 */ ä", UUID.bytes)
    assert packet[:4] == bytes.fromhex("571DD175")
    for at in (wire.METADATA.content_size, wire.METADATA.packet_size):
        assert int.from_bytes(packet[at : at + 4], "little") == 8 * len(packet)


def test_every_description_begins_as_ctf_wants_it() -> None:
    assert describe().startswith("/* CTF 1.8 */")


@pytest.mark.peers
@pytest.mark.parametrize("packetized", [False, True])
def test_babeltrace2_finds_each_type_of_field_and_each_number_where_the_tables_say(
    tmp_path: Path, peer: Callable[[str], str], *, packetized: bool
) -> None:
    babeltrace2 = peer("babeltrace2")
    fields = " ".join(declaration.format(kind) for kind, declaration in wire.FIELD_TYPES.items())
    trace = Trace().define(wire.event(16, "every type", fields, level=7, kind="begin"))
    body = struct.pack("<BHIQbhiqfd?", 200, 256, 1, 1 << 63, -1, -256, -3, -4, 1.5, 1.25, True)
    body += b"text\0" + bytes([3, 0, 7, 8, 9])
    lane = trace.lane(5, cpu=3).at(1000).writer(9, pid=4711)
    lane.blob(b"\x01\x02\x03", writer=9).add(16, body, writer=9).clock(1000, 2, 3).loss(12).packet()
    directory = trace.save_directory(tmp_path / "trace")
    if packetized:
        (directory / "metadata").write_bytes(trace.metadata)
    said = subprocess.run([babeltrace2, directory], capture_output=True, text=True, timeout=60)
    assert (said.returncode, said.stderr) == (0, "")
    writer, blob, types, clock, loss = said.stdout.splitlines()
    assert all("{ cpu_id = 3, lane = 5 }" in line for line in said.stdout.splitlines())
    assert 'pid = 4711, tid = 4711, number = 9, process = "python", thread = "main"' in writer
    assert "writer = 9, size = 3 }, { blob = [ [0] = 1, [1] = 2, [2] = 3 ] }" in blob
    assert (
        "{ u8 = 200, u16 = 256, u32 = 1, u64 = 9223372036854775808, i8 = -1, i16 = -256, i32 = -3, i64 = -4, "
        'f32 = 1.5, f64 = 1.25, bool = ( "true" : container = 1 ), str = "text", '
    ) in types
    assert "bytes = [ [0] = 7, [1] = 8, [2] = 9 ] }" in types
    assert "{ cycles = 1000, monotonic = 2, realtime = 3 }" in clock
    assert 'count = 12, reason = ( "unread" : container = 0 )' in loss


@pytest.mark.peers
@pytest.mark.parametrize("clock_kind", [CLOCK_TSC, CLOCK_MONOTONIC])
@pytest.mark.parametrize("channel", ["app", 'a"b\\c', "ä\n"])
def test_babeltrace2_takes_the_description_of_either_clock_and_of_odd_names(
    tmp_path: Path, peer: Callable[[str], str], clock_kind: int, channel: str
) -> None:
    trace = Trace(describe(clock_kind=clock_kind, channel=channel))
    trace.lane().at(5).blob(b"x").packet()
    directory = trace.save_directory(tmp_path / "trace")
    said = subprocess.run([peer("babeltrace2"), directory], capture_output=True, text=True, timeout=60)
    assert (said.returncode, said.stderr, said.stdout.count("blob: ")) == (0, "", 1)
