"""Some thousand records as columns: numpy arrays with an element a record."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .. import wire
from ..native.rows import COUNTED, END, LEVEL_STEPS, LOG_HEAD_BYTES, TEXT, WIDE
from .decode import CODES
from .description import EventClass
from .functions import LEVEL
from .log import LEVELS, unpack_log
from .records import EXCEPTION, NOBODY, Record, decode_fields
from .rows import address_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .decode import Fields
    from .functions import Function
    from .merging import Origin
    from .records import Writer
    from .rows import Array, Growing

__all__ = ["EXCEPTION", "KINDS", "LEVEL_NAMES", "Batch", "Column", "Pieces"]

KINDS = ("event", "begin", "end", "counter", "log", "loss")  # of `Batch.kind`; others are an unknown program's
LEVEL_NAMES = (*LEVELS.values(), None)  # of `Batch.level`
REST = "rest"  # type of a field that is all of the body

# Classes that are in every trace.  A log's numbers and level stand ahead of its map.
BLOB_CLASS = EventClass(-1, "blob", "event", None, 0, (("blob", REST),))
LOG_CLASS = EventClass(-2, "log", "log", None, 2, (("msgpack", REST),))
RAW_LOG_CLASS = EventClass(-3, "log", "log", "info", 0, (("msgpack", REST),))
LOSS_CLASS = EventClass(-4, "loss", "loss", None, 0, (("reason", "str"), ("count", "u64")))
CONTEXT_CLASS = EventClass(-5, "", "context", None, 2, ())
RESERVED_CLASSES = (BLOB_CLASS, LOG_CLASS, RAW_LOG_CLASS, LOSS_CLASS, CONTEXT_CLASS)
BLOB, LOG, RAW_LOG, LOSS, CONTEXT = range(5)
FUNCTION_ID = -6  # of the classes of a function's calls and of their ends, which are made when it is defined
assert tuple(level for level, _ in wire.LEVELS[:-1]) == LEVEL_STEPS
assert [theirs for _, theirs in wire.LEVELS] == list(LEVELS)
_KIND_NUMBERS = {kind: number for number, kind in enumerate(KINDS)}
_NUMPY = {kind: np.dtype(f"<{code}") for kind, code in CODES.items()} | {"bool": np.dtype("u1")}


@dataclasses.dataclass(frozen=True)
class Pieces:
    """Values of any length: texts, bytes, arrays of numbers.  Value `n` is `data[begins[n]:ends[n]]`."""

    data: Array
    begins: Array
    ends: Array
    kind: str  # str, bytes, or the type of the numbers
    code: dict[str, Callable[..., int]] = dataclasses.field(repr=False)

    def __getitem__(self, picked: Array) -> Pieces:
        return Pieces(self.data, self.begins[picked], self.ends[picked], self.kind, self.code)

    def packed(self) -> tuple[Array, Array]:
        """The bytes of all, and the offsets between them."""
        begins, ends = (np.ascontiguousarray(array, np.int64) for array in (self.begins, self.ends))
        memory = np.empty(int((ends - begins).sum()), np.uint8)
        offsets = np.empty(len(begins) + 1, np.int32)
        self.code["pack"](
            address_of(self.data), address_of(begins), address_of(ends), len(begins), address_of(memory),
            address_of(offsets),
        )  # fmt: skip
        return memory, offsets

    def __len__(self) -> int:
        return len(self.begins)

    def __iter__(self) -> Iterator[object]:
        data = self.data.tobytes() if len(self.begins) > 1 else self.data.data
        for begin, end in zip(self.begins.tolist(), self.ends.tolist(), strict=True):
            piece = bytes(data[begin:end])
            if self.kind == "bytes":
                yield piece
            elif self.kind == "str":
                yield piece.decode("utf-8", "replace")
            else:
                yield np.frombuffer(piece, _NUMPY[self.kind]).tolist()


Column: TypeAlias = "Array | Pieces"
Described: TypeAlias = "tuple[tuple[str, str], ...]"  # fields' names and types
LAYOUTS = 1 << 10  # of classes are kept in mind


@dataclasses.dataclass
class Batch:
    """Records as columns.  Numbers that are not known are 0, indices -1.

    `class_id` is an index of `classes`, `thread_id` one of `threads`, `context` one of `contexts` (bodies of log
    records).  The lists of classes and threads are those of the trace, and grow.  A batch that has another list of
    threads than the one before has other indices; threads that are not in it write no more.  The body of record `n` is
    `data[start[n]:start[n] + size[n]]`: the numbers of its kind and its fields.  Where several traces are merged,
    `origin` is an index of `origins`; of one trace these are empty.
    """

    time_ns: Array  # wall clock, since 1970
    monotonic_ns: Array
    cycles: Array
    class_id: Array
    cpu: Array
    lane: Array
    thread_id: Array
    span: Array
    parent: Array
    task: Array
    context: Array
    start: Array
    size: Array
    data: Array
    classes: Growing[EventClass]
    threads: Growing[Writer]
    contexts: list[bytes]
    origin: Array
    origins: list[Origin]
    code: dict[str, Callable[..., int]] = dataclasses.field(repr=False)

    def __len__(self) -> int:
        return len(self.time_ns)

    # what follows from the columns

    @functools.cached_property
    def pid(self) -> Array:
        """Process; 0: not known."""
        return self.by_thread(self.threads.column("pid", "i8", lambda thread: thread.pid))

    @functools.cached_property
    def tid(self) -> Array:
        """Thread; 0: not known."""
        return self.by_thread(self.threads.column("tid", "i8", lambda thread: thread.tid))

    @functools.cached_property
    def kind(self) -> Array:
        """Index of KINDS; 255: another."""
        return self.by_class(self.classes.column("kind", "u1", lambda made: _KIND_NUMBERS.get(made.kind, 255)))

    @functools.cached_property
    def level(self) -> Array:
        """Index of LEVEL_NAMES."""
        levels = self.by_class(self.classes.column("level", "u1", lambda made: LEVEL_NAMES.index(made.level)))
        logs = self.rows_of(LOG)
        levels[logs] = self.data[self.start[logs] + LOG_HEAD_BYTES - 1]
        return levels

    @functools.cached_property
    def _named(self) -> tuple[Array, list[str]]:
        names: dict[str, int] = {}
        of_class = np.zeros(len(self.classes), np.int32)
        there = self.class_ids()
        of_class[there] = [names.setdefault(self.classes[made].name, len(names)) for made in there]
        numbers = self.by_class(of_class)
        logs = self.rows_of(LOG)
        begins, ends = self.start[logs] + LOG_HEAD_BYTES, self.start[logs] + self.size[logs]
        data = self.data.tobytes() if len(logs) else b""
        seen: dict[bytes, int] = {}
        found = []
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            # the map's first byte, then usually a key of 0 and a text of msgpack's shortest kind
            key = data[begin + 1 : begin + 3 + (data[begin + 2] & 31)] if end - begin > 2 else b""
            number = seen.get(key)
            if number is None:
                log = unpack_log(data[begin:end])
                number = names.setdefault("log" if log is None else log.name, len(names))
                if key[:1] == b"\0" and 0xA0 <= key[1] < 0xC0:
                    seen[key] = number
            found.append(number)
        numbers[logs] = found
        return numbers, list(names)

    @property
    def name_id(self) -> Array:
        """Index of `names`."""
        return self._named[0]

    @property
    def names(self) -> list[str]:
        """The names in this batch."""
        return self._named[1]

    def thread_ids(self) -> list[int]:
        """The threads of which there are records, without -1."""
        found: list[int] = np.flatnonzero(self._tally(self.thread_id, len(self.threads))[1:]).tolist()
        return found

    def rows_of(self, class_id: int) -> Array:
        """Indices of the records of a class."""
        ends, rows = self._by_class
        return rows[ends[class_id] : ends[class_id + 1]] if class_id + 1 < len(ends) else rows[:0]

    def class_ids(self) -> list[int]:
        """The classes of which there are records."""
        found: list[int] = np.flatnonzero(np.diff(self._by_class[0])).tolist()
        return found

    @functools.cached_property
    def _by_class(self) -> tuple[Array, Array]:
        """The indices of the records of each class, one class behind the other, and where those of each end."""
        indices = np.ascontiguousarray(self.class_id, np.int32)
        counts = self._tally(indices, len(self.classes))
        ends, rows = counts.cumsum(), np.empty(len(indices), np.int64)
        places = ends - counts
        self.code["spread"](address_of(indices), len(indices), address_of(places), address_of(rows))
        return ends, rows

    def _tally(self, indices: Array, count: int) -> Array:
        """How often -1 is there, and each of so many indices."""
        found = np.zeros(count + 1, np.int64)
        indices = np.ascontiguousarray(indices, np.int32)
        self.code["tally"](address_of(indices), len(indices), address_of(found))
        return found

    def by_class(self, values: Array) -> Array:
        """The value of each record's class, of 1, 4 or 8 bytes."""
        return self._look_up(values, self.class_id)

    def by_thread(self, values: Array) -> Array:
        """The value of each record's thread, of 1, 4 or 8 bytes; 0: it is not known."""
        return self._look_up(values, self.thread_id)

    def _look_up(self, values: Array, indices: Array) -> Array:
        """The value of each index; that of -1 is 0."""
        known, found = np.zeros(len(values) + 1, values.dtype), np.empty(len(indices), values.dtype)
        known[1:] = values
        indices = np.ascontiguousarray(indices, np.int32)
        self.code["look_up"](address_of(known), known.itemsize, address_of(indices), len(indices), address_of(found))
        return found

    def columns(self) -> list[str]:
        """The names of the arrays that have an element a record."""
        others = {"data", "classes", "threads", "contexts", "origins", "code"}
        return [field.name for field in dataclasses.fields(self) if field.name not in others]

    def some(self, rows: Array | slice) -> Batch:
        """These records."""
        return dataclasses.replace(self, **{name: getattr(self, name)[rows] for name in self.columns()})

    def body(self, row: int) -> memoryview:
        """The body of a record without the numbers of its kind."""
        made = self.classes[self.class_id[row]]
        start, size = int(self.start[row]), int(self.size[row])
        own = LOG_HEAD_BYTES if made is LOG_CLASS else 4 * made.own
        return self.data.data[start + own : start + size]

    def fields(self, class_id: int) -> tuple[Array, dict[str, Column]]:
        """The records of a class, and a column a field of them."""
        rows = self.rows_of(class_id)
        made = self.classes[class_id]
        if not made.fields:
            return rows, {}
        if made is LOG_CLASS or any(kind == REST for _, kind in made.fields):
            starts = self.start.take(rows)
            begins, ends = starts + (LOG_HEAD_BYTES if made is LOG_CLASS else 0), starts + self.size.take(rows)
            return rows, {made.fields[0][0]: Pieces(self.data, begins, ends, "bytes", self.code)}
        first = _fixed_fields(made.fields)
        columns, ahead = self._fixed(made.fields[:first], rows, 4 * made.own)
        return rows, columns | self._others(made.fields[first:], rows, ahead)

    def _fixed(self, fields: Described, rows: Array, ahead: int) -> tuple[dict[str, Column], int]:
        """Fields that stand at the same place in each body, behind so many bytes; how many there are then."""
        if not fields:
            return {}, ahead
        whole = self._gather(fields, self.start, rows, ahead)
        return {name: _plain(whole[name], kind) for name, kind in fields}, whole.dtype.itemsize

    def _gather(self, fields: Described, starts: Array, rows: Array, ahead: int) -> Array:
        dtype = _layout(fields, ahead)
        memory = np.empty(len(rows) * dtype.itemsize + WIDE, np.uint8)
        picked = rows.astype(np.int64, copy=False)
        data = address_of(self.data)
        self.code["gather"](
            data, data + len(self.data), address_of(starts), address_of(picked), len(rows), address_of(memory),
            dtype.itemsize,
        )  # fmt: skip
        return memory[: len(rows) * dtype.itemsize].view(dtype)

    def _others(self, fields: Described, rows: Array, ahead: int) -> dict[str, Column]:
        """The fields from the first text, bytes or array on, which stands behind so many bytes."""
        if not fields:
            return {}
        operations = _operations_of(fields)
        pairs = np.empty((len(rows), len(fields), 2), np.int64)
        picked = rows.astype(np.int64, copy=False)
        self.code["split"](
            address_of(self.data), address_of(self.start), address_of(picked), len(rows), ahead,
            address_of(operations), address_of(pairs),
        )  # fmt: skip
        columns: dict[str, Column] = {}
        every = np.arange(len(rows))
        for number, (name, kind) in enumerate(fields):
            begins, ends = pairs[:, number, 0], pairs[:, number, 1]
            if fixed_type(kind) is None:
                columns[name] = Pieces(self.data, begins, ends, kind.removesuffix("[]"), self.code)
            else:
                starts = begins.astype(np.int32)
                columns[name] = _plain(self._gather(((name, kind),), starts, every, 0)[name], kind)
        return columns

    def records(self) -> Iterator[Record]:
        """The same as the record reader gives them."""
        columns = (
            self.time_ns, self.monotonic_ns, self.cycles, self.class_id, self.cpu, self.lane, self.thread_id, self.span,
            self.parent, self.task,
        )  # fmt: skip
        names, name_ids, levels = self.names, self.name_id.tolist(), self.level.tolist()
        origins = self.origin.tolist()
        for row, (time_ns, steady, cycles, number, cpu, lane, thread, span, parent, task) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        ):
            begun, _, pid, tid, process, writer = self.threads[thread][:6] if thread >= 0 else NOBODY
            host, channel = self.origins[origins[row]] if self.origins else (None, None)
            yield Record(
                time_ns, steady, cycles, names[name_ids[row]], self.classes[number].kind, cpu, lane, pid, tid, process,
                writer, fields_of_row(self, row), span or None, parent or None, task or None, LEVEL_NAMES[levels[row]],
                begun, host, channel,
            )  # fmt: skip


