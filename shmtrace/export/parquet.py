"""Tables as Parquet: one file of events, or a directory with a directory a table."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from ..reader.errors import NoSuchTable
from .arrow import EVENTS as EVENTS_SCHEMA
from .arrow import events, schema_of
from .tables import SPANS, Tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor, Future
    from pathlib import Path
    from typing import BinaryIO

    from ..reader.batch import Batch

__all__ = ["directory_of", "one_table", "write_events", "write_tables"]

GROUP_ROWS = 1 << 17  # of a row group,
GROUP_BYTES = 64 << 20  # or so many; of all tables together twice that are held
BATCH_ROWS, PAGE_BYTES = 1 << 16, 4 << 20  # large ones, with which a file is written in less time
PART_ROWS = 1 << 23  # of a file of a directory
JSON_COLUMN = "fields"  # no two alike, and nobody asks for a range of them
COMPRESSION = "zstd"


class _Table:
    """A table's files in the making: `part-0.parquet`, and so on."""

    def __init__(self, directory: Path, schema: pa.Schema, pool: Executor) -> None:
        self._pool = pool
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._schema = schema
        self._parts = 0
        self._rows = 0
        self._writer: _File | None = None

    def add(self, rows: pa.RecordBatch) -> None:
        if self._writer is None:
            self._writer = _File(self._directory / f"part-{self._parts}.parquet", self._schema, self._pool)
            self._parts += 1
            self._rows = 0
        self._writer.add(rows)
        self._rows += rows.num_rows
        if self._rows >= PART_ROWS:
            self.end_part()

    def end_part(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    @property
    def held(self) -> int:
        """Bytes of rows that are not written yet."""
        return 0 if self._writer is None else self._writer.held

    def flush(self) -> None:
        """Writes them."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        if not self._parts:
            self.add(pa.RecordBatch.from_pylist([], schema=self._schema))
        self.end_part()


class _File:
    """A Parquet file in the making.  A row group is written by the pool while the next one is decoded."""

    def __init__(self, out: Path | BinaryIO, schema: pa.Schema, pool: Executor) -> None:
        self._pool = pool
        self._pending: Future[None] | None = None
        texts = [field.name for field in schema if _is_text(field.type)]
        numbers = [name for name in ("time_ns", "span", "parent") if name in schema.names]
        few = [name for name in (*texts, "pid", "tid") if name in schema.names and name != JSON_COLUMN]
        self._writer = pq.ParquetWriter(
            out,
            schema,
            compression=COMPRESSION,
            write_batch_size=BATCH_ROWS,
            data_page_size=PAGE_BYTES,
            use_dictionary=few,
            column_encoding=dict.fromkeys(numbers, "DELTA_BINARY_PACKED"),
            write_statistics=[name for name in schema.names if name not in texts],  # each group has all of these
        )
        self._held: list[pa.RecordBatch] = []
        self._rows = self.held = 0
        self._schema = schema

    def add(self, rows: pa.RecordBatch) -> None:
        self._held.append(rows)
        self._rows += rows.num_rows
        self.held += rows.nbytes
        if self._rows >= GROUP_ROWS or self.held >= GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        self._wait()
        if self._held:
            table = pa.Table.from_batches(self._held, self._schema)
            self._pending = self._pool.submit(self._writer.write_table, table)
        self._held, self._rows, self.held = [], 0, 0

    def _wait(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        self.flush()
        self._wait()
        self._writer.close()


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_dictionary(kind) or pa.types.is_string(kind))


def write_events(batches: Iterable[Batch], out: BinaryIO, *, merged: bool = False) -> None:
    """A row an event; `merged`: of several traces."""
    with ThreadPoolExecutor(1) as pool:
        file = _File(out, schema_of(EVENTS_SCHEMA, merged=merged), pool)
        for batch in batches:
            file.add(events(batch))
        file.close()


def directory_of(directory: Path, table: str) -> Path:
    """Where a table's files are.  Names of tables hold anything."""
    return directory / quote(table, safe=" ").replace(".", "%2E")


def write_tables(
    batches: Iterable[Batch],
    directory: Path,
    *,
    wanted: Callable[[str], bool] = lambda _: True,
    merged: bool = False,
) -> dict[str, pa.Schema]:
    """Writes the tables that are wanted; the schemas of all."""
    tables = Tables(wanted, merged=merged)
    files: dict[str, _Table] = {}
    with ThreadPoolExecutor(1) as pool:

        def add(name: str, rows: pa.RecordBatch) -> None:
            if name not in files:
                files[name] = _Table(directory_of(directory, name), rows.schema, pool)
            files[name].add(rows)

        for batch in batches:
            for name, rows in tables.add(batch):
                add(name, rows)
            while sum(file.held for file in files.values()) > 2 * GROUP_BYTES:
                max(files.values(), key=lambda file: file.held).flush()
        for name, rows in tables.end():
            add(name, rows)
        for name, schema in tables.schemas.items():
            if wanted(name) and name not in files:
                files[name] = _Table(directory_of(directory, name), schema, pool)
        for file in files.values():
            file.close()
    return tables.schemas


def one_table(batches: Iterable[Batch], name: str, *, merged: bool = False) -> pa.Table:
    """One of the tables of a trace, in memory.

    Raises:
        NoSuchTable: there is none of that name.
    """
    tables = Tables(lambda known: known == name, merged=merged)
    rows = [rows for batch in batches for _, rows in tables.add(batch)]
    rows += [rows for _, rows in tables.end()]
    if name not in tables.schemas:
        raise NoSuchTable(f"the trace has no table {name!r}: it has {', '.join(sorted(tables.schemas))}")
    table = pa.Table.from_batches(rows, tables.schemas[name])
    return table.sort_by("begin_ns") if name == SPANS else table.unify_dictionaries()
