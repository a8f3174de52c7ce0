"""A trace as Perfetto's UI shows it: processes, threads, slices, instants, counters; and who wrote on which cpu.

`packets` gives the file piece by piece.  docs/perfetto.md says what becomes what.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as library

from ..reader.batch import KINDS, LEVEL_NAMES, LOG
from ..reader.log import unpack_log
from .lanes import Lane, Process, Thread
from .protobuf import (
    CLOCK,
    SEQUENCE,
    STAMP_BYTES,
    VALUE,
    VARINT,
    Interned,
    event_packet,
    field_of,
    flow_of,
    flows_of,
    tag,
    value_of,
    varint,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ..reader.batch import Batch
    from ..reader.description import EventClass
    from ..reader.records import Writer
    from ..reader.rows import Array

__all__ = ["packets"]

LOSSES = 2  # the sequence of packets that tell of losses
PAUSE_NS = 5_000_000  # a thread that wrote nothing on a cpu for so long was not there
SNAPSHOT_NS = 1_000_000_000  # between two pairs of the clocks
MOST_MADE = 1 << 16  # pieces of packets that are kept
EXCEPTION = "exception"  # of an end record; empty: there was none
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

_What: TypeAlias = "tuple[str, str, str | None]"  # name, kind and level of an event


def packets(batches: Iterable[Batch]) -> Iterator[bytes]:
    """The packets of a trace whose records come in the order of time; a piece a batch."""
    writer = _Writer()
    for batch in batches:
        writer.add(batch)
        yield writer.take()
    writer.finish()
    yield writer.take()


def stamps(times: Array) -> bytes:
    """Times as protobuf's integers, of STAMP_BYTES each."""
    groups = (np.maximum(times, 0).astype(np.uint64)[:, None] >> _SHIFTS).astype(np.uint8)
    return bytes(((groups & 0x7F) | _MORE).tobytes())