def fields_of_row(batch: Batch, row: int) -> Fields:
    """The fields of one record, with those of its context."""
    made, context = batch.classes[batch.class_id[row]], int(batch.context[row])
    start, size = int(batch.start[row]), int(batch.size[row])
    body = batch.data.data[start : start + size]
    if made is LOG_CLASS:
        log = unpack_log(body[LOG_HEAD_BYTES:])
        fields = {} if log is None else log.fields
    elif made.fields and made.fields[0][1] == REST:
        fields = {made.fields[0][0]: bytes(body)}
    else:
        fields = decode_fields(made, body)[1]
    if context >= 0 and (around := unpack_log(batch.contexts[context])) is not None:
        for key, value in around.fields.items():
            fields.setdefault(key, value)
    return fields


def function_classes(function: Function) -> tuple[EventClass, EventClass]:
    """Those of its calls, and of their ends."""
    fields = (("file", "str"), ("line", "u32")) if function.fields else ()
    end = EventClass(FUNCTION_ID, function.name, "end", LEVEL, 0, ((EXCEPTION, "str"),))
    return EventClass(FUNCTION_ID, function.name, "begin", LEVEL, 0, fields), end


def function_body(function: Function) -> bytes:
    """Of a call."""
    return b"" if function.file is None else function.file.encode() + b"\0" + function.line.to_bytes(4, "little")


