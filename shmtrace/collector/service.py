"""The process `shmtrace collect`: a thread for each channel, signals, and the session that it may belong to."""

from __future__ import annotations

import os
import resource
import select
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from ..channel import remove_channel
from ..errors import ChannelNotStreamed, ShmtraceError
from ..notes import say
from ..process import is_dead, start_ticks
from ..segment import channel_names, open_streamed, segment_path
from .loop import Collector
from .watch import watch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from ..segment import Segment
    from .endpoint import Endpoint

LOOK_S = 0.5  # how often `--all` looks for new channels
WATCH_S = 0.1  # how often is looked whether a channel was removed


class _Worker:
    """A collector and its thread."""

    def __init__(self, name: str) -> None:
        self.segment: Segment = open_streamed(name)
        try:
            self.collector = Collector(self.segment, say)
        except BaseException:
            self.segment.unmap()
            raise
        self.segment_inode = self.segment.identity[1]
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
        say(self.failure or self.collector.report())
        self.collector.close()
        self.segment.unmap()


def _inode(name: str) -> int:
    """Which segment has the name now; 0: none."""
    try:
        return os.stat(segment_path(name)).st_ino
    except OSError:
        return 0


class _Signals:
    """SIGTERM and SIGINT as something to wait for; a second one ends the process at once."""

    def __init__(self) -> None:
        self.received = False
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._handle)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = True
        os.write(self._write, b"!")

    def wait(self, seconds: float, also: int | None = None) -> None:
        """Sleep until a signal, or until the descriptor `also` becomes readable."""
        poll = select.poll()
        for file in (self._read, also):
            if file is not None:
                poll.register(file, select.POLLIN)
        poll.poll(seconds * 1000)


def main(
    names: Sequence[str], *, all_channels: bool = False, session: int | None = None,
    metrics: tuple[str, int] | None = None,
) -> int:  # fmt: skip
    """Collect these channels, or all of this user's, until a signal or until they are removed.  An exit status.

    With `session`, the pid of the program that the channels were made for: when it is gone, send what there is, end,
    and remove the channels.  With `metrics`, an address, serve the counts there.  Raises what `open_streamed` does,
    CollectorRunning, and OSError if the address is taken.
    """
    signals = _Signals()
    _allow_many_files()
    watch()  # while there are descriptors
    watched = _Program(session) if session is not None else None
    crew = _Crew()
    endpoint = _serve(metrics, crew) if metrics else None
    try:
        for name in names:
            crew.add(name)
        while not signals.received and not (watched and watched.is_gone):
            crew.dismiss_ended()
            if all_channels:
                crew.look()
            if not crew and not all_channels:
                break
            signals.wait(LOOK_S if all_channels else WATCH_S, watched.file if watched else None)
    finally:
        crew.stop()
        if endpoint is not None:
            endpoint.close()
    if watched and watched.is_gone:
        for name in names:
            with suppress(ShmtraceError):
                remove_channel(name, drain=True)
    return 1 if crew.failed else 0


def _serve(address: tuple[str, int], crew: _Crew) -> Endpoint:
    from .endpoint import Endpoint

    try:
        endpoint = Endpoint(address, crew.names)
    except OSError as error:
        raise OSError(error.errno, f"metrics cannot be served at {address[0]}:{address[1]}: {error.strerror}") from None
    say(f"metrics at http://{address[0]}:{endpoint.port}/metrics")
    return endpoint


def _allow_many_files() -> None:
    """A channel takes a descriptor or two, and the usual limit, which a process may raise by itself, is 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class _Program:
    """The program that a channel was made for."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._start = start_ticks(pid)
        self.file: int | None = None
        with suppress(OSError):
            self.file = os.pidfd_open(pid)  # readable when the program ends

    @property
    def is_gone(self) -> bool:
        return self._start is None or is_dead(self._pid, self._start)


class _Crew:
    """The collectors that are at work."""

    def __init__(self) -> None:
        self._workers: list[_Worker] = []
        self._refused: dict[str, int] = {}  # names, and which segment had the name
        self._given_up: dict[str, int] = {}  # whose collector has ended: removed, or without a FIFO
        self.failed = False

    def __len__(self) -> int:
        return len(self._workers)

    def names(self) -> list[str]:
        return [worker.collector.name for worker in list(self._workers)]

    def add(self, name: str) -> None:
        self._workers.append(_Worker(name))

    def look(self) -> None:
        """Start collectors for channels that have none; one that cannot be collected is named once."""
        collected = {worker.collector.name for worker in self._workers if worker.thread.is_alive()}
        for name in set(channel_names()) - collected:
            segment = _inode(name)
            try:
                if self._given_up.get(name) != segment:
                    self.add(name)
            except ChannelNotStreamed:
                self._given_up[name] = segment
            except (ShmtraceError, OSError) as error:  # no descriptor left, for one: the next look may do better
                if self._refused.get(name) != segment:
                    say(str(error))
                self._refused[name] = segment
            else:
                self._refused.pop(name, None)

    def dismiss_ended(self) -> None:
        """Let those go whose channel was removed."""
        for worker in [worker for worker in self._workers if not worker.thread.is_alive()]:
            self._dismiss(worker)

    def stop(self) -> None:
        """End them all: each sends what is committed."""
        for worker in self._workers:
            worker.collector.stop()
        for worker in list(self._workers):
            worker.thread.join()
            self._dismiss(worker)

    def _dismiss(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.end()
        self.failed |= worker.failure is not None
        self._given_up[worker.collector.name] = worker.segment_inode
