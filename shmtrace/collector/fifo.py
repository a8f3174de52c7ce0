"""The collector's end of a FIFO.

While nobody reads, no write end is held: a reader that came then would get the last one's bytes from the middle of a
packet.  Whether somebody reads is found out by trying to open it.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import select
import stat
import termios
from contextlib import suppress

from .watch import forget, watch

PIPE_BYTES = 1 << 20


class FifoLost(Exception):
    """The FIFO is not there any more, or is something else now."""


class WriteEnd:
    """The open write end of a FIFO that somebody reads."""

    def __init__(self, file: int) -> None:
        self.file = file
        with suppress(OSError):  # refused to those who have too many pipes; a small one works, too
            fcntl.fcntl(file, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._poll = select.poll()
        self._poll.register(file, select.POLLOUT)

    def is_abandoned(self, timeout_ms: float = 0) -> bool:
        """Wait until there is room, at most so long; True if no reader has the FIFO open any more."""
        events = self._poll.poll(timeout_ms)
        return any(event & select.POLLERR for _, event in events)

    def watch(self, *, room: bool) -> None:
        """Let `is_abandoned` return for room in the pipe, too, or for the reader's departure only."""
        self._poll.modify(self.file, select.POLLOUT if room else 0)

    def unread(self) -> int:
        """Bytes in the pipe."""
        count = array.array("i", [0])
        fcntl.ioctl(self.file, termios.FIONREAD, count)
        return count[0]

    def wake_at_departure(self, semaphore: int) -> bool:
        """Post the semaphore when the last reader leaves; until the end is closed, which is before the semaphore is.

        False if it cannot be done: no descriptor is left, for one.
        """
        try:
            watch().post_at_departure(self.file, semaphore)
        except OSError:
            return False
        return True

    def close(self) -> None:
        forget(self.file)
        os.close(self.file)


def open_for_reader(path: str) -> WriteEnd | None:
    """The write end, if somebody has the read end open, else None.  Raises FifoLost, and OSError where it may pass."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        raise FifoLost(f"the FIFO {path} is gone: {error.strerror}") from None
    status = os.fstat(file)
    if not stat.S_ISFIFO(status.st_mode) or status.st_uid != os.geteuid():
        os.close(file)
        raise FifoLost(f"{path} is no FIFO of this user any more")
    return WriteEnd(file)
