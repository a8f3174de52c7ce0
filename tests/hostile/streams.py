"""Streams as a hostile collector, a bad disk or a lost network would leave them, and what holds for all of them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from hypothesis import strategies as st

from reader.build import UUID, Trace, describe
from shmtrace import wire
from shmtrace.export.text import json_line, text_line
from shmtrace.reader.stream import Metadata, Packet, Parser, Run, struct_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shmtrace.reader import Record
    from shmtrace.reader.stream import Item

CLASSES = (
    wire.event(16, "numbers", wire.class_fields("a:u8 b:i64 c:f64 d:bool", "begin"), 6, "begin"),
    wire.event(17, "texts", wire.class_fields("text:str data:bytes rest:u16")),
)
NUMBERS = struct.pack("<4IBqd?", 9, 2, wire.BY_THREAD, 4, 1, -1, 0.5, True)
TEXTS = struct.pack("<2I", wire.BY_THREAD, 2) + b"text\0" + struct.pack("<H3sH", 3, b"abc", 7)
LOG = b"\x82\xa3msg\xa5hello\xa1n\xcb" + struct.pack(">d", float("nan"))
KEYS = (
    wire.PACKET_MAGIC.to_bytes(4, "little") + UUID.bytes,
    wire.METADATA_MAGIC.to_bytes(4, "little") + UUID.bytes,
    UUID.bytes,
)


def rich_trace() -> Trace:
    """Every kind of record, in three lanes that take turns."""
    trace = Trace(describe("".join(CLASSES)))
    for number in range(4):
        for lane in (trace.lane(n, cpu=n // 2) for n in range(3)):
            lane.at(10_000 * (number + 1) + lane.number).writer(7, pid=100 + lane.number)
            lane.clock(lane.cycles, lane.cycles * 1000, 10**18 + lane.cycles * 1000)
            lane.add(16, NUMBERS, writer=7).add(17, TEXTS, writer=7).at(lane.cycles + 5).add(wire.ID_LOG, LOG)
            lane.blob(f"{lane.number}.{number}".encode(), writer=7).add(wire.ID_PADDING, b"padding").loss(number)
            lane.packet(discarded=number)
    return trace


class Part(NamedTuple):
    """A piece of a stream."""

    data: bytes
    intact: bool


def _damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """One thing wrong with a packet."""
    places = st.integers(0, len(data) - 1)
    header = st.sampled_from(range(0, wire.PACKET_BYTES, 4))
    nasty = st.sampled_from((0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 8 * 128, 8 * 80, len(data)))
    return st.one_of(
        st.builds(lambda at, flip: data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :], places, st.integers(1, 255)),
        st.builds(lambda at, number: data[:at] + number.to_bytes(4, "little") + data[at + 4 :], header, nasty),
        st.builds(lambda at: data[:at], places),
        st.builds(lambda at: data[at:], places.filter(bool)),
        st.builds(lambda at, more: data[:at] + more + data[at:], places, st.binary(min_size=1, max_size=40)),
    )


@st.composite
def hostile_parts(draw: st.DrawFn) -> list[Part]:
    """A good stream whose packets were damaged, dropped, doubled, moved, and have something else between them."""
    parts = [Part(data, intact=True) for data in rich_trace().parts]
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(parts) - 1))
        what = draw(st.integers(0, 5))
        if what == 0:
            parts[at] = Part(draw(_damaged(parts[at].data)), intact=False) if parts[at].intact else parts[at]
        elif what == 1:
            parts.insert(draw(st.integers(0, len(parts))), parts[at])
        elif what == 2 and len(parts) > 1:
            del parts[at]
        elif what == 3:
            other = draw(st.integers(0, len(parts) - 1))
            parts[at], parts[other] = parts[other], parts[at]
        elif what == 4:
            garbage = st.one_of(st.binary(min_size=1, max_size=200), st.sampled_from(KEYS))
            parts.insert(at, Part(draw(garbage), intact=False))
        else:
            parts.insert(at, parts[0])
    return [part for part in parts if part.data]


def joined(parts: Iterable[Part]) -> bytes:
    return b"".join(part.data for part in parts)


def certain(parts: Sequence[Part]) -> list[bytes]:
    """The packets that must be given whatever the others are: unharmed, described, and with a header behind them.

    In order of their numbers, as copies and late ones may be dropped.
    """
    found: list[bytes] = []
    described = False
    newest: dict[int, int] = {}
    doubtful: set[int] = set()
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        metadata = part.data.startswith(KEYS[1])
        if metadata or not part.intact:
            described |= metadata and part.intact
            # a damaged packet that is given all the same may take another's number
            doubtful |= set() if part.intact else {0, 1, 2}
            continue
        header = struct_of(wire.PACKET).unpack_from(part.data)
        number, lane = header[7], header[10]
        fresh = number > newest.get(lane, -1)
        newest[lane] = max(number, newest.get(lane, -1))
        if described and fresh and lane not in doubtful and (following is None or following.intact):
            found.append(part.data)
    return found


def check_cover(data: bytes, items: Sequence[Item]) -> None:
    """Each byte belongs to one item, or to a packet that is a copy."""
    end = 0
    for item in items:
        assert item.offset >= end
        check_copies(data[end : item.offset])
        if isinstance(item, Metadata):
            size = struct_of(wire.METADATA).unpack_from(data, item.offset)[4] // 8
        else:
            size = len(item.data) if isinstance(item, (Packet, Run)) else item.size
        end = item.offset + size
    check_copies(data[end:])


def check_copies(data: bytes) -> None:
    """Nothing but whole packets."""
    while data:
        assert data.startswith(KEYS[0])
        size = struct_of(wire.PACKET).unpack_from(data)[6] // 8
        assert size <= len(data)
        data = data[size:]


def check_records(records: Iterable[Record]) -> int:
    """All of them can be printed; their number."""
    count = 0
    for record in records:
        assert text_line(record).isprintable()
        json_line(record).encode("utf-8", "backslashreplace")
        assert -(1 << 63) <= record.time_ns < 1 << 63
        count += 1
    return count


def parse_in_pieces(data: bytes, cuts: Iterable[int]) -> list[Item]:
    """As `parse`, with pauses."""
    parser = Parser()
    items: list[Item] = []
    start = 0
    for cut in sorted(cuts):
        items += parser.feed(data[start:cut]) if cut > start else []
        items += parser.idle()
        start = max(start, cut)
    return items + parser.feed(data[start:]) + parser.end()
