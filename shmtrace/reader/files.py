"""Where traces lie: a directory with a file a lane, a file or pipe that holds a stream."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import struct
from typing import TYPE_CHECKING, BinaryIO

from .. import wire
from .errors import NotATrace
from .stream import COLLECTORS_IDS, LIMIT_BYTES, Metadata, Parser, RecordDamaged, heads, packet_key

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator

    from .description import Description
    from .stream import Item, Leap, Packet

__all__ = ["Directory", "Lane", "first_records", "ignore", "is_file", "open_file", "parsed"]

CHUNK_BYTES = 1 << 20
LANE_CHUNK_BYTES = 1 << 18  # of a lane's file: many are read side by side
HEAD_BYTES = 1 << 12  # of a packet: its header, and some records
_FIRST_ID_AT = wire.PACKET_BYTES + wire.RECORD.id
_START = struct.Struct(  # of a packet: its sizes, and the id of its first record
    f"<{wire.PACKET.content_size}xQQ{_FIRST_ID_AT - wire.PACKET.packet_seq_num}xH"
)
_LANE_FILE = re.compile(r"stream_\d+_\d+")


def open_file(path: pathlib.Path) -> BinaryIO:
    """Opens a file that holds a stream.

    Raises:
        NotATrace: it cannot be opened.
    """
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise NotATrace(f"{path} cannot be read: {error.strerror}") from None


def is_file(source: BinaryIO) -> bool:
    """Whether it can be read twice."""
    try:
        return source.seekable()
    except AttributeError:
        return False


def parsed(source: BinaryIO, place: str) -> Iterator[list[Item]]:
    """What is in a stream; `place` is its name.

    Raises:
        NotATrace: nothing in it is a trace, or it cannot be read.
    """
    parser = Parser()
    described = False
    offset = 0
    receive = getattr(source, "read1", source.read)
    while data := _receive(receive, place):
        items = parser.feed(data)
        if len(data) < CHUNK_BYTES:
            items += parser.idle()
        yield items
        offset += len(data)
        described = described or any(isinstance(item, Metadata) for item in items)
        if not described and offset > 2 * LIMIT_BYTES:
            break
    items = parser.end()
    if not described and not any(isinstance(item, Metadata) for item in items):
        raise NotATrace(f"{place} is no trace: there is no description of one in its first {offset} bytes")
    yield items


def _receive(receive: Callable[[int], bytes], place: str) -> bytes:
    try:
        return receive(CHUNK_BYTES)
    except OSError as error:
        raise NotATrace(f"{place} cannot be read: {error.strerror}") from None


class Lane:
    """The file of one lane, read as far as it goes."""

    def __init__(self, path: pathlib.Path, uuid: bytes, leap: Leap | None = None) -> None:
        self.path = path
        self._parser = Parser(uuid, leap)
        self._offset = 0

    def items(
        self, until: int, warn: Callable[[str], None], *, last: bool, chunk_bytes: int = LANE_CHUNK_BYTES
    ) -> Iterator[list[Item]]:
        """What is new up to the byte `until`.  The file is open only while a piece is read: there may be many."""
        while self._offset < until:
            try:
                with self._parser.room(min(chunk_bytes, until - self._offset)) as room:
                    count = _read_at(self.path, self._offset, room)
            except OSError as error:
                warn(f"{self.path}: byte {self._offset}: {until - self._offset} bytes cannot be read: {error.strerror}")
                self._offset = until
                break
            if not count:  # somebody made it shorter
                break
            self._offset += count
            yield self._parser.fed(count)
        yield self._parser.end() if last else self._parser.idle()


def _read_at(path: pathlib.Path, offset: int, room: memoryview) -> int:
    """How many bytes have been read.  By system calls alone: whenever one is made, another thread may take the GIL."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.preadv(descriptor, [room], offset)
    finally:
        os.close(descriptor)


def first_records(path: pathlib.Path, uuid: bytes, size: int) -> Iterator[list[Item]]:
    """The packets of a lane's file that begin with records of the collector, of which no more is looked at than those.

    Packets are found by their sizes.  If that leads to something that is none, the file is parsed as well.
    """
    try:
        with path.open("rb", buffering=0) as file:
            yield from _leaps(file.fileno(), uuid, size)
    except (OSError, ValueError):
        yield from Lane(path, uuid).items(size, ignore, last=True)


def _leaps(descriptor: int, uuid: bytes, size: int) -> Iterator[list[Item]]:
    """Packets with their beginnings only.  Raises ValueError if one is not what it should be."""
    parser, start = Parser(uuid), packet_key(uuid)
    at = 0
    while at < size:
        first = os.pread(descriptor, _START.size, at)  # most packets are done with by this look
        if first.startswith(start) and len(first) == _START.size:
            content, packet_bits, identifier = _START.unpack(first)
            behind = at + packet_bits // 8
            whole = packet_bits % 64 == 0 and 0 <= packet_bits - content < 64 and behind <= size
            if whole and content // 8 >= _START.size and identifier not in COLLECTORS_IDS:
                at = behind
                continue
        packet_bytes, packet = _beginning(parser, descriptor, HEAD_BYTES, at)
        if at + packet_bytes > size:
            raise ValueError
        yield [packet if _has_others(packet) else _beginning(parser, descriptor, packet_bytes, at)[1]]
        at += packet_bytes


def _beginning(parser: Parser, descriptor: int, count: int, at: int) -> tuple[int, Packet]:
    """Size of a packet, and so many bytes of it, if it has as many."""
    found = parser.beginning(os.pread(descriptor, count, at), at)
    if found is None:
        raise ValueError
    return found


def _has_others(packet: Packet) -> bool:
    """Whether a record that is not the collector's is there."""
    with contextlib.suppress(RecordDamaged):
        return any(head.id not in COLLECTORS_IDS for head in heads(packet))
    return False


def ignore(_line: str) -> None:
    """What is wrong is told when it is read once more."""


class Directory:
    """The files of a trace directory, which may still grow.  `describe` gets its description whenever that is new."""

    def __init__(self, path: pathlib.Path, describe: Callable[[str], Description]) -> None:
        self.path = path
        self.uuid = b""
        self._describe = describe
        self._metadata: tuple[int, int, int] | None = None  # as it was read last

    def open(self) -> None:
        """Reads the description.

        Raises:
            NotATrace: there is none.
        """
        file = self.path / "metadata"
        try:
            status = file.stat()
            version = status.st_ino, status.st_size, status.st_mtime_ns
            if version == self._metadata:
                return
            if not stat.S_ISREG(status.st_mode) or status.st_size > LIMIT_BYTES:
                raise NotATrace(f"{self.path} is no trace: its file `metadata` is not one that shmtrace writes")
            text = file.read_text("utf-8", "replace")
        except OSError as error:
            raise NotATrace(f"{self.path} is no trace: its file `metadata` cannot be read: {error.strerror}") from None
        self.uuid = self._describe(text).uuid
        self._metadata = version

    def lanes(self) -> dict[pathlib.Path, int]:
        """The lanes' files and their sizes, as they are now.

        Raises:
            NotATrace: the directory cannot be read.
        """
        try:
            paths = sorted(path for path in self.path.iterdir() if _LANE_FILE.fullmatch(path.name))
        except OSError as error:
            raise NotATrace(f"{self.path} cannot be read: {error.strerror}") from None
        sizes = {}
        for path in paths:
            with contextlib.suppress(OSError):  # gone meanwhile
                status = path.stat()
                if stat.S_ISREG(status.st_mode):
                    sizes[path] = status.st_size
        return sizes
