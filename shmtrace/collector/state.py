"""The collector's own memory for one channel, and its jitted half (native/collect.py) as methods."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from .. import layout, wire
from ..context import make_context, segment_context
from ..layout import CONTROL
from ..native import functions, tables
from ..native.builtin import address_of
from ..native.loader import libc, map_memory
from ..native.tables import COLLECTOR, COPY, PACKING
from .description import describe_stream, sound_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..segment import Segment

HEADERS_BYTES = 1 << 20  # beside what one packet may need at most
WRITER_RECORD_BYTES = wire.padded(wire.RECORD_BYTES + wire.WRITER_BODY_BYTES + 2 * layout.WIDTHS["Name48"])

_ONE = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
_TWO = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
_FOUR = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)
_THREE = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


def _words(table: type) -> list[tuple[str, type[ctypes.c_int64]]]:
    return [(field, ctypes.c_int64) for field in layout.fields_of(table)]


class Copy(ctypes.Structure):
    """tables.COPY."""

    _fields_ = _words(COPY)


class Packing(ctypes.Structure):
    """tables.PACKING."""

    _fields_ = _words(PACKING)


class State:
    """The memory that the jitted code works in, and the calls into it.  Calls are made without the GIL."""

    def __init__(self, segment: Segment, me: int) -> None:
        self._segment = segment
        geometry = segment.geometry
        context = segment_context(segment)
        self._context = make_context(**context)
        self.full, self.waiting = context["full"], context["waiting"]  # sem_t *
        stride = -(-(geometry.writers) // 64) * 8
        headers = HEADERS_BYTES + geometry.writers * WRITER_RECORD_BYTES
        parts = {
            "sends": tables.SENDS_MAX * tables.SEND_BYTES,
            "iovecs": 2 * tables.SENDS_MAX * tables.IOVEC_BYTES,
            "ring": tables.RING_MAX * tables.RING_BYTES,
            "owners": geometry.lanes * 8,
            "announced": geometry.lanes * stride,
            "headers": headers,
            "begun": geometry.lanes,
            "settled": geometry.lanes,
            "doomed": geometry.writers,
            "marks": geometry.lanes * 8,
            "census": geometry.writers * 16,
        }
        self._size = 512 + sum(-(-size // 64) * 64 for size in parts.values())
        self._base = map_memory(self._size)
        numbers = {
            "context": address_of(self._context),
            "me": me,
            "headers_bytes": headers,
            "announced_stride": stride,
            "known_ids": wire.FIRST_ID,
            "flush_lane": geometry.lanes,
            "clock_cycles": sound_clock(segment)[1],
        }
        at = self._base + 512
        for part, size in parts.items():
            numbers[part] = at
            at += -(-size // 64) * 64
        offsets = layout.fields_of(COLLECTOR)
        for field, value in numbers.items():
            self._set(offsets[field], value)
        ctypes.memmove(self._base + COLLECTOR.uuid, segment.uuid, 16)
        code = functions("collector")
        self._code = {name: _FOUR(address) for name, address in code.items()}
        self._one: dict[str, Callable[[int], int]] = {name: _ONE(address) for name, address in code.items()}
        self._pump, self._remember = _TWO(code["pump"]), _TWO(code["remember_metadata"])
        self._doom = _TWO(code["doom"])
        self._depart, self._enable = _TWO(code["depart"]), _TWO(code["enable"])
        self._suspect, self._reclaim = _TWO(code["suspect"]), _THREE(code["reclaim"])
        self._lanes = geometry.lanes
        self._headers = self._get(COLLECTOR.headers)

    def close(self) -> None:
        """Give the memory and the semaphores back."""
        libc.munmap(self._base, self._size)
        for semaphore in (self.full, self.waiting):
            libc.sem_close(semaphore)

    def _get(self, at: int) -> int:
        return ctypes.c_int64.from_address(self._base + at).value

    def _set(self, at: int, value: int) -> None:
        ctypes.c_int64.from_address(self._base + at).value = value

    # what is set from outside

    def begin_flush(self) -> None:
        """Let the next pump send what is committed in partly filled pages, too; a pass under way goes on."""
        if self._get(COLLECTOR.flush_lane) >= self._lanes:
            self._set(COLLECTOR.flush_lane, 0)

    @property
    def flushing(self) -> bool:
        return self._get(COLLECTOR.flush_lane) < self._lanes

    def want_clock(self) -> None:
        """Let the next packet carry a clock record."""
        self._set(COLLECTOR.clock_due, 1)

    def describe(self) -> bytes:
        """The description of the stream, a packet of metadata.  From now on packets may have what is in it."""
        seen = self._segment.u32(CONTROL.classes_count)
        count, metadata = describe_stream(self._segment)
        self._set(COLLECTOR.known_ids, wire.FIRST_ID + count)
        self._set(COLLECTOR.classes_seen, seen)
        self._set(COLLECTOR.classes_due, 0)
        return metadata

    @property
    def wrote_bytes(self) -> int:
        return self._get(COLLECTOR.wrote_bytes)

    @property
    def wrote_packets(self) -> int:
        return self._get(COLLECTOR.wrote_packets)

    # the jitted half; see native/collect.py

    def pump(self, file: int) -> int:
        return self._pump(self._base, file)

    def remember_metadata(self, size: int) -> None:
        self._remember(self._base, size)

    def depart(self, unread: int) -> int:
        return self._depart(self._base, unread)

    def suspect(self, start: int) -> int:
        return self._suspect(self._base, start)

    def reclaim(self, lane: int, owner: int) -> bool:
        return bool(self._reclaim(self._base, lane, owner))

    def discard(self) -> int:
        return self._one["discard"](self._base)

    def enable(self, *, resumed: bool) -> None:
        self._enable(self._base, resumed)

    def settle(self) -> int:
        return self._one["settle"](self._base)

    def seal(self) -> int:
        return self._one["seal"](self._base)

    def has_full_page(self) -> bool:
        return bool(self._one["has_full_page"](self._base))

    def is_idle(self) -> bool:
        return bool(self._one["is_idle"](self._base))

    def sweep(self) -> int:
        return self._one["sweep"](self._base)

    def census(self) -> list[tuple[int, int]]:
        """Number and identity of each writer in the table."""
        count = self._one["census"](self._base)
        words = (ctypes.c_uint64 * (2 * count)).from_address(self._get(COLLECTOR.census))[:]
        return list(zip(words[::2], words[1::2], strict=True))

    def doom(self, writer: int) -> bool:
        return bool(self._doom(self._base, writer))

    def mark(self) -> None:
        self._one["mark"](self._base)

    def free_doomed(self) -> int:
        return self._one["free_doomed"](self._base)

    def take_tokens(self, count: int) -> None:
        self._code["take_tokens"](self._base, count, 0, 0)

    def tokens_missing(self) -> int:
        return self._one["tokens_missing"](self._base)

    # for snapshots; see native/snapshot.py

    @property
    def begin_cycles(self) -> int:
        """The channel's clock when it was made: no record is older."""
        return self._get(COLLECTOR.clock_cycles)

    def copy_lane(self, lane: int, target: int, copies: ctypes.Array[Copy]) -> int:
        return self._code["copy_lane"](self._base, lane, target, ctypes.addressof(copies))

    @property
    def overwritten(self) -> int:
        """Records of the lane copied last that were overwritten; of the lane packed next, that are to be told."""
        return self._get(COLLECTOR.overwritten)

    @overwritten.setter
    def overwritten(self, count: int) -> None:
        self._set(COLLECTOR.overwritten, count)

    def pack_copy(self, lane: int, copy: Copy, packing: Packing) -> bytes:
        """A packet of a page that was copied; empty if metadata is due before it."""
        if not self._code["pack_copy"](self._base, lane, ctypes.addressof(copy), ctypes.addressof(packing)):
            return b""
        head = ctypes.string_at(self._headers, packing.extra - self._headers)
        return head + ctypes.string_at(copy.at + packing.begin, packing.end - packing.begin)

    def pack_nothing(self, lane: int, packing: Packing) -> bytes:
        """A packet without records, for its count."""
        size = self._code["pack_nothing"](self._base, lane, ctypes.addressof(packing), 0)
        return ctypes.string_at(self._headers, size)

    def writers_in(self, copies: Iterable[Copy]) -> set[int]:
        """The numbers of the writers that these pages name."""
        for copy in copies:
            self._code["note_writers"](self._base, ctypes.addressof(copy), 0, 0)
        noted = ctypes.string_at(self._get(COLLECTOR.doomed), self._segment.geometry.writers)
        return {number for number, mark in enumerate(noted) if mark}
