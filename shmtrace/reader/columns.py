"""The fast reader: traces as batches of columns, decoded in jitted code, in bounded memory.

The parser is that of the record reader, and so is all that it says about damage.  What it gives, packets, jitted code
makes rows of.  Where a packet holds what is rare (records of the collector, logs, what does not make sense) it stops,
and Python does the same as the record reader.  Rows of lanes are merged by time like records.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import select
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

from ..native.rows import ALL_DONE, CURSOR, FULL, HERE_FULL, WALKED
from .errors import NotATrace
from .files import Directory, Lane, first_records, is_file, open_file, parsed
from .merging import Origin, merge_boots, with_origin
from .records import warn_of
from .rows import Cursor, Lanes, Leaps, Rows
from .spans import OWN_NUMBERS_BITS
from .stream import Packet, Run
from .walking import Decoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .batch import Batch
    from .records import Source
    from .stream import Item

__all__ = ["read"]

ROWS_AT_ONCE = 1 << 16
BYTES_AT_ONCE = 4 << 20  # of bodies, at most: what a batch takes is fresh memory once, which costs more than filling it
LANES_BYTES = 32 << 20  # of files are held at a time, all lanes together, but
LEAST_CHUNK_BYTES, MOST_CHUNK_BYTES = 1 << 16, 1 << 20


def read(
    source: Source | Sequence[Source], *, warn: Callable[[str], None] | None = None, rows: int = ROWS_AT_ONCE
) -> Iterator[Batch]:
    """The records of a trace as batches of columns, the same and in the same order as `shmtrace.read` gives them.

    Args:
        source: as for `shmtrace.read`.
        warn: as for `shmtrace.read`.
        rows: of a batch, about.

    Raises:
        NotATrace: the source cannot be opened or holds no trace.
    """
    warn = warn or warn_of
    if isinstance(source, Sequence) and not isinstance(source, str):
        return _read_several(source, warn, rows)
    return _read_one(Decoder(warn), source, warn, rows)


def _read_several(sources: Sequence[Source], warn: Callable[[str], None], rows: int) -> Iterator[Batch]:
    found = []
    for number, source in enumerate(sources):
        decoder = Decoder(warn, number << OWN_NUMBERS_BITS)
        batches = _read_one(decoder, source, warn, rows)
        first = list(itertools.islice(batches, 1))
        known = decoder.description
        if first and known is not None:
            origin = Origin(known.hostname, known.channel)
            found.append((known.boot_id, with_origin(itertools.chain(first, batches), origin)))
    if found:
        yield from merge_boots(found)


def _read_one(decoder: Decoder, source: Source, warn: Callable[[str], None], rows: int) -> Iterator[Batch]:
    if not isinstance(source, (str, os.PathLike)):
        return _read_stream(decoder, source, str(getattr(source, "name", "stream")), rows)
    path = pathlib.Path(source)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise NotATrace(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISDIR(mode):
        return _read_file(decoder, path, rows)
    directory = Directory(path, decoder.describe)
    sizes = directory.lanes()
    directory.open()
    return _read_directory(decoder, directory.uuid, sizes, warn, rows)


def _read_file(decoder: Decoder, path: pathlib.Path, rows: int) -> Iterator[Batch]:
    with open_file(path) as file:
        yield from _read_stream(decoder, file, str(path), rows)


def _read_stream(decoder: Decoder, source: BinaryIO, place: str, most: int) -> Iterator[Batch]:
    waits = True
    if is_file(source):
        start = source.tell()
        for items in parsed(source, place):
            decoder.learn(items, contexts=True)
        decoder.settle()
        source.seek(start)
        waits = False
    cursor = Cursor()
    rows = Rows(most, BYTES_AT_ONCE, decoder.blocks)
    for items in parsed(source, place):
        for item in items:
            if not isinstance(item, (Packet, Run)):
                decoder.tell(item, place, rows)
                continue
            cursor.take(item)
            while (why := decoder.code["walk"](cursor.address, rows.address, decoder.tables.address)) != WALKED:
                if why == HERE_FULL:
                    yield from decoder.finish(rows)
                    rows = Rows(most, BYTES_AT_ONCE, decoder.blocks)
                else:
                    decoder.stopped(cursor, place, rows)
            cursor.drop()
        if waits and rows.count and not _has_more(source):
            yield from decoder.finish(rows)
            rows = Rows(most, BYTES_AT_ONCE, decoder.blocks)
    yield from decoder.finish(rows)


def _has_more(source: BinaryIO) -> bool:
    """Whether the next read gives something at once."""
    try:
        return bool(select.select([source], [], [], 0)[0])
    except (OSError, ValueError, TypeError):  # it is no file of the system
        return True


def _read_directory(
    decoder: Decoder, uuid: bytes, sizes: dict[pathlib.Path, int], warn: Callable[[str], None], most: int
) -> Iterator[Batch]:
    for path, size in sizes.items():  # clock records tell of what came before them
        for items in first_records(path, uuid, size):
            decoder.learn(items, contexts=False)
    decoder.settle()
    chunk = max(LEAST_CHUNK_BYTES, min(LANES_BYTES // max(1, len(sizes)), MOST_CHUNK_BYTES))
    leaps = Leaps(decoder.code["leap"], uuid)
    lanes = {
        str(path): Lane(path, uuid, leaps).items(size, warn, last=True, chunk_bytes=chunk)
        for path, size in sizes.items()
    }
    with contextlib.closing(decoder):
        for full in _merged(decoder, lanes, most):
            yield from decoder.finish_beside(full)
        yield from decoder.finished()


def _merged(decoder: Decoder, lanes: dict[str, Iterator[list[Item]]], most: int) -> Iterator[Rows]:
    """The rows of all lanes in the order of time, so many at a time."""
    walks = [_LaneWalk(decoder, number, place, batches) for number, (place, batches) in enumerate(lanes.items())]
    merged = Lanes([walk.cursor for walk in walks])
    why = FULL
    while why != ALL_DONE:
        rows = Rows(most, BYTES_AT_ONCE, decoder.blocks)
        while (why := decoder.code["merge"](merged.address, rows.address, decoder.tables.address)) >= 0:
            walks[why].go_on(rows)
        yield rows


class _LaneWalk:
    """The walk of a lane's records, while they are merged with those of the others."""

    def __init__(self, decoder: Decoder, number: int, place: str, batches: Iterator[list[Item]]) -> None:
        self.cursor = Cursor(number)
        self._decoder = decoder
        self._place = place
        self._items = itertools.chain.from_iterable(batches)

    def go_on(self, rows: Rows) -> None:
        """Does what has to be done where the walk stopped."""
        if self.cursor[CURSOR.why] != WALKED:
            self._decoder.stopped(self.cursor, self._place, rows)
            return
        self.cursor.drop()
        for item in self._items:
            if isinstance(item, (Packet, Run)):
                self.cursor.take(item)
                return
            self._decoder.tell(item, self._place, rows)
        self.cursor[CURSOR.done] = 1
