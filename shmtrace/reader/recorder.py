"""A stream, written into a trace directory: `metadata`, and `stream_<cpu>_<lane>` with the whole packets of a lane."""

from __future__ import annotations

import collections
import contextlib
import errno
import fcntl
import os
import pathlib
import time
from typing import TYPE_CHECKING

from .. import wire
from .errors import DirectoryNotEmpty, OutputFailed
from .records import MOST_WRITERS, loss_of, writer_of
from .stream import COLLECTORS_IDS, Metadata, Packet, RecordDamaged, heads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Self

    from .stream import Head, Item

__all__ = ["Recorder"]

MOST_AT_ONCE = 256  # packets of a `writev`; the system takes 1,024
LOCK_S = 1.0  # a follower tries the lock for an instant, again and again


class Recorder:
    """Writes what a parser gives into `directory`, which is made if need be and must be empty.

    It holds a lock on the directory while it lives, so that whoever follows it knows when it is complete.  What has
    been written is a valid trace after every `add`; a recorder that is killed inside of one may leave a torn packet.

    Args:
        directory: where to.
        delivered: how many records the collector has delivered so far.  They are not counted here: that would mean to
            walk over each of them, which takes far longer than to copy them.

    Raises:
        DirectoryNotEmpty: there is something in it.
        OutputFailed: it cannot be made or locked.
    """

    def __init__(self, directory: str | os.PathLike[str], *, delivered: Callable[[], int]) -> None:
        self.directory = pathlib.Path(directory)
        self.failure: OutputFailed | None = None  # set when something could not be written; nothing is from then on
        self.bytes = 0
        self.missed = 0
        self.lost = 0
        self.overwritten = 0  # of a flight recorder: what was there before
        self._unwritten = 0
        self._writers: set[tuple[int, int, int, int]] = set()
        self._delivered = delivered
        self._before = delivered()
        self._files: collections.OrderedDict[str, int] = collections.OrderedDict()  # least recently used first
        self._made: set[str] = set()
        self._lock = _lock(self.directory)
        if any(self.directory.iterdir()):
            self.close()
            raise DirectoryNotEmpty(f"{directory} is not empty: name a directory that is empty or does not exist yet")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files and gives the lock back."""
        while self._files:
            os.close(self._files.popitem()[1])
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def writers(self) -> int:
        """Threads seen so far."""
        return len(self._writers)

    @property
    def events(self) -> int:
        """Records delivered since the beginning and not lost here."""
        return max(0, self._delivered() - self._before - self._unwritten)

    def summary(self) -> str:
        """What was recorded, in one line."""
        overwritten = f", {self.overwritten:,} overwritten" if self.overwritten else ""
        return (
            f"{self.events:,} events, {_amount(self.bytes)}, {self.writers:,} writers, "
            f"{self.missed:,} missed, {self.lost:,} lost{overwritten} -> {self.directory}"
        )

    def add(self, items: Iterable[Item]) -> None:
        """Writes what a parser gave.  Sets `failure`, instead of raising, when there is no room for it."""
        lanes: dict[str, list[Packet]] = {}
        for item in items:
            if isinstance(item, Packet):
                self._count(item)
                lanes.setdefault(f"stream_{item.cpu}_{item.lane}", []).append(item)
            elif isinstance(item, Metadata):  # what came ahead of it is written first
                self._write_lanes(lanes)
                lanes = {}
                self._try(self._write_metadata, item.text.encode())
        self._write_lanes(lanes)

    def _write_lanes(self, lanes: dict[str, list[Packet]]) -> None:
        for name, packets in lanes.items():
            if self.failure is None:
                self._try(self._append, name, packets)
            for packet in packets if self.failure is not None else ():  # `_append` has taken out what it wrote
                self._count_unwritten(packet)

    def _try(self, write: Callable[..., None], *arguments: object) -> None:
        if self.failure is None:
            try:
                write(*arguments)
            except OSError as error:
                self.failure = OutputFailed(
                    f"recording ended: {self.directory} cannot be written: {error.strerror}; what is there is valid"
                )

    def _count(self, packet: Packet) -> None:
        """Looks at what the collector put at the head of the packet."""
        self.missed += packet.missed
        self.lost += packet.missing
        with contextlib.suppress(RecordDamaged):
            for head in heads(packet):
                if head.id not in COLLECTORS_IDS:
                    break
                self._count_head(packet, head)

    def _count_head(self, packet: Packet, head: Head) -> None:
        body = packet.data[head.body : head.body + head.size]
        if head.id == wire.ID_WRITER and (announced := writer_of(body)):
            if len(self._writers) < MOST_WRITERS:
                self._writers.add(announced[1].identity)
        elif head.id == wire.ID_LOSS and (loss := loss_of(body)):
            reason, count = loss
            if reason == wire.LOSS_REASONS[wire.LOSS_OVERWRITTEN]:
                self.overwritten += count
            else:
                self.lost += count

    def _count_unwritten(self, packet: Packet) -> None:
        with contextlib.suppress(RecordDamaged):
            for head in heads(packet):
                if head.id not in COLLECTORS_IDS:
                    self._unwritten += 1
                    self.lost += 1

    def _write_metadata(self, text: bytes) -> None:
        """Readers see the old description or the new one, whole.  They pass over hidden files."""
        hidden = self.directory / ".metadata"
        descriptor = self._open(str(hidden), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            _write_all(descriptor, memoryview(text))
        except OSError:
            hidden.unlink()
            raise
        finally:
            os.close(descriptor)
        hidden.rename(self.directory / "metadata")
        self.bytes += len(text)

    def _append(self, name: str, packets: list[Packet]) -> None:
        """Write packets of a lane.  If one cannot be written whole, it and those behind it are left in the list."""
        descriptor = self._file(name)
        while packets:
            views = [packet.data for packet in packets[:MOST_AT_ONCE]]
            torn = os.writev(descriptor, views)
            while packets and torn >= len(packets[0].data):
                size = len(packets.pop(0).data)
                torn -= size
                self.bytes += size
            if torn:
                self._append_rest(descriptor, packets, torn)

    def _append_rest(self, descriptor: int, packets: list[Packet], torn: int) -> None:
        """The rest of the first packet, of which `torn` bytes are written."""
        size = os.fstat(descriptor).st_size - torn
        try:
            _write_all(descriptor, packets[0].data[torn:])
        except OSError:
            os.ftruncate(descriptor, size)
            raise
        self.bytes += len(packets.pop(0).data)

    def _file(self, name: str) -> int:
        descriptor = self._files.pop(name, None)
        if descriptor is None:
            anew = 0 if name in self._made else os.O_CREAT | os.O_EXCL
            descriptor = self._open(str(self.directory / name), os.O_WRONLY | os.O_APPEND | anew)
            self._made.add(name)
        self._files[name] = descriptor
        return descriptor

    def _open(self, path: str, flags: int) -> int:
        """Opens a file; there may be more lanes than a process may have files open."""
        while True:
            try:
                return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except OSError as error:
                if error.errno not in {errno.EMFILE, errno.ENFILE} or not self._files:
                    raise
                os.close(self._files.popitem(last=False)[1])


def _lock(directory: pathlib.Path) -> int:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise OutputFailed(f"{directory} cannot be made a trace directory: {error.strerror}") from None
    try:
        _take(descriptor, directory)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _take(descriptor: int, directory: pathlib.Path) -> None:
    limit = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > limit:
                raise OutputFailed(f"{directory} is being recorded already") from None
            time.sleep(0.01)
        else:
            return


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _amount(count: int) -> str:
    amount, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"
