"""The span processor, with the real SDK of OpenTelemetry."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import commands
import judge
import shmtrace
from instrument.recorded import see
from written import written

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from instrument.recorded import Recorded, Seen


@pytest.fixture(autouse=True)
def _sdk(package: Callable[[str], None]) -> None:
    package("opentelemetry.sdk")


def tracer_of(channel: shmtrace.Channel | None) -> Any:
    from opentelemetry.sdk.trace import TracerProvider

    from shmtrace.instrument.opentelemetry import SpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(SpanProcessor(channel))
    return provider.get_tracer("test")


@pytest.fixture
def tracer(recorded: Recorded) -> Any:
    return tracer_of(recorded.channel)


def unpacked(seen: Seen, field: str = "attributes") -> Any:
    return json.loads(str(seen.fields[field]))


def test_a_span_is_two_records_that_have_what_is_known_when_it_starts_and_when_it_ends(
    tracer: Any, recorded: Recorded
) -> None:
    from opentelemetry.trace import SpanKind

    span = tracer.start_span("GET /", kind=SpanKind.SERVER, attributes={"method": "GET", "tries": 1}, start_time=17)
    (begin,) = recorded.seen()
    assert (begin.kind, begin.name) == ("begin", "GET /")
    context = span.get_span_context()
    assert begin.fields == {
        "kind": "server", "start_ns": 17, "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}", "parent_id": "", "attributes": '{"method": "GET", "tries": 1}',
    }  # fmt: skip
    span.set_attribute("tries", 2)
    span.set_attribute("status", 200)
    span.update_name("GET /{id}")
    span.end(end_time=18)
    _, end = recorded.seen()
    assert (end.kind, end.name, end.own["span"]) == ("end", "GET /", begin.own["span"])
    assert end.fields == {
        "name": "GET /{id}", "status": "unset", "end_ns": 18, "description": "",
        "attributes": '{"tries": 2, "status": 200}', "events": "[]", "links": "[]",
    }  # fmt: skip


VALUES = {
    "text": 'zero \0, quote ", пробег 🐍', "yes": True, "least": -(1 << 63), "greatest": (1 << 64) + 1,
    "float": 0.1, "tiny": 5e-324, "none": None, "texts": ["a", "b"], "numbers": [1, 2, 3], "floats": [0.5],
    "flags": [True, False], "nothing": [], "map": {"inner": {"n": 1}, "list": [None, "x", 2.5]},
}  # fmt: skip


def test_attributes_events_and_links_of_any_type_read_back(tracer: Any, recorded: Recorded) -> None:
    from opentelemetry.trace import Link, SpanContext, TraceFlags

    other = SpanContext(trace_id=0xABC, span_id=0xDEF, is_remote=True, trace_flags=TraceFlags(1))
    with tracer.start_as_current_span("span", attributes=VALUES, links=[Link(other, {"why": "batch"})]) as span:
        span.add_event("first", VALUES, timestamp=1_700_000_000_000_000_001)
        span.add_event("second")
        span.add_link(other, VALUES)
    begin, end = recorded.seen()
    assert unpacked(begin) == VALUES
    assert unpacked(end) == {}
    first, second = unpacked(end, "events")
    assert first == {"name": "first", "time_ns": 1_700_000_000_000_000_001, "attributes": VALUES}
    assert (second["name"], second["attributes"]) == ("second", {})
    assert second["time_ns"] >= begin.fields["start_ns"]
    ids = {"trace_id": f"{0xABC:032x}", "span_id": f"{0xDEF:016x}"}
    assert unpacked(end, "links") == [{**ids, "attributes": {"why": "batch"}}, {**ids, "attributes": VALUES}]


def test_bytes_and_floats_that_json_does_not_have_read_back_as_texts(tracer: Any, recorded: Recorded) -> None:
    given = {"raw": b"\xff\0", "nan": float("nan"), "limits": [float("inf"), float("-inf")], "lone": "\ud800"}
    tracer.start_span("span", attributes=given)
    (begin,) = recorded.seen()
    assert unpacked(begin) == {
        "raw": {"base64": "/wA="}, "nan": "NaN", "limits": ["Infinity", "-Infinity"], "lone": "\ufffd",
    }  # fmt: skip


def test_a_span_inside_another_one_names_it(tracer: Any, recorded: Recorded) -> None:
    with tracer.start_as_current_span("outer"), tracer.start_as_current_span("inner"):
        pass
    outer, inner, _, _ = recorded.seen()
    assert inner.own["parent"] == outer.own["span"]
    assert inner.fields["parent_id"] == outer.fields["span_id"]
    assert inner.fields["trace_id"] == outer.fields["trace_id"]


def test_a_span_inside_one_of_the_channel_names_it(tracer: Any, recorded: Recorded) -> None:
    with recorded.channel.span("load"), tracer.start_as_current_span("inner"):
        pass
    load, inner, _, _ = recorded.seen()
    assert inner.own["parent"] == load.own["span"]


def test_spans_of_tasks_that_take_turns_keep_their_parents(tracer: Any, recorded: Recorded) -> None:
    async def work(number: int) -> None:
        with tracer.start_as_current_span(f"work {number}"):
            await asyncio.sleep(0)
            with tracer.start_as_current_span(f"part of {number}"):
                await asyncio.sleep(0)

    async def main() -> None:
        with tracer.start_as_current_span("main"):
            await asyncio.gather(*(work(number) for number in range(3)))

    asyncio.run(main())
    begins = {seen.name: seen for seen in recorded.seen() if seen.kind == "begin"}
    for number in range(3):
        assert begins[f"work {number}"].own["parent"] == begins["main"].own["span"]
        assert begins[f"part of {number}"].own["parent"] == begins[f"work {number}"].own["span"]
    ends = [seen.own["span"] for seen in recorded.seen() if seen.kind == "end"]
    assert sorted(map(str, ends)) == sorted(str(begin.own["span"]) for begin in begins.values())


def test_an_exception_is_the_status_and_an_event(tracer: Any, recorded: Recorded) -> None:
    with pytest.raises(KeyError), tracer.start_as_current_span("span"):
        raise KeyError("missing")
    _, end = recorded.seen()
    assert (end.fields["status"], end.fields["description"]) == ("error", "KeyError: 'missing'")
    (event,) = unpacked(end, "events")
    assert event["name"] == "exception"
    assert event["attributes"]["exception.type"] == "KeyError"
    assert 'raise KeyError("missing")' in event["attributes"]["exception.stacktrace"]


def test_what_is_too_long_is_left_out_and_told_and_the_rest_is_there(tracer: Any, recorded: Recorded) -> None:
    with tracer.start_as_current_span("span", attributes={"sql": "x" * 100_000, "n": 17}) as span:
        span.set_status(2, "y" * 10_000)
        span.add_event("event", {"text": "z" * 9_000, "m": 18, "more": "z" * 9_000})
    begin, end = recorded.seen()
    assert unpacked(begin) == {"sql": "<100002 bytes: too long>", "n": 17}
    (event,) = unpacked(end, "events")
    texts = [event["attributes"]["text"], event["attributes"]["more"]]
    assert sorted(map(len, texts)) == [len("<9002 bytes: too long>"), 9000]
    assert event["attributes"]["m"] == 18


def test_too_many_short_attributes_leave_the_span(tracer: Any, recorded: Recorded) -> None:
    with tracer.start_as_current_span("span", attributes={f"{number:0200}": number for number in range(128)}):
        pass
    begin, end = recorded.seen()
    assert unpacked(begin)["too_long"] > 25_000
    assert end.own["span"] == begin.own["span"]


def test_names_without_end_leave_room_for_the_events_of_the_program(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    from shmtrace.instrument.opentelemetry import OTHER

    for _ in range(5):  # as other processes would
        tracer = tracer_of(recorded.channel)
        for number in range(300):
            with tracer.start_as_current_span(f"item {number} {'x' * 180}"):
                pass
    recorded.channel.tracepoint("request", status="u16")(200)
    records = recorded.seen()
    assert records[-1].name == "request"
    begins = [seen for seen in records if seen.kind == "begin"]
    others = [seen for seen in begins if seen.name == OTHER]
    assert len(begins) == 1500
    assert 100 < len(others) < 1500
    assert all(str(seen.fields["name"]).startswith("item ") for seen in others)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["", "two\nlines", "x" * 300, "blob", "taken"])
def test_a_name_that_no_event_can_have_is_a_field(tracer: Any, recorded: Recorded, name: str) -> None:
    recorded.channel.tracepoint("taken")
    with tracer.start_as_current_span(name):
        pass
    begin, end = recorded.seen()
    assert (begin.name, begin.fields["name"]) == ("OpenTelemetry span", name[:200])
    assert end.own["span"] == begin.own["span"]


def test_an_event_of_the_program_with_the_name_that_stands_in_for_others_is_told_once(
    tracer: Any, recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded.channel.tracepoint("OpenTelemetry span")
    for name in ("first", "second"):
        tracer.start_span(name).end()
    assert [seen.name for seen in recorded.seen()] == ["first", "first", "second", "second"]
    assert capsys.readouterr().err.count("give it another name") == 1


def test_while_nobody_reads_nothing_is_kept() -> None:
    from opentelemetry.sdk.trace import TracerProvider

    from shmtrace.instrument.opentelemetry import SpanProcessor

    processor = SpanProcessor()
    provider = TracerProvider()
    provider.add_span_processor(processor)
    provider.get_tracer("test").start_span("span")
    assert processor._open == {}
    assert provider.force_flush()
    provider.shutdown()


PROGRAM = """
import os, signal, shmtrace
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from shmtrace.instrument.opentelemetry import SpanProcessor