class _Writer:
    """Makes packets of batches."""

    def __init__(self) -> None:
        self._out: list[bytes] = []
        self._interned = Interned(self._write)
        self._uuids = itertools.count(1)
        self._processes: dict[tuple[str, int, int], Process] = {}
        self._identities: dict[tuple[str, tuple[int, int, int, int]], Thread] = {}
        self._writers: Sequence[Writer] = ()  # Batch.threads
        self._threads: list[Thread] = []  # of these
        self._labels: list[bytes] = []
        self._host: str | None = None  # whose pids are Perfetto's; processes of other hosts are tracks with names
        self._encoders: dict[int, list[tuple[str, Callable[..., list[bytes]]]]] = {}
        self._made: dict[_What, bytes] = {}
        self._cpus: dict[
            tuple[str, int], tuple[bytes, bytes, int, int]
        ] = {}  # track; what is not written: label, times
        self._cpus_uuid = self._losses_uuid = self._last_snapshot = 0
        self._started = False
        nobody = next(self._uuids)
        self._nobody = self._new_thread(Process(nobody, "unknown writer", 0), nobody)

    # packets

    def take(self) -> bytes:
        """What was made since the last time."""
        made = b"".join(self._out)
        self._out.clear()
        return made

    def _write(self, packet: library.TracePacket) -> None:
        """A packet of the library's making."""
        if not packet.trusted_packet_sequence_id:
            packet.trusted_packet_sequence_id = SEQUENCE
            packet.sequence_flags |= library.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
        self._out.append(library.Trace(packet=[packet]).SerializeToString())

    def _start(self, wall_ns: int, monotonic_ns: int) -> None:
        packet = library.TracePacket()
        packet.trusted_packet_sequence_id = SEQUENCE
        packet.sequence_flags = library.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
        packet.first_packet_on_sequence = True
        packet.trace_packet_defaults.timestamp_clock_id = CLOCK
        self._write(packet)
        self._snapshot(wall_ns, monotonic_ns)
        self._describe(self._nobody.uuid, "unknown writer")
        self._started = True

    def _snapshot(self, wall_ns: int, monotonic_ns: int) -> None:
        """The clocks at one moment."""
        if wall_ns < 0 or monotonic_ns < 0:
            return
        packet = library.TracePacket()
        packet.clock_snapshot.primary_trace_clock = CLOCK
        for clock, time_ns in ((CLOCK, monotonic_ns), (library.BuiltinClock.BUILTIN_CLOCK_REALTIME, wall_ns)):
            packet.clock_snapshot.clocks.add(clock_id=clock, timestamp=time_ns)
        self._write(packet)
        self._last_snapshot = monotonic_ns

    def _describe(self, uuid: int, name: str, parent: int = 0, **more: object) -> bytes:
        """Tells of a track; the field that names it in packets."""
        packet = library.TracePacket(track_descriptor={"uuid": uuid, **more})
        if parent:
            packet.track_descriptor.parent_uuid = parent
        if name:
            packet.track_descriptor.name = name.encode("utf-8", "replace").decode()
        self._write(packet)
        return _TRACK + varint(uuid)

    # who writes

    def _new_thread(self, process: Process, uuid: int) -> Thread:
        thread = Thread(process, uuid)
        thread.lanes.append(Lane(thread, _TRACK + varint(uuid), []))
        return thread

    def _learn(self, writers: Sequence[Writer]) -> None:
        if writers is not self._writers:  # those that are not in it write no more
            self._writers, self._threads, self._labels = writers, [], []
            there = {(writer.host, writer.identity) for writer in writers}
            self._processes = {key: process for key, process in self._processes.items() if process.open}
            self._identities = {
                key: thread
                for key, thread in self._identities.items()
                if key in there or any(lane.open for lane in thread.lanes)
            }
            for (host, (start, _, pid, _)), thread in self._identities.items():
                self._processes[host, pid, start] = thread.process
        for writer in writers[len(self._threads) :]:
            if self._host is None:
                self._host = writer.host
            numbered = writer.host == self._host and _is_number(writer.pid)
            shown = f"{writer.host} {writer.process}" if writer.host else writer.process
            process = self._processes.get((writer.host, writer.pid, writer.start))
            if process is None:
                process = Process(next(self._uuids), "", writer.pid)
                self._processes[writer.host, writer.pid, writer.start] = process
            if process.name != shown:
                process.name = shown
                if numbered:
                    self._describe(process.uuid, "", process={"pid": writer.pid, "process_name": shown})
                else:
                    self._describe(process.uuid, f"{shown}[{writer.pid}]")
            identity = writer.host, writer.identity
            if identity not in self._identities:
                self._identities[identity] = self._new_thread(process, next(self._uuids))
            thread = self._identities[identity]
            if numbered and _is_number(writer.tid):
                own = {"pid": writer.pid, "tid": writer.tid, "thread_name": writer.thread}
                self._describe(thread.uuid, "", process.uuid, thread=own)
            else:
                self._describe(thread.uuid, f"{writer.thread}[{writer.tid}]", process.uuid)
            self._threads.append(thread)
            label = f"{shown}[{writer.pid}] {writer.thread}[{writer.tid}]"
            self._labels.append(self._common(label, "begin", None, "cpu"))

    def _new_lane(self, thread: Thread) -> Lane:
        uuid = next(self._uuids)
        lane = Lane(thread, self._describe(uuid, "tasks", thread.uuid), [])
        thread.lanes.append(lane)
        return lane

    # records

    def add(self, batch: Batch) -> None:
        """All of its records."""
        when_ns = _times(batch)
        wall_ns, monotonic_ns = int(batch.time_ns[0]), int(when_ns[0])
        if not self._started:
            self._start(wall_ns, monotonic_ns)
        elif abs(monotonic_ns - self._last_snapshot) >= SNAPSHOT_NS:
            self._snapshot(wall_ns, monotonic_ns)
        self._learn(batch.threads)
        extras = self._extras(batch)
        times = stamps(when_ns)
        names, name_ids, levels = batch.names, batch.name_id.tolist(), batch.level.tolist()
        columns = (
            batch.class_id, batch.thread_id, batch.kind, batch.span, batch.parent, batch.task, when_ns
        )  # fmt: skip
        classes, threads, write = batch.classes, self._threads, self._event
        for row, (number, who, kind, span, parent, task, when) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        ):
            at = STAMP_BYTES * row
            thread = threads[who] if who >= 0 else self._nobody
            if kind == _LOSS:
                self._loss(classes[number], batch, row, when)
            elif kind != _OTHER:
                what = names[name_ids[row]], KINDS[kind], LEVEL_NAMES[levels[row]]
                write(times[at : at + STAMP_BYTES], thread, what, (span, parent, task, when), extras[row])
        for who in np.unique(batch.thread_id).tolist():
            if who >= 0:
                threads[who].process.last_ns = int(when_ns[batch.thread_id == who][-1])
        self._add_cpus(batch)

    def _event(self, stamp: bytes, thread: Thread, what: _What, numbers: tuple[int, ...], extra: bytes) -> None:
        (name, kind, level), (span, parent, task, when) = what, numbers
        common = self._made.get(what) or self._common(name, kind, level, kind)
        if kind == "begin":
            lane = thread.lane_for(span, parent, task) or self._new_lane(thread)
            thread.begin(lane, span, task, name, when)
            track = lane.track
        elif kind == "end":
            found = thread.end(span)
            track = self._strays(thread.process) if found is None else found.track
        elif kind == "counter":
            track = thread.process.counters.get(name) or self._counter(thread.process, name)
        else:
            track = thread.lanes[0].track
        head, middle = event_packet(len(common) + len(track) + len(extra))
        self._out += (head, stamp, middle, common, track, extra)

    def _common(self, name: str, kind: str, level: str | None, category: str) -> bytes:
        """Type, name and categories of an event."""
        made = _TYPE + varint(_TYPES.get(kind, library.TrackEvent.TYPE_INSTANT))
        if kind != "counter":
            number = self._interned.number(NAMES, name)
            made += library.TrackEvent(name=name).SerializeToString() if number is None else _NAME + varint(number)
        if kind not in {"end", "counter"}:
            for word in (category, level if level not in {None, "info"} else None):
                if word is not None:
                    made += _CATEGORY + varint(self._interned.number(CATEGORIES, word) or 0)
        if category == kind and len(self._made) < MOST_MADE:
            self._made[name, kind, level] = made
        return made

    def _strays(self, process: Process) -> bytes:
        if not process.strays:
            process.strays = self._describe(next(self._uuids), "ends without a begin", process.uuid)
        return process.strays

    def _counter(self, process: Process, name: str) -> bytes:
        track = self._describe(next(self._uuids), name, process.uuid, counter={})
        process.counters[name] = track
        return track

    def _loss(self, made: EventClass, batch: Batch, row: int, when: int) -> None:
        """On a sequence of its own: what is missing there makes no interned name doubtful."""
        packet = library.TracePacket(
            trusted_packet_sequence_id=LOSSES, timestamp=max(when, 0), timestamp_clock_id=CLOCK
        )
        if not self._losses_uuid:
            self._losses_uuid = next(self._uuids)
            self._describe(self._losses_uuid, "losses")
            packet.sequence_flags = library.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
            packet.first_packet_on_sequence = True
        _, fields = made.decode(batch.body(row))
        packet.previous_packet_dropped = 1
        event = packet.track_event
        event.type, event.track_uuid = library.TrackEvent.TYPE_INSTANT, self._losses_uuid
        event.name, event.categories[:] = "loss", ["loss"]
        for name, value in (*fields.items(), ("cpu", int(batch.cpu[row]))):
            event.debug_annotations.add(name=name).MergeFromString(value_of(value))
        self._write(packet)

    # what belongs to records beside their kind

    def _extras(self, batch: Batch) -> list[bytes]:
        """The arguments of all records, and what links them; of counters the value."""
        extras: list[bytes] = [b""] * len(batch)
        for number in batch.class_ids():
            made = batch.classes[number]
            if number == LOG:
                self._log_extras(batch, extras)
            elif made.fields and made.kind in KINDS and made.kind != "loss":
                rows, fields = batch.fields(number)
                pieces = [
                    encode(fields[name]) for name, encode in self._encoders.get(number) or self._make(number, made)
                ]
                for row, *parts in zip(rows.tolist(), *pieces, strict=True):
                    extras[row] = b"".join(parts)
        self._context_extras(batch, extras)
        return extras

    def _make(self, number: int, made: EventClass) -> list[tuple[str, Callable[..., list[bytes]]]]:
        encoders: list[tuple[str, Callable[..., list[bytes]]]] = []
        for name, kind in made.fields:
            if made.kind == "counter":
                encoders += [(name, _values)] if (name, kind) == ("value", "f64") else []
                continue
            encode = field_of(self._interned, name, kind)
            encoders.append((name, _unless_empty(encode) if (made.kind, name) == ("end", EXCEPTION) else encode))
            if name == "flow" and made.kind != "end" and (kind == "str" or kind[0] in "ui") and "[" not in kind:
                encoders.append((name, flows_of))
        self._encoders[number] = encoders
        return encoders

    def _log_extras(self, batch: Batch, extras: list[bytes]) -> None:
        for row in batch.rows_of(LOG).tolist():
            log = unpack_log(batch.body(row))
            if log is not None:
                parts = self._interned.arguments(log.fields)
                extras[row] = b"".join(parts.values()) + flow_of(log.fields.get("flow"))

    def _context_extras(self, batch: Batch, extras: list[bytes]) -> None:
        """The fields of contexts; a record's own win."""
        known: dict[int, dict[str, bytes]] = {}
        kept: dict[tuple[int, int], bytes] = {}
        rows = np.flatnonzero(batch.context >= 0)
        for row, number, context in zip(
            rows.tolist(), batch.class_id[rows].tolist(), batch.context[rows].tolist(), strict=True
        ):
            piece = kept.get((number, context))
            if piece is None:
                parts = known.get(context)
                if parts is None:
                    log = unpack_log(batch.contexts[context])
                    parts = known[context] = {} if log is None else self._interned.arguments(log.fields)
                if number == LOG:
                    log = unpack_log(batch.body(row))
                    own: Iterable[object] = () if log is None else log.fields
                else:
                    own = [name for name, _ in batch.classes[number].fields]
                piece = b"".join(part for name, part in parts.items() if name not in own)
                if number != LOG:
                    kept[number, context] = piece
            extras[row] += piece

    # cpus

    def _add_cpus(self, batch: Batch) -> None:
        """Who wrote where: one slice for what a thread wrote on a cpu in a row."""
        rows = np.flatnonzero(batch.thread_id >= 0)
        order = rows[np.argsort(batch.cpu[rows], kind="stable")]
        if not len(order):
            return
        cpus, threads, times = batch.cpu[order], batch.thread_id[order], _times(batch)[order]
        pauses = np.diff(times)
        new = (np.diff(cpus) != 0) | (np.diff(threads) != 0) | (pauses > PAUSE_NS) | (pauses < 0)
        begins = np.concatenate(([0], np.flatnonzero(new) + 1))
        ends = np.concatenate((begins[1:] - 1, [len(order) - 1]))
        for cpu, thread, begin, end in zip(
            cpus[begins].tolist(), threads[begins].tolist(), times[begins].tolist(), times[ends].tolist(), strict=True
        ):
            self._on_cpu((self._writers[thread].host, cpu), self._labels[thread], begin, end)

    def _on_cpu(self, cpu: tuple[str, int], label: bytes, begin: int, end: int) -> None:
        known = self._cpus.get(cpu)
        if known is None:
            if not self._cpus_uuid:
                self._cpus_uuid = next(self._uuids)
                self._describe(self._cpus_uuid, "cpus: who wrote")
            track = self._describe(
                next(self._uuids), f"{cpu[0]} cpu {cpu[1]}".lstrip(), self._cpus_uuid, sibling_order_rank=cpu[1],
            )  # fmt: skip
        elif known[1] == label and 0 <= begin - known[3] <= PAUSE_NS:
            self._cpus[cpu] = (*known[:3], end)
            return
        else:
            self._write_on_cpu(*known)
            track = known[0]
        self._cpus[cpu] = track, label, begin, end

    def _write_on_cpu(self, track: bytes, label: bytes, begin: int, end: int) -> None:
        ended = _TYPE + varint(library.TrackEvent.TYPE_SLICE_END)
        for common, when in ((label, begin), (ended, end)):
            head, middle = event_packet(len(common) + len(track))
            self._out += (head, stamps(np.array([when])), middle, common, track)

    # the end

    def finish(self) -> None:
        """What is known when there is nothing more."""
        if not self._started:
            self._start(0, 0)
        for known in self._cpus.values():
            self._write_on_cpu(*known)
        for process in (*self._processes.values(), self._nobody.process):
            if process.open:
                self._tell_open(process)

    def _tell_open(self, process: Process) -> None:
        """Marks spans that have not ended where the process was heard of last; their slices go on to the end."""
        track = self._describe(next(self._uuids), "open at the end", process.uuid)
        stamp = stamps(np.array([process.last_ns]))
        for span in process.open.values():
            common = self._common(f"{span.name} did not end", "event", None, "open")
            extra = b"".join(
                self._interned.arguments({"span": span.number, "open_ns": process.last_ns - span.time_ns}).values()
            )
            head, middle = event_packet(len(common) + len(track) + len(extra))
            self._out += (head, stamp, middle, common, track, extra)


_LOSS, _OTHER = KINDS.index("loss"), 255  # of Batch.kind


def _times(batch: Batch) -> Array:
    """By the monotonic clock; of several traces by the wall clock, which is what all hosts have in common."""
    return batch.time_ns if batch.origins else batch.monotonic_ns


def _is_number(number: int) -> bool:
    """Whether it can be a pid or tid to Perfetto, whose 0 is the idle task."""
    return 0 < number < 1 << 31


def _values(column: Array) -> list[bytes]:
    data = column.astype("<f8").tobytes()
    return [VALUE + data[at : at + 8] for at in range(0, len(data), 8)]


def _unless_empty(encode: Callable[..., list[bytes]]) -> Callable[..., list[bytes]]:
    """Nothing where there is no text."""

    def pieces(column: Iterable[object]) -> list[bytes]:
        return [piece if value else b"" for piece, value in zip(encode(column), column, strict=True)]

    return pieces
