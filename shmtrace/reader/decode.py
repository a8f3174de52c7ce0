"""The body of a record to the values of its fields.

Fields that have a fixed size and follow each other are a *run*, which one `struct` reads.  A class without texts, bytes
and arrays of any length is one run, as most are.
"""

from __future__ import annotations

import itertools
import operator
import struct
from typing import TYPE_CHECKING, TypeAlias

from .. import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["CODES", "Fields", "decoder"]

Fields: TypeAlias = "dict[str, object]"
Numbers: TypeAlias = "tuple[int, ...]"  # of the class' kind
Decode: TypeAlias = "Callable[[memoryview], tuple[Numbers, Fields]]"
Take: TypeAlias = "Callable[[tuple[object, ...]], object]"  # a field's value, out of what its run's struct gives
Step: TypeAlias = "Callable[[memoryview, int, Fields], int]"  # adds fields that begin at an offset, and gives their end

CODES = {
    "u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i8": "b", "i16": "h", "i32": "i", "i64": "q",
    "f32": "f", "f64": "d", "bool": "?",
}  # fmt: skip
_LENGTH = struct.Struct("<H")  # ahead of bytes, and of an array of any length
assert {*CODES, "str", "bytes"} == set(wire.FIELD_TYPES)


def decoder(own: int, fields: Sequence[tuple[str, str]]) -> Decode:
    """What reads the bodies of a class that has `own` numbers of its kind, then these fields.

    It raises ValueError where a body has another size than its fields.
    """
    if all(_is_fixed(kind) for _, kind in fields):
        return _fixed(own, fields)
    head = struct.Struct(f"<{own}I")
    steps: list[Step] = []
    for fixed, group in itertools.groupby(fields, key=lambda field: _is_fixed(field[1])):
        run = list(group)
        steps += [_run(run)] if fixed else itertools.starmap(_variable, run)

    def decode(body: memoryview) -> tuple[Numbers, Fields]:
        values: Fields = {}
        at = head.size
        if at > len(body):
            raise ValueError("fields that reach beyond the record")
        for step in steps:
            at = step(body, at, values)
        if at != len(body):
            raise ValueError(f"{len(body)} bytes instead of {at}")
        return head.unpack_from(body), values

    return decode


def _is_fixed(kind: str) -> bool:
    array = wire.parse_array(kind)
    return kind not in {"str", "bytes"} and (array is None or array[1] is not None)


def _fixed(own: int, fields: Sequence[tuple[str, str]]) -> Decode:
    whole, takes = _plan(fields, own)
    size = whole.size
    names = [name for name, _ in fields]
    if all(kind in CODES for _, kind in fields):  # one value a field

        def decode_plain(body: memoryview) -> tuple[Numbers, Fields]:
            if len(body) != size:
                raise ValueError(f"{len(body)} bytes instead of {size}")
            values = whole.unpack(body)
            return values[:own], dict(zip(names, values[own:], strict=True))

        return decode_plain

    def decode(body: memoryview) -> tuple[Numbers, Fields]:
        if len(body) != size:
            raise ValueError(f"{len(body)} bytes instead of {size}")
        values = whole.unpack(body)
        return values[:own], {name: take(values) for name, take in takes}

    return decode


def _plan(fields: Sequence[tuple[str, str]], at: int = 0) -> tuple[struct.Struct, list[tuple[str, Take]]]:
    """What reads fields of a fixed size behind `at` numbers, and what takes each of them from what that gives."""
    codes, takes = f"<{at}I", []
    for name, kind in fields:
        array, enum = wire.parse_array(kind), wire.parse_enum(kind)
        if array is not None and array[1] is not None:
            codes += f"{array[1]}{CODES[array[0]]}"
            takes.append((name, _take_list(at, at + array[1])))
            at += array[1]
            continue
        codes += CODES[enum[0] if enum else kind]
        takes.append((name, _take_label(at, enum[1]) if enum else operator.itemgetter(at)))
        at += 1
    return struct.Struct(codes), takes


def _take_list(start: int, stop: int) -> Take:
    return lambda values: list(values[start:stop])


def _take_label(at: int, labels: dict[str, int]) -> Take:
    names: dict[object, str] = {number: label for label, number in labels.items()}
    return lambda values: names.get(values[at], values[at])


def _run(fields: Sequence[tuple[str, str]]) -> Step:
    whole, takes = _plan(fields)

    def read(body: memoryview, at: int, values: Fields) -> int:
        if at + whole.size > len(body):
            raise ValueError("fields that reach beyond the record")
        found = whole.unpack_from(body, at)
        for name, take in takes:
            values[name] = take(found)
        return at + whole.size

    return read


def _variable(name: str, kind: str) -> Step:
    array = wire.parse_array(kind)
    if array is not None:
        return _list(name, CODES[array[0]])
    return _text(name) if kind == "str" else _bytes(name)


def _text(name: str) -> Step:
    def read(body: memoryview, at: int, values: Fields) -> int:
        text, end, _ = bytes(body[at:]).partition(b"\0")
        if not end:
            raise ValueError("a text without an end")
        values[name] = text.decode("utf-8", "replace")
        return at + len(text) + 1

    return read


def _counted(body: memoryview, at: int, size: int) -> tuple[int, int]:
    """Begin and end of so many elements of `size` bytes as the number at `at` says."""
    start = at + _LENGTH.size
    stop = start + size * _LENGTH.unpack_from(body, at)[0] if start <= len(body) else start
    if stop > len(body):
        raise ValueError("fields that reach beyond the record")
    return start, stop


def _bytes(name: str) -> Step:
    def read(body: memoryview, at: int, values: Fields) -> int:
        start, stop = _counted(body, at, 1)
        values[name] = bytes(body[start:stop])
        return stop

    return read


def _list(name: str, code: str) -> Step:
    size = struct.calcsize(f"<{code}")

    def read(body: memoryview, at: int, values: Fields) -> int:
        start, stop = _counted(body, at, size)
        values[name] = list(struct.unpack_from(f"<{(stop - start) // size}{code}", body, start))
        return stop

    return read
