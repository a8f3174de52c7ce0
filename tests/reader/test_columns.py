"""Batches of columns: the same records as the record reader gives, in the same order, whatever the trace."""

from __future__ import annotations

import io
import itertools
import struct
from typing import TYPE_CHECKING
from unittest import mock

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostile.packets import broken_packets
from hostile.packets import stream as broken_stream
from hostile.streams import hostile_parts, joined, rich_trace
from reader.build import Trace, describe, small_trace
from shmtrace import wire
from shmtrace.export.jsonl import json_lines
from shmtrace.export.text import encode, json_line, plain_fields
from shmtrace.reader import NotATrace, columns, read, threads, walking
from shmtrace.reader.batch import KINDS, LEVEL_NAMES
from shmtrace.reader.files import ignore
from shmtrace.reader.shown import shown_fields

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeAlias

    from shmtrace.reader import Record

    Step: TypeAlias = "tuple[int, int, tuple[int, bytes], int]"  # lane, writer, class and body, time since the last

pytestmark = pytest.mark.timeout(100)
many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

FIELDS = {
    16: ("event", "a:u8 b:i64 c:f64 d:bool e:u16[3] color:u8{red=0,green=1}"),
    17: ("event", "text:str data:bytes rest:u16 list:i32[] last:str"),
    18: ("begin", "shard:u32"),
    19: ("end", "exception:str"),
    20: ("counter", "value:f64"),
    21: ("event", ""),
    **dict(enumerate(wire.FUNCTION_FIELDS.items(), start=22)),
}
CLASSES = "".join(wire.event(i, f"class {i}", wire.class_fields(f, k), 6, k) for i, (k, f) in FIELDS.items())


def both(make: Callable[[], object]) -> tuple[list[Record], list[Record]]:
    """What the two readers give, after the complaints of both have been compared."""
    lines: tuple[list[str], list[str]] = ([], [])
    slow = list(read(make(), warn=lines[0].append))  # type: ignore[arg-type]
    batches = columns.read(make(), warn=lines[1].append, rows=7)  # type: ignore[arg-type]
    fast = [record for batch in batches for record in batch.records()]
    assert sorted(map(without_place, lines[0])) == sorted(map(without_place, lines[1]))
    return slow, fast


def without_place(line: str) -> str:
    """One record of an unknown class is named for all; which one depends on how far ahead a lane is read."""
    return line.partition("skipped: ")[2] if "all records of event class" in line else line


def check_same(make: Callable[[], object]) -> None:
    slow, fast = both(make)
    assert list(map(repr, fast)) == list(map(repr, slow))  # repr: nan is not equal to itself


class Pipe(io.BytesIO):
    """A stream that cannot be read twice."""

    def seekable(self) -> bool:
        return False


def check_all(trace: Trace, directory: Path) -> None:
    """As a file, a pipe and a directory."""
    check_same(lambda: io.BytesIO(trace.stream))
    check_same(lambda: Pipe(trace.stream))
    path = trace.save_directory(directory / str(sum(1 for _ in directory.iterdir())))
    check_same(lambda: path)


def body_of(identifier: int, numbers: list[int], text: str) -> bytes:
    """A body that fits the class."""
    own = struct.pack(f"<{len(wire.KINDS[FIELDS[identifier][0]])}I", *numbers[: len(wire.KINDS[FIELDS[identifier][0]])])
    data = text.encode()
    fields = {
        16: struct.pack("<Bqd?3HB", 1, -2, float("nan"), True, 1, 2, 3, len(text) % 3),
        17: data + b"\0" + struct.pack("<H", len(data)) + data + b"\1\0" + struct.pack("<H2i", 2, -1, 5) + b"\0",
        18: struct.pack("<I", len(text)),
        19: data + b"\0",
        20: struct.pack("<d", len(text)),
        21: b"",
        22: struct.pack("<2I", numbers[0], numbers[1]) + b"module\0" + data + b"\0file.py\0",
        23: struct.pack("<I", numbers[0]),
        24: struct.pack("<I", numbers[0]),
        25: struct.pack("<I", numbers[0]) + data + b"\0",
    }
    return own + fields[identifier]


