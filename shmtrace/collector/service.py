"""The process `shmtrace collect`: a thread for each channel, signals, and the session that it may belong to."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

from ..channel import remove_channel
from ..errors import ShmtraceError
from ..process import is_dead, start_ticks
from ..segment import Segment, channel_names, open_segment
from .loop import Collector

LOOK_S = 0.5  # how often `--all` looks for new channels


def _say(message: str) -> None:
    print(f"shmtrace: {message}", file=sys.stderr, flush=True)


class _Worker:
    """A collector and its thread."""

    def __init__(self, name: str) -> None:
        self.segment: Segment = open_segment(name)
        try:
            self.collector = Collector(self.segment, _say)
        except BaseException:
            self.segment.unmap()
            raise
        self.identity = self.segment.identity
        self.failure: str | None = None
        self.thread = threading.Thread(target=self._run, name=f"collect {name}")
        self.thread.start()

    def _run(self) -> None:
        try:
            self.collector.run()
        except Exception as error:  # noqa: BLE001  (one channel's trouble is not the others')
            self.failure = f"{self.collector.name}: {error}"

    def end(self) -> None:
        """Report, and give everything back.  The thread has ended."""
        _say(self.failure or self.collector.report())
        self.segment.unmap()


class _Signals:
    """SIGTERM and SIGINT as something to wait for; a second one ends the process at once."""

    def __init__(self) -> None:
        self.received = False
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = True
        os.write(self._write, b"!")

    def wait(self, seconds: float, also: int | None = None) -> bool:
        """Sleep; True if the descriptor `also` became readable."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        if also is not None:
            poll.register(also, select.POLLIN)
        return any(file == also for file, _ in poll.poll(seconds * 1000))


def main(names: Sequence[str], *, all_channels: bool = False, session: int | None = None) -> int:
    """Collect these channels, or all of this user's, until a signal or until they are removed.  An exit status.

    With `session`, the pid of the program that the channels were made for: when it is gone, send what there is, end, and
    remove the channels.  Raises what `open_segment` does, and CollectorRunning.
    """
    signals = _Signals()
    session_file = None
    if session is not None:
        start = start_ticks(session)
        try:
            session_file = os.pidfd_open(session)
        except OSError:
            pass
        if session_file is None or start is None or is_dead(session, start):
            orphaned = True
        else:
            orphaned = False
    else:
        orphaned = False
    workers: dict[tuple[int, int], _Worker] = {}
    failed = False
    refused: set[str] = set()
    try:
        for name in names:
            worker = _Worker(name)
            workers[worker.identity] = worker
        while not signals.received and not orphaned:
            if all_channels:
                _look(workers, refused)
            for worker in [worker for worker in workers.values() if not worker.thread.is_alive()]:
                worker.end()
                failed |= worker.failure is not None
                del workers[worker.identity]
            if not workers and not all_channels:
                break
            orphaned = signals.wait(LOOK_S if all_channels else 0.1, session_file)
    finally:
        for worker in workers.values():
            worker.collector.stop()
        for worker in workers.values():
            worker.thread.join()
            worker.end()
            failed |= worker.failure is not None
    if orphaned:
        for name in names:
            try:
                remove_channel(name, drain=True)
            except ShmtraceError:
                pass
    return 1 if failed else 0


def _look(workers: dict[tuple[int, int], _Worker], refused: set[str]) -> None:
    """Start collectors for channels that have none; one that cannot be collected is named once."""
    collected = {worker.collector.name for worker in workers.values() if worker.thread.is_alive()}
    for name in channel_names():
        if name in collected:
            continue
        try:
            worker = _Worker(name)
        except ShmtraceError as error:
            if name not in refused:
                _say(str(error))
            refused.add(name)
        else:
            refused.discard(name)
            workers[worker.identity] = worker
