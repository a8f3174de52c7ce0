"""On which track a span goes.  Slices of one track must nest, and spans of tasks of one thread do not.

A thread has its own track and as many further ones, *task lanes*, as it needs.  A span goes to the lane of the span
around it, if that is the innermost one there and of the same task; otherwise to a lane on which nothing is open, the
thread's own track first.  A bridge's spans, which need not nest, have a lane each, and calls of functions the thread's
own track, where nothing else begins then.
"""

from __future__ import annotations

import dataclasses

from ... import wire

__all__ = ["Lane", "Open", "Process", "Thread"]

FIRST_BRIDGED, FIRST_CALL = 1 << 31, 1 << 40  # numbers of spans: of instrument/spans.py and reader/functions.py
MOST_OPEN = 1 << 18  # spans of a process; others begin on the thread's track, and their end is a stray
NO_TASK = (0, wire.BY_THREAD)


@dataclasses.dataclass(slots=True, eq=False)
class Lane:
    """A track, and the spans that are open on it, the innermost last."""

    thread: Thread
    track: bytes  # the field of a packet that says which one it is
    open: list[Open]


@dataclasses.dataclass(slots=True, eq=False)
class Open:
    """A span that has begun."""

    number: int
    task: int
    lane: Lane
    name: str
    time_ns: int  # when, by the clock of the file


@dataclasses.dataclass(eq=False)
class Process:
    """Of which there are threads."""

    uuid: int
    name: str
    pid: int
    open: dict[int, Open] = dataclasses.field(default_factory=dict)
    counters: dict[str, bytes] = dataclasses.field(default_factory=dict)  # fields of packets that say the track
    last_ns: int = 0  # when it was heard of last
    strays: bytes = b""  # the track of ends of spans that nobody saw begin

    def keeps(self, number: int) -> bool:
        """Whether the end of a span that begins will be known."""
        return number > 0 and len(self.open) < MOST_OPEN


@dataclasses.dataclass(eq=False)
class Thread:
    """The tracks of a thread."""

    process: Process
    uuid: int
    lanes: list[Lane] = dataclasses.field(default_factory=list)  # the thread's own is the first
    free: list[Lane] = dataclasses.field(default_factory=list)  # of the others, those on which nothing is open
    has_calls: bool = False

    def lane_for(self, number: int, parent: int, task: int) -> Lane | None:
        """Where a span begins; None: on a new lane."""
        own = self.lanes[0]
        if not self.process.keeps(number):
            return own
        if number >= FIRST_CALL:
            self.has_calls = True
            return own
        if not FIRST_BRIDGED <= number < wire.BY_THREAD:
            around = self.process.open.get(parent) if parent else None
            if (
                around is not None
                and around.lane.thread is self
                and around.lane.open[-1] is around
                and (task in NO_TASK or task == around.task or FIRST_BRIDGED <= parent < wire.BY_THREAD)
            ):
                return around.lane
            if not own.open and not self.has_calls:
                return own
        return self.free.pop() if self.free else None

    def begin(self, lane: Lane, number: int, task: int, name: str, time_ns: int) -> None:
        """It has begun there."""
        if self.process.keeps(number):
            self.end(number)  # of damage, or of a pid that came twice: nobody saw that one end
            made = Open(number, task, lane, name, time_ns)
            lane.open.append(made)
            self.process.open[number] = made

    def end(self, number: int) -> Lane | None:
        """Where a span ends; None: nobody saw it begin."""
        ended = self.process.open.pop(number, None)
        if ended is None:
            return None
        lane = ended.lane
        if lane.open[-1] is ended:
            lane.open.pop()
        else:
            lane.open.remove(ended)
        if not lane.open and lane is not lane.thread.lanes[0]:
            lane.thread.free.append(lane)
        return lane
