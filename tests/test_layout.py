"""The shared segment: offsets that others rely on, geometries that are refused, and tables that the code follows."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest

import shmtrace
from shmtrace import layout, wire
from shmtrace.layout import CONTROL, LANE, PAGE, WRITER, Geometry
from shmtrace.native import tables
from shmtrace.segment import open_segment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shmtrace.segment import Segment

SIZES = {"page_size": 4096, "pages": 16, "cpus": 2, "lanes_per_cpu": 8, "writers": 4096, "classes_bytes": 256 * 1024}


@pytest.fixture
def segment(channel_name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Segment]:
    """A channel of one cpu whose switch is on without a collector, so that what is written stays where it is."""
    monkeypatch.setenv("SHMTRACE_CPUS", "1")
    shmtrace.create_channel(channel_name, page_size=4096, pages=16)
    segment = open_segment(channel_name)
    segment.set_u32(CONTROL.recording, 1)
    yield segment
    segment.set_u32(CONTROL.recording, 0)
    segment.unmap()
    shmtrace.remove_channel(channel_name)


@pytest.mark.parametrize(
    ("table", "offsets"),
    [
        (layout.CONTROL, {"magic": 0, "version": 8, "page_size": 16, "pages": 20, "uuid": 56, "boot_id": 72,
                          "recording": 256, "asleep": 320, "collector_pid": 384, "goodbyes": 400, "fifo": 1024}),
        (layout.CPU, {"missed_no_lane": 0, "missed_bad_arguments": 8, "missed_timeout": 16}),
        (layout.LANE, {"owner": 0, "position": 8, "last_stamp": 16, "first": 24, "missed_no_page": 32,
                       "progress": 64, "note": 72, "totals": 128}),
        (layout.WRITER, {"identity": 0, "thread_start": 8, "tid": 16, "process": 32, "thread": 80}),
        (layout.PAGE, {"owner": 0, "next": 8, "length": 12}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_a_field_stays_where_version_3_has_it(table: type, offsets: dict[str, int]) -> None:
    assert layout.VERSION == 3
    assert {field: layout.fields_of(table)[field] for field in offsets} == offsets


TABLES = (
    (layout.CONTROL, layout.CONTROL_BYTES), (layout.CPU, layout.LINE_BYTES), (layout.LANE, layout.LANE_BYTES),
    (layout.TOTALS, layout.TOTALS_BYTES), (layout.WRITER, layout.WRITER_BYTES), (layout.CLASS, layout.CLASS_BYTES),
    (layout.PAGE, layout.PAGE_BYTES), (layout.CONTEXT, layout.CONTEXT_BYTES), (layout.BLOCK, layout.BLOCK_HEAD_BYTES),
    (layout.SLOT, layout.SLOT_BYTES), (tables.COLLECTOR, tables.COLLECTOR_BYTES), (tables.SEND, tables.SEND_BYTES),
    (tables.RING, tables.RING_BYTES), (tables.PACKING, tables.PACKING_BYTES), (tables.COPY, tables.COPY_BYTES),
    (tables.RESERVATION, tables.RESERVATION_BYTES), (tables.EVENT, tables.EVENT_BYTES),
    (tables.FIELD, tables.FIELD_BYTES), (tables.THREADS, tables.THREADS_BYTES), (tables.HERE, tables.HERE_BYTES),
    (tables.DESK, tables.DESK_BYTES),
    (tables.PLACE, tables.PLACE_BYTES), (tables.KERNELS, tables.KERNELS_BYTES), (tables.KNOWN, tables.KNOWN_BYTES),
    (tables.FUNCTIONS, tables.FUNCTIONS_BYTES), (tables.USE, tables.USE_BYTES),
    (tables.USES, tables.USES_BYTES),
)  # fmt: skip


@pytest.mark.parametrize(("table", "size"), TABLES, ids=[table.__name__ for table, _ in TABLES])
def test_fields_are_in_order_aligned_and_do_not_overlap(table: type, size: int) -> None:
    end = 0
    for field, offset in layout.fields_of(table).items():
        width = layout.width_of(table, field)
        assert offset >= end, f"{field} overlaps the field before it"
        assert offset % min(width, 8) == 0, f"{field} is not aligned"
        end = offset + width
    assert end <= size


def test_every_table_is_looked_at() -> None:
    named = vars(layout) | vars(tables)
    found = {value for name, value in named.items() if name.isupper() and value.__class__ is type and value is not int}
    assert found == {table for table, _ in TABLES}


def test_words_of_several_fields_are_full() -> None:
    assert layout.SEQUENCE_BITS + layout.PAGE_BITS + layout.COMMITTED_BITS == 64
    assert layout.OWNER_WRITER_BITS + layout.OWNER_PID_BITS + layout.OWNER_START_BITS == 64
    assert layout.IDENTITY_ENDED == 1 << 63, "in jitted code the sign"


def test_fields_hold_what_they_must_be_able_to_say() -> None:
    assert layout.MAX_PAGE_SIZE < 1 << layout.COMMITTED_BITS, "committed bytes: that a page is full"
    assert 2 * layout.MAX_PAGES < 1 << (layout.SEQUENCE_BITS - 1), "sequences are compared modulo"


def test_the_magic_reads_as_text() -> None:
    assert layout.MAGIC.to_bytes(8, "little") == b"SHMTRACE"


def test_producers_and_collector_write_different_cache_lines_of_a_lane() -> None:
    producers = {"owner", "position", "last_stamp", "first", "cursor", "missed_no_page", "taken"}
    lines = {field: offset // layout.LINE_BYTES for field, offset in layout.fields_of(LANE).items()}
    assert {field for field, line in lines.items() if line == 0} == producers


def test_the_switch_shares_its_cache_line_with_nothing_that_changes_while_recording() -> None:
    line = CONTROL.recording // layout.LINE_BYTES
    fields = {name for name, offset in layout.fields_of(CONTROL).items() if offset // layout.LINE_BYTES == line}
    assert fields == {"recording", "removed"}


def test_regions_follow_each_other_and_pages_are_aligned() -> None:
    geometry = Geometry(**SIZES)
    assert geometry.lanes_at - geometry.cpus_at == 2 * layout.LINE_BYTES
    assert geometry.writers_at - geometry.lanes_at == 16 * layout.LANE_BYTES
    assert geometry.classes_at - geometry.writers_at == 4096 * layout.WRITER_BYTES
    assert geometry.descriptors_at - geometry.classes_at == 256 * 1024
    assert geometry.pages_at >= geometry.descriptors_at + 16 * layout.PAGE_BYTES
    assert geometry.pages_at % 4096 == geometry.lanes_at % 64 == 0
    assert geometry.segment_bytes == geometry.pages_at + 16 * 4096


@pytest.mark.parametrize(("page_size", "limit"), [(4096, 4080), (65_536, 65_520), (131_072, 65_535), (524_288, 65_535)])
def test_the_longest_blob(page_size: int, limit: int) -> None:
    assert Geometry(**{**SIZES, "page_size": page_size}).limit == limit


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"page_size": 4095}, "page size 4095: "), ({"page_size": 4096 + 64}, "page size 4160: "),
        ({"page_size": 0}, "page size 0: "), ({"page_size": 528_384}, "page size 528384: "),
        ({"page_size": -4096}, "page size -4096: "),
        ({"pages": 1}, "1 pages: "), ({"pages": 65_535}, "65535 pages: "), ({"pages": -1}, "-1 pages: "),
        ({"cpus": 0}, "0 cpus "), ({"cpus": 8192}, "8192 cpus "), ({"lanes_per_cpu": 1}, "2 cpus with 1 lanes"),
        ({"writers": 1}, "1 writers: "), ({"writers": 65_536}, "65536 writers: "),
        ({"classes_bytes": 63}, "class table of 63 bytes: "), ({"classes_bytes": -64}, "class table of -64 bytes: "),
    ],
)  # fmt: skip
def test_a_size_that_a_channel_cannot_have_is_named(sizes: dict[str, int], message: str) -> None:
    wrong = Geometry(**{**SIZES, **sizes}).check()
    assert wrong is not None
    assert wrong.startswith(message)


@pytest.mark.parametrize("sizes", [{"page_size": 4096}, {"page_size": 524_288}, {"pages": 2}, {"pages": 65_534}])
def test_the_extremes_are_allowed(sizes: dict[str, int]) -> None:
    assert Geometry(**{**SIZES, **sizes}).check() is None


def test_jitted_code_writes_a_record_where_the_tables_say(segment: Segment, channel_name: str) -> None:
    assert shmtrace.open_channel(channel_name).event(b"payload")
    lane = segment.lane_at(0)
    position = segment.u64(lane + LANE.position)
    page = position >> layout.PAGE_SHIFT & layout.PAGE_MASK
    assert position >> layout.SEQUENCE_SHIFT == 1
    assert position & layout.COMMITTED_MASK == wire.RECORD_BYTES + wire.padded(len(b"payload"))
    assert segment.u64(lane + LANE.owner) == 0
    assert segment.u64(lane + LANE.taken) == 1
    assert segment.u64(segment.geometry.descriptors_at + page * layout.PAGE_BYTES + PAGE.owner) == 1 << 28 | 1
    at = segment.geometry.pages_at + page * segment.geometry.page_size
    cycles, identifier, cpu, writer, size = struct.unpack("<QHHHH", segment.read(at, wire.RECORD_BYTES))
    assert (identifier, size, segment.read(at + wire.RECORD_BYTES, size)) == (wire.ID_BLOB, 7, b"payload")
    assert cycles == segment.u64(lane + LANE.last_stamp)
    assert cpu in os.sched_getaffinity(0)
    entry = segment.geometry.writers_at + writer * layout.WRITER_BYTES
    identity = segment.u64(entry + WRITER.identity)
    assert identity & (1 << layout.IDENTITY_PID_BITS) - 1 == segment.u32(entry + WRITER.tid)  # the main thread


def test_a_position_that_names_no_page_is_passed_over(segment: Segment, channel_name: str) -> None:
    """Whoever damaged the word must not make this process write elsewhere; the next lane is taken."""
    channel = shmtrace.open_channel(channel_name)
    lanes = [segment.lane_at(number) + LANE.position for number in range(3)]
    damaged = {lanes[0]: 1 << 36 | 17 << 20, lanes[1]: 1 << 36 | 3 << 20 | 4097}
    for at, word in damaged.items():
        segment.set_u64(at, word)
    assert channel.event(b"x")
    assert {at: segment.u64(at) for at in damaged} == damaged
    assert segment.u64(lanes[2]) & layout.COMMITTED_MASK == 24