ANEW = (1, 2, 3, 7)  # such a rest, and another thread gets the number


small = st.integers(0, 3) | st.just(wire.BY_THREAD)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
bodies = st.builds(
    lambda i, n, t: (i, body_of(i, n, t)), st.sampled_from(list(FIELDS)), st.lists(small, min_size=4, max_size=4), texts
)
values = st.one_of(
    st.integers(-(1 << 63), (1 << 64) - 1), texts, st.floats(), st.booleans(), st.none(), st.binary(max_size=3),
    st.lists(st.integers(0, 3), max_size=2), st.text("a", min_size=30, max_size=300),
)  # fmt: skip
logs = st.builds(
    lambda name, span, context, level, defines, more: (
        wire.ID_LOG,
        msgpack.packb({k: v for k, v in enumerate((name, span, context, level)) if v} | defines | more),
    ),
    st.sampled_from(["", "miss", "hit"]), small, small, st.sampled_from([0, 10, 20, 30, 35, 60]),
    st.sampled_from([{}, {}, *({wire.LOG_DEFINES: number} for number in range(-1, 3))]),
    st.dictionaries(texts, values, max_size=2),
)  # fmt: skip


def damaged_log(made: tuple[int, bytes]) -> st.SearchStrategy[tuple[int, bytes]]:
    """A byte of it is another."""
    body = made[1]
    places = st.integers(0, len(body) - 1)
    return st.builds(
        lambda at, byte: (made[0], body[:at] + bytes([byte]) + body[at + 1 :]), places, st.integers(0, 255)
    )


others = st.one_of(
    st.builds(lambda b: (wire.ID_BLOB, b), st.binary(max_size=40)),
    st.builds(
        lambda span, context, b: (wire.ID_PLACED, struct.pack("<IIH", span, context, len(b)) + b),
        small,
        small,
        st.binary(max_size=9),
    ),
    st.builds(lambda b: (wire.ID_PADDING, b), st.binary(max_size=9)),
    st.builds(lambda b: (wire.ID_LOG, b), st.binary(max_size=9)),
    st.builds(lambda i, b: (i, b), st.integers(0, 27), st.binary(max_size=30)),
)
steps_of_any = st.tuples(st.integers(0, 2), st.integers(1, 3), bodies | bodies | logs | others, st.integers(0, 40))
steps = st.lists(steps_of_any, max_size=60)


