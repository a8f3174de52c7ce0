"""What is missing: instants on a track, and on a packet sequence, of their own.

In the events' sequence they would make Perfetto distrust all interned names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as library

from .protobuf import CLOCK, value_of

if TYPE_CHECKING:
    from ...reader.batch import Batch
    from .output import Output

__all__ = ["Losses"]

SEQUENCE = 2


class Losses:
    """Tells of losses."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._uuid = 0

    def add(self, batch: Batch, row: int, when_ns: int) -> None:
        """One record of a loss."""
        packet = library.TracePacket(
            trusted_packet_sequence_id=SEQUENCE, timestamp=max(when_ns, 0), timestamp_clock_id=CLOCK
        )
        if not self._uuid:
            self._uuid = self._output.new_uuid()
            self._output.describe(self._uuid, "losses")
            packet.sequence_flags = library.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
            packet.first_packet_on_sequence = True
        packet.previous_packet_dropped = 1
        event = packet.track_event
        event.type, event.track_uuid = library.TrackEvent.TYPE_INSTANT, self._uuid
        event.name, event.categories[:] = "loss", ["loss"]
        _, fields = batch.classes[batch.class_id[row]].decode(batch.body(row))
        for name, value in (*fields.items(), ("cpu", int(batch.cpu[row]))):
            event.debug_annotations.add(name=name).MergeFromString(value_of(value))
        self._output.write(packet)
