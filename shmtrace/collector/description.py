"""What a reader is told ahead of the packets: the stream's description."""

from __future__ import annotations

import socket
import time
import uuid as uuids
from typing import TYPE_CHECKING

from .. import layout, wire
from ..classes import describe
from ..clock import read_clocks
from ..layout import CONTROL

if TYPE_CHECKING:
    from ..segment import Segment

FASTEST_GHZ, SHORT_NS = 20, 1_000_000
CALIBRATION_S = 0.05  # the least time over which the clock's frequency is measured


def sound_clock(segment: Segment) -> tuple[int, int, int]:
    """The channel's clock and a reading of it: kind, cycles, ns.  Made anew if what the segment says makes no sense."""
    kind = segment.clock_kind
    cycles, steady = segment.u64(CONTROL.clock_cycles), segment.u64(CONTROL.clock_monotonic_ns)
    now = read_clocks(kind)
    rate = (now[0] - cycles) / max(now[1] - steady, 1)  # a GHz, more or less
    if steady < now[1] and cycles < now[0] and (rate < FASTEST_GHZ or now[1] - steady < SHORT_NS):
        return kind, cycles, steady
    return kind, now[0], now[1]


def describe_stream(segment: Segment) -> tuple[int, bytes]:
    """How many of the users' classes it has, and the description, complete, as a packet."""
    kind, cycles, steady = sound_clock(segment)
    while True:
        now = read_clocks(kind)
        left = CALIBRATION_S - (now[1] - steady) / 1e9
        if left <= 0 or kind == layout.CLOCK_MONOTONIC:
            break
        time.sleep(left)
    frequency = 10**9
    if kind != layout.CLOCK_MONOTONIC:
        frequency = ((now[0] - cycles) * 10**9 + (now[1] - steady) // 2) // (now[1] - steady)
    # wall clock in cycles, less the cycles: what is to be added to a record's cycles
    offset_s, offset = divmod(now[2] * frequency // 10**9 - now[0], frequency)
    count, classes = describe(segment)
    text = wire.metadata(
        uuid=str(uuids.UUID(bytes=segment.uuid)),
        boot_id=str(uuids.UUID(bytes=segment.read(CONTROL.boot_id, 16))),
        channel=segment.name,
        hostname=socket.gethostname(),
        clock_kind=kind,
        frequency=frequency,
        offset_s=offset_s,
        offset=offset,
        classes=classes,
    )
    return count, wire.metadata_packet(text, segment.uuid)
