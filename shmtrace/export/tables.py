"""The tables of a trace: events, spans, counters, writers, losses, and one of each tracepoint, span and counter.

Each is made batch by batch; what needs records of several is held until they are there.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa

from ..reader.batch import BLOB, BLOB_CLASS, FUNCTION_ID, LOG, LOSS, RAW_LOG
from ..wire import FUNCTION_FIELDS, PLACED_FIELDS, split_fields
from . import arrow
from .arrow import WHO
from .spans import Spans
from .spans import schema_of as spans_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..reader.batch import Batch
    from ..reader.description import EventClass
    from ..reader.records import Writer

    Wanted: TypeAlias = Callable[[str], bool]

__all__ = ["COUNTERS", "EVENTS", "LOSSES", "SPANS", "WRITERS", "Tables"]

EVENTS, SPANS, COUNTERS, WRITERS, LOSSES = "events", "spans", "counters", "writers", "losses"
_PLACED = (BLOB_CLASS.name, BLOB_CLASS.kind, tuple(split_fields(PLACED_FIELDS)))
WITHOUT_TABLE = {"end", "context", "loss", "log", *FUNCTION_FIELDS}  # kinds
_TIME = pa.field("time_ns", pa.int64())
_NUMBERS = tuple(pa.field(name, pa.int64()) for name in ("span", "parent", "task"))
SCHEMAS = {
    EVENTS: arrow.EVENTS,
    COUNTERS: pa.schema([_TIME, pa.field("name", pa.string()), pa.field("value", pa.float64()), *WHO]),
    WRITERS: pa.schema([
        pa.field("pid", pa.int64()), pa.field("tid", pa.int64()), pa.field("process", pa.string()),
        pa.field("thread", pa.string()), pa.field("process_start", pa.int64()), pa.field("thread_start", pa.int64()),
        pa.field("events", pa.int64()), pa.field("first_ns", pa.int64()), pa.field("last_ns", pa.int64()),
    ]),
    LOSSES: pa.schema([
        _TIME, pa.field("cpu", pa.uint16()), pa.field("lane", pa.uint16()), pa.field("reason", pa.string()),
        pa.field("count", pa.uint64()),
    ]),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Typed:
    """The table of a class."""

    name: str
    schema: pa.Schema


class Tables:
    """Takes batches and gives the rows of the tables that are `wanted`."""

    def __init__(self, wanted: Wanted = lambda _: True, *, merged: bool = False) -> None:
        self._wanted = wanted
        self._merged = merged  # of several traces
        self._typed: dict[int, _Typed] = {}
        self._names: set[str] = {*SCHEMAS, SPANS}
        self._classes = 0  # that have names
        self._spans = Spans(merged=merged)
        self._writers = _Writers(self.schemas[WRITERS])

    @property
    def schemas(self) -> dict[str, pa.Schema]:
        """Of all tables that are known so far."""
        schemas = SCHEMAS | {typed.name: typed.schema for typed in self._typed.values()}
        host = pa.schema([*SCHEMAS[WRITERS], pa.field("host", pa.string())])
        found = {name: arrow.schema_of(schema, merged=self._merged) for name, schema in schemas.items()}
        own = {WRITERS: host if self._merged else SCHEMAS[WRITERS], SPANS: spans_schema(merged=self._merged)}
        return found | own

    def add(self, batch: Batch) -> Iterator[tuple[str, pa.RecordBatch]]:
        """The rows of a batch, with the names of the tables that get them."""
        self._learn(batch.classes)
        for name, make in (
            (EVENTS, arrow.events), (COUNTERS, _counters), (LOSSES, _losses), (SPANS, self._spans.add),
            (WRITERS, self._writers.add),
        ):  # fmt: skip
            if self._wanted(name) and (rows := make(batch)) is not None:
                yield name, rows
        classes: dict[str, list[int]] = {}  # of each table
        for class_id in batch.class_ids():
            typed = self._typed.get(class_id)
            if typed is not None and self._wanted(typed.name):
                classes.setdefault(typed.name, []).append(class_id)
        for name, class_ids in classes.items():
            parts = [_typed_rows(batch, class_id, self._typed[class_id].schema) for class_id in class_ids]
            yield name, parts[0] if len(parts) == 1 else _in_turn(batch, class_ids, parts)

    def end(self) -> Iterator[tuple[str, pa.RecordBatch]]:
        """What is known at the end only."""
        for name, make in ((SPANS, self._spans.end), (WRITERS, self._writers.rows)):
            if self._wanted(name):
                yield name, make()

    def _learn(self, classes: list[EventClass]) -> None:
        """Gives new classes names that no other table has, whatever the case of its letters."""
        for class_id in range(self._classes, len(classes)):
            made = classes[class_id]
            if (made.name, made.kind, made.fields) == _PLACED:  # a blob with a context: in the same table
                self._typed[class_id] = self._typed[BLOB]
                continue
            if made.kind in WITHOUT_TABLE or made.id == FUNCTION_ID:
                continue
            tried = [made.name, f"{made.name}_{made.kind}", *(f"{made.name}_{n}" for n in range(2, len(classes) + 3))]
            name = next(name for name in tried if name.lower() not in self._names)
            self._names.add(name.lower())
            self._typed[class_id] = _Typed(name, _typed_schema(made))
        self._classes = len(classes)


def _names(batch: Batch) -> pa.Array:
    return pa.array(batch.names, pa.string()).take(pa.array(batch.name_id))


def _typed_schema(made: EventClass) -> pa.Schema:
    """The columns of a class; a field whose name is taken gets `_` behind it."""
    first = [_TIME, *WHO, *_NUMBERS[: {"event": 1, "counter": 1, "begin": 2}.get(made.kind, 0)]]
    taken = {field.name.lower() for field in first}
    fields = []
    for name, kind in made.fields:
        unique = name
        while unique.lower() in taken:
            unique += "_"
        taken.add(unique.lower())
        fields.append(arrow.typed_field(unique, kind))
    return pa.schema([*first, *fields])


def _typed_rows(batch: Batch, class_id: int, schema: pa.Schema) -> pa.RecordBatch:
    rows, fields = arrow.typed_columns(batch, class_id)
    columns = [pa.array(batch.time_ns[rows]), *arrow.who(batch.some(rows))]
    for name, numbers in (("span", batch.span), ("parent", batch.parent)):
        if len(columns) < len(schema) - len(fields):
            assert schema.names[len(columns)] == name
            columns.append(pa.array(numbers[rows], mask=numbers[rows] == 0))
    return arrow.table_of(batch.some(rows), [*columns, *fields], schema)


def _in_turn(batch: Batch, class_ids: list[int], parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    """The rows of several classes, in the order of the batch."""
    order = np.argsort(np.concatenate([batch.fields(class_id)[0] for class_id in class_ids]))
    return pa.Table.from_batches(parts).take(pa.array(order)).combine_chunks().to_batches()[0]


def _counters(batch: Batch) -> pa.RecordBatch | None:
    wanted = [n for n in batch.class_ids() if batch.classes[n].kind == "counter"]
    parts = [batch.fields(class_id) for class_id in wanted]
    picked = [(rows, fields["value"]) for rows, fields in parts if isinstance(fields.get("value"), np.ndarray)]
    if not picked:
        return None
    rows = np.concatenate([rows for rows, _ in picked])
    values = np.concatenate([np.asarray(values, np.float64) for _, values in picked])
    order = np.argsort(rows, kind="stable")
    part = batch.some(rows[order])
    columns = [pa.array(part.time_ns), _names(part), pa.array(values[order]), *arrow.who(part)]
    return arrow.table_of(part, columns, SCHEMAS[COUNTERS])


def _losses(batch: Batch) -> pa.RecordBatch | None:
    rows, (reasons, counts) = arrow.typed_columns(batch, LOSS)
    if not len(rows):
        return None
    columns = [pa.array(batch.time_ns[rows]), pa.array(batch.cpu[rows]), pa.array(batch.lane[rows]), reasons, counts]
    return arrow.table_of(batch.some(rows), columns, SCHEMAS[LOSSES])


class _Writers:
    """How many records each thread wrote, and when."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._threads: dict[Writer, list[int]] = {}  # events, first and last
        self._known: Sequence[Writer] = ()

    def add(self, batch: Batch) -> pa.RecordBatch | None:
        """Takes a batch into account; the rows of threads that have ended, if that is known of any."""
        ended = None
        if batch.threads is not self._known:
            self._known, known = batch.threads, set(batch.threads)
            kept = {writer: found for writer, found in self._threads.items() if writer in known}
            for writer in kept:
                del self._threads[writer]
            ended, self._threads = self.rows(), kept
        indices = batch.thread_id + 1
        counts = np.bincount(indices)
        firsts, lasts = np.full(len(counts), np.iinfo(np.int64).max), np.full(len(counts), np.iinfo(np.int64).min)
        np.minimum.at(firsts, indices, batch.time_ns)
        np.maximum.at(lasts, indices, batch.time_ns)
        for number in batch.thread_ids():
            count, first, last = (int(array[number + 1]) for array in (counts, firsts, lasts))
            events, *times = self._threads.get(batch.threads[number], [0, first, last])
            self._threads[batch.threads[number]] = [events + count, min(first, times[0]), max(last, times[1])]
        return ended if ended is not None and ended.num_rows else None

    def rows(self) -> pa.RecordBatch:
        """All that are held."""
        names = self._schema.names  # the host stands last, and only if there are several
        rows = [
            dict(zip(names, (w.pid, w.tid, w.process, w.thread, w.start, w.thread_start, *found, w.host), strict=False))
            for w, found in self._threads.items()
        ]
        return pa.RecordBatch.from_pylist(rows, schema=self._schema)


assert {BLOB, LOG, RAW_LOG, LOSS} == {0, 1, 2, 3}
