"""The parser: which bytes are packets, and what is said of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reader.build import UUID, Trace, packets, parse, skipped, small_trace, whole
from shmtrace import wire
from shmtrace.reader.rows import Leaps, jitted
from shmtrace.reader.stream import LIMIT_BYTES, Metadata, Packet, Parser, RecordDamaged, Run, Skipped, heads, struct_of

if TYPE_CHECKING:
    from shmtrace.reader.stream import Item

pytestmark = pytest.mark.timeout(60)


def test_a_stream_gives_its_description_and_all_packets() -> None:
    trace = small_trace()
    first, *others = parse(trace.stream)
    assert first == Metadata(0, UUID.bytes, trace.text)
    assert [bytes(item.data) for item in others if isinstance(item, Packet)] == trace.parts[1:]


def test_a_packet_tells_what_its_header_says() -> None:
    trace = Trace()
    trace.lane(3, cpu=2).at(10).blob(b"abc").at(20).blob(b"de").packet(sequence=5, discarded=0)
    (packet,) = packets(parse(trace.stream))
    assert packet[:1] + packet[2:] == (len(trace.metadata), wire.PACKET_BYTES + 24 + 18, 3, 2, 5, 10, 20, 0, 0)


@pytest.mark.parametrize("step", [1, 7, 80, 4096])
def test_the_pieces_in_which_a_stream_comes_make_no_difference(step: int) -> None:
    stream = small_trace().garbage(b"between").stream + small_trace().stream
    assert parse(stream, step) == parse(stream)


def test_truncation_at_every_byte_keeps_all_whole_packets_and_names_the_rest() -> None:
    trace = small_trace()
    ends = [sum(map(len, trace.parts[: count + 1])) for count in range(len(trace.parts))]
    for cut in range(len(trace.stream)):
        items = parse(trace.stream[:cut])
        good = [item for item in items if not isinstance(item, Skipped)]
        assert len(good) == sum(end <= cut for end in ends)
        kept = max((end for end in ends if end <= cut), default=0)
        assert [(item.offset, item.size) for item in skipped(items)] == ([(kept, cut - kept)] if cut > kept else [])


def test_a_packet_is_not_given_before_another_header_stands_behind_it() -> None:
    trace = small_trace()
    parser = Parser()
    parser.feed(trace.metadata)
    first, second = trace.parts[1:3]
    assert not packets(parser.feed(first + second[:19]))
    assert whole(parser.feed(second[19:20])) == [first]


def test_a_pause_gives_a_packet_whose_records_fill_it() -> None:
    trace = small_trace()
    parser = Parser()
    assert [type(item) for item in parser.feed(trace.metadata + trace.parts[1])] == [Metadata]
    assert whole(parser.idle()) == [trace.parts[1]]
    assert parser.idle() == []
    assert whole(parser.feed(trace.parts[2]) + parser.end()) == [trace.parts[2]]


def test_a_pause_gives_no_packet_whose_records_do_not_fill_it() -> None:
    trace = Trace()
    damaged = bytearray(trace.lane().blob(b"abcdefgh").packet())
    damaged[wire.PACKET_BYTES + wire.RECORD.size] += 1
    parser = Parser()
    parser.feed(trace.metadata + damaged)
    assert parser.idle() == []
    assert whole(parser.feed(trace.lane().packet()) + parser.end()) == [damaged, trace.parts[2]]


def test_a_pause_gives_no_packet_whose_time_runs_backwards() -> None:
    trace = Trace()
    trace.lane().at(20).blob(b"a").at(10).blob(b"b").at(20).packet()
    parser = Parser()
    parser.feed(trace.stream)
    assert parser.idle() == []


def test_a_pause_in_the_middle_of_a_packet_gives_nothing() -> None:
    trace = small_trace()
    parser = Parser()
    parser.feed(trace.metadata + trace.parts[1][:-1])
    assert parser.wanted == 1
    assert parser.idle() == []
    assert whole(parser.feed(trace.parts[1][-1:]) + parser.idle()) == [trace.parts[1]]


def test_garbage_between_packets_is_named_with_the_packet_that_it_makes_doubtful() -> None:
    trace = small_trace()
    first, second, third = trace.parts[1:4]
    stream = trace.metadata + first + second + b"garbage" * 9 + third
    items = parse(stream)
    assert whole(items) == [first, third]
    at = len(trace.metadata) + len(first)
    assert [(item.offset, item.size) for item in skipped(items)] == [(at, len(second) + 63)]


def test_a_torn_packet_that_is_sent_again_is_given_once() -> None:
    trace = Trace()
    lane = trace.lane()
    first = lane.blob(b"1" * 100).packet()
    torn = lane.blob(b"2" * 50_000).blob(b"3" * 50_000).packet()
    third = lane.blob(b"4").packet()
    for cut in (1, 79, 80, 4096, 49_000, 65_536, len(torn) - 1):
        items = parse(trace.metadata + first + torn[:cut] + trace.metadata + torn + third)
        assert whole(items) == [first, torn, third]
        assert [(item.offset, item.size) for item in skipped(items)] == [(len(trace.metadata + first), cut)]
        assert [packet.missing for packet in packets(items)] == [0, 0, 0]


def test_a_torn_description_is_passed_over() -> None:
    trace = small_trace()
    items = parse(trace.metadata[:200] + trace.stream)
    assert len(packets(items)) == 6
    assert [(item.offset, item.size) for item in skipped(items)] == [(0, 200)]


def test_what_a_dead_collector_left_ends_with_it() -> None:
    trace = small_trace()
    parser = Parser()
    parser.feed(trace.metadata + trace.parts[1] + trace.parts[2][:50])
    assert [(item.size, item.why != "") for item in skipped(parser.end())] == [(50, True)]
    assert whole(parser.feed(trace.metadata + trace.parts[2]) + parser.idle()) == [trace.parts[2]]


def test_a_copy_of_a_whole_packet_is_dropped() -> None:
    trace = small_trace()
    stream = trace.metadata + trace.parts[1] + trace.metadata + trace.parts[1] + b"".join(trace.parts[2:])
    assert whole(parse(stream)) == trace.parts[1:]


def test_copies_are_looked_for_in_one_lane_only() -> None:
    trace = Trace()
    for number in range(3):
        trace.lane(number).blob(b"same number").packet(sequence=4)
    assert len(packets(parse(trace.stream))) == 3


def test_a_gap_in_the_numbers_is_reported() -> None:
    trace = Trace()
    for sequence in (4, 5, 9):
        trace.lane().blob(b"").packet(sequence=sequence)
    assert [packet.missing for packet in packets(parse(trace.stream))] == [0, 0, 3]


def test_one_wrong_number_does_not_make_all_others_copies() -> None:
    trace = Trace()
    for sequence in (4, 1 << 40, 6, 7):
        trace.lane().blob(b"").packet(sequence=sequence)
    assert [packet.number for packet in packets(parse(trace.stream))] == [4, 1 << 40, 6, 7]


def test_what_was_refused_is_counted_from_packet_to_packet() -> None:
    trace = Trace()
    for discarded in (0, 3, 3, 10):
        trace.lane().packet(discarded=discarded)
    assert [packet.missed for packet in packets(parse(trace.stream))] == [0, 3, 0, 7]


def test_another_readers_period_begins_with_no_gap() -> None:
    trace = Trace()
    trace.lane().packet(sequence=4, discarded=9)
    trace.lane().packet(sequence=20, discarded=2)
    assert [(packet.missing, packet.missed) for packet in packets(parse(trace.stream))] == [(0, 9), (0, 2)]


def test_packets_ahead_of_the_first_description_are_named() -> None:
    trace = small_trace()
    items = parse(trace.parts[1] + trace.stream)
    assert len(packets(items)) == 6
    assert [(item.offset, item.size) for item in skipped(items)] == [(0, len(trace.parts[1]))]


def test_packets_of_another_trace_are_named() -> None:
    trace = small_trace()
    foreign = trace.parts[2].replace(UUID.bytes, bytes(16))
    items = parse(trace.metadata + trace.parts[1] + trace.parts[3] + foreign + trace.parts[4])
    assert whole(items) == [trace.parts[1], trace.parts[4]]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("content_size", 1),
        ("content_size", 8 * 79),
        ("packet_size", 8 * (LIMIT_BYTES + 8)),
        ("packet_size", (1 << 64) - 1),
        ("stream_id", 1),
        ("lane", 1 << 20),
        ("cpu_id", 1 << 20),
        ("timestamp_begin", (1 << 64) - 1),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(field: str, value: int) -> None:
    trace = small_trace()
    bad = bytearray(trace.parts[1])
    at = getattr(wire.PACKET, field)
    width = 4 if field in {"stream_id", "lane", "cpu_id"} else 8
    bad[at : at + width] = value.to_bytes(width, "little")
    items = parse(trace.metadata + bytes(bad) + b"".join(trace.parts[2:]))
    assert len(packets(items)) == 5
    assert len(skipped(items)) == 1


def test_records_that_reach_beyond_their_packet_are_found() -> None:
    trace = Trace()
    damaged = bytearray(trace.lane().blob(b"abc").blob(b"def").packet())
    damaged[wire.PACKET_BYTES + wire.RECORD.size + 1] = 0xFF
    (packet,) = packets(parse(trace.metadata + damaged))
    with pytest.raises(RecordDamaged, match="byte 80"):
        list(heads(packet))


def _covers_everything(stream: bytes, trace: Trace) -> None:
    """Descriptions, packets, copies and named bytes are in order and do not overlap."""
    items = parse(stream)
    end = 0
    for item in items:
        assert item.offset >= end
        size = len(item.data) if isinstance(item, Packet) else item.size if isinstance(item, Skipped) else 37
        end = item.offset + size
    assert end <= len(stream) or not stream
    assert all(isinstance(item, Skipped) or item.offset <= len(stream) for item in items)
    assert trace.parts


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2000))
def test_no_bytes_upset_the_parser(data: bytes) -> None:
    _covers_everything(data, small_trace())


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_hostile_headers_do_not_upset_the_parser(data: st.DataObject) -> None:
    trace = small_trace()
    keys = [
        wire.PACKET_MAGIC.to_bytes(4, "little") + UUID.bytes,
        wire.METADATA_MAGIC.to_bytes(4, "little") + UUID.bytes,
        UUID.bytes,
        trace.parts[1],
        trace.metadata[:60],
    ]
    parts = data.draw(st.lists(st.one_of(st.sampled_from(keys), st.binary(max_size=90)), max_size=20))
    _covers_everything(trace.metadata + b"".join(parts), trace)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_flipped_byte_costs_at_most_its_packet_and_the_one_before(data: st.DataObject) -> None:
    trace = small_trace()
    stream = bytearray(trace.stream)
    at = data.draw(st.integers(len(trace.metadata), len(stream) - 1))
    stream[at] ^= data.draw(st.integers(1, 255))
    kept = set(whole(parse(bytes(stream))))
    assert sum(part not in kept for part in trace.parts[1:]) <= 2


@pytest.mark.timeout(20)
def test_many_false_headers_cost_linear_time() -> None:
    trace = small_trace()
    header = bytearray(trace.parts[1][: wire.PACKET_BYTES])
    header[wire.PACKET.content_size : wire.PACKET.content_size + 16] = (8 * (1 << 20)).to_bytes(8, "little") * 2
    items = parse(trace.metadata + bytes(header) * 40_000, 1 << 16)
    assert not packets(items)


@pytest.mark.timeout(20)
def test_many_false_descriptions_cost_linear_time() -> None:
    header = bytearray(small_trace().metadata[:60])
    header[wire.METADATA.content_size : wire.METADATA.content_size + 8] = (8 << 20).to_bytes(4, "little") * 2
    assert [item.size for item in skipped(parse(bytes(header) * 40_000, 1 << 16))] == [60 * 40_000]


def test_a_packet_that_was_cut_short_is_none_even_if_a_header_stands_where_it_should_have_ended() -> None:
    """A collector was killed in the middle of a large record; its successor's stream fills the rest by chance."""
    description = small_trace().metadata
    large = Trace().lane(0).at(10).blob(b"x" * 8000).packet()
    filler = Trace().lane(1).at(10).blob(b"y" * 100).packet()
    cut = large[: len(large) - len(description) - len(filler)]
    items = parse(description + cut + description + filler + large + filler)
    assert [bytes(packet.data) for packet in packets(items)] == [filler, large]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=3),
    st.integers(1, 1 << 12),
)
def test_runs_are_the_packets_that_would_have_been_given(
    made: list[tuple[int, int]], damage: list[tuple[int, int]], step: int
) -> None:
    lane = Trace().lane(2, cpu=1)
    for number, (rest, size) in enumerate(made):
        lane.at(10 * number).blob(bytes(size)).packet(
            discarded=lane.discarded + (rest == 9), sequence=number + rest // 8
        )
    data = bytearray(b"".join(lane.packets))
    for at, byte in damage:
        data[at % len(data)] = byte
    plain = parse(bytes(data), step, Parser(UUID.bytes))
    fast = parse(bytes(data), step, Parser(UUID.bytes, Leaps(jitted()["leap"], UUID.bytes)))
    assert [part for item in fast for part in packets_of(item)] == [part for item in plain for part in packets_of(item)]


def packets_of(item: Item) -> list[Item | tuple[int, bytes]]:
    """Where the packets are, and their bytes."""
    if isinstance(item, Packet) and not item.missing and not item.missed:
        return [(item.offset, bytes(item.data))]
    if not isinstance(item, Run):
        return [item]
    parts: list[Item | tuple[int, bytes]] = []
    at = 0
    while at < len(item.data):
        size = struct_of(wire.PACKET).unpack_from(item.data, at)[6] // 8
        parts.append((item.offset + at, bytes(item.data[at : at + size])))
        at += size
    return parts
