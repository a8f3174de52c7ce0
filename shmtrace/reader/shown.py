"""The fields of a batch's records as JSON, by native/showing.py: the same text as `export.text` makes of a record's."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from .. import wire
from ..export.text import encode, plain_fields
from ..native.rows import (
    ALL_SHOWN,
    END_WANTED,
    GREATEST_POWER,
    LEAST_POWER,
    LOG_HEAD_BYTES,
    M_ARRAY,
    M_BOOL,
    M_BYTES,
    M_CLASS,
    M_END,
    M_FLOAT,
    M_LOG,
    M_REST,
    M_SIGNED,
    M_TEXT,
    M_TEXT_OR_NONE,
    M_UNSIGNED,
    MEMBER,
    MEMBER_BYTES,
    NO_ROOM,
    NUMBER_BYTES,
    SHOWN,
)
from .batch import EXCEPTION, LOG_CLASS, REST, fields_of_row
from .decode import CODES
from .log import unpack_log
from .rows import Hashed, address_of, entry, words

if TYPE_CHECKING:
    from collections.abc import Callable

    from .batch import Batch
    from .description import EventClass
    from .rows import Array

__all__ = ["shown_fields"]

MEMBER_WORDS = MEMBER_BYTES // 8
DOUBLE_BITS = 125  # a power has one more


def shown_fields(batch: Batch) -> tuple[Array, Array]:
    """Texts behind each other, and the offsets between them."""
    return _Shower(batch).run()


class _Shower:
    """The fields of one batch on their way to text."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._columns = [
            np.ascontiguousarray(column) for column in (batch.class_id, batch.start, batch.size, batch.context)
        ]
        self._offsets = np.zeros(len(batch) + 1, np.int32)
        self._out = np.empty(4 * int(batch.size.sum()) + 64 * len(batch) + 4096, np.uint8)
        self._programs = np.zeros(len(batch.classes), np.int64)
        for class_id in batch.class_ids():
            self._programs[class_id] = address_of(_program(batch.classes[class_id])[0])
        self._ends = Hashed(batch.code["put"])
        self._end_texts: list[Array] = []
        self._end_places = np.zeros(2, np.int64)
        self._header = words(SHOWN)
        for field, value in (
            (SHOWN.count, len(batch)),
            (SHOWN.data, address_of(batch.data)),
            (SHOWN.programs, address_of(self._programs)),
            (SHOWN.offsets, address_of(self._offsets)),
            (SHOWN.ends, self._ends.address),
            (SHOWN.powers, address_of(_powers())),
            *zip(
                (SHOWN.classes, SHOWN.starts, SHOWN.sizes, SHOWN.contexts), map(address_of, self._columns), strict=True
            ),
        ):
            self._header[field // 8] = value
        self._tell_room()

    def run(self) -> tuple[Array, Array]:
        """All rows."""
        while True:
            why = _show()(address_of(self._header))
            if why == ALL_SHOWN:
                return self._out[: self._offsets[-1]], self._offsets
            if why == NO_ROOM:
                self._grow(len(self._out) + (1 << 20))
            elif why == END_WANTED:
                self._add_end(int(self._header[SHOWN.wanted // 8]))
            else:
                self._add_row(int(self._header[SHOWN.at // 8]))

    def _tell_room(self) -> None:
        self._header[SHOWN.out // 8], self._header[SHOWN.room // 8] = address_of(self._out), len(self._out)

    def _grow(self, more: int) -> None:
        larger = np.empty(len(self._out) + more, np.uint8)
        used = int(self._header[SHOWN.used // 8])
        larger[:used] = self._out[:used]
        self._out = larger
        self._tell_room()

    def _add_row(self, row: int) -> None:
        """A row that is not usual."""
        text = np.frombuffer(encode(plain_fields(fields_of_row(self._batch, row))).encode(), np.uint8)
        used = int(self._header[SHOWN.used // 8])
        if used + len(text) > len(self._out):
            self._grow(len(self._out) + len(text))
        self._out[used : used + len(text)] = text
        self._offsets[row : row + 2] = used, used + len(text)
        self._header[SHOWN.used // 8], self._header[SHOWN.at // 8] = used + len(text), row + 1

    def _add_end(self, key: int) -> None:
        """What ends the objects of a class with a context: the fields that the records themselves do not have."""
        made, raised, context = self._batch.classes[key >> 33], key >> 32 & 1, key & 0xFFFF_FFFF
        own = {name for name, kind in made.fields if raised or not _may_be_none(made, name, kind)}
        log = unpack_log(self._batch.contexts[context])
        more = {} if log is None else {name: value for name, value in log.fields.items() if name not in own}
        text = encode(plain_fields(more))[1:]
        self._end_texts.append(np.frombuffer((f", {text}" if own and more else text).encode(), np.uint8))
        number = len(self._end_texts) - 1
        if 2 * number >= len(self._end_places):
            self._end_places = np.concatenate((self._end_places, np.zeros_like(self._end_places)))
        self._end_places[2 * number : 2 * number + 2] = address_of(self._end_texts[-1]), len(self._end_texts[-1])
        self._header[SHOWN.end_places // 8] = address_of(self._end_places)
        self._ends[key] = number


@functools.cache
def _show() -> Callable[[int], int]:
    return entry("json", "showing", "show", 1)


@functools.cache
def _powers() -> Array:
    """Powers of 10, each as two numbers of 63 bits, as Schubfach has them."""
    table = np.empty((GREATEST_POWER - LEAST_POWER + 1, 2), np.int64)
    for power in range(LEAST_POWER, GREATEST_POWER + 1):
        shift = (-power * 913_124_641_741 >> 38) - DOUBLE_BITS
        if power <= 0:
            scaled = 10**-power
            whole = scaled >> shift if shift >= 0 else scaled << -shift
        else:
            whole = (1 << -shift) // 10**power
        table[power - LEAST_POWER] = whole + 1 >> 63, whole + 1 & (1 << 63) - 1
    return table


@functools.lru_cache(maxsize=1 << 16)
def _program(made: EventClass) -> tuple[Array, tuple[Array, ...]]:
    """A class as jitted code shows it, and the arrays to which that refers."""
    kept: list[Array] = []

    def text(content: str) -> tuple[int, int]:
        kept.append(np.frombuffer(content.encode(), np.uint8))
        return address_of(kept[-1]), len(kept[-1])

    members = np.zeros((len(made.fields) + 2, MEMBER_WORDS), np.int64)
    most = 4096
    for row, (name, kind) in zip(members[1:], made.fields, strict=False):
        key, other_key = f'"{name}": ', f'"{name}_base64": '
        row[MEMBER.key // 8], row[MEMBER.key_bytes // 8] = text(key)
        row[MEMBER.other_key // 8], row[MEMBER.other_key_bytes // 8] = text(other_key)
        array, enum = wire.parse_array(kind), wire.parse_enum(kind)
        labels = [] if enum is None else [(number, *text(encode(label))) for label, number in enum[1].items()]
        if labels:
            kept.append(np.array([[_signed(number), *place] for number, *place in labels], np.int64))
            row[MEMBER.labels // 8], row[MEMBER.count // 8] = address_of(kept[-1]), len(labels)
        most += len(other_key) + 2 + NUMBER_BYTES + max((size for *_, size in labels), default=0)
        element = array[0] if array else enum[0] if enum else kind
        row[MEMBER.kind // 8], row[MEMBER.size // 8] = _kind(made, name, element)
        if array is not None:
            row[MEMBER.kind // 8] += M_ARRAY
            row[MEMBER.count // 8] = -1 if array[1] is None else array[1]
            most += (array[1] or 0) * NUMBER_BYTES
    if made is LOG_CLASS:
        members[1, MEMBER.kind // 8] = M_LOG
    members[0, MEMBER.kind // 8], members[-1, MEMBER.kind // 8] = M_CLASS, M_END
    members[0, MEMBER.size // 8] = LOG_HEAD_BYTES if made is LOG_CLASS else 4 * made.own
    members[0, MEMBER.count // 8] = most
    return members, tuple(kept)


def _kind(made: EventClass, name: str, kind: str) -> tuple[int, int]:
    """Of MEMBER.kind, and bytes of a number."""
    if kind in {"str", "bytes", REST}:
        text = M_TEXT_OR_NONE if _may_be_none(made, name, kind) else M_TEXT
        return {"str": text, "bytes": M_BYTES, REST: M_REST}[kind], 0
    size = np.dtype(CODES[kind]).itemsize
    return {"u": M_UNSIGNED, "i": M_SIGNED, "f": M_FLOAT, "b": M_BOOL}[kind[0]], size


def _may_be_none(made: EventClass, name: str, kind: str) -> bool:
    """An exception that is empty is none."""
    return made.kind == "end" and name == EXCEPTION and kind == "str"


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 > 0 else number
