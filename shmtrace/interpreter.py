"""What every process has to know of CPython's objects.  native/objects.py has the rest, and the proof of it all."""

from __future__ import annotations


def address_of(holder: bytes) -> int:
    """Of the payload of a `bytes`, where jitted code reads and writes; the object must be kept."""
    return id(holder) + bytes.__basicsize__ - 1


def tree_hash(variable: object) -> int:
    """Of a ContextVar: the bits by which the interpreter finds it in a Context; see native/objects.py."""
    number = hash(variable) & 0xFFFF_FFFF_FFFF_FFFF
    folded = (number & 0xFFFF_FFFF) ^ (number >> 32)
    return folded if folded != 0xFFFF_FFFF else 0xFFFF_FFFE
