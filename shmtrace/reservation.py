"""Space in a page for a block of code to write into: `with channel.reserve(n) as view`.

The lane is taken for the length of the block, by whichever thread began it; events and other reservations meanwhile
take other lanes.  At the end of the block the record is committed, and nothing of it exists before.

What keeps others from the bytes is the taken lane, so the lane must be held as long as anything in this process can
write there.  Releasing the view does not make an end of slices and arrays that were made of it.  So each reservation
has an exporter of its own, of which they all hold a reference: it, and nothing else, holds the lane (`_Hold`).  A view
that outlives its block is a BufferError; then nothing is committed, and the lane is given back when the view is gone.

The view goes through a second mapping of the pages, which a forked child does not have: it has private memory in its
place.  To the child, the lane is not its own.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from . import layout
from .native import functions, tables
from .native.builtin import address_of
from .native.loader import MAP_ANONYMOUS, MAP_FAILED, MAP_NORESERVE, MAP_PRIVATE, READ, WRITE, libc
from .place import has_context

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .segment import Segment

_OUTLIVED = (
    "something still refers to the view of a reservation whose block has ended (a slice, an array): nothing is recorded"
)
MREMAP_MAYMOVE, MADV_DONTFORK = 1, 10
MAP_FIXED_NOREPLACE = 0x10_0000

libc.mremap.restype = ctypes.c_void_p
libc.mremap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)


@functools.cache
def _function(name: str, arguments: int) -> Callable[..., int]:
    """A function of the jitted code, to be called with the GIL."""
    return ctypes.PYFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * arguments)(functions("producer")[name])


class Pages:
    """The second mapping of a segment's pages, made when it is first wanted."""

    def __init__(self, segment: Segment) -> None:
        self._original = segment.address + segment.geometry.pages_at
        self._size = segment.geometry.segment_bytes - segment.geometry.pages_at
        self._address = 0
        self._lock = threading.Lock()
        _all.append(self)

    def view_of(self, address: int) -> int:
        """The address in the second mapping of the same byte."""
        with self._lock:
            if self._address == 0:
                # an old size of 0 makes another mapping of the same memory
                mapped = libc.mremap(self._original, 0, self._size, MREMAP_MAYMOVE)
                if mapped == MAP_FAILED:
                    raise OSError(ctypes.get_errno(), "the pages cannot be mapped once more")
                libc.madvise(mapped, self._size, MADV_DONTFORK)
                self._address = mapped
            return self._address + address - self._original

    def after_fork(self) -> None:
        """In the child: what views of the parent's reservations look at is private memory, and there are none here."""
        self._lock = threading.Lock()  # a thread that is not in the child may have held it
        if self._address:
            flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE
            libc.mmap(self._address, self._size, READ | WRITE, flags, -1, 0)
            self._address = 0


_all: list[Pages] = []  # one for each segment that the process has attached, for its life


def _after_fork() -> None:
    for pages in _all:
        pages.after_fork()


os.register_at_fork(after_in_child=_after_fork)


class _Words(ctypes.Structure):
    """tables.RESERVATION."""

    _fields_ = [(field, ctypes.c_int64) for field in layout.fields_of(tables.RESERVATION)]


class _Hold:
    """A lane that is taken.  It is given back at the latest when nothing refers to this object any more."""

    __slots__ = ("_context", "_pid", "_settle", "_words")

    def __init__(self, context: bytes) -> None:
        self._context = context
        self._pid = os.getpid()
        self._settle = _function("settle_reservation", 5)  # at hand when the interpreter ends, too
        self._words = _Words()  # the code fills them in before a signal handler can run

    def take(self, size: int) -> int:
        """Take a lane; what `reserve` in native/entry.py returns.  Raises what a signal handler does."""
        return _function("reserve", 3)(address_of(self._context), size, ctypes.addressof(self._words))

    @property
    def is_held(self) -> bool:
        return bool(self._words.lane)

    @property
    def address(self) -> int:
        """Where the bytes are."""
        return int(self._words.bytes)

    def settle(self, size: int) -> bool:
        """Commit a record of `size` bytes, or (-1) leave no trace; True if it is recorded.

        The lane of a parent is not a child's to give back.
        """
        words = self._words
        lane, words.lane = words.lane, 0
        if lane == 0 or os.getpid() != self._pid:
            return False
        return bool(self._settle(address_of(self._context), lane, words.position, words.cpu, size))

    def __del__(self) -> None:
        self.settle(-1)


class _Exporter(ctypes.Array[ctypes.c_ubyte]):
    """What memoryviews of a page refer to; a type of one size, because ctypes keeps every type for ever."""

    _type_, _length_ = ctypes.c_ubyte, layout.LONGEST_BLOB
    hold: _Hold


class Reservation:
    """What `Channel.reserve` gives: a context manager, to be used once."""

    __slots__ = (
        "_context", "_copied", "_event", "_exporter", "_hold", "_later", "_pages", "_pid", "_size", "_view", "recorded"
    )  # fmt: skip

    recorded: bool  #: True once the bytes are in the trace

    def __init__(
        self, context: bytes, pages: Pages | None, size: int, event: Callable[[Any], bool], *, later: bool = False
    ) -> None:
        self._context = context
        self._pages = pages  # None: the channel is off for good
        self._size = size
        self._event = event
        self._hold: _Hold | None = None
        self._exporter: _Exporter | None = None
        self._view: memoryview | None = None
        self._later = later  # the bytes are recorded as a blob at the end
        self._copied: bytearray | None = None  # these
        self._pid = 0  # of the process that began the block
        self.recorded = False

    def __enter__(self) -> memoryview:
        if self._pid:
            raise RuntimeError("a reservation is for one block: call channel.reserve() for each")
        self._pid = os.getpid()
        if self._pages is not None and not self._later:
            hold = _Hold(self._context)
            self._later = hold.take(self._size) == tables.RESERVE_LATER
            if hold.is_held:
                try:
                    address = self._pages.view_of(hold.address)
                except OSError:  # the process may map nothing more
                    self._later = True
                else:
                    self._hold = hold
                    self._exporter = _Exporter.from_address(address)
                    self._exporter.hold = hold
                    self._view = memoryview(self._exporter).cast("B")[: self._size]
                    return self._view
        beside = bytearray(self._size + 1)  # it is made shorter at the end, which cannot be done while it is viewed
        self._copied = beside if self._later else None  # else nothing is recorded
        self._view = memoryview(beside)[: self._size]
        return self._view

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        view, self._view = self._view, None  # this object may live on, and is not what holds the space then
        hold, self._hold = self._hold, None
        copied, self._copied = self._copied, None
        if view is not None:
            with suppress(BufferError):  # an array was made of it
                view.release()
        del view
        if hold is not None:
            exporter = weakref.ref(self._exporter)
            self._exporter = None
            if exporter() is None:
                self.recorded = self._settle(hold, recorded=kind is None)
            elif kind is None:
                raise BufferError(f"{_OUTLIVED}, and the space is not given back until that is gone")
        elif copied is not None and kind is None and os.getpid() == self._pid:
            try:
                copied.pop()
            except BufferError:
                raise BufferError(_OUTLIVED) from None
            self.recorded = self._event(copied)

    def _settle(self, hold: _Hold, *, recorded: bool) -> bool:
        """Commit what is in the page, or leave no trace."""
        if recorded and has_context() and os.getpid() == self._pid:  # it was set in the block: that is another record
            recorded = self._event(memoryview(_Exporter.from_address(hold.address))[: self._size])
            hold.settle(-1)
            return recorded
        return hold.settle(self._size if recorded else -1)
