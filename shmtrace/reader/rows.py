"""Memory of the fast reader's jitted half (native/reading.py), and the calls into it."""

from __future__ import annotations

import ctypes
import functools
import struct
import weakref
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from .. import wire
from ..layout import fields_of
from ..native import functions, is_ready
from ..native.plain import has_numba
from ..native.rows import BIAS, CURSOR, EXPECTED, HASHED, LANES, OPEN_BYTES, PROGRAMS, ROWS, SPANS, TABLES, WIDE
from .stream import RECORD, Head, Packet, packet_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .buffer import Buffer
    from .stream import Run

__all__ = [
    "COLUMNS",
    "Array",
    "Blocks",
    "Cursor",
    "Growing",
    "Hashed",
    "Lanes",
    "OpenSpans",
    "Row",
    "Rows",
    "Tables",
    "address_of",
    "entry",
    "jitted",
    "signed",
    "words",
]

Array: TypeAlias = npt.NDArray[Any]
Element = TypeVar("Element")

MOST_BLOCKS = 8  # are looked after
OFFSETS = fields_of(ROWS)
_first_byte = ctypes.c_char.from_buffer
COLUMNS = {
    name: np.dtype(kind)
    for name, kind in (
        ("cycles", "u8"), ("time", "i8"), ("monotonic", "i8"), ("classes", "i4"), ("threads", "i4"), ("starts", "i4"),
        ("sizes", "i4"), ("cpus", "u2"), ("lanes", "u2"), ("spans", "i8"), ("parents", "i8"), ("tasks", "i8"),
        ("contexts", "i4"),
    )
}  # fmt: skip


def jitted() -> dict[str, Callable[..., int]]:
    """The jitted functions, by name.  Calls are made without the GIL.  Without numba they are plain Python."""
    arguments = {
        "leap": 4, "walk": 3, "put": 3, "convert": 3, "merge": 3, "finish": 5, "tally": 3, "spread": 4,
        "look_up": 5, "gather": 7, "split": 7, "pack": 6,
    }  # fmt: skip
    return {name: entry("reader", "reading", name, count) for name, count in arguments.items()}


def entry(unit: str, module: str, name: str, arguments: int) -> Callable[..., int]:
    """A function of jitted code, or of the module of which it would be made."""
    if is_ready(unit) or has_numba():
        return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * arguments)(functions(unit)[name])
    plain: Callable[..., int] = getattr(import_module(f"shmtrace.native.{module}"), name)
    return plain


class Growing(list[Element]):
    """A list that grows, perhaps by another thread, and columns of its elements."""

    def __init__(self, elements: Iterable[Element] = ()) -> None:
        super().__init__(elements)
        self._columns: dict[str, tuple[int, Array]] = {}

    def column(self, name: str, kind: str, of: Callable[[Element], object]) -> Array:
        """An array with what `of` says of each element, which is asked once an element."""
        known, array = self._columns.get(name, (0, np.empty(0, kind)))
        count = len(self)
        if count > len(array):
            larger = np.empty(max(64, 2 * count), kind)
            larger[:known] = array[:known]
            array = larger
        if count > known:
            array[known:count] = [of(element) for element in self[known:count]]
            self._columns[name] = count, array
        return array[:count]


def address_of(array: Array) -> int:
    """Where its first element lies."""
    try:
        return ctypes.addressof(_first_byte(array.data))  # in a fifth of the time of what always tells
    except (TypeError, ValueError, BufferError):  # nothing may be written there, or nothing is in it, or it has gaps
        address: int = array.__array_interface__["data"][0]
        return address


def words(table: type) -> Array:
    """The memory of a table."""
    return np.zeros(_words_in(table), np.int64)


@functools.cache
def _words_in(table: type) -> int:
    return max(fields_of(table).values()) // 8 + 1


