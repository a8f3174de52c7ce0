"""The reader before hostile streams: nothing but the named errors, nothing without end, and all good packets."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import commands
from hostile.packets import broken_packets
from hostile.packets import stream as broken_stream
from hostile.streams import (
    certain,
    check_cover,
    check_records,
    hostile_parts,
    joined,
    parse_in_pieces,
    rich_trace,
)
from reader.build import Trace, describe, parse, record, whole
from reader.fifo import Channel
from shmtrace import reader, wire
from shmtrace.reader import clock as clocks
from shmtrace.reader import records as decoding
from shmtrace.reader import stream as parsing
from shmtrace.reader.clock import Clock
from shmtrace.reader.description import describe as read_description
from shmtrace.reader.errors import InvalidDescription, NotATrace
from shmtrace.reader.recorder import Recorder
from shmtrace.reader.records import follow_directory
from shmtrace.reader.source import FifoSource
from shmtrace.reader.stream import LIMIT_BYTES, Packet, Parser, RecordDamaged, heads

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostile.streams import (
        Part,
    )
    from shmtrace.reader.stream import Item

pytestmark = pytest.mark.timeout(60)
many = settings(max_examples=150, deadline=None)
few = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def numbered(directory: Path) -> Path:
    """Another new place: hypothesis runs a test often in one directory."""
    return directory / str(sum(1 for _ in directory.iterdir()))


# -- streams


@many
@given(hostile_parts())
def test_all_good_packets_of_a_hostile_stream_are_given(parts: list[Part]) -> None:
    given_packets = set(whole(parse(joined(parts))))
    assert not set(certain(parts)) - given_packets


@many
@given(hostile_parts())
def test_each_byte_of_a_hostile_stream_is_in_a_packet_or_named(parts: list[Part]) -> None:
    data = joined(parts)
    check_cover(data, parse(data))


@many
@given(hostile_parts(), st.data())
def test_where_a_hostile_stream_pauses_makes_no_difference_to_what_is_certain(
    parts: list[Part], data: st.DataObject
) -> None:
    stream = joined(parts)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    items = parse_in_pieces(stream, cuts)
    check_cover(stream, items)
    assert not set(certain(parts)) - set(whole(items))


@many
@given(hostile_parts())
def test_a_hostile_stream_is_read_or_is_no_trace(parts: list[Part]) -> None:
    lines: list[str] = []
    try:
        check_records(reader.read(io.BytesIO(joined(parts)), warn=lines.append))
    except NotATrace:
        assert not any(part.intact and part.data.startswith(rich_trace().metadata[:4]) for part in parts)
    assert all(line.startswith("stream: byte ") for line in lines)


@many
@given(st.binary(max_size=300), st.integers(0, 70))
def test_any_bytes_in_records_can_be_printed(body: bytes, identifier: int) -> None:
    trace = Trace(rich_trace().text)
    trace.lane().at(5).add(identifier % 20, body).packet()
    check_records(reader.read(io.BytesIO(trace.stream), warn=lambda _: None))


@few
@given(hostile_parts())
def test_what_a_recorder_makes_of_a_hostile_stream_has_whole_packets_only(tmp_path: Path, parts: list[Part]) -> None:
    data = joined(parts)
    place = numbered(tmp_path)
    with Recorder(place, delivered=lambda: 0) as recorder:
        recorder.add(parse(data))
        assert recorder.failure is None
        recorder.summary()
    lines: list[str] = []
    if (place / "metadata").exists():
        with suppress(InvalidDescription):
            check_records(reader.read(place, warn=lines.append))
    assert not [line for line in lines if "bytes skipped" in line]


# -- directories


@few
@given(hostile_parts(), hostile_parts(), st.data())
def test_a_hostile_directory_is_read_or_refused_by_name(
    tmp_path: Path, first: list[Part], second: list[Part], data: st.DataObject
) -> None:
    place = numbered(tmp_path)
    place.mkdir()
    text = rich_trace().text.encode()
    at = data.draw(st.integers(0, len(text)))
    torn = data.draw(st.sampled_from((text, text[:at], text[at:], text[:at] + b"\xff" + text[at:])))
    (place / "metadata").write_bytes(torn)
    (place / "stream_0_0").write_bytes(joined(first))
    (place / "stream_1_1").write_bytes(joined(second))
    lines: list[str] = []
    for records in (lambda: reader.read(place, warn=lines.append), lambda: _followed(place, lines.append)):
        try:
            check_records(records())
        except (NotATrace, InvalidDescription):
            assert torn != text


def _followed(place: Path, warn: Callable[[str], None]) -> list[reader.Record]:
    return [made for batch in follow_directory(place, warn) for made in batch]


def test_a_lane_that_cannot_be_read_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    place = rich_trace().save_directory(tmp_path / "trace")
    lines: list[str] = []
    records = reader.read(place, warn=lines.append)
    (place / "stream_0_1").unlink()
    assert {made.lane for made in records} == {0, 2}
    (line,) = lines
    assert "stream_0_1: byte 0: " in line
    assert "cannot be read: No such file or directory" in line


def make_odd(path: Path, kind: str) -> None:
    """Something that is no file of a trace."""
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    else:
        path.touch()
        os.truncate(path, LIMIT_BYTES + 1)


@pytest.mark.parametrize("kind", ["directory", "fifo", "loop"])
def test_what_is_no_file_is_no_lane(tmp_path: Path, kind: str) -> None:
    place = rich_trace().save_directory(tmp_path / "trace")
    make_odd(place / "stream_7_7", kind)
    assert {made.lane for made in reader.read(place)} == {0, 1, 2}


@pytest.mark.parametrize("kind", ["directory", "fifo", "loop", "huge"])
def test_what_is_no_file_is_no_description(tmp_path: Path, kind: str) -> None:
    make_odd(tmp_path / "metadata", kind)
    with pytest.raises(NotATrace, match="is no trace"):
        reader.read(tmp_path)


def test_a_file_that_cannot_be_read_is_no_trace(tmp_path: Path) -> None:
    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, _: object) -> int:
            raise OSError(5, "Input/output error")

    with pytest.raises(NotATrace, match="cannot be read: Input/output error"):
        list(reader.read(io.BufferedReader(Broken())))


# -- the FIFO and the commands


@settings(few, max_examples=12)
@given(hostile_parts())
def test_a_hostile_fifo_gives_what_a_file_gives(tmp_path: Path, parts: list[Part]) -> None:
    channel = Channel(numbered(tmp_path))
    data = joined(parts)
    items: list[Item] = []
    with FifoSource(channel, say=lambda _: None) as source:
        reading = threading.Thread(target=lambda: items.extend(item for batch in source.batches() for item in batch))
        with channel.collector() as sink:
            reading.start()
            os.write(sink, data)
        reading.join(10)
        assert not reading.is_alive()
    check_cover(data, items)
    assert not set(certain(parts)) - set(whole(items))


def test_commands_print_what_is_good_of_all_broken_packets(tmp_path: Path) -> None:
    streams = [broken_stream(broken)[0] for broken in broken_packets().values()]
    file = tmp_path / "file"
    file.write_bytes(b"".join(streams))
    with file.open("rb") as stdin:
        for command in (("convert", file, "-o", "-"), ("convert", "-", "-o", tmp_path / "out.jsonl")):
            done = subprocess.run(
                [*commands.SHMTRACE, *map(str, command)], stdin=stdin, capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0
            assert "Traceback" not in done.stderr
    assert '{"blob": "a"}' in (tmp_path / "out.jsonl").read_text()


def test_tail_follows_a_directory_of_broken_packets(tmp_path: Path) -> None:
    place = rich_trace().save_directory(tmp_path / "trace")
    with (place / "stream_0_0").open("ab") as lane:
        lane.writelines(broken_packets().values())
    done = commands.run("tail", place, "--once")
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "bytes skipped" in done.stderr


# -- time and memory


def quickly(limit_s: float, function: Callable[[], object]) -> None:
    """Far above what linear work takes, far below what quadratic work would."""
    start = time.process_time()
    function()
    assert time.process_time() - start < limit_s


@pytest.mark.parametrize(
    "line",
    [
        "\n",
        " ",
        "\n\t",
        '\n\tname = tsc; uuid = "0"; description = "',
        '\nevent { id = 20; name = "',
        "\n\thostname = ",
    ],
)
def test_a_long_description_costs_linear_time(line: str) -> None:
    text = describe().replace("name = tsc", "name = none")

    def refuse() -> None:
        with pytest.raises(InvalidDescription):
            read_description(text + line * (1_000_000 // len(line)))

    quickly(2, refuse)


def test_a_description_with_too_many_classes_keeps_those_that_a_record_can_name() -> None:
    text = describe("".join(wire.event(number, "x", "uint8_t _a;") for number in (15, 16, 0xFFFF, 0x10000, 10**9)))
    assert list(read_description(text).classes) == [wire.ID_PLACED, 16, 0xFFFF]


def test_readings_of_the_clock_in_any_order_cost_little() -> None:
    clock = Clock(read_description(describe(frequency=1)).clock)

    def add() -> None:
        for cycles in range(20_000, 0, -1):
            clock.add(cycles, cycles, cycles)

    with mock.patch.object(clocks, "MOST_READINGS", 1000):
        quickly(1, add)
    assert 400 < len(clock._readings) <= 1000
    assert clock.convert(1) == (1, 1)


@pytest.mark.parametrize("frequency", [1, 2**64, 10**40])
@pytest.mark.parametrize("cycles", [0, 1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize("reading", [(0, 0, 0), (1, (1 << 64) - 1, 0), ((1 << 64) - 1, 0, (1 << 64) - 1)])
def test_a_time_beyond_all_calendars_is_the_last_or_first(
    frequency: int, cycles: int, reading: tuple[int, int, int]
) -> None:
    trace = Trace(describe(frequency=frequency).replace("offset_s = ", "offset_s = -99999999999999999999"))
    trace.lane().at(0).clock(0, 0, 0).clock(*reading).at(cycles).blob(b"x").packet()
    assert check_records(reader.read(io.BytesIO(trace.stream))) == 1


def claiming(size: int) -> tuple[Parser, bytes]:
    """A parser in the middle of a trace, and the header of a packet that claims so many bytes."""
    header = bytearray(rich_trace().parts[1][: wire.PACKET_BYTES])
    header[wire.PACKET.content_size : wire.PACKET.content_size + 16] = (8 * size).to_bytes(8, "little") * 2
    parser = Parser()
    parser.feed(rich_trace().metadata)
    return parser, bytes(header)


def test_false_headers_in_small_pieces_cost_linear_time() -> None:
    """Each of them claims all that a packet may have."""
    parser, header = claiming(LIMIT_BYTES)
    parser.feed(header * (LIMIT_BYTES // len(header) + 1))
    piece = header * 50

    def feed() -> None:
        for _ in range(500):
            parser.feed(piece)

    quickly(3, feed)


def test_no_more_is_held_than_the_longest_packet_and_a_part_of_it() -> None:
    limit = 1 << 18
    parser, header = claiming(limit)
    most = 0
    with mock.patch.object(parsing, "LIMIT_BYTES", limit):
        for _ in range(1000):
            parser.feed(header * 10)
            most = max(most, parser._buffer.held)
    assert most < limit * 1.1


def test_a_writer_that_everybody_claims_to_be_costs_bounded_memory() -> None:
    trace = Trace()
    lane = trace.lane()
    for number in range(100):
        lane.writer(number, pid=number).blob(str(number).encode(), writer=number)
    lane.packet()
    with mock.patch.object(decoding, "MOST_WRITERS", 10):
        records = list(reader.read(io.BytesIO(trace.stream)))
    assert [made.pid for made in records] == list(range(100))


def test_the_name_of_a_writer_is_as_long_as_one_can_be() -> None:
    trace = Trace()
    trace.lane().writer(1, pid=1, process="p" * 30_000, thread="t" * 30_000).blob(b"x").packet()
    (made,) = reader.read(io.BytesIO(trace.stream))
    assert (made.process, made.thread) == ("p" * 48, "t" * 48)


@many
@given(st.data())
def test_the_records_of_any_packet_come_to_an_end(data: st.DataObject) -> None:
    body = data.draw(st.lists(st.builds(record, st.integers(0, 1 << 63), st.integers(0, 65535), st.binary(max_size=9))))
    packet = bytearray(Trace().lane().blob(b"".join(body)).packet())
    for _ in range(data.draw(st.integers(0, 4))):
        packet[data.draw(st.integers(wire.PACKET_BYTES, len(packet) - 1))] = data.draw(st.integers(0, 255))
    content = data.draw(st.integers(wire.PACKET_BYTES, len(packet)))
    made = Packet(0, memoryview(bytes(packet)), content, 0, 0, 0, 0, 0, 0, 0)
    with suppress(RecordDamaged):
        assert len(list(heads(made))) <= len(packet) // wire.RECORD_BYTES


def test_the_fuzzer_finds_nothing_in_a_second(tmp_path: Path) -> None:
    fuzzer = Path(__file__).with_name("fuzz.py")
    done = commands.run("--seconds", "1", "--by-chance", "--corpus", tmp_path, command=(sys.executable, str(fuzzer)))
    assert (done.returncode, done.stderr) == (0, "")
    assert "no error" in done.stdout