def build(made: list[Step], classes: str = CLASSES) -> Trace:
    """Records in three lanes that three writers of two processes wrote, and some that came later."""
    trace = Trace(describe(classes))
    for number in range(3):
        lane = trace.lane(number, cpu=number).at(1000)
        for writer in (1, 2):
            lane.writer(writer, pid=100 + writer // 2, tid=writer)
    at = 1000
    for number, writer, (identifier, body), rest in made:
        lane = trace.lane(number, cpu=number)
        at += rest
        lane.at(max(at, lane.cycles)).add(identifier, body, writer=writer)
        if rest in ANEW:
            lane.writer(writer, pid=100 + rest, tid=rest)
        if rest % 5 == 0:
            lane.packet(discarded=lane.discarded + rest % 2)
        if rest == 40:
            lane.clock(at, at * 3, 10**18 + at * 4)
    for lane in trace.lanes.values():
        lane.packet()
    return trace


@many
@given(steps)
def test_any_records_are_the_same(tmp_path: Path, made: list[Step]) -> None:
    check_all(build(made), tmp_path)


called = st.builds(
    lambda i, n, t: (i, body_of(i, [n, 7], t)), st.sampled_from([22, 23, 23, 24, 25]), st.integers(1, 3), texts
)
calls = st.tuples(st.integers(0, 2), st.integers(1, 3), called, st.integers(0, 9))


@st.composite
def built_of_another_class_6(draw: st.DrawFn) -> Trace:
    """Whose description says that blobs with a context are something else."""
    number = draw(st.sampled_from(list(FIELDS)))
    kind, fields = FIELDS[number]
    text = wire.event(wire.ID_PLACED, draw(st.sampled_from(["blob", "b"])), wire.class_fields(fields, kind), 6, kind)
    bodies_of_it = st.builds(
        lambda n, t: (wire.ID_PLACED, body_of(number, n, t)), st.lists(small, min_size=4, max_size=4), texts
    )
    step = st.tuples(st.integers(0, 2), st.integers(1, 3), bodies_of_it, st.integers(0, 40))
    return build(draw(st.lists(step | steps_of_any, max_size=40)), CLASSES + text)


@many
@given(built_of_another_class_6())
def test_blobs_with_a_context_that_a_description_calls_something_else_are_the_same(
    tmp_path: Path, trace: Trace
) -> None:
    check_all(trace, tmp_path)


@many
@given(st.lists(calls, max_size=60))
def test_any_calls_of_functions_are_the_same(tmp_path: Path, made: list[Step]) -> None:
    check_all(build(made), tmp_path)


@many
@given(st.lists(calls | steps_of_any, max_size=60))
def test_threads_and_processes_are_forgotten_when_they_have_ended(tmp_path: Path, made: list[Step]) -> None:
    with mock.patch.object(threads, "MOST_THREADS", 0):
        check_all(build(made), tmp_path)


class Late:
    """Calls that are made when their results are wanted."""

    def __init__(self, function: Callable[[object], object]) -> None:
        self._function = function
        self._arguments: list[object] = []
        self._results: list[object] = []

    def __len__(self) -> int:
        return len(self._arguments) + len(self._results)

    def call(self, argument: object) -> None:
        self._arguments.append(argument)

    def wait(self) -> None:
        self._results += [self._function(argument) for argument in self._arguments]
        self._arguments.clear()

    def take(self) -> object:
        return self._results.pop(0) if self._results else self._function(self._arguments.pop(0))

    def close(self) -> None:
        pass


@many
@given(st.lists(calls | steps_of_any, max_size=60))
def test_what_another_thread_is_late_with_is_the_same(tmp_path: Path, made: list[Step]) -> None:
    with mock.patch.object(threads, "MOST_THREADS", 0), mock.patch.object(walking, "Beside", Late):
        check_all(build(made), tmp_path)


def test_as_many_threads_are_kept_as_there_are_numbers() -> None:
    trace = Trace()
    lane = trace.lane()
    for number in range(5000):
        lane.at(number).writer(1 + number % 7, pid=1000 + number).blob(b"", writer=1 + number % 7)
        if number % 10 == 9:
            lane.packet()
    with mock.patch.object(threads, "MOST_THREADS", 100):
        batches = list(columns.read(io.BytesIO(trace.stream), rows=50))
    assert [int(pid) for batch in batches for pid in batch.pid] == list(range(1000, 6000))
    assert max(len(batch.threads) for batch in batches) < 300
    assert {writer for batch in batches for writer in batch.threads} > {batches[0].threads[0], batches[-1].threads[-1]}


@many
@given(st.lists(logs | logs.flatmap(damaged_log), min_size=1, max_size=20))
def test_any_logs_are_the_same(made: list[tuple[int, bytes]]) -> None:
    trace = Trace(describe(CLASSES))
    lane = trace.lane().writer(1, pid=100)
    for identifier, body in made:
        lane.add(identifier, body)
    lane.packet()
    check_same(lambda: io.BytesIO(trace.stream))
    (names,) = [
        [batch.names[number] for number in batch.name_id] for batch in columns.read(io.BytesIO(trace.stream))
    ] or [[]]
    assert names == [record.name for record in read(io.BytesIO(trace.stream))]


@many
@given(
    st.lists(st.floats() | st.floats(width=32) | st.integers(-(1 << 60), 1 << 60).map(lambda n: n / 1000), min_size=1)
)
def test_floats_are_shown_as_python_shows_them(numbers: list[float]) -> None:
    trace = Trace(describe(wire.event(16, "float", wire.class_fields("value:f64"))))
    for number in numbers:
        trace.lane().add(16, struct.pack("<2Id", 0, 0, number))
    trace.lane().packet()
    (batch,) = columns.read(io.BytesIO(trace.stream))
    texts, offsets = shown_fields(batch)
    shown = [texts[begin:end].tobytes().decode() for begin, end in itertools.pairwise(offsets.tolist())]
    assert shown == [encode(plain_fields({"value": number})) for number in numbers]


@many
@given(hostile_parts())
def test_a_hostile_stream_is_the_same(tmp_path: Path, parts: list[object]) -> None:
    data = joined(parts)  # type: ignore[arg-type]
    try:
        check_same(lambda: io.BytesIO(data))
        check_same(lambda: Pipe(data))
    except NotATrace:
        with pytest.raises(NotATrace):
            list(columns.read(io.BytesIO(data), warn=ignore))


@many
@given(st.data())
def test_a_hostile_directory_is_the_same(tmp_path: Path, data: st.DataObject) -> None:
    path = rich_trace().save_directory(tmp_path / str(sum(1 for _ in tmp_path.iterdir())))
    files = sorted(path.glob("stream_*"))
    for file in data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=3)):
        content = bytearray(file.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(content) - 1) | st.just(len(content)))
        file.write_bytes(content[:cut] or b"\0")
    check_same(lambda: path)


