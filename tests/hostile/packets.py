"""Broken packets, one rule each.  They lie in `packets/` as hex; `python tests/hostile/packets.py` writes them anew.

Each is sent as the second packet of a small stream: description, a, the broken one, c, and d of another lane.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from reader.build import FREQUENCY, UUID, Trace, describe
from shmtrace import wire
from shmtrace.layout import fields_of
from shmtrace.reader.stream import LIMIT_BYTES, struct_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from reader.build import Lane

DIRECTORY = Path(__file__).with_name("packets")
TOP = (1 << 64) - 1


class Outcome(NamedTuple):
    """What becomes of a stream: which packets are given (`b` is the broken one, `?` was never sent), what is said."""

    given: str
    says: str = ""  # a pattern; nothing else is said


SKIPPED = r"bytes skipped: a packet that is damaged or cut short, or stands ahead of something that is none"
NO_SENSE = r"bytes skipped: the header of a packet makes no sense or is cut short"
REST = r"the rest of a packet skipped: the record at byte \d+ of the packet reaches beyond its end"

# Where no header stands behind a packet, its size cannot be believed: `a` goes with what is not even a header.
OUTCOMES = {
    # headers
    "begins-after-its-end": Outcome("acd", NO_SENSE),
    "claims-the-largest-size": Outcome("acd", NO_SENSE),
    "claims-the-next-packet": Outcome("a?d", REST),
    "claims-more-than-there-is": Outcome("acd", SKIPPED),
    "content-beyond-the-packet": Outcome("acd", NO_SENSE),
    "content-less-than-a-header": Outcome("acd", NO_SENSE),
    "content-of-half-a-byte": Outcome("acd", NO_SENSE),
    "cpu-beyond-all-machines": Outcome("acd", NO_SENSE),
    "lane-beyond-all-machines": Outcome("acd", NO_SENSE),
    "magic-of-another-format": Outcome("cd", SKIPPED),
    "size-without-padding": Outcome("acd", NO_SENSE),
    "stream-that-nobody-described": Outcome("acd", NO_SENSE),
    "uuid-of-another-trace": Outcome("cd", SKIPPED),
    # order
    "copy-of-the-one-before": Outcome("acd"),
    "count-of-missed-falls": Outcome("abcd"),
    "number-before-the-first": Outcome("abcd"),
    "number-far-ahead": Outcome("abcd"),
    # bytes
    "cut-in-the-header": Outcome("acd", NO_SENSE),
    "cut-in-a-record": Outcome("acd", SKIPPED),
    "header-alone": Outcome("acd", SKIPPED),
    "longer-than-it-says": Outcome("acd", SKIPPED),
    # records
    "class-that-nobody-described": Outcome("abcd", r"all records of event class 999, of which there is no description"),
    "clock-record-too-short": Outcome("abcd"),
    "clock-runs-backwards": Outcome("abcd"),
    "loss-record-too-short": Outcome("abcd"),
    "record-beyond-the-packet": Outcome("abcd", REST),
    "record-header-cut": Outcome("abcd", REST),
    "time-runs-backwards": Outcome("abcd"),
    "writer-names-without-end": Outcome("abcd"),
    "writer-record-too-short": Outcome("abcd"),
    # descriptions
    "description-compressed": Outcome("acd", NO_SENSE),
    "description-cut": Outcome("acd", SKIPPED),
    "description-longer-than-its-packet": Outcome("acd", NO_SENSE),
    "description-of-another-version": Outcome("acd", NO_SENSE),
    "description-of-a-clock-that-stands": Outcome("acd", r"metadata that makes no sense: a clock of 0 Hz"),
    "description-of-an-unknown-field": Outcome("acd", r"metadata that makes no sense: an unknown field: complex"),
    "description-that-is-no-text": Outcome("acd", SKIPPED),
    "description-without-a-clock": Outcome("acd", r"metadata without the `clock` block"),
    "description-without-signature": Outcome("acd", SKIPPED),
}


def stream(broken: bytes) -> tuple[bytes, dict[bytes, str]]:
    """A stream with this in it, and the names of its packets."""
    trace = Trace()
    lane = trace.lane()
    a = lane.at(1000).writer(1, pid=100).blob(b"a").packet()
    trace.garbage(broken)
    c = lane.at(3000).blob(b"c").packet(sequence=2)
    d = trace.lane(1).at(2000).writer(1, pid=100).blob(b"d").packet()
    return trace.stream, {a: "a", broken: "b", c: "c", d: "d"}


def _lane() -> Lane:
    return Trace().lane().at(2000)


def _plain() -> bytearray:
    return bytearray(_lane().blob(b"broken").blob(b"twice").packet(sequence=1))


def _with(**numbers: int) -> bytes:
    """The plain packet with other numbers in its header."""
    packet = list(struct_of(wire.PACKET).unpack_from(_plain()))
    for field, number in numbers.items():
        packet[list(fields_of(wire.PACKET)).index(field)] = number
    return struct_of(wire.PACKET).pack(*packet) + bytes(_plain()[wire.PACKET_BYTES :])


def _record(**numbers: int) -> bytes:
    """The plain packet with other numbers in its first record's header."""
    packet = _plain()
    header = struct_of(wire.RECORD)
    values = list(header.unpack_from(packet, wire.PACKET_BYTES))
    for field, number in numbers.items():
        values[list(fields_of(wire.RECORD)).index(field)] = number
    header.pack_into(packet, wire.PACKET_BYTES, *values)
    return bytes(packet)


