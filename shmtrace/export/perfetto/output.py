"""The file in the making: packets as bytes, the names that are interned in it, its tracks and its clocks."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as library

from .protobuf import CLOCK, SEQUENCE, STAMP_BYTES, VARINT, Interned, event_packet, tag, varint

if TYPE_CHECKING:
    from ...reader.rows import Array

__all__ = ["ENDED", "Output", "What", "stamps", "track_of"]

SNAPSHOT_NS = 1_000_000_000  # between two pairs of the clocks
MOST_MADE = 1 << 16  # pieces of packets that are kept
NAMES, CATEGORIES = "event_names", "event_categories"
_TYPES = {
    "begin": library.TrackEvent.TYPE_SLICE_BEGIN,
    "end": library.TrackEvent.TYPE_SLICE_END,
    "counter": library.TrackEvent.TYPE_COUNTER,
}
_TYPE, _TRACK = tag("TrackEvent", "type", VARINT), tag("TrackEvent", "track_uuid", VARINT)
_NAME, _CATEGORY = tag("TrackEvent", "name_iid", VARINT), tag("TrackEvent", "category_iids", VARINT)
_SHIFTS = np.arange(STAMP_BYTES, dtype=np.uint64) * np.uint64(7)
_MORE = np.array([0x80] * (STAMP_BYTES - 1) + [0], np.uint8)
ENDED = _TYPE + varint(library.TrackEvent.TYPE_SLICE_END)  # all that is common to ends without a name

What: TypeAlias = "tuple[str, str, str | None]"  # name, kind and level of an event


def stamps(times: Array) -> bytes:
    """Times as protobuf's integers, of STAMP_BYTES each."""
    groups = (np.maximum(times, 0).astype(np.uint64)[:, None] >> _SHIFTS).astype(np.uint8)
    return bytes(((groups & 0x7F) | _MORE).tobytes())


def track_of(uuid: int) -> bytes:
    """The field that names a track in packets."""
    return _TRACK + varint(uuid)


class Output:
    """Takes packets until somebody takes them."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.interned = Interned(self.write)
        self._uuids = itertools.count(1)
        self._made: dict[What, bytes] = {}
        self._last_snapshot = 0
        self.started = False

    def take(self) -> bytes:
        """What was made since the last time."""
        made = b"".join(self.pieces)
        self.pieces.clear()
        return made

    def write(self, packet: library.TracePacket) -> None:
        """A packet of the library's making."""
        if not packet.trusted_packet_sequence_id:
            packet.trusted_packet_sequence_id = SEQUENCE
            packet.sequence_flags |= library.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
        self.pieces.append(library.Trace(packet=[packet]).SerializeToString())

    # clocks

    def start(self, wall_ns: int, monotonic_ns: int) -> bool:
        """The clocks at one moment, if that was not told just now; whether this is the first of all packets."""
        first, self.started = not self.started, True
        if first:
            self._write_defaults()
        if first or abs(monotonic_ns - self._last_snapshot) >= SNAPSHOT_NS:
            self._snapshot(wall_ns, monotonic_ns)
        return first

    def _write_defaults(self) -> None:
        packet = library.TracePacket()
        packet.trusted_packet_sequence_id = SEQUENCE
        packet.sequence_flags = library.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
        packet.first_packet_on_sequence = True
        packet.trace_packet_defaults.timestamp_clock_id = CLOCK
        self.write(packet)

    def _snapshot(self, wall_ns: int, monotonic_ns: int) -> None:
        if wall_ns < 0 or monotonic_ns < 0:
            return
        packet = library.TracePacket()
        packet.clock_snapshot.primary_trace_clock = CLOCK
        for clock, time_ns in ((CLOCK, monotonic_ns), (library.BuiltinClock.BUILTIN_CLOCK_REALTIME, wall_ns)):
            packet.clock_snapshot.clocks.add(clock_id=clock, timestamp=time_ns)
        self.write(packet)
        self._last_snapshot = monotonic_ns

    # tracks

    def new_uuid(self) -> int:
        """Of a track."""
        return next(self._uuids)

    def describe(self, uuid: int, name: str, parent: int = 0, **more: object) -> bytes:
        """Tells of a track; the field that names it in packets."""
        packet = library.TracePacket(track_descriptor={"uuid": uuid, **more})
        if parent:
            packet.track_descriptor.parent_uuid = parent
        if name:
            packet.track_descriptor.name = name.encode("utf-8", "replace").decode()
        self.write(packet)
        return track_of(uuid)

    # events

    def event(self, stamp: bytes, common: bytes, track: bytes, extra: bytes = b"") -> None:
        """One event, of its pieces."""
        head, middle = event_packet(len(common) + len(track) + len(extra))
        self.pieces += (head, stamp, middle, common, track, extra)

    def common(self, what: What) -> bytes:
        """Type, name and categories of a record's event, which many have in common."""
        made = self._made.get(what)
        if made is None:
            name, kind, level = what
            made = self.piece(name, kind, level, kind)
            if len(self._made) < MOST_MADE:
                self._made[what] = made
        return made

    def piece(self, name: str, kind: str, level: str | None, category: str) -> bytes:
        """Type, name and categories of an event."""
        made = _TYPE + varint(_TYPES.get(kind, library.TrackEvent.TYPE_INSTANT))
        if kind != "counter":
            number = self.interned.number(NAMES, name)
            made += library.TrackEvent(name=name).SerializeToString() if number is None else _NAME + varint(number)
        if kind not in {"end", "counter"}:
            for word in (category, level if level not in {None, "info"} else None):
                if word is not None:
                    made += _CATEGORY + varint(self.interned.number(CATEGORIES, word) or 0)
        return made
