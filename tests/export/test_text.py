"""Records as text: JSON lines have one shape whatever a user wrote, and no line upsets a terminal."""

from __future__ import annotations

import datetime as dt
import json
import math

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmtrace.export.text import json_line, text_line
from shmtrace.reader import Record

pytestmark = pytest.mark.timeout(60)
TIME_NS = 1_700_000_000_123_456_789


def record(name: str = "request", kind: str = "event", pid: int | None = 100, **fields: object) -> Record:
    process, thread = (None, None) if pid is None else ("python", "main")
    tid = None if pid is None else pid + 1
    return Record(TIME_NS, 5, 6, name, kind, 2, 3, pid, tid, process, thread, fields)


def fields_of(made: Record) -> object:
    return json.loads(json_line(made))["fields"]


def test_a_line_has_these_keys_in_this_order() -> None:
    assert json_line(record(status=200)) == (
        '{"time_ns": 1700000000123456789, "name": "request", "kind": "event", "cpu": 2, "pid": 100, "tid": 101, '
        '"process": "python", "thread": "main", "fields": {"status": 200}}'
    )


def test_an_unknown_writer_is_null() -> None:
    line = json.loads(json_line(record(pid=None)))
    assert [line[key] for key in ("pid", "tid", "process", "thread")] == [None] * 4


def test_bytes_that_are_text_are_text() -> None:
    assert fields_of(record("blob", blob="grün".encode())) == {"blob": "grün"}


@pytest.mark.parametrize("name", ["blob", "other"])
def test_bytes_that_are_no_text_are_base64_under_another_name(name: str) -> None:
    assert fields_of(record()._replace(fields={name: b"\xff\0"})) == {f"{name}_base64": "/wA="}


def test_text_is_not_escaped_beyond_need() -> None:
    assert '"grün\\n"' in json_line(record(text="grün\n"))


@pytest.mark.parametrize(("value", "text"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")])
def test_floats_that_are_not_finite_are_strings(value: float, text: str) -> None:
    assert fields_of(record(value=value, deep={"list": [value]})) == {"value": text, "deep": {"list": [text]}}


def test_what_msgpack_knows_and_json_does_not_is_text() -> None:
    fields = {"time": msgpack.Timestamp(5), "deep": [b"a", b"\xff", {b"key": b"\xff", 1: None}]}
    assert fields_of(record("log", "log", **fields)) == {
        "time": "Timestamp(seconds=5, nanoseconds=0)",
        "deep": ["a", {"base64": "/w=="}, {"key_base64": "/w==", "1": None}],
    }


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.binary() | st.integers(), inner),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(), VALUES))
def test_any_fields_make_one_line_of_json_and_one_of_text(fields: dict[str, object]) -> None:
    made = record()._replace(fields=fields)
    for line in (json_line(made), text_line(made)):
        assert "\n" not in line
        line.encode("utf-8", "backslashreplace")
    json.loads(json_line(made), parse_constant=pytest.fail)


def test_a_line_for_people_has_local_time_cpu_writer_name_and_fields() -> None:
    when = dt.datetime.fromtimestamp(TIME_NS // 10**9).astimezone()
    assert text_line(record(status=200, path="/a b", body=b"x", raw=b"\xff")) == (
        f"{when:%Y-%m-%d %H:%M:%S}.123456789   2 python[100] main[101] request "
        "status=200 path='/a b' body='x' raw=b'\\xff'"
    )


@pytest.mark.parametrize(("kind", "what"), [("begin", "> load"), ("end", "< load"), ("event", " load")])
def test_spans_are_marked(kind: str, what: str) -> None:
    assert text_line(record("load", kind)).endswith(what)


def test_an_unknown_writer_is_a_dash() -> None:
    assert text_line(record(pid=None)).endswith("   2 - request")


def test_a_line_for_people_has_nothing_that_a_terminal_obeys() -> None:
    line = text_line(record("na\x1b[2Jme", key="\x1b]0;title\x07", raw=b"\x1b[31m"))
    assert line.isprintable()