def _made(make: Callable[[Lane], Lane]) -> bytes:
    return make(_lane()).packet(sequence=1)


def _content(content: int) -> bytes:
    """The plain packet with the content of another size, which the size of the packet follows."""
    return _with(content_size=8 * content, packet_size=8 * wire.padded(content))


def _short() -> str:
    """As much of a description as is needed."""
    kept = (line for line in describe().splitlines(keepends=True) if not line.startswith(("event", "typealias")))
    return "".join(kept)


def _description(text: str | None = None, **numbers: int) -> bytes:
    packet = bytearray(wire.metadata_packet(_short() if text is None else text, UUID.bytes))
    header = struct_of(wire.METADATA)
    values = list(header.unpack_from(packet))
    for field, number in numbers.items():
        values[list(fields_of(wire.METADATA)).index(field)] = number
    header.pack_into(packet, 0, *values)
    return bytes(packet)


def broken_packets() -> dict[str, bytes]:
    """All of them, by name."""
    plain = bytes(_plain())
    size = len(plain)
    return {
        "begins-after-its-end": _with(timestamp_begin=TOP),
        "claims-the-largest-size": _with(content_size=TOP & ~63, packet_size=TOP & ~63),
        "claims-the-next-packet": _content(size + wire.PACKET_BYTES + 24),
        "claims-more-than-there-is": _content(LIMIT_BYTES),
        "content-beyond-the-packet": _with(content_size=8 * (size + 8)),
        "content-less-than-a-header": _content(wire.PACKET_BYTES - 1),
        "content-of-half-a-byte": _with(content_size=8 * size - 4),
        "cpu-beyond-all-machines": _with(cpu_id=1 << 31),
        "lane-beyond-all-machines": _with(lane=1 << 16),
        "magic-of-another-format": _with(magic=0xC1FC_1FC2),
        "size-without-padding": _with(packet_size=8 * size - 8),
        "stream-that-nobody-described": _with(stream_id=1),
        "uuid-of-another-trace": plain.replace(UUID.bytes, bytes(16)),
        "copy-of-the-one-before": _with(packet_seq_num=0),
        "count-of-missed-falls": _with(events_discarded=TOP),
        "number-before-the-first": _with(packet_seq_num=TOP),
        "number-far-ahead": _with(packet_seq_num=1 << 40),
        "cut-in-the-header": plain[:50],
        "cut-in-a-record": plain[:-9],
        "header-alone": plain[: wire.PACKET_BYTES],
        "longer-than-it-says": plain + bytes(8),
        "class-that-nobody-described": _record(id=999),
        "clock-record-too-short": _made(lambda lane: lane.add(wire.ID_CLOCK, bytes(wire.CLOCK_BODY_BYTES - 1))),
        "clock-runs-backwards": _made(lambda lane: lane.clock(2000, 10**9, 10**18).clock(1000, 2 * 10**9, 10**9)),
        "loss-record-too-short": _made(lambda lane: lane.add(wire.ID_LOSS, bytes(wire.LOSS_BODY_BYTES - 1))),
        "record-beyond-the-packet": _record(size=0xFFFF),
        "record-header-cut": _content(size - 16)[: size - 16],
        "time-runs-backwards": _made(lambda lane: lane.blob(b"late").at(1).blob(b"early").at(2000)),
        "writer-names-without-end": _made(lambda lane: lane.add(wire.ID_WRITER, bytes(26) + b"\xff" * 400)),
        "writer-record-too-short": _made(lambda lane: lane.add(wire.ID_WRITER, bytes(25))),
        "description-compressed": _description(compression=1),
        "description-cut": _description()[:200],
        "description-longer-than-its-packet": _description(content_size=8 * 100_000),
        "description-of-another-version": _description(major=2),
        "description-of-a-clock-that-stands": _description(_short().replace(f"freq = {FREQUENCY}", "freq = 0")),
        "description-of-an-unknown-field": _description(_short() + wire.event(16, "x", "complex _x;")),
        "description-that-is-no-text": _description().replace(b"hostname", b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8"),
        "description-without-a-clock": _description(_short().replace("name = tsc", "name = x")),
        "description-without-signature": _description(_short().replace("/* CTF", "/* ctf")),
    }


def path_of(name: str) -> Path:
    return DIRECTORY / f"{name}.hex"


def hex_of(data: bytes) -> str:
    """As lines of 16 bytes."""
    return "".join(f"{data[at : at + 16].hex(' ')}\n" for at in range(0, len(data), 16))


def main() -> None:
    DIRECTORY.mkdir(exist_ok=True)
    for path in DIRECTORY.iterdir():
        path.unlink()
    for name, data in broken_packets().items():
        path_of(name).write_text(hex_of(data))


if __name__ == "__main__":
    main()
