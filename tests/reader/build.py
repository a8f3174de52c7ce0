"""A fluent fake of what a collector sends, from the wire's tables, so that a test states one fact.

trace = Trace().define(wire.event(16, "request", "uint16_t _status;"))
lane = trace.lane(3, cpu=1)
lane.writer(7, pid=100).blob(b"hello", writer=7).packet()
trace.stream    # the description and the packets
"""

from __future__ import annotations

import dataclasses
import uuid
from typing import TYPE_CHECKING

from shmtrace import wire
from shmtrace.layout import CLOCK_TSC
from shmtrace.reader.stream import Packet, Parser, Skipped, struct_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from shmtrace.reader.stream import Item

UUID = uuid.UUID("12345678-9abc-def0-1234-56789abcdef0")
FREQUENCY = 2_000_000_000  # Hz: two cycles a nanosecond
BOOT_NS = 1_700_000_000_000_000_000  # wall clock at cycle 0
NAME = "app"


def describe(classes: str = "", *, frequency: int = FREQUENCY, clock_kind: int = CLOCK_TSC, channel: str = NAME) -> str:
    """The description of a trace."""
    return wire.metadata(
        uuid=str(UUID),
        boot_id=str(uuid.UUID(int=5)),
        channel=channel,
        hostname="host",
        clock_kind=clock_kind,
        frequency=frequency,
        offset_s=BOOT_NS // 1_000_000_000,
        offset=0,
        classes=classes,
    )


def record(cycles: int, identifier: int, body: bytes, *, cpu: int = 0, writer: int = 1) -> bytes:
    """One record, with no padding behind it."""
    return struct_of(wire.RECORD).pack(cycles, identifier, cpu, writer, len(body)) + body


@dataclasses.dataclass
class Lane:
    """Collects records and makes packets of them."""

    trace: Trace
    number: int
    cpu: int
    packets: list[bytes] = dataclasses.field(default_factory=list)
    records: list[bytes] = dataclasses.field(default_factory=list)
    sequence: int = 0
    discarded: int = 0
    cycles: int = 0
    first: int | None = None

    def at(self, cycles: int) -> Lane:
        """The next records are stamped with this."""
        self.cycles = cycles
        return self

    def add(self, identifier: int, body: bytes = b"", *, writer: int = 1, cpu: int | None = None) -> Lane:
        self.first = self.cycles if self.first is None else self.first
        self.records.append(record(self.cycles, identifier, body, cpu=self.cpu if cpu is None else cpu, writer=writer))
        return self

    def blob(self, body: bytes, *, writer: int = 1, cpu: int | None = None) -> Lane:
        return self.add(wire.ID_BLOB, body, writer=writer, cpu=cpu)

    def writer(self, number: int, pid: int, tid: int = 0, process: str = "python", thread: str = "main") -> Lane:
        body = struct_of(wire.WRITER_BODY).pack(11, 12, pid, tid or pid, number)
        return self.add(wire.ID_WRITER, body + process.encode() + b"\0" + thread.encode() + b"\0", writer=number)

    def clock(self, cycles: int, monotonic: int, realtime: int) -> Lane:
        return self.add(wire.ID_CLOCK, struct_of(wire.CLOCK_BODY).pack(cycles, monotonic, realtime))

    def loss(self, count: int, reason: int = wire.LOSS_UNREAD) -> Lane:
        return self.add(wire.ID_LOSS, struct_of(wire.LOSS_BODY).pack(0, 0, count, reason))

    def packet(self, *, sequence: int | None = None, discarded: int | None = None) -> bytes:
        """Closes the packet and sends it."""
        self.sequence = self.sequence if sequence is None else sequence
        self.discarded = self.discarded if discarded is None else discarded
        body = b""
        for made in self.records:
            body += b"\0" * (wire.padded(len(body)) - len(body)) + made
        content = wire.PACKET_BYTES + len(body)
        data = struct_of(wire.PACKET).pack(
            wire.PACKET_MAGIC, UUID.bytes, wire.STREAM_ID, self.cycles if self.first is None else self.first,
            self.cycles, 8 * content, 8 * wire.padded(content), self.sequence, self.discarded, self.cpu, self.number,
        ) + body  # fmt: skip
        data += b"\0" * (wire.padded(content) - content)
        self.sequence += 1
        self.records, self.first = [], None
        self.packets.append(data)
        self.trace.parts.append(data)
        return data


class Trace:
    """A stream in the making."""

    def __init__(self, text: str | None = None) -> None:
        self.text = describe() if text is None else text
        self.parts: list[bytes] = [self.metadata]
        self.lanes: dict[int, Lane] = {}

    @property
    def metadata(self) -> bytes:
        return wire.metadata_packet(self.text, UUID.bytes)

    def define(self, *classes: str) -> Trace:
        """Sends a description with these classes."""
        self.text = describe("".join(classes))
        self.parts.append(self.metadata)
        return self

    def lane(self, number: int = 0, cpu: int = 0) -> Lane:
        return self.lanes.setdefault(number, Lane(self, number, cpu))

    def garbage(self, data: bytes) -> Trace:
        self.parts.append(data)
        return self

    @property
    def stream(self) -> bytes:
        return b"".join(self.parts)

    def save(self, path: Path) -> Path:
        path.write_bytes(self.stream)
        return path

    def save_directory(self, path: Path) -> Path:
        """What a recorder makes of it."""
        path.mkdir()
        (path / "metadata").write_text(self.text)
        for lane in self.lanes.values():
            (path / f"stream_{lane.cpu}_{lane.number}").write_bytes(b"".join(lane.packets))
        return path


def small_trace() -> Trace:
    """Two lanes, three packets each, a few records in each of them."""
    trace = Trace()
    for number in range(3):
        for lane in (trace.lane(0, cpu=0), trace.lane(1, cpu=1)):
            lane.at(1000 * (number + 1) + lane.number).writer(7, pid=100 + lane.number)
            lane.blob(f"{lane.number}.{number}".encode(), writer=7).at(lane.cycles + 5).blob(b"x" * number, writer=7)
            lane.packet()
    return trace


def parse(data: bytes, step: int | None = None, parser: Parser | None = None) -> list[Item]:
    """All items of a stream that comes `step` bytes at a time."""
    parser = parser or Parser()
    items: list[Item] = []
    for at in range(0, len(data), step or len(data) or 1):
        items += parser.feed(data[at : at + (step or len(data))])
    return items + parser.end()


def packets(items: Iterable[Item]) -> list[Packet]:
    return [item for item in items if isinstance(item, Packet)]


def skipped(items: Iterable[Item]) -> list[Skipped]:
    return [item for item in items if isinstance(item, Skipped)]


def whole(items: Sequence[Item]) -> list[bytes]:
    """The packets' bytes."""
    return [bytes(packet.data) for packet in packets(items)]