@pytest.mark.parametrize("name", broken_packets())
def test_a_broken_packet_is_the_same(name: str) -> None:
    data, _ = broken_stream(broken_packets()[name])
    check_same(lambda: io.BytesIO(data))


@pytest.mark.parametrize("make", [small_trace, rich_trace, Trace])
def test_a_trace_is_the_same_as_file_pipe_and_directory(tmp_path: Path, make: Callable[[], Trace]) -> None:
    check_all(make(), tmp_path)


def test_a_lane_whose_time_runs_backwards_is_merged_as_records_are(tmp_path: Path) -> None:
    trace = Trace()
    for number, cycles in enumerate((10, 40, 20, 30, 7, 50, 15, 15, 40)):
        trace.lane(number % 3).at(cycles).blob(bytes([number])).packet()
    path = trace.save_directory(tmp_path / "trace")
    check_same(lambda: path)


def test_long_runs_of_a_lane_are_merged_in_order(tmp_path: Path) -> None:
    trace = Trace()
    for number in range(2000):
        lane = trace.lane(number // 50 % 3).at(number + number % 7 * (number // 700))
        lane.blob(b"x" * (number % 40))
        if number % 300 == 0:
            lane.packet()
    for lane in trace.lanes.values():
        lane.packet()
    path = trace.save_directory(tmp_path / "trace")
    check_same(lambda: path)
    blobs = [bytes(record.fields["blob"]) for record in read(path)]  # type: ignore[call-overload]
    got = [bytes(r.fields["blob"]) for b in columns.read(path, rows=77) for r in b.records()]  # type: ignore[call-overload]
    assert got == blobs


def test_what_is_no_trace_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"nothing")
    for path in (tmp_path / "file", tmp_path / "none", tmp_path):
        with pytest.raises(NotATrace):
            list(columns.read(path))


