"""Batches as Arrow: the table `events`, with fields as JSON, and columns of a class' fields with their types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from .. import wire
from ..reader.batch import LEVEL_NAMES, Pieces
from ..reader.shown import shown_fields

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..reader.batch import Batch, Column
    from ..reader.rows import Array

__all__ = [
    "EVENTS", "WHO", "events", "json_fields", "schema_of", "table_of", "typed_columns", "typed_field", "who",
]  # fmt: skip

_NAME = pa.dictionary(pa.int32(), pa.string())
WHO = (
    pa.field("cpu", pa.uint16()),
    pa.field("pid", pa.int64()),
    pa.field("tid", pa.int64()),
    pa.field("process", _NAME),
    pa.field("thread", _NAME),
)
ORIGIN = (pa.field("host", _NAME), pa.field("channel", _NAME))  # last, where several traces are merged
EVENTS = pa.schema(  # what each event has is said to be there: Parquet then has no levels of it
    [
        pa.field("time_ns", pa.int64(), nullable=False),
        pa.field("name", _NAME, nullable=False),
        pa.field("kind", _NAME, nullable=False),
        WHO[0].with_nullable(False),
        *WHO[1:],
        pa.field("fields", pa.string(), nullable=False),
        pa.field("span", pa.int64()),
        pa.field("parent", pa.int64()),
        pa.field("level", _NAME),
    ]
)
_NUMBERS = {
    "u8": pa.uint8(), "u16": pa.uint16(), "u32": pa.uint32(), "u64": pa.uint64(), "i8": pa.int8(), "i16": pa.int16(),
    "i32": pa.int32(), "i64": pa.int64(), "f32": pa.float32(), "f64": pa.float64(),
}  # fmt: skip
_TYPES = {**_NUMBERS, "bool": pa.bool_(), "str": pa.string(), "bytes": pa.binary(), "rest": pa.binary()}


def events(batch: Batch) -> pa.RecordBatch:
    """A row an event."""
    columns = [
        pa.array(batch.time_ns),
        _named(pa.array(batch.name_id), batch.names),
        kinds(batch),
        *who(batch),
        json_fields(batch),
        pa.array(batch.span, mask=batch.span == 0),
        pa.array(batch.parent, mask=batch.parent == 0),
        levels(batch),
    ]
    return table_of(batch, columns, EVENTS)


def _named(numbers: pa.Array, names: Iterable[str | None]) -> pa.DictionaryArray:
    """Names by their numbers, none of which is without a name."""
    return pa.DictionaryArray.from_arrays(numbers, pa.array(names, pa.string()), safe=False)


def table_of(batch: Batch, columns: list[pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    """Rows of a batch, with their origin behind, if there are several traces."""
    return pa.RecordBatch.from_arrays([*columns, *origins(batch)], schema=schema_of(schema, merged=bool(batch.origins)))


def schema_of(schema: pa.Schema, *, merged: bool) -> pa.Schema:
    """The columns of a table of one trace or several."""
    return pa.schema([*schema, *ORIGIN]) if merged else schema


def origins(batch: Batch) -> list[pa.Array]:
    """Columns ORIGIN, if there are several traces."""
    if not batch.origins:
        return []
    columns = []
    for names in zip(*batch.origins, strict=True):
        known: dict[str, int] = {}
        numbers = np.array([known.setdefault(name, len(known)) for name in names], np.int32)
        columns.append(_named(pa.array(numbers[batch.origin]), known))
    return columns


def kinds(batch: Batch) -> pa.DictionaryArray:
    """Of each record."""
    of_class = np.zeros(len(batch.classes), np.int32)
    there = batch.class_ids()
    names: dict[str, int] = {}
    of_class[there] = [names.setdefault(batch.classes[made].kind, len(names)) for made in there]
    return _named(pa.array(batch.by_class(of_class)), names)


def levels(batch: Batch) -> pa.DictionaryArray:
    """Of each record; null where it has none."""
    nowhere = batch.level == LEVEL_NAMES.index(None)
    return _named(pa.array(batch.level.astype(np.int32), mask=nowhere), LEVEL_NAMES[:-1])


def who(batch: Batch) -> list[pa.Array]:
    """Columns WHO."""
    threads = batch.thread_id
    unknown = threads < 0 if threads.min(initial=0) < 0 else None
    columns = [pa.array(batch.cpu)]
    columns += [pa.array(numbers, mask=unknown) for numbers in (batch.pid, batch.tid)]
    there = batch.thread_ids()
    writers = [batch.threads[number] for number in there]
    for names in ([writer.process for writer in writers], [writer.thread for writer in writers]):
        known: dict[str, int] = {}
        of_thread = np.zeros(len(batch.threads), np.int32)
        of_thread[there] = [known.setdefault(name, len(known)) for name in names]
        columns.append(_named(pa.array(batch.by_thread(of_thread), mask=unknown), known))
    return columns


def json_fields(batch: Batch) -> pa.StringArray:
    """The fields of each record as one JSON object, the same text as in JSON lines."""
    texts, offsets = shown_fields(batch)
    return pa.StringArray.from_buffers(len(batch), pa.py_buffer(offsets), pa.py_buffer(texts))


# fields with their types


def typed_field(name: str, kind: str) -> pa.Field:
    """A column for a field of a class."""
    array, enum = wire.parse_array(kind), wire.parse_enum(kind)
    if array is not None:
        return pa.field(name, pa.list_(_NUMBERS[array[0]], -1 if array[1] is None else array[1]))
    return pa.field(name, _NAME if enum is not None else _TYPES[kind])


def typed_columns(batch: Batch, class_id: int) -> tuple[Array, list[pa.Array]]:
    """The records of a class, and a column a field."""
    rows, fields = batch.fields(class_id)
    kinds_of = batch.classes[class_id].fields
    return rows, [_typed(column, kind) for column, (_, kind) in zip(fields.values(), kinds_of, strict=True)]


def _typed(column: Column, kind: str) -> pa.Array:
    if isinstance(column, Pieces):
        return _typed_pieces(column)
    enum = wire.parse_enum(kind)
    if enum is not None:
        return _labels(column, enum[1])
    if column.ndim > 1:
        return pa.FixedSizeListArray.from_arrays(pa.array(column.reshape(-1)), column.shape[1])
    return pa.array(np.ascontiguousarray(column))


def _typed_pieces(column: Pieces) -> pa.Array:
    if column.kind == "str":
        strings = _strings(column)
        return pa.array(list(column), pa.string()) if strings is None else strings
    data, offsets = column.packed()
    if column.kind == "bytes":
        return pa.BinaryArray.from_buffers(pa.binary(), len(column), [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    width = int(column.kind[1:]) // 8
    numbers = pa.array(data.view(f"{column.kind[0]}{width}"))
    return pa.ListArray.from_arrays(pa.array(offsets // width), numbers)


def _labels(column: Array, labels: dict[str, int]) -> pa.Array:
    """What stands for the numbers of an enumeration."""
    known = {number: label for label, number in labels.items()}
    numbers, which = np.unique(column, return_inverse=True)
    texts = [known.get(number, str(number)) for number in numbers.tolist()]
    return _named(pa.array(which.astype(np.int32)), texts)


def _strings(column: Pieces) -> pa.StringArray | None:
    """Texts; None: not all of it is UTF-8."""
    data, offsets = column.packed()
    strings = pa.StringArray.from_buffers(len(column), pa.py_buffer(offsets), pa.py_buffer(data))
    try:
        strings.validate(full=True)
    except pa.ArrowInvalid:
        return None
    return strings