def fixed_type(kind: str) -> np.dtype[Any] | None:
    """What a field of a fixed size is to numpy; None: it has none."""
    if kind in {"str", "bytes", REST}:
        return None
    array, enum = wire.parse_array(kind), wire.parse_enum(kind)
    if array is not None:
        return None if array[1] is None else np.dtype((_NUMPY[array[0]], (array[1],)))
    return _NUMPY[enum[0] if enum else kind]


def fixed_size(kind: str) -> int | None:
    """Bytes of a field of a fixed size; None: it has none."""
    known = fixed_type(kind)
    return None if known is None else known.itemsize


@functools.lru_cache(LAYOUTS)
def _fixed_fields(fields: Described) -> int:
    """How many stand ahead of the first that has no fixed size."""
    return next((number for number, (_, kind) in enumerate(fields) if fixed_type(kind) is None), len(fields))


@functools.lru_cache(LAYOUTS)
def _layout(fields: Described, ahead: int) -> np.dtype[Any]:
    """Of fields of fixed sizes, behind so many bytes."""
    fixed = [fixed_type(kind) for _, kind in fields]
    ends = list(itertools.accumulate((0 if one is None else one.itemsize for one in fixed), initial=ahead))
    names = [name for name, _ in fields]
    return np.dtype({"names": names, "formats": fixed, "offsets": ends[:-1], "itemsize": ends[-1]})


@functools.lru_cache(LAYOUTS)
def _operations_of(fields: Described) -> Array:
    return np.array(_operations(fields), np.int32)


def program(made: EventClass) -> list[int]:
    """The fields of a class as jitted code checks them: those of fixed sizes that follow each other are one."""
    merged: list[int] = []
    for operation in [*([4 * made.own] if made.own else []), *_operations(made.fields)]:
        if operation > 0 and merged and merged[-1] > 0:
            merged[-1] += operation
        else:
            merged.append(operation)
    return merged


def _operations(fields: Described) -> list[int]:
    operations = []
    for _, kind in fields:
        size = fixed_size(kind)
        if size is not None:
            operations.append(size)
        elif kind == "str":
            operations.append(TEXT)
        else:
            operations.append(COUNTED - (1 if kind == "bytes" else _NUMPY[kind.removesuffix("[]")].itemsize))
    return [*operations, END]


def _plain(column: Array, kind: str) -> Array:
    return column != 0 if kind == "bool" else column