class Leaps:
    """A stream.Leap by jitted code, for the packets of one trace."""

    def __init__(self, leap: Callable[..., int], uuid: bytes) -> None:
        self._leap = leap
        self._expected = words(EXPECTED)
        self._address = address_of(self._expected)
        start = packet_key(uuid) + struct.pack("<I", wire.STREAM_ID)
        self._expected[EXPECTED.magic // 8 : EXPECTED.stream // 8 + 1] = np.frombuffer(start, np.int64)

    def __call__(self, buffer: Buffer, at: int, lane: int, last: int, discarded: int) -> tuple[int, int]:
        if last >> 62 or discarded >> 62:  # numbers that no packet has
            return at, 0
        self._expected[EXPECTED.lane // 8 : EXPECTED.discarded // 8 + 1] = lane, last, discarded
        stop = self._leap(self._address, buffer.address(), at, buffer.end)
        return stop, int(self._expected[EXPECTED.number // 8]) - last


class Blocks:
    """Memory that is used again when nobody looks at it any more: fresh memory costs more than filling it."""

    def __init__(self) -> None:
        self._blocks: list[tuple[Array, weakref.ref[Array]]] = []

    def take(self, size: int) -> Array:
        """So many bytes at least, whatever is in them.  They are in use as long as there is a view of this array."""
        kept = [(block, user) for block, user in self._blocks if user() is not None or len(block) >= size]
        free = next((number for number, (_, user) in enumerate(kept) if user() is None), None)
        block = np.empty(size, np.uint8) if free is None else kept.pop(free)[0]
        # The base of views of an array is the one that has the memory: only what is no array between them stops that.
        taken: Array = np.frombuffer(block.data, np.uint8)
        self._blocks = [*kept[-MOST_BLOCKS:], (block, weakref.ref(taken))]
        return taken


class Row(NamedTuple):
    """A row that Python makes."""

    cycles: int
    class_id: int
    thread: int  # -1 unknown
    cpu: int
    body: bytes


class Rows:
    """Rows in the order of time, a column an array, and their bodies."""

    def __init__(self, rows: int, room: int, blocks: Blocks) -> None:
        self._blocks = blocks
        self.header = words(ROWS)
        self.address = address_of(self.header)
        self._columns: dict[str, Array] = {}
        self.data = np.empty(0, np.uint8)
        self.converted = 0  # so many have times
        self.kept = 0  # so many are of the batch
        self._grow(rows, room)

    def __getitem__(self, column: str) -> Array:
        return self._columns[column]

    @property
    def count(self) -> int:
        return int(self.header[ROWS.count // 8])

    @property
    def used(self) -> int:
        """Bytes of data."""
        return int(self.header[ROWS.used // 8])

    def need(self, rows: int, room: int) -> None:
        """There is room for so many rows and bytes more."""
        rows, room = self.count + rows, self.used + room
        if rows > int(self.header[ROWS.limit // 8]) or room > int(self.header[ROWS.room // 8]):
            self._grow(
                max(rows, 2 * int(self.header[ROWS.limit // 8])), max(room, 2 * int(self.header[ROWS.room // 8]))
            )

    def _grow(self, rows: int, room: int) -> None:
        count, used, before = self.count, self.used, self._columns
        sizes = [-(-rows * kind.itemsize // WIDE) * WIDE for kind in COLUMNS.values()]
        block = self._blocks.take(sum(sizes) + room + WIDE)
        at, address = 0, address_of(block)
        self._columns = {}
        for (name, kind), size in zip(COLUMNS.items(), sizes, strict=True):
            array = block[at : at + size].view(kind)
            if count:
                array[:count] = before[name][:count]
            self._columns[name] = array
            self.header[OFFSETS[name] // 8] = address + at
            at += size
        data = block[at:]
        data[:used] = self.data[:used]
        self.data = data
        self.header[ROWS.data // 8] = address + at
        self.header[ROWS.limit // 8], self.header[ROWS.room // 8] = rows, room

    def add(self, row: Row, lane: int) -> None:
        """One more."""
        self.need(1, len(row.body))
        count = self.count
        values = {
            "cycles": row.cycles, "classes": row.class_id, "threads": row.thread, "starts": self.used,
            "sizes": len(row.body), "cpus": row.cpu, "lanes": lane,
        }  # fmt: skip
        for name, value in values.items():
            self._columns[name][count] = value
        self.header[ROWS.count // 8] = count + 1
        self.add_body(row.body)

    def add_body(self, body: bytes) -> int:
        """Where it stands; there is room for it."""
        used = self.used
        self.data[used : used + len(body)] = np.frombuffer(body, np.uint8)
        self.header[ROWS.used // 8] = used + len(body)
        return used


class Cursor:
    """How far the packets of a lane have been walked; `number` is that of the file."""

    def __init__(self, number: int = 0) -> None:
        self.header = words(CURSOR)
        self.address = address_of(self.header)
        self._number = number
        self._item: Packet | Run | None = None
        self.header[CURSOR.top // 8] = BIAS

    def __getitem__(self, field: int) -> int:
        return int(self.header[field // 8])

    def __setitem__(self, field: int, value: int) -> None:
        self.header[field // 8] = value

    @property
    def item(self) -> Packet | Run:
        """What is walked."""
        assert self._item is not None
        return self._item

    def take(self, item: Packet | Run) -> None:
        """Walks that next."""
        self._item = item
        self[CURSOR.base] = address_of(np.frombuffer(item.data, np.uint8))
        self[CURSOR.at] = self[CURSOR.end] = self[CURSOR.packet] = 0
        self[CURSOR.lane], self[CURSOR.scope] = item.lane, self._number << 32 | item.lane << 16
        self[CURSOR.stop], self[CURSOR.writer] = len(item.data), -1
        if isinstance(item, Packet):
            self[CURSOR.stop] = item.content_bytes
            self[CURSOR.ahead] = int(item.missing > 0 or item.missed > 0)
            self[CURSOR.begin] = signed(item.begin)

    def drop(self) -> None:
        """What was walked is let go."""
        self._item = None
        self[CURSOR.at] = self[CURSOR.end] = self[CURSOR.stop] = 0

    def head(self) -> Head:
        """Of the record at which the walk stopped."""
        at = self[CURSOR.at]
        cycles, identifier, cpu, writer, size = RECORD.unpack_from(self.item.data, at)
        return Head(cycles, identifier, cpu, writer, size, at + wire.RECORD_BYTES)

    def skip(self, head: Head) -> bool:
        """Passes the record at which the walk stopped; False: the rest of the packet is damaged, from `at` on."""
        after, end = head.body + head.size, self[CURSOR.end]
        self[CURSOR.at] = at = wire.padded(after)
        if at < end or end == after:
            return True
        self[CURSOR.at] = after
        return False

    def skip_packet(self) -> None:
        """Passes the rest of the packet."""
        self[CURSOR.at] = self[CURSOR.end] = wire.padded(self[CURSOR.end])


def signed(word: int) -> int:
    """An unsigned 64-bit word as jitted code has it."""
    return word - (1 << 64) if word >> 63 else word


class Lanes:
    """Lanes whose rows are merged."""

    def __init__(self, cursors: Sequence[Cursor]) -> None:
        self._cursors = np.array([cursor.address for cursor in cursors], np.int64)
        self._heap = np.empty(len(cursors), np.int64)
        self.header = words(LANES)
        self.address = address_of(self.header)
        for field, value in (
            (LANES.count, len(cursors)), (LANES.cursors, address_of(self._cursors)),
            (LANES.heap, address_of(self._heap)), (LANES.size, -1),
        ):  # fmt: skip
            self.header[field // 8] = value


class Hashed:
    """A hash table for jitted code."""

    def __init__(self, put: Callable[..., int]) -> None:
        self._put = put
        self.header = words(HASHED)
        self.address = address_of(self.header)
        self._count = 0
        self._keys, self._values = np.empty(0, np.int64), np.empty(0, np.int32)
        self._resize(64)

    def __setitem__(self, key: int, value: int) -> None:
        if 2 * self._count >= len(self._keys):
            self._resize(2 * len(self._keys))
        self._count += self._put(self.address, key, value)
        self.header[HASHED.changes // 8] += 1

    def clear(self) -> None:
        """Nothing is in it."""
        self._count = 0
        self.header[HASHED.changes // 8] += 1
        self._keys.fill(-1)

    def _resize(self, size: int) -> None:
        before = list(zip(self._keys.tolist(), self._values.tolist(), strict=True))
        self._keys, self._values = np.full(size, -1, np.int64), np.empty(size, np.int32)
        self.header[HASHED.mask // 8] = size - 1
        self.header[HASHED.keys // 8] = address_of(self._keys)
        self.header[HASHED.values // 8] = address_of(self._values)
        for key, value in before:
            if key >= 0:
                self._put(self.address, key, value)


class Numbered:
    """What processes gave numbers to, for jitted code: indices by process and number.

    Jitted code keeps in an array of OpenSpans, `used`, when each of them was named last.
    """

    def __init__(self, put: Callable[..., int], spans: OpenSpans, hashed: int, used: int) -> None:
        self._hashed = Hashed(put)
        self._spans = spans
        self._used = used
        self._keys: dict[int, int] = {}
        spans.header[hashed // 8] = self._hashed.address

    def __len__(self) -> int:
        return self._spans.known(self._used)

    def get(self, process: int, number: int) -> int | None:
        """The index."""
        return self._keys.get(process << 32 | number)

    def add(self, process: int, number: int, now: int) -> int:
        """A new index, which the next one of this number replaces."""
        key, index = process << 32 | number, len(self)
        self._hashed[key] = self._keys[key] = index
        self._spans.extend(self._used, [now])
        return index

    def processes(self) -> set[int]:
        """Those that gave numbers."""
        return {key >> 32 for key in self._keys}

    def newest(self) -> list[int]:
        """Indices; what was named last comes first."""
        used = self._spans[self._used]
        return sorted(self._keys.values(), key=lambda index: -int(used[index]))

    def keep(self, kept: list[int]) -> None:
        """Forgets all others; the indices of those that are kept are as here, from 0 on."""
        new = {index: place for place, index in enumerate(kept)}
        self._spans.keep(self._used, kept)
        self._keys = {key: new[index] for key, index in self._keys.items() if index in new}
        self._hashed.clear()
        for key, index in self._keys.items():
            self._hashed[key] = index


class Tables:
    """What a walk knows of the description and the writers."""

    def __init__(self, writers: Hashed, unknown: int) -> None:
        self.sizes = np.full(1 << 16, unknown, np.int32)
        self.classes = np.zeros(1 << 16, np.int32)
        self.header = words(TABLES)
        self.address = address_of(self.header)
        self._operations = np.empty(0, np.int32)
        for field, array in ((TABLES.sizes, self.sizes), (TABLES.classes, self.classes)):
            self.header[field // 8] = address_of(array)
        self.header[TABLES.writers // 8] = writers.address

    def set_programs(self, programs: dict[int, list[int]]) -> None:
        """How the bodies of classes without a fixed size are checked, by id."""
        operations: list[int] = []
        for identifier, program in programs.items():
            self.sizes[identifier] = PROGRAMS - len(operations)
            operations += program
        self._operations = np.array(operations, np.int32)
        self.header[TABLES.operations // 8] = address_of(self._operations)


class OpenSpans:
    """The spans that are open, or the calls, for jitted code; at most so many, whose own numbers begin with `first`."""

    def __init__(self, most: int, first: int) -> None:
        self.header = words(SPANS)
        self.address = address_of(self.header)
        self._known: dict[int, int] = {}
        self._arrays: dict[int, Array] = {
            SPANS.entries: np.empty(most * OPEN_BYTES, np.uint8),
            SPANS.buckets: np.full(2 * most, -1, np.int32),
        }
        for field, array in self._arrays.items():
            self.header[field // 8] = address_of(array)
        for field, value in (
            (SPANS.limit, most), (SPANS.free, -1), (SPANS.oldest, -1), (SPANS.newest, -1), (SPANS.nameless, first),
            (SPANS.buckets_mask, 2 * most - 1),
        ):  # fmt: skip
            self.header[field // 8] = value
        for field, kind in (
            (SPANS.tails, "i4"), (SPANS.processes, "i4"), (SPANS.identities, "i4"), (SPANS.own, "u1"),
            (SPANS.kinds, "u1"), (SPANS.named, "i8"), (SPANS.called, "i8"), (SPANS.begins, "i4"),
            (SPANS.names, "i4"), (SPANS.latest, "u4"),
        ):  # fmt: skip
            self._set(field, np.empty(0, kind))

    def __getitem__(self, field: int) -> Array:
        return self._arrays[field]

    def known(self, field: int) -> int:
        """Elements of one of the arrays."""
        return self._known.get(field, 0)

    def extend(self, field: int, values: list[int]) -> None:
        """More elements of one of the arrays."""
        array, known = self._arrays[field], self.known(field)
        size = known + len(values)
        if size > len(array):
            larger = np.empty(max(64, 2 * size), array.dtype)
            larger[:known] = array[:known]
            self._set(field, larger)
        self._arrays[field][known:size] = values
        self._known[field] = size

    def keep(self, field: int, kept: list[int]) -> None:
        """Only these elements of one of the arrays."""
        array = self._arrays[field]
        array[: len(kept)] = array[kept]
        self._known[field] = len(kept)

    def _set(self, field: int, array: Array) -> None:
        self._arrays[field] = array
        self.header[field // 8] = address_of(array)
