"""A Perfetto file as its library reads it: tracks, and the events on them with their names and arguments."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as library

if TYPE_CHECKING:
    from collections.abc import Iterable

TYPES = {1: "begin", 2: "end", 3: "instant", 4: "counter"}


@dataclasses.dataclass
class Event:
    """What stands in one packet."""

    time_ns: int
    kind: str
    name: str
    track: int
    categories: list[str]
    arguments: dict[str, object]
    value: float
    flows: list[int]


class Shown:
    """All that is in a file; `tracks` has the newest descriptor of each."""

    def __init__(self, data: bytes) -> None:
        self.packets = list(library.Trace.FromString(data).packet)
        self.tracks: dict[int, library.TrackDescriptor] = {}
        self.events: list[Event] = []
        self._names: dict[tuple[str, int], str] = {}
        for packet in self.packets:
            for table, entries in packet.interned_data.ListFields():
                for entry in entries:
                    assert (table.name, entry.iid) not in self._names
                    text = entry.str.decode() if table.name.endswith("string_values") else entry.name
                    self._names[table.name, entry.iid] = text
            if packet.HasField("track_descriptor"):
                self.tracks[packet.track_descriptor.uuid] = packet.track_descriptor
            if packet.HasField("track_event"):
                assert packet.track_event.track_uuid in self.tracks
                self.events.append(self._event(packet))

    def _event(self, packet: library.TracePacket) -> Event:
        event = packet.track_event
        categories = [self._names["event_categories", number] for number in event.category_iids]
        name = event.name or self._names.get(("event_names", event.name_iid), "")
        kind = TYPES[event.type]
        if kind == "counter":
            name = self.tracks[event.track_uuid].name
        arguments = {self._key(item): self._value(item) for item in event.debug_annotations}
        return Event(
            packet.timestamp, kind, name, event.track_uuid, [*categories, *event.categories], arguments,
            event.double_counter_value, list(event.flow_ids),
        )  # fmt: skip

    def _key(self, item: library.DebugAnnotation) -> str:
        name: str = item.name or self._names["debug_annotation_names", item.name_iid]
        return name

    def _value(self, item: library.DebugAnnotation) -> object:
        if item.dict_entries:
            return {self._key(entry): self._value(entry) for entry in item.dict_entries}
        if item.array_values:
            return [self._value(value) for value in item.array_values]
        if item.HasField("string_value_iid"):
            return self._names["debug_annotation_string_values", item.string_value_iid]
        values = [value for field, value in item.ListFields() if field.name not in {"name", "name_iid"}]
        assert len(values) == 1
        return values[0]

    def of_process(self, uuid: int) -> int | None:
        """The pid to which a track belongs."""
        track = self.tracks[uuid]
        while not track.HasField("process"):
            if track.HasField("thread"):
                pid: int = track.thread.pid
                return pid
            if not track.parent_uuid:
                return None
            track = self.tracks[track.parent_uuid]
        return int(track.process.pid)

    def named(self, name: str, *kinds: str) -> list[Event]:
        """The events of a name, of some kinds."""
        return [event for event in self.events if event.name == name and (not kinds or event.kind in kinds)]

    def users(self) -> list[Event]:
        """Without what says who wrote on which cpu, and which spans are open."""
        own = {
            track
            for track, about in self.tracks.items()
            if about.name.startswith(("cpu ", "open at the end", "losses")) or " cpu " in about.name
        }
        return [event for event in self.events if event.track not in own]


def unnested(events: Iterable[Event]) -> list[str]:
    """Names of slices that end while another one of their track is the innermost."""
    open_slices: dict[int, list[str]] = {}
    wrong = []
    for event in sorted(events, key=lambda event: event.time_ns):
        names = open_slices.setdefault(event.track, [])
        if event.kind == "begin":
            names.append(event.name)
        elif event.kind == "end" and (not names or names.pop() != event.name):
            wrong.append(event.name)
    return wrong