trace.set_tracer_provider(TracerProvider())
trace.get_tracer_provider().add_span_processor(SpanProcessor())
tracer = trace.get_tracer(__name__)
with tracer.start_as_current_span("POST /orders", attributes={"order": 17}):
    with tracer.start_as_current_span("validate"):
        pass
    with tracer.start_as_current_span("charge the card"):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_spans_of_a_killed_worker_are_shown_as_open(tmp_path: Path, peer: Callable[[str], str]) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    directory = tmp_path / "trace"
    result = commands.run("run", "-o", directory, program)
    assert result.returncode == 128 + signal.SIGKILL
    records = [see(record) for record in shmtrace.read(directory)]
    begins = [seen.name for seen in records if seen.kind == "begin"]
    assert begins == ["POST /orders", "validate", "charge the card"]
    assert [seen.name for seen in records if seen.kind == "end"] == ["validate"]
    shown = commands.run("tail", directory).stdout.splitlines()
    outer, inner = (line for line in shown if line.startswith("open: "))
    assert outer.startswith("open: POST /orders kind='internal'")
    assert """attributes='{"order": 17}'""" in outer
    assert inner.startswith("open: charge the card ")
    assert " in POST /orders " in inner
    text = subprocess.run([peer("babeltrace2"), directory], capture_output=True, text=True, timeout=judge.LIMIT_S)
    assert (text.returncode, text.stderr) == (0, "")
    assert r"""attributes = "{\"order\": 17}" """.strip() in text.stdout


def test_spans_of_forked_workers_are_apart(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        tracer = tracer_of(trace.channel)
        with tracer.start_as_current_span("parent"):
            pid = os.fork()
            if pid == 0:
                tracer.start_span("child").end()
                os._exit(0)
            os.waitpid(pid, 0)
    parent, child = trace.of_kind("begin")
    assert (parent.name, child.name, child.pid) == ("parent", "child", pid)
    assert child.fields["parent_id"] == parent.fields["span_id"]
    assert {(record.name, record.pid) for record in trace.of_kind("end")} == {("parent", os.getpid()), ("child", pid)}


def test_who_does_not_import_it_does_not_pay_for_it() -> None:
    code = "import shmtrace, sys; shmtrace.attach(); print('opentelemetry' in sys.modules)"
    assert commands.run("-c", code, command=[sys.executable]).stdout == "False\n"
