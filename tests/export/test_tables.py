"""Tables of a trace: the same values as the records have, in Arrow and in Parquet."""

from __future__ import annotations

import contextlib
import io
import json
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings

from hostile.streams import hostile_parts, joined, rich_trace
from reader.build import Trace, describe
from reader.test_columns import CLASSES, body_of, build, built_of_another_class_6, steps
from shmtrace import wire
from shmtrace.export.text import json_line
from shmtrace.reader import NotATrace, columns, read
from shmtrace.reader.errors import NoSuchTable
from shmtrace.reader.files import ignore

if TYPE_CHECKING:
    from pathlib import Path

    from hostile.streams import Part
    from reader.test_columns import Step

pa = pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")

from shmtrace.export import arrow, parquet, query  # noqa: E402 - they need what may not be there
from shmtrace.export.tables import Tables  # noqa: E402

pytestmark = pytest.mark.timeout(100)
some = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check_events(data: bytes) -> None:
    """Each row has what the record's line of JSON has."""
    lines = [json.loads(json_line(record)) for record in read(io.BytesIO(data), warn=ignore)]
    texts = [json_line(record) for record in read(io.BytesIO(data), warn=ignore)]
    rows = [
        row for batch in columns.read(io.BytesIO(data), warn=ignore, rows=9) for row in arrow.events(batch).to_pylist()
    ]
    assert len(rows) == len(lines)
    for row, line, text in zip(rows, lines, texts, strict=True):
        assert f'"fields": {row["fields"]}' in text
        if row["level"] == "info":
            row["level"] = None
        row["fields"] = json.loads(row["fields"])
        assert repr({key: value for key, value in row.items() if value is not None}) == repr(
            {
                key: line[key]
                for key in (
                    "time_ns",
                    "name",
                    "kind",
                    "cpu",
                    "pid",
                    "tid",
                    "process",
                    "thread",
                    "fields",
                    "span",
                    "parent",
                    "level",
                )
                if line.get(key) is not None
            }
        )


@some
@given(steps)
def test_events_are_as_json_lines_have_them(made: list[Step]) -> None:
    check_events(build(made).stream)


@some
@given(built_of_another_class_6())
def test_tables_of_blobs_with_a_context_that_a_description_calls_something_else(trace: Trace) -> None:
    check_events(trace.stream)
    tables = Tables()
    for batch in columns.read(io.BytesIO(trace.stream), warn=ignore, rows=9):
        for name, rows in tables.add(batch):
            assert rows.schema.equals(tables.schemas[name])
            rows.validate(full=True)
    for _, rows in tables.end():
        rows.validate(full=True)


@some
@given(hostile_parts())
def test_events_of_a_hostile_stream_are_as_json_lines_have_them(parts: list[Part]) -> None:
    with contextlib.suppress(NotATrace):
        check_events(joined(parts))


def spans_trace() -> Trace:
    """A span in a span, one that was not ended, one that failed."""
    trace = Trace(describe(CLASSES))
    lane = trace.lane().at(1000).writer(1, pid=100)

    def begin(number: int, parent: int) -> None:
        lane.at(lane.cycles + 1000).add(18, struct.pack("<5I", number, 0, parent, 1, number))

    def end(number: int, exception: bytes = b"") -> None:
        lane.at(lane.cycles + 1000).add(19, struct.pack("<2I", number, 0) + exception + b"\0")

    begin(1, 0)
    begin(2, 1)
    end(2, b"ValueError")
    begin(3, 1)
    end(1)
    lane.packet()
    return trace


def test_spans_have_duration_parent_and_exception() -> None:
    rows = read(io.BytesIO(spans_trace().stream)).to_arrow("spans").to_pylist()
    assert [(row["span"], row["parent"], row["duration_ns"], row["exception"]) for row in rows] == [
        (1, None, 2000, None),
        (2, 1, 500, "ValueError"),
        (3, 1, None, None),
    ]
    assert [json.loads(row["fields"]) for row in rows] == [{"shard": 1}, {"shard": 2}, {"shard": 3}]


