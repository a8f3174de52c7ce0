"""Which records an expression chooses, and that it can do nothing but choose."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmtrace.export.filters import InvalidExpression, parse_expression, wanted
from shmtrace.reader import Record

pytestmark = pytest.mark.timeout(60)


def record(name: str = "request", kind: str = "event", pid: int | None = 100, **fields: object) -> Record:
    return Record(1_700_000_000_000_000_005, 5, 6, name, kind, 2, 3, pid, 101, "python", "main", fields)


REQUEST = record(status=503, path="/api/x", latency=0.25, cached=False, blob=b"text", raw=b"\xff", tags=["a", "b"])


@pytest.mark.parametrize(
    "text",
    [
        "status >= 500",
        "status == 503 and path.startswith('/api')",
        "status == 1 or latency < 1",
        "not cached",
        "cached == False",
        "500 <= status < 600",
        "status in (500, 503)",
        "status not in [500]",
        "path.endswith(('x', 'y'))",
        "'api' in path",
        "'a' in tags",
        "latency > -1",
        "'status' in fields",
        "'absent' not in fields",
        "fields['status'] == 503",
        "blob == 'text'",
        "blob.startswith('te')",
        "raw == b'\\xff'",
        "kind == 'event' and name == 'request' and cpu == 2 and pid == 100 and tid == 101",
        "process == 'python' and thread == 'main'",
        "time_ns == 1700000000000000005",
        "path",
        "  status\t!= 200 ",
    ],
)
def test_an_expression_that_holds(text: str) -> None:
    assert parse_expression(text)(REQUEST)


@pytest.mark.parametrize(
    "text",
    [
        "status < 500",
        "absent == 1",
        "absent != 1",
        "absent",
        "absent < 1 or absent >= 1",
        "status == '503'",
        "status < 'text'",
        "1 in status",
        "status.startswith('5')",
        "level == 'info'",  # the record has none
        "fields[5] == 5",
        "not status",
    ],
)
def test_an_expression_that_does_not_hold(text: str) -> None:
    assert not parse_expression(text)(REQUEST)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("status =", "at character"),
        ("", "is no expression"),
        ("status >= 1; 1", "at character"),
        ("__import__('os')", "of calls there are"),
        ("status.bit_length()", "of calls there are"),
        ("path.format('x')", "of calls there are"),
        ("path.startswith(status)", "beside comparisons"),
        ("path.startswith(5)", "takes a text"),
        ("path.startswith", "'path.startswith' at character 1 is not understood"),
        ("fields.clear", "not understood"),
        ("[x for x in y]", "not understood"),
        ("(lambda: 1) == 1", "not understood"),
        ("9 ** 9 ** 9", "not understood"),
        ("'a' * 99", "not understood"),
        ("f'{status}'", "not understood"),
        ("status is None", "of comparisons there are"),
        ("path[0] == 'x'", "not understood"),
        ("(status := 5)", "not understood"),
        ("(" * 500 + "1" + ")" * 500, ""),
        ("not " * 4000 + "1" * 9000, "are the most"),
        ("not " * 2000 + "1", ""),
    ],
)
def test_what_is_not_understood_is_said_in_one_line(text: str, says: str) -> None:
    with pytest.raises(InvalidExpression) as error:
        parse_expression(text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@settings(max_examples=300, deadline=None)
@given(st.text("statu path()[]'\"<>=!.,+-*andorinfields05\\", max_size=30))
def test_any_text_is_an_expression_or_is_refused(text: str) -> None:
    try:
        test = parse_expression(text)
    except InvalidExpression:
        return
    assert test(REQUEST) in {True, False}


def test_names_pids_and_expression_must_all_hold() -> None:
    test = wanted(["req*", "load"], [100, 200], "status > 1")
    assert test is not None
    assert test(record(status=2))
    assert test(record("load", pid=200, status=2))
    assert not test(record("other", status=2))
    assert not test(record(pid=300, status=2))
    assert not test(record(pid=None, status=2))
    assert not test(record(status=1))


def test_nothing_asked_for_is_no_filter() -> None:
    assert wanted() is None


@pytest.mark.parametrize("text", ["host == 'one'", "channel == 'a' and host != 'two'", "'host' not in fields"])
def test_host_and_channel_are_columns_of_merged_traces(text: str) -> None:
    assert parse_expression(text)(REQUEST._replace(host="one", channel="a"))


def test_host_and_channel_are_fields_where_one_trace_is_read() -> None:
    assert parse_expression("host == 'example.org'")(record(host="example.org"))
    assert not parse_expression("channel == 'a'")(REQUEST)
    merged = record(host="example.org")._replace(host="one", channel="a")
    assert parse_expression("fields['host'] == 'example.org' and host == 'one'")(merged)
