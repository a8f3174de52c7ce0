"""Processes and threads, and their tracks.

The pids of one host, the first that is met, are Perfetto's own; processes of other hosts are tracks with names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lanes import Lane, Process, Thread
from .output import track_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ...reader.records import Writer
    from .output import Output

__all__ = ["Tracks"]


class Tracks:
    """Of all who have written."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._processes: dict[tuple[str, int, int], Process] = {}
        self._identities: dict[tuple[str, tuple[int, int, int, int]], Thread] = {}
        self._host: str | None = None
        self.writers: Sequence[Writer] = ()  # Batch.threads
        self.threads: list[Thread] = []  # of these
        self.labels: list[bytes] = []  # what is common to slices that say who it is
        nobody = output.new_uuid()
        self.nobody = _new_thread(Process(nobody, "unknown writer", 0), nobody)

    def describe_nobody(self) -> None:
        """The track of who is not known."""
        self._output.describe(self.nobody.uuid, self.nobody.process.name)

    def learn(self, writers: Sequence[Writer]) -> None:
        """Tells of threads that are new in this list."""
        if writers is not self.writers:
            self.writers, self.threads, self.labels = writers, [], []
            self._forget({(writer.host, writer.identity) for writer in writers})
        for writer in writers[len(self.threads) :]:
            self._host = writer.host if self._host is None else self._host
            process = self._process_of(writer)
            self.threads.append(self._thread_of(writer, process))
            label = f"{process.name}[{writer.pid}] {writer.thread}[{writer.tid}]"
            self.labels.append(self._output.piece(label, "begin", None, "cpu"))

    def _forget(self, there: set[tuple[str, tuple[int, int, int, int]]]) -> None:
        """Those that write no more, and have nothing open."""
        self._processes = {key: process for key, process in self._processes.items() if process.open}
        self._identities = {
            key: thread
            for key, thread in self._identities.items()
            if key in there or any(lane.open for lane in thread.lanes)
        }
        for (host, (start, _, pid, _)), thread in self._identities.items():
            self._processes[host, pid, start] = thread.process

    def _process_of(self, writer: Writer) -> Process:
        """The process of a thread, described if it is new, or has another name than before."""
        shown = f"{writer.host} {writer.process}" if writer.host else writer.process
        process = self._processes.get((writer.host, writer.pid, writer.start))
        if process is None:
            process = Process(self._output.new_uuid(), "", writer.pid)
            self._processes[writer.host, writer.pid, writer.start] = process
        if process.name != shown:
            process.name = shown
            if self._is_numbered(writer):
                self._output.describe(process.uuid, "", process={"pid": writer.pid, "process_name": shown})
            else:
                self._output.describe(process.uuid, f"{shown}[{writer.pid}]")
        return process

    def _thread_of(self, writer: Writer, process: Process) -> Thread:
        """The thread, described."""
        identity = writer.host, writer.identity
        if identity not in self._identities:
            self._identities[identity] = _new_thread(process, self._output.new_uuid())
        thread = self._identities[identity]
        if self._is_numbered(writer) and _is_number(writer.tid):
            own = {"pid": writer.pid, "tid": writer.tid, "thread_name": writer.thread}
            self._output.describe(thread.uuid, "", process.uuid, thread=own)
        else:
            self._output.describe(thread.uuid, f"{writer.thread}[{writer.tid}]", process.uuid)
        return thread

    def _is_numbered(self, writer: Writer) -> bool:
        return writer.host == self._host and _is_number(writer.pid)

    # tracks that are made when something is first put there

    def new_lane(self, thread: Thread) -> Lane:
        """One more for a thread's tasks."""
        lane = Lane(thread, self._output.describe(self._output.new_uuid(), "tasks", thread.uuid), [])
        thread.lanes.append(lane)
        return lane

    def strays(self, process: Process) -> bytes:
        """Where a process' ends of spans go that nobody saw begin."""
        if not process.strays:
            process.strays = self._output.describe(self._output.new_uuid(), "ends without a begin", process.uuid)
        return process.strays

    def counter(self, process: Process, name: str) -> bytes:
        """A new one."""
        track = self._output.describe(self._output.new_uuid(), name, process.uuid, counter={})
        process.counters[name] = track
        return track

    def unfinished(self) -> Iterator[Process]:
        """Processes with spans that have not ended."""
        return (process for process in (*self._processes.values(), self.nobody.process) if process.open)


def _new_thread(process: Process, uuid: int) -> Thread:
    thread = Thread(process, uuid)
    thread.lanes.append(Lane(thread, track_of(uuid), []))
    return thread


def _is_number(number: int) -> bool:
    """Whether it can be a pid or tid to Perfetto, whose 0 is the idle task."""
    return 0 < number < 1 << 31
