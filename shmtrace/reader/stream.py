"""The byte stream, taken apart: descriptions, packets, and what is neither.

A collector may be killed in the middle of a packet.  The next one begins with a description and sends that packet
again, whole, under the same number.  So a size alone proves nothing: it may reach over the torn end into what the next
collector sent.  A packet counts when another header, or the end of the stream, stands right behind it, and no
description begins inside of it.  Otherwise the search for a header goes on one byte behind the bad packet's own, and
what was passed over is named.  A description needs nothing behind it: it is text, and no header is.

Nothing here trusts a byte: whatever comes in, the work is linear and the memory bounded, and nothing is raised.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from .. import wire
from ..layout import fields_of
from .buffer import Buffer

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "COLLECTORS_IDS",
    "RECORD",
    "Head",
    "Item",
    "Leap",
    "Metadata",
    "Packet",
    "Parser",
    "RecordDamaged",
    "Run",
    "Skipped",
    "heads",
    "packet_key",
    "struct_of",
]

LIMIT_BYTES, LIMIT_NUMBERS = wire.LIMIT_BYTES, wire.LIMIT_NUMBERS
# made by the collector, ahead of the others
COLLECTORS_IDS = frozenset({wire.ID_WRITER, wire.ID_LOSS, wire.ID_CLOCK})
SIGNATURE = b"/* CTF 1.8"
DOUBT = 16  # with bytes in doubt, the next look is after this part of them has come anew: a look goes over all of them

_CODES = {"U8": "B", "U16": "H", "U32": "I", "U64": "Q", "Stamp": "Q", "Uuid": "16s"}


def struct_of(table: type) -> struct.Struct:
    """The fields of one of the wire's tables, which have no gaps."""
    return struct.Struct("<" + "".join(_CODES[kind] for kind in table.__annotations__.values()))


_METADATA = struct_of(wire.METADATA)
_PACKET = struct_of(wire.PACKET)
RECORD = struct_of(wire.RECORD)
_MAGIC_BYTES = 4
_KEY_BYTES = _MAGIC_BYTES + 16  # magic and uuid: what a header is known by
_METADATA_MAGIC = wire.METADATA_MAGIC.to_bytes(_MAGIC_BYTES, "little")
_PACKET_MAGIC = wire.PACKET_MAGIC.to_bytes(_MAGIC_BYTES, "little")
assert _METADATA.size == wire.METADATA_BYTES
assert _PACKET.size == wire.PACKET_BYTES
assert RECORD.size == wire.RECORD_BYTES
assert fields_of(wire.METADATA)["uuid"] == fields_of(wire.PACKET)["uuid"] == _MAGIC_BYTES


class Metadata(NamedTuple):
    """A description of all that follows.  It replaces the one before."""

    offset: int  # in the stream, bytes
    uuid: bytes
    text: str


class Packet(NamedTuple):
    """A whole packet of one lane.  Never a copy of one that came before."""

    offset: int  # in the stream, bytes
    data: memoryview  # header, records, padding
    content_bytes: int  # up to the last byte of the last record
    lane: int
    cpu: int
    number: int
    begin: int  # cycles
    end: int  # cycles
    missing: int  # packets of this lane that should have come between the last one and this
    missed: int  # events refused since the last packet of this lane


class Run(NamedTuple):
    """Whole packets of one lane, one behind the other, with nothing missing or missed ahead of any of them."""

    offset: int  # in the stream, bytes
    data: memoryview
    lane: int


class Skipped(NamedTuple):
    """Bytes that belong to no packet."""

    offset: int
    size: int
    why: str


Item: TypeAlias = "Metadata | Packet | Run | Skipped"


class Leap(Protocol):
    """Passes packets from a place in the buffer on; gives where it stopped, and how many they are.

    `last` and `discarded` are what the packet of the lane ahead of them had.
    """

    def __call__(self, buffer: Buffer, at: int, lane: int, last: int, discarded: int) -> tuple[int, int]: ...


class Head(NamedTuple):
    """A record's header, and where in the packet its body begins."""

    cycles: int
    id: int
    cpu: int
    writer: int
    size: int
    body: int


class RecordDamaged(ValueError):
    """A record reaches beyond its packet."""

    def __init__(self, at: int) -> None:
        super().__init__(f"the record at byte {at} of the packet reaches beyond its end")
        self.at = at


