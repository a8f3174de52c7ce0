"""SQL over a trace, with DuckDB over Parquet files that hold the tables that the query names."""

from __future__ import annotations

import contextlib
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import duckdb

from .parquet import directory_of, write_tables
from .tables import SPAN_RECORDS, SPANS, spans_sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pyarrow as pa

    from ..reader.batch import Batch

__all__ = ["QueryError", "answer", "is_dataset", "open_dataset", "save_spans", "spans_of", "words_of"]

MEMORY = "500MB"  # of DuckDB while it makes spans, without what is around it
PART_RECORDS = 1 << 20  # of which a part of the spans is made, about
_WORD = re.compile(r'"((?:[^"]|"")+)"|([^\W\d]\w*)')
_CATALOGUES = {"show", "information_schema", "duckdb_tables", "duckdb_columns", "duckdb_views", "pg_catalog"}


class QueryError(Exception):
    """What is wrong with a query, in a line."""


def words_of(query: str) -> set[str]:
    """All that may be a table's name, in small letters."""
    return {(quoted.replace('""', '"') or word).lower() for quoted, word in _WORD.findall(query)}


def is_dataset(path: Path) -> bool:
    """Whether it is a directory that `shmtrace convert -o DIR/` made."""
    return (path / "events").is_dir() and not (path / "metadata").exists()


@contextlib.contextmanager
def answer(
    batches: Callable[[], Iterable[Batch]], query: str, *, merged: bool = False
) -> Iterator[duckdb.DuckDBPyConnection]:
    """The result of a query over a trace, or several, whose batches are asked for when the query is known to be one.

    Raises:
        QueryError: DuckDB does not take the query.
    """
    words = words_of(query)

    everything = bool(words & _CATALOGUES)

    def is_wanted(name: str) -> bool:
        return everything or (SPANS if name == SPAN_RECORDS else name.lower()) in words

    with _connected() as connection, tempfile.TemporaryDirectory(prefix="shmtrace-query-") as directory:
        with _told():
            connection.extract_statements(query)
        place = Path(directory)
        known = {*write_tables(batches(), place, wanted=is_wanted, merged=merged)} - {SPAN_RECORDS} | {SPANS}
        if is_wanted(SPANS):
            save_spans(place, merged=merged)
        _add_views(connection, place, filter(is_wanted, known))
        connection.execute("SET temp_directory = ?", [directory])
        with _told(sorted(known)):
            connection.execute(query)
        yield connection


@contextlib.contextmanager
def open_dataset(directory: Path, query: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """The result of a query over a directory of Parquet files.

    Raises:
        QueryError: DuckDB does not take the query.
    """
    with _connected() as connection:
        known = sorted(unquote(path.name) for path in directory.iterdir() if path.is_dir())
        _add_views(connection, directory, known)
        with _told(known):
            connection.execute(query)
        yield connection


@contextlib.contextmanager
def _connected() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect()
    try:
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def _told(tables: Iterable[str] = ()) -> Iterator[None]:
    """What DuckDB says, in a line."""
    try:
        yield
    except duckdb.Error as error:
        line = str(error).partition("\n")[0]
        if isinstance(error, duckdb.CatalogException) and line.startswith("Catalog Error: Table"):
            line += f" The tables are {', '.join(map(_quoted, tables))}"
        raise QueryError(line) from None


def _quoted(name: str) -> str:
    return name if name.isidentifier() else '"' + name.replace('"', '""') + '"'


def _add_views(connection: duckdb.DuckDBPyConnection, directory: Path, tables: Iterable[str]) -> None:
    for name in tables:
        connection.read_parquet(str(directory_of(directory, name) / "*.parquet")).create_view(name)


def spans_of(records: pa.Table, *, merged: bool = False) -> pa.Table:
    """The table `spans` out of the records that it is made of."""
    with _connected() as connection:
        connection.register("records", records)
        return connection.sql(spans_sql("records", merged=merged)).to_arrow_table()


def save_spans(directory: Path, *, merged: bool = False) -> None:
    """Makes the table `spans` of a directory of Parquet files out of the records that it is made of.

    Part by part, each of some of the spans, so that memory is bounded; in a part they are in the order of their begins.
    """
    source, target = directory_of(directory, SPAN_RECORDS), directory_of(directory, SPANS)
    target.mkdir()
    with _connected() as connection:
        connection.execute(f"SET memory_limit = '{MEMORY}'")  # beyond that it uses the disk
        connection.execute("SET temp_directory = ?", [str(directory)])
        connection.execute("SET preserve_insertion_order = false")  # takes memory: each part is ordered at its end
        records = connection.read_parquet(str(source / "*.parquet"))
        parts = 1 + len(records) // PART_RECORDS
        for part in range(parts):
            some = records.filter(f"hash(pid, process_start, span) % {parts} = {part}")
            some.create_view("part", replace=True)
            made = connection.sql(spans_sql("part", merged=merged))
            made.write_parquet(str(target / f"part-{part}.parquet"), compression="zstd")
    for path in source.iterdir():
        path.unlink()
    source.rmdir()