def test_a_number_that_begins_again_is_another_span() -> None:
    trace = Trace(describe(CLASSES))
    lane = trace.lane().at(1000).writer(1, pid=100)
    for kind in (18, 18, 19, 19):
        body = struct.pack("<5I", 1, 0, 0, 1, 7) if kind == 18 else struct.pack("<2I", 1, 0) + b"\0"
        lane.at(lane.cycles + 1000).add(kind, body)
    lane.packet()
    rows = read(io.BytesIO(trace.stream)).to_arrow("spans").to_pylist()
    assert [row["duration_ns"] for row in rows] == [None, 500]


def test_a_tracepoint_has_a_table_with_types() -> None:
    trace = Trace(describe(CLASSES))
    trace.lane().writer(1, pid=100).add(16, body_of(16, [0] * 4, "x")).add(17, body_of(17, [0] * 4, "é")).packet()
    table = read(io.BytesIO(trace.stream)).to_arrow("class 17")
    (row,) = table.to_pylist()
    assert (row["text"], row["data"], row["rest"], row["list"]) == ("é", "é".encode(), 1, [-1, 5])
    types = read(io.BytesIO(trace.stream)).to_arrow("class 16").schema
    assert (types.field("a").type, types.field("c").type, types.field("e").type) == (
        pa.uint8(),
        pa.float64(),
        pa.list_(pa.uint16(), 3),
    )
    assert read(io.BytesIO(trace.stream)).to_arrow("class 16").to_pylist()[0]["color"] == "green"


def test_names_that_clash_are_told_apart() -> None:
    classes = (
        wire.event(16, "Events", wire.class_fields("PID:u8 pid_:u8 time_ns:u8")),
        wire.event(17, "load", wire.class_fields("")),
        wire.event(18, "load", wire.class_fields("", "begin"), kind="begin"),
    )
    trace = Trace(describe("".join(classes)))
    trace.lane().add(16, bytes(8) + b"\1\2\3").packet()
    batches = list(columns.read(io.BytesIO(trace.stream)))
    (row,) = parquet.one_table(batches, "Events_event").to_pylist()
    assert (row["PID_"], row["pid__"], row["time_ns_"]) == (1, 2, 3)
    with pytest.raises(NoSuchTable, match="load, load_begin"):
        parquet.one_table(batches, "nothing")


def test_counters_writers_and_losses_have_tables() -> None:
    trace = rich_trace()
    data = trace.stream
    records = list(read(io.BytesIO(data)))
    losses = read(io.BytesIO(data)).to_arrow("losses").to_pylist()
    assert [(row["reason"], row["count"]) for row in losses] == [
        (record.fields["reason"], record.fields["count"]) for record in records if record.kind == "loss"
    ]
    writers = read(io.BytesIO(data)).to_arrow("writers").to_pylist()
    assert sorted((row["pid"], row["events"]) for row in writers) == [
        (pid, sum(record.pid == pid for record in records)) for pid in (100, 101, 102)
    ]
    other = Trace(describe(CLASSES))
    other.lane().writer(1, pid=100).add(20, struct.pack("<IId", 7, 0, 2.5)).packet()
    for table in ("counters", "class 20"):
        assert [row["value"] for row in read(io.BytesIO(other.stream)).to_arrow(table).to_pylist()] == [2.5]
    assert read(io.BytesIO(other.stream)).to_arrow("class 20").to_pylist()[0]["span"] == 7


def test_a_table_becomes_a_frame_of_pandas_and_polars() -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("polars")
    trace = read(io.BytesIO(spans_trace().stream))
    assert trace.to_pandas("spans")["span"].tolist() == [1, 2, 3]
    trace = read(io.BytesIO(spans_trace().stream))
    assert trace.to_polars()["name"].to_list() == ["class 18", "class 18", "class 19", "class 18", "class 19"]


def test_a_directory_of_tables_is_written_in_parts_and_asked_in_sql(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "PART_ROWS", 10)
    monkeypatch.setattr(parquet, "GROUP_ROWS", 3)
    data = rich_trace().stream
    parquet.write_tables(columns.read(io.BytesIO(data), rows=5), tmp_path)
    assert len(list((tmp_path / "events").iterdir())) > 1
    with query.open_dataset(tmp_path, "SELECT count(*) FROM events") as result:
        assert result.fetchone() == (len(list(read(io.BytesIO(data)))),)