def heads(packet: Packet) -> Iterator[Head]:
    """The records of a packet, in order.

    Raises:
        RecordDamaged: the records do not fill the packet exactly.
    """
    data, end, at = packet.data, packet.content_bytes, wire.PACKET_BYTES
    unpack, header_bytes, rounding = RECORD.unpack_from, wire.RECORD_BYTES, wire.RECORD_ALIGNMENT - 1
    while at < end:
        body = at + header_bytes
        if body > end:
            raise RecordDamaged(at)
        cycles, identifier, cpu, writer, size = unpack(data, at)
        after = body + size
        if after > end:
            raise RecordDamaged(at)
        yield Head(cycles, identifier, cpu, writer, size, body)
        at = (after + rounding) & ~rounding
        if at >= end != after:
            raise RecordDamaged(after)


@dataclasses.dataclass(slots=True)
class _Lane:
    """What came of a lane last."""

    before: int  # number of the packet before the last one
    last: int
    discarded: int


class _Header(NamedTuple):
    """The next packet, as far as its header tells."""

    size: int
    content: int  # bytes
    uuid: bytes
    words: tuple[int, int, int, int, int, int] | None  # lane, cpu, number, begin, end, discarded; None: a description


def packet_key(uuid: bytes) -> bytes:
    """How packets of records of a trace begin."""
    return _PACKET_MAGIC + uuid


def _keys(uuid: bytes) -> tuple[bytes, bytes]:
    return packet_key(uuid), _METADATA_MAGIC + uuid


def _followers(uuid: bytes) -> tuple[bytes, ...]:
    """What may stand behind a packet: a header, or one that was torn off so soon that it is none."""
    keys = _keys(uuid)
    return keys + tuple(key[:torn] + keys[1] for key in keys for torn in range(1, _KEY_BYTES))


