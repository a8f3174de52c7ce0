"""Records as events: each a packet on the track where it belongs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...reader.batch import KINDS, LEVEL_NAMES
from .arguments import Arguments
from .cpus import Cpus
from .losses import Losses
from .output import stamps
from .protobuf import STAMP_BYTES, event_packet
from .tracks import Tracks

if TYPE_CHECKING:
    from ...reader.batch import Batch
    from ...reader.rows import Array
    from .lanes import Process, Thread
    from .output import Output, What

__all__ = ["Events"]

_LOSS, _OTHER = KINDS.index("loss"), 255  # of Batch.kind


class Events:
    """Makes packets of batches."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._tracks = Tracks(output)
        self._arguments = Arguments(output.interned)
        self._losses = Losses(output)
        self._cpus = Cpus(output, self._tracks)

    def add(self, batch: Batch) -> None:
        """All of its records."""
        when_ns = _times(batch)
        self._start(int(batch.time_ns[0]), int(when_ns[0]))
        self._tracks.learn(batch.threads)
        self._write(batch, when_ns, self._arguments.of(batch))
        self._hear_of_processes(batch, when_ns)
        self._cpus.add(batch, when_ns)

    def _start(self, wall_ns: int, monotonic_ns: int) -> None:
        if self._output.start(wall_ns, monotonic_ns):
            self._tracks.describe_nobody()

    def _write(self, batch: Batch, when_ns: Array, arguments: list[bytes]) -> None:
        """An event for each record, but for those of kinds that nobody knows."""
        times = stamps(when_ns)
        names, name_ids, levels = batch.names, batch.name_id.tolist(), batch.level.tolist()
        columns = batch.thread_id, batch.kind, batch.span, batch.parent, batch.task, when_ns
        threads, nobody, write = self._tracks.threads, self._tracks.nobody, self._event
        for row, (who, kind, span, parent, task, when) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        ):
            if kind == _LOSS:
                self._losses.add(batch, row, when)
            elif kind != _OTHER:
                at = STAMP_BYTES * row
                what = names[name_ids[row]], KINDS[kind], LEVEL_NAMES[levels[row]]
                thread = threads[who] if who >= 0 else nobody
                write(times[at : at + STAMP_BYTES], thread, what, (span, parent, task, when), arguments[row])

    def _event(self, stamp: bytes, thread: Thread, what: What, numbers: tuple[int, ...], extra: bytes) -> None:
        (name, kind, _), (span, parent, task, when) = what, numbers
        common = self._output.common(what)
        if kind == "begin":
            lane = thread.lane_for(span, parent, task) or self._tracks.new_lane(thread)
            thread.begin(lane, span, task, name, when)
            track = lane.track
        elif kind == "end":
            found = thread.end(span)
            track = self._tracks.strays(thread.process) if found is None else found.track
        elif kind == "counter":
            track = thread.process.counters.get(name) or self._tracks.counter(thread.process, name)
        else:
            track = thread.lanes[0].track
        head, middle = event_packet(len(common) + len(track) + len(extra))
        self._output.pieces += (head, stamp, middle, common, track, extra)

    def _hear_of_processes(self, batch: Batch, when_ns: Array) -> None:
        for who in batch.thread_ids():
            self._tracks.threads[who].process.last_ns = int(when_ns[batch.thread_id == who][-1])

    # the end

    def finish(self) -> None:
        """What is known when there is nothing more."""
        if not self._output.started:
            self._start(0, 0)
        self._cpus.finish()
        for process in self._tracks.unfinished():
            self._tell_open(process)

    def _tell_open(self, process: Process) -> None:
        """Marks spans that have not ended where the process was heard of last; their slices go on to the end."""
        output = self._output
        track = output.describe(output.new_uuid(), "open at the end", process.uuid)
        stamp = stamps(np.array([process.last_ns]))
        for span in process.open.values():
            common = output.piece(f"{span.name} did not end", "event", None, "open")
            fields = {"span": span.number, "open_ns": process.last_ns - span.time_ns}
            output.event(stamp, common, track, b"".join(output.interned.arguments(fields).values()))


def _times(batch: Batch) -> Array:
    """By the monotonic clock; of several traces by the wall clock, which is what all hosts have in common."""
    return batch.time_ns if batch.origins else batch.monotonic_ns
