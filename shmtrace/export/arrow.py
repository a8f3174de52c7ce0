"""Batches as Arrow: the table `events`, with fields as JSON, and columns of a class' fields with their types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .. import wire
from ..reader.batch import EXCEPTION, LEVEL_NAMES, LOG, Pieces
from ..reader.log import unpack_log
from .text import encode, plain_fields, plain_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..reader.batch import Batch, Column
    from ..reader.rows import Array

__all__ = ["EVENTS", "WHO", "events", "json_fields", "typed_columns", "typed_field", "who"]

_NAME = pa.dictionary(pa.int32(), pa.string())
WHO = (
    pa.field("cpu", pa.uint16()),
    pa.field("pid", pa.int64()),
    pa.field("tid", pa.int64()),
    pa.field("process", _NAME),
    pa.field("thread", _NAME),
)
EVENTS = pa.schema(
    [
        pa.field("time_ns", pa.int64()),
        pa.field("name", _NAME),
        pa.field("kind", _NAME),
        *WHO,
        pa.field("fields", pa.string()),
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
    every = np.arange(len(batch))
    columns = [
        pa.array(batch.time_ns),
        pa.DictionaryArray.from_arrays(pa.array(batch.name_id), pa.array(batch.names, pa.string())),
        kinds(batch),
        *who(batch, every),
        json_fields(batch),
        pa.array(batch.span, mask=batch.span == 0),
        pa.array(batch.parent, mask=batch.parent == 0),
        levels(batch),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=EVENTS)


def kinds(batch: Batch) -> pa.DictionaryArray:
    """Of each record."""
    names: dict[str, int] = {}
    of_class = np.array([names.setdefault(made.kind, len(names)) for made in batch.classes], np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(of_class[batch.class_id]), pa.array(names, pa.string()))


def levels(batch: Batch) -> pa.DictionaryArray:
    """Of each record; null where it has none."""
    numbers = batch.level.astype(np.int32)
    nowhere = numbers == LEVEL_NAMES.index(None)
    return pa.DictionaryArray.from_arrays(pa.array(numbers, mask=nowhere), pa.array(LEVEL_NAMES[:-1], pa.string()))


def who(batch: Batch, rows: Array) -> list[pa.Array]:
    """Columns WHO of some records."""
    threads = batch.thread_id[rows]
    unknown = threads < 0
    columns = [pa.array(batch.cpu[rows])]
    columns += [pa.array(numbers[rows], mask=unknown) for numbers in (batch.pid, batch.tid)]
    for names in ([thread.process for thread in batch.threads], [thread.thread for thread in batch.threads]):
        known: dict[str, int] = {}
        of_thread = np.array([*(known.setdefault(name, len(known)) for name in names), 0], np.int32)
        indices = pa.array(of_thread[threads], mask=unknown)
        columns.append(pa.DictionaryArray.from_arrays(indices, pa.array(known, pa.string())))
    return columns


# fields as JSON


def json_fields(batch: Batch) -> pa.StringArray:
    """The fields of each record as one JSON object, the same text as in JSON lines."""
    parts: list[pa.StringArray] = []
    order: list[Array] = []
    for class_id in batch.class_ids():
        for rows, fields in _groups(batch, class_id):
            if len(rows):
                parts.append(_objects(batch, class_id, rows, fields))
                order.append(rows)
    if len(parts) <= 1:
        return parts[0] if parts else pa.array([], pa.string())
    places = np.empty(len(batch), np.int64)
    places[np.concatenate(order)] = np.arange(len(batch))
    return pa.concat_arrays(parts).take(pa.array(places))


def _groups(batch: Batch, class_id: int) -> list[tuple[Array, dict[str, Column]]]:
    """Records that have the same fields: an exception that is empty is none."""
    rows, fields = batch.fields(class_id)
    exception = fields.get(EXCEPTION)
    if batch.classes[class_id].kind != "end" or not isinstance(exception, Pieces) or exception.kind != "str":
        return [(rows, fields)]
    raised = exception.begins != exception.ends
    others = {name: column[~raised] for name, column in fields.items() if name != EXCEPTION}
    return [(rows[~raised], others), (rows[raised], {name: column[raised] for name, column in fields.items()})]


def _objects(batch: Batch, class_id: int, rows: Array, fields: dict[str, Column]) -> pa.StringArray:
    if class_id == LOG:
        return _logs(batch, rows)
    kinds_of = dict(batch.classes[class_id].fields)
    parts: list[Any] = []
    for name, column in fields.items():
        parts += [pa.scalar(", " if parts else "{"), *_member(name, column, kinds_of[name])]
    if not parts:
        parts = [pa.array(["{"] * len(rows), pa.string())]
    parts.append(_context_members(batch, rows, fields))
    return pc.binary_join_element_wise(*parts, "")


def _context_members(batch: Batch, rows: Array, fields: Mapping[str, object]) -> pa.Array | pa.Scalar:
    """What ends an object: the fields of the contexts that the record itself does not have, and the brace."""
    contexts = batch.context[rows]
    if contexts.max() < 0:
        return pa.scalar("}")
    named, which = np.unique(contexts, return_inverse=True)
    ends = []
    for number in named.tolist():
        log = unpack_log(batch.contexts[number]) if number >= 0 else None
        more = {} if log is None else {key: value for key, value in log.fields.items() if key not in fields}
        text = encode(plain_fields(more))[1:]
        ends.append(f", {text}" if more and fields else text)
    return pa.array(ends, pa.string()).take(pa.array(which))


def _logs(batch: Batch, rows: Array) -> pa.StringArray:
    contexts = [unpack_log(body) for body in batch.contexts] if batch.context[rows].max() >= 0 else []
    texts = []
    for row in rows.tolist():
        log = unpack_log(batch.body(row))
        fields = {} if log is None else log.fields
        around = contexts[batch.context[row]] if batch.context[row] >= 0 else None
        for key, value in {} if around is None else around.fields.items():
            fields.setdefault(key, value)
        texts.append(encode(plain_fields(fields)))
    return pa.array(texts, pa.string())


def _member(name: str, column: Column, kind: str) -> list[Any]:
    """Parts that make `"name": value` for each record."""
    if isinstance(column, Pieces):
        return _pieces_member(name, column)
    enum = wire.parse_enum(kind)
    if column.ndim > 1:
        values = pa.array([encode(plain_value(value)) for value in column.tolist()], pa.string())
    elif enum is not None:
        values = _labels(column, enum[1], quote=True)
    elif column.dtype.kind == "b":
        values = pc.if_else(pa.array(column), "true", "false")
    elif column.dtype.kind == "f":
        show = float.__repr__ if np.isfinite(column).all() else _any_float
        values = pa.array(map(show, column.tolist()), pa.string())
    else:
        values = pa.array(column).cast(pa.string())
    return [pa.scalar(f'"{name}": '), values]


def _any_float(value: float) -> str:
    return encode(plain_value(value))


def _pieces_member(name: str, column: Pieces) -> list[Any]:
    key = pa.scalar(f'"{name}": ')
    if column.kind not in {"str", "bytes"}:
        return [key, pa.array([encode(plain_value(value)) for value in column], pa.string())]
    text = _strings(column)
    if text is not None and _is_plain(text):
        return [pa.scalar(f'"{name}": "'), text, pa.scalar('"')]
    if text is not None or column.kind == "str":
        return [key, pa.array([encode(plain_value(value)) for value in column], pa.string())]
    return [pa.array([encode(plain_fields({name: value}))[1:-1] for value in column], pa.string())]


def _labels(column: Array, labels: dict[str, int], *, quote: bool) -> pa.Array:
    """What stands for the numbers of an enumeration."""
    known = {number: label for label, number in labels.items()}
    numbers, which = np.unique(column, return_inverse=True)
    values = [known.get(number, number) for number in numbers.tolist()]
    texts = [encode(value) if quote else str(value) for value in values]
    if quote:
        return pa.array(texts, pa.string()).take(pa.array(which))
    return pa.DictionaryArray.from_arrays(pa.array(which.astype(np.int32)), pa.array(texts, pa.string()))


def _strings(column: Pieces) -> pa.StringArray | None:
    """Texts; None: not all of it is UTF-8."""
    data, offsets = column.packed()
    strings = pa.StringArray.from_buffers(len(column), pa.py_buffer(offsets), pa.py_buffer(data))
    try:
        strings.validate(full=True)
    except pa.ArrowInvalid:
        return None
    return strings


def _is_plain(strings: pa.StringArray) -> bool:
    """Whether JSON has it as it is."""
    data = np.frombuffer(strings.buffers()[2] or b"", np.uint8)
    return not ((data < 0x20) | (data == ord('"')) | (data == ord("\\"))).any()


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
        return _labels(column, enum[1], quote=False)
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
    numbers = pa.array(data.view(np.dtype(_NUMBERS[column.kind].to_pandas_dtype())))
    return pa.ListArray.from_arrays(pa.array(offsets // numbers.type.byte_width), numbers)