class Parser:
    """Takes the bytes of a stream as they come and gives what is in them.

    `uuid` is given for a file that holds one lane's packets only; otherwise it is the first description's.  There the
    packets that `leap` passes are given as runs.
    """

    def __init__(self, uuid: bytes | None = None, leap: Leap | None = None) -> None:
        self._leap = leap
        self._only_packets = uuid is not None
        self._keys: tuple[bytes, bytes] | None = None
        self._followers: tuple[bytes, ...] = ()
        if uuid is not None:
            self._know(uuid)
        self._buffer = Buffer()
        self._need = 0  # with fewer bytes than this there is nothing to find
        self._packet_bytes = 0  # of the packet whose beginning is held
        self._fresh = False  # something came since the last pause
        self._described = -1  # where in the buffer the next description may begin: none does ahead of it
        self._bad: tuple[int, str] | None = None  # where the bytes to be named began, and why
        self._lanes: dict[int, _Lane] = {}

    def _know(self, uuid: bytes) -> None:
        if self._keys is None:
            self._keys, self._followers = _keys(uuid), _followers(uuid)

    @property
    def wanted(self) -> int:
        """Bytes that the packet at hand still lacks; 0 between two packets."""
        return max(0, self._packet_bytes - self._buffer.held)

    def feed(self, data: bytes) -> list[Item]:
        """What `data` completes.

        The last packet is not given before the next one has begun; see `idle` and `end`.
        """
        if not data:
            return []
        with self.room(len(data)) as room:
            room[:] = data
        return self.fed(len(data))

    def room(self, count: int) -> memoryview:
        """Memory into which the next `count` bytes may be read, for whoever would not copy them; then call `fed`."""
        return self._buffer.room(count)

    def fed(self, count: int) -> list[Item]:
        """As `feed`, with `count` bytes that were read into the room."""
        self._buffer.add(count)
        self._fresh = True
        return self._scan() if self._buffer.held >= self._need else []

    def idle(self) -> list[Item]:
        """What can be given when nothing more comes for the moment.

        That is a whole packet with nothing behind it, if its records fill it exactly.
        """
        if not self._fresh or self.wanted:
            return []
        self._fresh = False
        return self._scan(pause=True)

    def end(self) -> list[Item]:
        """What is left when whoever wrote the stream is gone.  Another one may continue it."""
        items = self._scan(last=True)
        if self._bad is not None:
            items.append(self._skipped(self._buffer.offset + self._buffer.start))
        return items

    def _scan(self, *, pause: bool = False, last: bool = False) -> list[Item]:
        buffer = self._buffer
        data, at, end = buffer.data, buffer.start, buffer.end
        items: list[Item] = []
        self._need = self._packet_bytes = 0
        self._described = -1
        while at < end:
            if (run := self._run(at)) is not None:
                items.append(run)
                at += len(run.data)
                continue
            found = self._find(data, at, end, last=last)
            if found > at:
                self._skip(at, "no packet begins here" if self._keys else "ahead of the first description")
                at = found
                continue
            header = self._header(data, at, end)
            if header is None:
                if not last and end - at < wire.PACKET_BYTES:
                    self._wait(wire.PACKET_BYTES if self._begins(data[at : min(at + _KEY_BYTES, end)]) else 0, behind=0)
                    break
                self._skip(at, "the header of a packet makes no sense or is cut short")
                at += 1
                continue
            good = self._stands(at, header, pause=pause, last=last)
            if good is None:
                self._wait(header.size, behind=_KEY_BYTES if header.words else 0)
                break
            taken = self._take(at, header) if good else None
            if taken is None:
                self._skip(at, "a packet that is damaged or cut short, or stands ahead of something that is none")
                at += 1
                continue
            if self._bad is not None:
                items.append(self._skipped(buffer.offset + at))
            items.extend(taken)
            at += header.size
        buffer.start = at
        if self._bad is not None:
            self._need = max(self._need, buffer.held + buffer.held // DOUBT)
        return items

    def _run(self, at: int) -> Run | None:
        """The packets from `at` on of which there is nothing to say, if there are any."""
        if self._leap is None or self._bad is not None or len(self._lanes) != 1:
            return None
        ((number, lane),) = self._lanes.items()
        stop, count = self._leap(self._buffer, at, number, lane.last, lane.discarded)
        if not count:
            return None
        lane.before, lane.last = lane.last + count - 1, lane.last + count
        return Run(self._buffer.offset + at, memoryview(self._buffer.data)[at:stop].toreadonly(), number)

    def _wait(self, packet_bytes: int, *, behind: int) -> None:
        self._packet_bytes = packet_bytes
        self._need = packet_bytes + behind

    def _skip(self, at: int, why: str) -> None:
        """The bytes from `at` up to the next good packet are to be named."""
        if self._bad is None:
            self._bad = self._buffer.offset + at, why

    def _skipped(self, stop: int) -> Skipped:
        assert self._bad is not None
        start, why = self._bad
        self._bad = None
        return Skipped(start, stop - start, why)

    def _find(self, data: bytearray, at: int, end: int, *, last: bool) -> int:
        """Where the next header begins, or may begin in the bytes that are still to come."""
        if self._keys is None:
            found = data.find(_METADATA_MAGIC, at, end)
            if found >= 0:
                return found
            kept = _MAGIC_BYTES - 1
        else:
            if data.startswith(self._keys, at, end):
                return at
            uuid = self._keys[0][_MAGIC_BYTES:]
            found = at + _MAGIC_BYTES
            while (found := data.find(uuid, found, end)) >= 0:
                if data.startswith(self._keys, found - _MAGIC_BYTES, end):
                    return found - _MAGIC_BYTES
                found += 1
            kept = _KEY_BYTES - 1
        return end if last else max(at, end - kept)

    def _begins(self, tail: bytes | bytearray) -> bool:
        """Whether these last bytes may be the beginning of a header."""
        return any(key.startswith(tail) for key in self._keys or (_METADATA_MAGIC,))

    def _header(self, data: bytes | bytearray, at: int, end: int) -> _Header | None:
        """The header at `at`; None: not one that shmtrace writes."""
        if data.startswith(_PACKET_MAGIC, at, end) and end - at >= wire.PACKET_BYTES:
            _, uuid, stream, begin, stop, content, size, number, discarded, cpu, lane = _PACKET.unpack_from(data, at)
            sane = (
                content % 8 == 0
                and wire.PACKET_BYTES <= content // 8 <= LIMIT_BYTES
                and size == 8 * wire.padded(content // 8)
                and begin <= stop
                and stream == wire.STREAM_ID
                and max(cpu, lane) < LIMIT_NUMBERS
            )
            words = (lane, cpu, number, begin, stop, discarded)
            return _Header(size // 8, content // 8, uuid, words) if sane else None
        if data.startswith(_METADATA_MAGIC, at, end) and end - at >= wire.METADATA_BYTES:
            _, uuid, _, content, size, *schemes, major, _ = _METADATA.unpack_from(data, at)
            sane = (
                content % 8 == size % 8 == 0
                and wire.METADATA_BYTES <= content // 8 <= size // 8 <= LIMIT_BYTES
                and not any(schemes)
                and major == 1
                and (self._keys is None or data.startswith(self._keys, at, end))
            )
            return _Header(size // 8, content // 8, uuid, None) if sane else None
        return None

    def beginning(self, data: bytes, offset: int) -> tuple[int, Packet] | None:
        """Size of the packet of which `data` is the beginning, and what of it is there; None: it is none.

        For whoever leaps from packet to packet, and feeds nothing.
        """
        header = self._header(data, 0, len(data)) if self._keys and data.startswith(self._keys[0]) else None
        if header is None or header.words is None:
            return None
        lane, cpu, number, begin, end, _ = header.words
        content = min(header.content, len(data))
        return header.size, Packet(offset, memoryview(data), content, lane, cpu, number, begin, end, 0, 0)

    def _stands(self, at: int, header: _Header, *, pause: bool, last: bool) -> bool | None:
        """Whether the packet at `at` is whole; None: that is not known yet."""
        data, end, stop = self._buffer.data, self._buffer.end, at + header.size
        if end < stop:
            return False if last else None
        if header.words is None:
            return True
        if data.startswith(self._followers, stop, end):
            return self._only_packets or not self._holds_description(at, stop)
        tail = data[stop : min(stop + 2 * _KEY_BYTES, end)]
        if not any(follower.startswith(tail) for follower in self._followers):
            return False
        if pause:
            return _chained(self._packet(at, header, 0, 0)) or None
        return True if last else None

    def _holds_description(self, at: int, stop: int) -> bool:
        """Whether one begins in there.

        A killed collector's packet may be cut short.  Then the next one's description begins inside of it, and that a
        header stands where it should have ended is chance.
        """
        assert self._keys is not None
        if self._described < at:
            self._described = self._buffer.find(self._keys[1], at)
        return self._described + _KEY_BYTES <= stop

    def _take(self, at: int, header: _Header) -> list[Item] | None:
        """The packet at `at`, none if it is a copy; None: it is a description that is torn."""
        data, offset = self._buffer.data, self._buffer.offset
        if header.words is not None:
            lane, _, number, _, _, discarded = header.words
            counts = self._count(lane, number, discarded)
            return [] if counts is None else [self._packet(at, header, *counts)]
        start = at + wire.METADATA_BYTES
        if not data.startswith(SIGNATURE, start, self._buffer.end):
            return None
        try:
            text = data[start : at + header.content].decode()
        except UnicodeDecodeError:  # the magic of a description that follows a torn one is no UTF-8 either
            return None
        self._know(header.uuid)
        return [Metadata(offset + at, header.uuid, text)]

    def _packet(self, at: int, header: _Header, missing: int, missed: int) -> Packet:
        assert header.words is not None
        lane, cpu, number, begin, end, _ = header.words
        view = memoryview(self._buffer.data)[at : at + header.size].toreadonly()
        offset = self._buffer.offset + at
        return Packet(offset, view, header.content, lane, cpu, number, begin, end, missing, missed)

    def _count(self, number_of_lane: int, number: int, discarded: int) -> tuple[int, int] | None:
        """Packets missing ahead of this one and events missed since the last; None: this one is a copy."""
        lane = self._lanes.get(number_of_lane)
        if lane is None:
            self._lanes[number_of_lane] = _Lane(-1, number, discarded)
            return 0, discarded
        if number == lane.last or number <= lane.before:
            return None
        # Recording was enabled for another reader, whose count begins at 0: what lies between was not lost to this one.
        anew = discarded < lane.discarded
        missed = discarded if anew else discarded - lane.discarded
        missing = 0 if anew else max(0, number - lane.last - 1)
        if number > lane.last:
            lane.before = lane.last
        # else it was the last one's number that was damaged, since older ones than that do not come
        lane.last, lane.discarded = number, discarded
        return missing, missed


def _chained(packet: Packet) -> bool:
    """Whether the records fill the packet exactly, in order and within its times."""
    last = packet.begin
    try:
        for head in heads(packet):
            if head.cycles < last:
                return False
            last = head.cycles
    except RecordDamaged:
        return False
    return last <= packet.end
