"""What intrinsics.py and lanes.py give to jitted code, as plain Python: for machines without numba.

Code that uses only what primitives.py has runs both ways, and does the same.
"""

from __future__ import annotations

import ctypes
import struct
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable


def has_numba() -> bool:
    """Whether there is a compiler."""
    try:
        return find_spec("numba") is not None
    except ModuleNotFoundError:
        return False


Function = TypeVar("Function")
_MASK = (1 << 64) - 1
_kept: list[Any] = []  # memory whose address was given


def frozen(table: type) -> type:
    """A table of offsets."""
    return table


def inlined(function: Function) -> Function:
    """Nothing is."""
    return function


apart = inlined


def padded(size: int) -> int:
    """Bytes of a record with the padding behind it."""
    return (size + 7) & -8


def _signed(word: int) -> int:
    word &= _MASK
    return word - (1 << 64) if word >> 63 else word


def _load(kind: Any) -> Callable[[int], int]:
    def load(at: int) -> int:
        value: int = kind.from_address(at).value
        return value

    return load


def _store(kind: Any) -> Callable[[int, int], None]:
    def store(at: int, value: int) -> None:
        kind.from_address(at).value = value

    return store


load8, load16, load32 = _load(ctypes.c_uint8), _load(ctypes.c_uint16), _load(ctypes.c_uint32)
load64 = get64 = _load(ctypes.c_int64)
store8, store16, store32 = _store(ctypes.c_uint8), _store(ctypes.c_uint16), _store(ctypes.c_uint32)
store64 = put64 = _store(ctypes.c_int64)


def copy(target: int, source: int, size: int) -> None:
    """Memcpy."""
    ctypes.memmove(target, source, size)


def move4(target: int, source: int) -> None:
    """So many bytes."""
    ctypes.memmove(target, source, 4)


def move8(target: int, source: int) -> None:
    """So many bytes."""
    ctypes.memmove(target, source, 8)


def move16(target: int, source: int) -> None:
    """So many bytes."""
    ctypes.memmove(target, source, 16)


def times(a: int, b: int) -> int:
    """Modulo 2**64."""
    return _signed(a * b)


def minus(a: int, b: int) -> int:
    """Modulo 2**64."""
    return _signed(a - b)


def plus(a: int, b: int) -> int:
    """Modulo 2**64."""
    return _signed(a + b)


def high(a: int, b: int) -> int:
    """The upper 64 bits of an unsigned product."""
    return _signed((a & _MASK) * (b & _MASK) >> 64)


def swapped(value: int) -> int:
    """The bytes of a word in the opposite order."""
    return int.from_bytes((value & _MASK).to_bytes(8, "little"), "big", signed=True)


def first_zero(word: int) -> int:
    """Which of the bytes of a word is the first that is 0; 8: none is."""
    found = (word & _MASK).to_bytes(8, "little").find(0)
    return 8 if found < 0 else found


def as_double(bits: int) -> int:
    """The 64 bits of the double that the float of these 32 bits is."""
    (value,) = struct.unpack("<f", struct.pack("<I", bits & 0xFFFF_FFFF))
    (wide,) = struct.unpack("<q", struct.pack("<d", value))
    return int(wide)


def _memory(buffer: Any) -> Callable[[], int]:
    _kept.append(buffer)
    address = ctypes.addressof(buffer)
    return lambda: address


def text(string: str) -> Callable[[], int]:
    """A function that gives the address of a constant C string."""
    return _memory(ctypes.create_string_buffer(string.encode()))


def room(size: int) -> Callable[[], int]:
    """A function that gives the address of `size` bytes, which hold anything."""
    return _memory(ctypes.create_string_buffer(size))
