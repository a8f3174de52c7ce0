"""The table `spans`: a row a span, made of the records of its begin and its end.

Records wait until there are enough of them, then are paired; the begins that are left wait for the next ones.  So what
is held depends on how many spans are open at a time, and not on the length of the trace.  What a trace says is not
trusted: no more than MOST_BYTES of open spans are kept, and the oldest are taken for spans that never end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..reader.batch import EXCEPTION, KINDS
from . import arrow, pairing

if TYPE_CHECKING:
    from ..reader.batch import Batch
    from ..reader.rows import Array

__all__ = ["Spans", "schema_of"]

MOST_BYTES = 64 << 20  # of open spans,
ROW_BYTES = 256  # of which one takes so much beside its fields
HELD_BYTES = 32 << 20  # records are paired, too, when they take so much, or as much as the open spans
_BEGIN, _END = KINDS.index("begin"), KINDS.index("end")

# Names are texts here, not indices: a dictionary would keep those of all spans that ever were open together.
_TEXT, _NUMBER = pa.string(), pa.int64()
_WHO = tuple((field.name, _TEXT if pa.types.is_dictionary(field.type) else field.type) for field in arrow.WHO)
_BEGUN = (
    ("name", _TEXT), *_WHO, ("span", _NUMBER), ("parent", _NUMBER), ("task", _NUMBER), ("fields", _TEXT),
    ("process_start", _NUMBER),
)  # fmt: skip
_ORIGIN = tuple((field.name, _TEXT) for field in arrow.ORIGIN)
_RECORD = (("time_ns", _NUMBER), ("monotonic_ns", _NUMBER), ("begins", pa.bool_()), (EXCEPTION, _TEXT))
_TIMES = (("begin_ns", _NUMBER), ("end_ns", _NUMBER), ("duration_ns", _NUMBER))
_FIELDS_AT = [name for name, _ in _BEGUN].index("fields")


def schema_of(*, merged: bool) -> pa.Schema:
    """Of the table."""
    begun = [*_BEGUN[:_FIELDS_AT], (EXCEPTION, _TEXT), *_BEGUN[_FIELDS_AT:]]
    return pa.schema([*_TIMES, *begun, *(_ORIGIN if merged else ())])


class Spans:
    """Takes batches, and gives rows of spans that have ended."""

    def __init__(self, *, merged: bool = False) -> None:
        self._schema = schema_of(merged=merged)
        self._records = pa.schema([*_RECORD, *_BEGUN, *(_ORIGIN if merged else ())])
        self._keys = ("span", "process_start", "pid", *(("host",) if merged else ()))
        self._open = self._together([])
        self._new: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0  # of these

    def add(self, batch: Batch) -> pa.RecordBatch | None:
        """The spans that are known to have ended by now, as far as they were looked for.

        In the order of their begins, but what is given later may have begun earlier.
        """
        records = _records_of(batch, self._records)
        if records is None:
            return None
        self._new.append(records)
        self._rows += records.num_rows
        self._bytes += records.nbytes
        if self._rows < max(pairing.ENOUGH, self._open.num_rows) and self._bytes < max(HELD_BYTES, self._open.nbytes):
            return None
        return self._pair()

    def end(self) -> pa.RecordBatch:
        """All others: those that never ended, too."""
        return self._pair(last=True)

    def _pair(self, *, last: bool = False) -> pa.RecordBatch:
        records = self._together([self._open, *self._new])
        self._new, self._rows, self._bytes = [], 0, 0
        keys = [_numbers(records.column(name)) for name in self._keys]
        found = pairing.pairs_of(keys, ~_numbers(records.column("begins")))
        kept = found.open[:0] if last else _kept(records, found.open)
        unended = np.concatenate([found.replaced, found.open[: len(found.open) - len(kept)]])
        self._open = records.take(pa.array(kept))
        begins = np.concatenate([found.begins, unended])
        ends = np.concatenate([found.ends, np.full(len(unended), -1)])
        order = np.argsort(begins)
        return self._spans(records, begins[order], ends[order])

    def _together(self, batches: list[pa.RecordBatch]) -> pa.RecordBatch:
        table = pa.Table.from_batches(batches, self._records).combine_chunks()
        return next(iter(table.to_batches()), pa.RecordBatch.from_pylist([], schema=self._records))

    def _spans(self, records: pa.RecordBatch, begins: Array, ends: Array) -> pa.RecordBatch:
        """Rows of spans; an end of -1: there is none."""
        begun, ended = records.take(pa.array(begins)), pa.array(ends, mask=ends < 0)
        end_ns, end_monotonic, exception = (
            records.column(name).take(ended) for name in ("time_ns", "monotonic_ns", EXCEPTION)
        )
        made = {
            "begin_ns": begun.column("time_ns"),
            "end_ns": end_ns,
            "duration_ns": pc.subtract(end_monotonic, begun.column("monotonic_ns")),
            EXCEPTION: exception,
        }
        columns = [made[name] if name in made else begun.column(name) for name in self._schema.names]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)


def _kept(records: pa.RecordBatch, still_open: Array) -> Array:
    """Those of the open spans that are waited for: the newest, if they take too much."""
    fields = records.column("fields").take(pa.array(still_open))
    sizes = _numbers(pc.binary_length(fields)).astype(np.int64) + ROW_BYTES
    return still_open[np.cumsum(sizes[::-1])[::-1] <= MOST_BYTES]


def _numbers(column: pa.Array) -> Array:
    """A column as numbers; what is null is -1, texts are told apart."""
    if pa.types.is_string(column.type):
        column = column.dictionary_encode().indices
    if column.null_count:
        column = column.fill_null(-1)
    numbers: Array = column.to_numpy(zero_copy_only=False)
    return numbers


def _records_of(batch: Batch, schema: pa.Schema) -> pa.RecordBatch | None:
    """The begins and ends in a batch."""
    rows = np.flatnonzero(((batch.kind == _BEGIN) | (batch.kind == _END)) & (batch.span != 0))
    if not len(rows):
        return None
    part = batch.some(rows)
    begins = part.kind == _BEGIN
    starts = np.append(batch.threads.column("start", "u8", lambda thread: thread.start).astype(np.int64), 0)
    columns = [
        pa.array(part.time_ns), pa.array(part.monotonic_ns), pa.array(begins), _exceptions(part),
        pa.array(part.names, _TEXT).take(pa.array(part.name_id)), *arrow.who(part),
        *(pa.array(numbers, mask=numbers == 0) for numbers in (part.span, part.parent, part.task)),
        _fields_of_begins(part, begins), pa.array(starts[part.thread_id], mask=part.thread_id < 0),
        *arrow.origins(part),
    ]  # fmt: skip
    texts = [column.cast(kind) for column, kind in zip(columns, schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(texts, schema=schema)


def _fields_of_begins(batch: Batch, begins: Array) -> pa.Array:
    places = np.cumsum(begins) - 1
    return arrow.json_fields(batch.some(np.flatnonzero(begins))).take(pa.array(places, mask=~begins))


def _exceptions(batch: Batch) -> pa.Array:
    """What each end says of an exception; null: there was none."""
    own = batch.by_class(batch.classes.column("own", "i4", lambda made: 4 * made.own))
    rows = np.flatnonzero((batch.kind == _END) & (batch.size > own + 1))  # few: a text that is empty is one byte
    part = batch.some(rows)
    texts, places = pa.nulls(0, _TEXT), np.full(len(batch), -1)
    for number in part.class_ids():
        fields = part.classes[number].fields
        if (EXCEPTION, "str") in fields:
            found, columns = arrow.typed_columns(part, number)
            places[rows[found]] = np.arange(len(texts), len(texts) + len(found))
            texts = pa.concat_arrays([texts, columns[fields.index((EXCEPTION, "str"))]])
    told = texts.take(pa.array(places, mask=places < 0))
    return pc.if_else(pc.equal(told, ""), None, told)
