"""A hash table of 64-bit keys, in jitted code."""

from __future__ import annotations

from . import primitives as do
from . import rows as shared
from .primitives import frozen, inlined, load32, load64, store32, store64

HASHED = frozen(shared.HASHED)
GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)


@inlined
def signed32(value: int) -> int:
    """What was loaded of an i32."""
    return (value ^ 0x8000_0000) - 0x8000_0000


@inlined
def load_i32(at: int) -> int:
    """An i32."""
    return signed32(load32(at))


@inlined
def find(hashed: int, key: int) -> int:
    """The value of a key; -1: it has none."""
    mask, keys = load64(hashed + HASHED.mask), load64(hashed + HASHED.keys)
    place = (do.times(key, GOLDEN) >> 32) & mask
    while True:
        there = load64(keys + 8 * place)
        if there == key:
            return load_i32(load64(hashed + HASHED.values) + 4 * place)
        if there < 0:
            return -1
        place = (place + 1) & mask


def put(hashed: int, key: int, value: int) -> int:
    """Sets the value of a key, for which there must be a free place; 1: it had none before."""
    mask, keys, values = load64(hashed + HASHED.mask), load64(hashed + HASHED.keys), load64(hashed + HASHED.values)
    place = (do.times(key, GOLDEN) >> 32) & mask
    while True:
        there = load64(keys + 8 * place)
        if there < 0 or there == key:
            store64(keys + 8 * place, key)
            store32(values + 4 * place, value)
            return 1 if there < 0 else 0
        place = (place + 1) & mask