def test_columns_have_what_records_have(tmp_path: Path) -> None:
    path = rich_trace().save_directory(tmp_path / "trace")
    records = list(read(path, warn=ignore))
    at = 0
    for batch in columns.read(path, warn=ignore, rows=10):
        part = records[at : at + len(batch)]
        at += len(batch)
        assert batch.time_ns.tolist() == [record.time_ns for record in part]
        assert batch.pid.tolist() == [record.pid or 0 for record in part]
        assert batch.tid.tolist() == [record.tid or 0 for record in part]
        assert batch.span.tolist() == [record.span or 0 for record in part]
        assert [batch.names[n] for n in batch.name_id] == [record.name for record in part]
        assert [KINDS[n] for n in batch.kind] == [record.kind for record in part]
        assert [LEVEL_NAMES[n] for n in batch.level] == [record.level for record in part]
    assert at == len(records)


def test_a_function_of_which_nothing_was_told_has_a_number_for_a_name() -> None:
    trace = Trace(describe(CLASSES))
    trace.lane().writer(1, pid=100).add(23, body_of(23, [17, 0], "")).add(24, body_of(24, [17, 0], "")).packet()
    (batch,) = columns.read(io.BytesIO(trace.stream))
    begin, end = batch.records()
    assert (begin.name, begin.kind, begin.fields) == ("function 17", "begin", {})
    assert (end.name, end.kind, end.span) == ("function 17", "end", begin.span)
    assert batch.fields(int(batch.class_id[0]))[1] == {}


def test_fields_are_columns_with_a_value_a_record() -> None:
    trace = Trace(describe(CLASSES))
    lane = trace.lane()
    for number in range(5):
        lane.add(16, body_of(16, [number, 0], "x" * number)).add(17, body_of(17, [0, 0], "é" * number))
    lane.packet()
    (batch,) = columns.read(io.BytesIO(trace.stream))
    records = list(read(io.BytesIO(trace.stream)))
    assert len(batch.class_ids()) == 2
    for class_id in batch.class_ids():
        rows, fields = batch.fields(class_id)
        assert list(fields) == list(records[rows[0]].fields)
        for name, column in fields.items():
            values: list[object] = column.tolist() if isinstance(column, np.ndarray) else list(column)
            if name == "color":
                values = [("red", "green", 2)[int(str(value))] for value in values]
            assert repr(values) == repr([records[row].fields[name] for row in rows])


def test_fields_of_any_name_and_order_are_columns() -> None:
    """A name that numpy gives to what has none, `f0`, is one like others."""
    fields = wire.class_fields("f0:u32 f1:u8 text:str f2:u16 numbers:i16[] last:f64", "begin")
    trace = Trace(describe(wire.event(16, "load", fields, 6, "begin")))
    own = struct.pack(f"<{len(wire.KINDS['begin'])}I", *range(len(wire.KINDS["begin"])))
    lane = trace.lane()
    for number in range(9):
        text, numbers = "x" * number, [-n for n in range(number % 3)]
        rest = struct.pack(f"<HH{len(numbers)}hd", number, len(numbers), *numbers, number / 8)
        lane.add(16, own + struct.pack("<IB", number, number + 1) + text.encode() + b"\0" + rest)
    lane.packet()
    (batch,) = columns.read(io.BytesIO(trace.stream))
    rows, found = batch.fields(batch.class_ids()[0])
    records = list(read(io.BytesIO(trace.stream)))
    assert [records[row].fields for row in rows] == [
        dict(zip(found, values, strict=True))
        for values in zip(*(c.tolist() if isinstance(c, np.ndarray) else list(c) for c in found.values()), strict=True)
    ]
    assert list(found) == ["f0", "f1", "text", "f2", "numbers", "last"]


@many
@given(steps)
def test_json_lines_of_batches_are_those_of_records(made: list[Step]) -> None:
    stream = build(made).stream
    lines = b"".join(map(json_lines, columns.read(io.BytesIO(stream), warn=ignore)))
    records = read(io.BytesIO(stream), warn=ignore)
    assert lines == b"".join(json_line(record).encode("utf-8", "backslashreplace") + b"\n" for record in records)
