"""Perfetto's packets of which a trace has millions, as bytes; the library, which makes the others, would take too long.

The numbers of the fields are the library's.  A packet is put together from pieces that are the same for many: what a
class of records has in common, what a track has, and the arguments, which are protobuf's `DebugAnnotation`.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import TYPE_CHECKING, Any, Final

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as library

from ... import wire
from ...reader.batch import Pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ...reader.batch import Column

__all__ = ["CLOCK", "SEQUENCE", "Interned", "event_packet", "field_of", "flow_of", "flows_of", "tag", "varint"]

CLOCK: Final = library.BuiltinClock.BUILTIN_CLOCK_MONOTONIC
SEQUENCE: Final = 1  # of all packets with interned names
DEEPEST = 20  # levels of maps and arrays in an argument; what is deeper is text
MOST_NAMES = 1 << 16  # that are interned, of each sort; the others are written out
MOST_VALUES = 1 << 12  # whose bytes are kept, a field
LONGEST_KEPT = 64  # bytes of a text among these
VARINT, FIXED64, LENGTH = range(3)  # protobuf's wire types
STAMP_BYTES = 9  # seven bits each: a time that is not negative


def varint(number: int) -> bytes:
    """An integer as protobuf has it."""
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def tag(message: str, field: str, wire_type: int) -> bytes:
    """What stands ahead of a field."""
    number: int = getattr(library, message).DESCRIPTOR.fields_by_name[field].number
    return varint(number << 3 | wire_type)


def sized(head: bytes, body: bytes) -> bytes:
    """A field of any length."""
    return head + varint(len(body)) + body


PACKET = tag("Trace", "packet", LENGTH)
STAMP = tag("TracePacket", "timestamp", VARINT)
EVENT = tag("TracePacket", "track_event", LENGTH)
_TAIL = (
    tag("TracePacket", "trusted_packet_sequence_id", VARINT)
    + varint(SEQUENCE)
    + tag("TracePacket", "sequence_flags", VARINT)
    + varint(library.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE)
)
ARGUMENT = tag("TrackEvent", "debug_annotations", LENGTH)
FLOW = tag("TrackEvent", "flow_ids", FIXED64)
VALUE = tag("TrackEvent", "double_counter_value", FIXED64)
_NAME, _NAME_NUMBER = tag("DebugAnnotation", "name", LENGTH), tag("DebugAnnotation", "name_iid", VARINT)
_BOOL, _UINT = tag("DebugAnnotation", "bool_value", VARINT), tag("DebugAnnotation", "uint_value", VARINT)
_INT, _DOUBLE = tag("DebugAnnotation", "int_value", VARINT), tag("DebugAnnotation", "double_value", FIXED64)
_TEXT, _LABEL = tag("DebugAnnotation", "string_value", LENGTH), tag("DebugAnnotation", "string_value_iid", VARINT)
_ENTRY, _ITEM = tag("DebugAnnotation", "dict_entries", LENGTH), tag("DebugAnnotation", "array_values", LENGTH)
_double = struct.Struct("<d").pack
_IMPLIED = STAMP_BYTES + len(STAMP) + len(_TAIL) + len(EVENT)


def _ends(size: int) -> tuple[bytes, bytes]:
    """What stands ahead of the time, and behind it, in a packet whose event has so many bytes."""
    length = varint(size)
    return PACKET + varint(_IMPLIED + len(length) + size) + STAMP, _TAIL + EVENT + length


_ENDS = [_ends(size) for size in range(1024)]


def event_packet(size: int) -> tuple[bytes, bytes]:
    """As `_ends`: of a packet ahead of its nine bytes of time, and behind them, ahead of an event of `size` bytes."""
    return _ENDS[size] if size < len(_ENDS) else _ends(size)


class Interned:
    """Names that were written once and have a number since.  `write` gets the packet that says so."""

    def __init__(self, write: Callable[[library.TracePacket], None]) -> None:
        self._write = write
        self._tables: dict[str, dict[str, int]] = {}

    def number(self, table: str, name: str) -> int | None:
        """Of a name, in one of the tables of InternedData; None: there are too many."""
        known = self._tables.setdefault(table, {})
        number = known.get(name)
        if number is None and len(known) < MOST_NAMES:
            number = known[name] = len(known) + 1
            packet = library.TracePacket()
            entry = getattr(packet.interned_data, table).add()
            entry.iid = number
            if table == "debug_annotation_string_values":
                entry.str = name.encode("utf-8", "replace")
            else:
                entry.name = name.encode("utf-8", "replace").decode()
            self._write(packet)
        return number

    def argument_name(self, name: str) -> bytes:
        """The name in a DebugAnnotation."""
        number = self.number("debug_annotation_names", name)
        if number is None:
            return sized(_NAME, name.encode("utf-8", "replace"))
        return _NAME_NUMBER + varint(number)

    def argument(self, name: object, value: object) -> bytes:
        """One argument of an event."""
        return sized(ARGUMENT, self._named(name, value, DEEPEST))

    def arguments(self, fields: Mapping[str, object]) -> dict[str, bytes]:
        """All arguments, by the names that they have in the record."""
        return {name: self.argument(name, value) for name, value in fields.items()}

    def _named(self, name: object, value: object, levels: int) -> bytes:
        key = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
        if isinstance(value, (bytes, bytearray)) and not _is_text(value):
            key += "_base64"
        return self.argument_name(key) + self._value(value, levels)

    def _value(self, value: object, levels: int) -> bytes:
        if value and isinstance(value, (dict, list, tuple)) and levels > 0:
            if isinstance(value, dict):
                return b"".join(sized(_ENTRY, self._named(key, item, levels - 1)) for key, item in value.items())
            return b"".join(sized(_ITEM, self._value(item, levels - 1)) for item in value)
        return value_of(value)


def value_of(value: object) -> bytes:
    """A value in a DebugAnnotation that is not made of others."""
    if isinstance(value, bool):
        return _BOOL + varint(value)
    if isinstance(value, int) and -1 << 63 <= value < 1 << 64:
        return (_INT if value < 1 << 63 else _UINT) + varint(value)
    if isinstance(value, float):
        return _DOUBLE + _double(value)
    if isinstance(value, (bytes, bytearray)):
        return sized(_TEXT, bytes(value) if _is_text(value) else base64.b64encode(value))
    return sized(_TEXT, str(value).encode("utf-8", "replace"))


def _is_text(value: bytes | bytearray) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def field_of(interned: Interned, name: str, kind: str) -> Callable[[Column], list[bytes]]:
    """What makes arguments of the values of a field of this type."""
    if kind in {"f32", "f64"}:
        return _doubles(interned.argument_name(name))
    if "[" in kind:
        return lambda column: [interned.argument(name, value) for value in values_of(column)]
    make = _maker(interned, name, kind)
    known: dict[object, bytes] = {}

    def encode(column: Column) -> list[bytes]:
        if len(known) > MOST_VALUES:
            known.clear()
        made = []
        for value in values_of(column):
            piece = known.get(value)
            if piece is None:
                piece = make(value)
                if len(known) <= MOST_VALUES and len(piece) <= LONGEST_KEPT:
                    known[value] = piece
            made.append(piece)
        return made

    return encode


def values_of(column: Column) -> list[Any]:
    """As Python has them."""
    return list(column) if isinstance(column, Pieces) else column.tolist()


def _maker(interned: Interned, name: str, kind: str) -> Callable[[Any], bytes]:
    enum = wire.parse_enum(kind)
    head = interned.argument_name(name)
    if enum is not None:
        labels = {number: label for label, number in enum[1].items()}

        def make_label(value: int) -> bytes:
            label = labels.get(value)
            if label is None:
                return interned.argument(name, value)
            number = interned.number("debug_annotation_string_values", label)
            return sized(ARGUMENT, head + (value_of(label) if number is None else _LABEL + varint(number)))

        return make_label
    if kind[0] == "u":
        return lambda value: sized(ARGUMENT, head + _UINT + varint(value))
    return lambda value: interned.argument(name, value)


def _doubles(head: bytes) -> Callable[[Column], list[bytes]]:
    start = ARGUMENT + varint(len(head) + len(_DOUBLE) + 8) + head + _DOUBLE

    def encode(column: Column) -> list[bytes]:
        assert not isinstance(column, Pieces)
        data = column.astype("<f8").tobytes()
        return [start + data[at : at + 8] for at in range(0, len(data), 8)]

    return encode


def flows_of(column: Column) -> list[bytes]:
    """What links events: a field `flow` of integers or texts.  0 and "" link nothing."""
    return [flow_of(value) for value in values_of(column)]


def flow_of(value: object) -> bytes:
    """The same of one value."""
    if isinstance(value, str) and value:
        return FLOW + hashlib.blake2b(value.encode("utf-8", "replace"), digest_size=8).digest()
    if isinstance(value, int) and not isinstance(value, bool) and value:
        return FLOW + (value & (1 << 64) - 1).to_bytes(8, "little")
    return b""
