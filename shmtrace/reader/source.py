"""A channel's FIFO as recorders and tails read it, and when that ends.

    data                 goes to the parser
    nothing, a writer    pause: give what is complete, and wait
    nothing, no writer   the collector said goodbye or the channel is gone: the end.
                         It had come and did not say goodbye: it was killed.  Say so and wait for the next one.
                         It has not come yet: wait.

Before the first writer comes a FIFO reads like one that the last has left.  So a goodbye is looked for before the read
that shows that nobody is there: seen in this order, nothing can come after it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import stat
import sys
import termios
import time
from typing import TYPE_CHECKING, Protocol

from .. import notes
from ..errors import ChannelError, ChannelForeign, RecorderRunning
from ..layout import CONTROL
from .errors import NotATrace
from .stream import Parser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType
    from typing import Self

    from .stream import Item

__all__ = ["WAIT_MS", "FifoSource", "PipeSource", "Stop", "stop_on_signals"]

PIPE_BYTES = CHUNK_BYTES = 1 << 20
WAIT_MS = 20
GRACE_S = 0.2  # without a writer, before that means something
DRAIN_S = COUNT_S = 1.0


class Segment(Protocol):
    """What is asked of a channel."""

    @property
    def name(self) -> str: ...
    @property
    def fifo(self) -> str | os.PathLike[str]: ...
    def u32(self, offset: int) -> int:
        """The number at an offset of the segment."""


class Stop:
    """Whether somebody asked for the end."""

    requested = False

    def __call__(self) -> bool:
        return self.requested


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """SIGINT and SIGTERM ask for the end instead of ending the process."""
    stop = Stop()

    def request(_number: int, _frame: FrameType | None) -> None:
        stop.requested = True

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class FifoSource:
    """Reads a channel's FIFO, and is the only recorder or tail that does.

    Args:
        segment: the channel.
        once: a collector that was killed is the end.
        stopping: whether to end; what is in the FIFO then still comes.
        say: gets a line when there is something to tell.
        wait_ms: so long it waits when nothing is there, before it gives what is complete.

    Raises:
        RecorderRunning: another recorder or tail reads it.
        ChannelError: it cannot be opened.
    """

    def __init__(
        self,
        segment: Segment,
        *,
        once: bool = False,
        stopping: Callable[[], bool] = lambda: False,
        say: Callable[[str], None] | None = None,
        wait_ms: int = WAIT_MS,
    ) -> None:
        self._segment = segment
        self._once = once
        self._stopping = stopping
        self._say = say or notes.say
        self._wait_ms = wait_ms
        self._parser = Parser()
        self._goodbyes = segment.u32(CONTROL.goodbyes)
        self._descriptor = _open(segment)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the FIFO, and waits a moment for the collector to count what is still in it as lost."""
        if self._descriptor < 0:
            return
        os.close(self._descriptor)
        self._descriptor = -1
        limit = time.monotonic() + COUNT_S
        while self._is_served() and time.monotonic() < limit:
            time.sleep(WAIT_MS / 1000)

    def _is_served(self) -> bool:
        return self._segment.u32(CONTROL.collector_pid) != 0 and self._segment.u32(CONTROL.reader) != 0

    def batches(self) -> Iterator[list[Item]]:
        """What is in the stream, until it ends."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        met = False  # a collector, and it is not known to be gone
        alone_since: float | None = None
        while not self._stopping():
            farewell = self._segment.u32(CONTROL.goodbyes) != self._goodbyes
            count = self._read(CHUNK_BYTES)
            if count:
                met, alone_since = True, None
                yield self._parser.fed(count)
            elif count is None:
                met, alone_since = True, None
                yield self._parser.idle()
                poll.poll(self._wait_ms)
            else:
                now = time.monotonic()
                alone_since = now if alone_since is None else alone_since
                alone = now - alone_since > GRACE_S
                if farewell or (alone and self._segment.u32(CONTROL.removed)):
                    break
                if alone and met:
                    met = False
                    yield self._parser.end()
                    self._say(self._killed())
                    if self._once:
                        break
                yield []
                time.sleep(self._wait_ms / 1000)
        else:
            yield from self._drain()
        yield self._parser.end()

    def _killed(self) -> str:
        what = "ending" if self._once else "waiting for the next one"
        return f"the collector of channel {self._segment.name} was killed: {what}"

    def _drain(self) -> Iterator[list[Item]]:
        """What is in the FIFO at this moment, and the rest of the packet at its end."""
        limit = time.monotonic() + DRAIN_S
        left = _unread(self._descriptor)
        while (left or self._parser.wanted) and time.monotonic() < limit:
            count = self._read(min(CHUNK_BYTES, left or self._parser.wanted))
            if count:
                left = max(0, left - count)
                yield self._parser.fed(count)
            elif count is None:
                time.sleep(WAIT_MS / 1000)
            else:
                break

    def _read(self, count: int) -> int | None:
        """Up to `count` bytes for the parser; 0: no writer has it open; None: nothing is there now."""
        return _read(self._descriptor, self._parser, count)


class PipeSource:
    """Reads a FIFO of no channel of this machine, such as one into which ssh writes, until its writers are gone.

    Args:
        path: of the FIFO.
        stopping: whether to end.
        wait_ms: so long it waits when nothing is there, before it gives what is complete.

    Raises:
        NotATrace: it cannot be opened.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, stopping: Callable[[], bool] = lambda: False, wait_ms: int = WAIT_MS
    ) -> None:
        self._stopping = stopping
        self._wait_ms = wait_ms
        self._parser = Parser()
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise NotATrace(f"{os.fsdecode(path)} cannot be read: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def batches(self) -> Iterator[list[Item]]:
        """What is in the stream, until it ends."""
        met = False  # a writer: before the first one comes a FIFO reads like one that the last has left
        while not self._stopping():
            count = _read(self._descriptor, self._parser, CHUNK_BYTES)
            if count:
                yield self._parser.fed(count)
            elif count == 0 and met:
                break
            else:
                yield self._parser.idle()
                time.sleep(self._wait_ms / 1000)
            met = met or count != 0
        yield self._parser.end()


def _read(descriptor: int, parser: Parser, count: int) -> int | None:
    """Up to `count` bytes for a parser; 0: no writer has the FIFO open; None: nothing is there now."""
    with parser.room(count) as room:
        try:
            return os.readv(descriptor, [room])
        except BlockingIOError:
            return None


def _unread(descriptor: int) -> int:
    count = bytearray(4)
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return int.from_bytes(count, sys.byteorder)


def _open(segment: Segment) -> int:
    try:
        descriptor = os.open(segment.fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise ChannelError(
            f"the FIFO of channel {segment.name} cannot be opened: {segment.fifo}: {error.strerror}"
        ) from None
    try:
        _claim(descriptor, segment)
    except BaseException:
        os.close(descriptor)
        raise
    with contextlib.suppress(OSError):  # the system may allow less, and that works too
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return descriptor


def _claim(descriptor: int, segment: Segment) -> None:
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        raise ChannelForeign(
            f"{segment.fifo} of channel {segment.name} is no FIFO: remove it and create the channel anew"
        )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RecorderRunning(
            f"channel {segment.name} is being read by another recorder or tail: end that one first"
        ) from None
