"""Spans out of begins and ends: as a plain walk over the records pairs them, in one look at each, in bounded memory."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import shmtrace
from reader.build import Trace
from reader.test_columns import build as build_any
from reader.test_columns import steps
from reader.test_merging import describe, save
from shmtrace.export import pairing
from shmtrace.export.report.gather import Summary
from shmtrace.export.text import encode, plain_fields
from shmtrace.reader import columns, read
from shmtrace.reader.files import ignore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from reader.test_columns import Step
    from shmtrace.reader import Record
    from shmtrace.reader.batch import Batch
    from shmtrace.reader.rows import Array

pa = pytest.importorskip("pyarrow")

from shmtrace.export import spans as made_spans  # noqa: E402 - it needs what may not be there

pytestmark = pytest.mark.timeout(100)
some = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
BEGIN, END = 17, 18

# host, lane, writer, process, task, number; whether it begins
marks = st.tuples(
    st.integers(0, 2), st.integers(0, 1), st.integers(1, 2), st.integers(100, 101), st.integers(0, 1),
    st.integers(1, 4), st.booleans(),
)  # fmt: skip


def pair(records: Iterable[Record]) -> list[tuple[Record, Record | None]]:
    """Each begin with its end, in the order of the begins."""
    found: list[list[Any]] = []
    opened: dict[object, list[Any]] = {}
    for record in records:
        key = record.host, record.pid, record.process_start, record.span
        if record.kind == "begin" and record.span is not None:
            opened[key] = [record, None]
            found.append(opened[key])
        elif record.kind == "end" and key in opened:
            opened.pop(key)[1] = record
    return [(begin, end) for begin, end in found]


def row_of(begin: Record, end: Record | None) -> dict[str, object]:
    """What the table has of a span."""
    row = {
        "begin_ns": begin.time_ns, "end_ns": end and end.time_ns,
        "duration_ns": end and end.monotonic_ns - begin.monotonic_ns,
        **{name: getattr(begin, name) for name in ("name", "cpu", "pid", "tid", "process", "thread")},
        **{name: getattr(begin, name) for name in ("span", "parent", "task", "process_start")},
        "exception": (end and end.fields.get("exception")) or None, "fields": encode(plain_fields(begin.fields)),
    }  # fmt: skip
    return row if begin.host is None else {**row, "host": begin.host, "channel": begin.channel}


def in_order(rows: Iterable[dict[str, object]]) -> list[str]:
    return sorted(repr(sorted(row.items())) for row in rows)


def rows_of(batches: Iterable[Batch], *, merged: bool = False, enough: int = 1 << 16) -> Iterator[Any]:
    """Those of the table, as they come."""
    with mock.patch.object(pairing, "ENOUGH", enough):
        spans = made_spans.Spans(merged=merged)
        for batch in batches:
            rows = spans.add(batch)
            yield from rows.to_pylist() if rows is not None else []
        yield from spans.end().to_pylist()


def traces_of(made: list[tuple[int, int, int, int, int, int, bool]]) -> list[Trace]:
    """Three channels of two hosts, two lanes each, in which processes begin and end spans of few numbers."""
    origins = (("one", "a", 1), ("one", "b", 1), ("two", "a", 2))
    traces = [Trace(describe(host=host, channel=channel, boot=boot)) for host, channel, boot in origins]
    for at, (origin, lane, writer, pid, task, number, begins) in enumerate(made):
        fields = struct.pack("<5I", number, 0, number - 1, task, at) if begins else b""
        body = fields or struct.pack("<2I", number, 0) + (b"ValueError\0" if at % 3 == 0 else b"\0")
        to = traces[origin].lane(lane, cpu=lane).at(1000 * (at + 1)).writer(writer, pid=pid)
        to.add(BEGIN if begins else END, body, writer=writer)
        if at % 5 == 0:
            to.packet()
    for trace in traces:
        for lanes in trace.lanes.values():
            lanes.packet()
    return traces


@some
@given(st.lists(marks, max_size=60), st.integers(1, 9))
def test_spans_of_several_channels_threads_and_tasks_are_paired_as_by_a_walk(
    tmp_path_factory: pytest.TempPathFactory, made: list[Any], enough: int
) -> None:
    paths = save(tmp_path_factory.mktemp("traces"), *traces_of(made))
    wanted = [row_of(*span) for span in pair(shmtrace.read(paths))]
    batches = columns.read(paths, warn=ignore, rows=5)
    assert in_order(rows_of(batches, merged=True, enough=enough)) == in_order(wanted)


@some
@given(steps, st.integers(1, 9))
def test_spans_of_any_trace_are_paired_as_by_a_walk(made: list[Step], enough: int) -> None:
    data = build_any(made).stream
    wanted = [row_of(*span) for span in pair(read(io.BytesIO(data), warn=ignore))]
    batches = columns.read(io.BytesIO(data), warn=ignore, rows=5)
    assert in_order(rows_of(batches, enough=enough)) == in_order(wanted)


@some
@given(st.lists(marks, max_size=60), st.integers(1, 9))
def test_a_report_has_the_durations_of_a_walk(
    tmp_path_factory: pytest.TempPathFactory, made: list[Any], enough: int
) -> None:
    paths = save(tmp_path_factory.mktemp("traces"), *traces_of(made))
    spans = pair(shmtrace.read(paths))
    with mock.patch("shmtrace.export.report.gather.ENOUGH", enough):
        data = Summary(columns.read(paths, warn=ignore, rows=5)).data()
    durations = [end.monotonic_ns - begin.monotonic_ns for begin, end in spans if end is not None]
    assert sum(span["count"] for span in data["spans"]) == len(durations)
    assert sum(span["total_ns"] for span in data["spans"]) == sum(durations)


def test_rows_come_while_the_trace_is_read_and_few_are_held() -> None:
    trace = Trace(describe(host="one", channel="a", boot=1))
    lane = trace.lane().writer(1, pid=7)
    for number in range(1, 101):
        lane.at(1000 * number).add(BEGIN, struct.pack("<5I", number, 0, 0, 1, number))
        lane.add(END, struct.pack("<2I", number, 0) + b"\0").packet()
    spans = made_spans.Spans()
    with mock.patch.object(pairing, "ENOUGH", 10):
        made = [spans.add(batch) for batch in columns.read(io.BytesIO(trace.stream), rows=2)]
    assert [None if rows is None else rows.num_rows for rows in made] == 20 * [None, None, None, None, 5]


def test_the_oldest_of_too_many_open_spans_count_as_never_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_spans, "MOST_BYTES", 4 * made_spans.ROW_BYTES)
    trace = Trace(describe(host="one", channel="a", boot=1))
    lane = trace.lane().writer(1, pid=7)
    for number in range(1, 11):
        lane.at(1000 * number).add(BEGIN, struct.pack("<5I", number, 0, 0, 1, number)).packet()
    for number in range(1, 11):
        lane.at(1000 * (10 + number)).add(END, struct.pack("<2I", number, 0) + b"\0").packet()
    rows = sorted(rows_of(columns.read(io.BytesIO(trace.stream), rows=1), enough=1), key=lambda row: row["span"])
    assert len(rows) == 10
    ended = [row["span"] for row in rows if row["end_ns"] is not None]
    assert ended == [8, 9, 10]


@pytest.mark.parametrize("left_open", [0, 1, 4])  # of each four
def test_each_record_is_looked_at_a_few_times_whatever_the_length(left_open: int) -> None:
    """Also where spans stay open, of processes that were killed."""

    def looked_at(count: int) -> int:
        looks = 0
        pairs_of = pairing.pairs_of

        def counting(keys: Sequence[Array], is_end: Array) -> pairing.Pairs:
            nonlocal looks
            looks += len(is_end)
            return pairs_of(keys, is_end)

        trace = Trace(describe(host="one", channel="a", boot=1))
        lane = trace.lane()
        for number in range(1, count + 1):
            lane.at(1000 * number)
            if number % 8 == 1:
                lane.writer(1, pid=number)
            lane.add(BEGIN, struct.pack("<5I", number, 0, 0, 1, number))
            if number % 4 >= left_open:
                lane.add(END, struct.pack("<2I", number, 0) + b"\0")
            lane.packet()
        with mock.patch.object(pairing, "pairs_of", counting):
            rows = list(rows_of(columns.read(io.BytesIO(trace.stream), rows=16), enough=16))
        assert len(rows) == count
        assert sum(row["end_ns"] is None for row in rows) == count * left_open // 4
        return looks

    short, long = looked_at(400), looked_at(3200)
    assert long < 12 * short  # of eight times the records
    assert long <= 4 * 2 * 3200


def test_pairs_come_in_the_order_of_their_begins() -> None:
    spans = np.array([1, 2, 1, 1, 2, 3, 3])
    is_end = np.array([False, False, False, True, True, True, False])
    begins, ends, replaced, left = pairing.pairs_of((spans,), is_end)
    assert (begins.tolist(), ends.tolist()) == ([1, 2], [4, 3])
    assert (replaced.tolist(), left.tolist()) == ([0], [6])


def test_a_table_of_spans_is_in_the_order_of_their_begins(tmp_path: Path) -> None:
    made = [(0, 0, 1, 100, 1, number, begins) for begins, number in ((True, 1), (True, 2), (False, 2), (False, 1))]
    (path, *_) = save(tmp_path, *traces_of(made))
    assert read(path).to_arrow("spans")["span"].to_pylist() == [1, 2]
