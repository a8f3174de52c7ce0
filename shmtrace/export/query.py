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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..reader.batch import Batch

__all__ = ["QueryError", "answer", "is_dataset", "open_dataset", "words_of"]

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
        return everything or name.lower() in words

    with _connected() as connection, tempfile.TemporaryDirectory(prefix="shmtrace-query-") as directory:
        with _told():
            connection.extract_statements(query)
        place = Path(directory)
        known = write_tables(batches(), place, wanted=is_wanted, merged=merged)
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
