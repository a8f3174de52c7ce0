"""The report: its numbers are those of the records, whatever their order; text of the trace is escaped."""

from __future__ import annotations

import collections
import html.parser
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import commands
import shmtrace
from chromium import browsing
from hostile.streams import rich_trace
from reader.build import small_trace
from shmtrace.export.report.histogram import bucket_begin, buckets_of
from shmtrace.export.report.timeline import Axis

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shmtrace.reader import Record

pytestmark = pytest.mark.timeout(100)

KILLED = """
import os, signal, shmtrace
channel = shmtrace.attach()
channel.span("left").begin()
channel.tracepoint("last", number="u8")(1)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nested spans, a counter, a log, and a worker that was killed in a span."""
    directory: Path = tmp_path_factory.mktemp("traces") / "trace"
    with shmtrace.record(directory) as channel:
        outer, inner = channel.span("outer <b>"), channel.span("inner", shard="u32")
        depth = channel.counter("depth")
        for number in range(200):
            with outer:
                with inner(number):
                    depth(number % 7)
                channel.event(b"blob")
            channel.log(f"name {number % 3}", n=number)
        killed = subprocess.run([sys.executable, "-c", KILLED], timeout=commands.LIMIT_S)
        assert killed.returncode == -signal.SIGKILL
    return directory


def data_of(page: str) -> dict[str, Any]:
    begin = '<script type="application/json" id="data">'
    found: dict[str, Any] = json.loads(page.partition(begin)[2].partition("</script>")[0])
    return found


@pytest.fixture(scope="module")
def page(trace: Path) -> str:
    """The report of the trace."""
    done = commands.run("report", trace, "-o", "-")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def durations(records: list[Record]) -> dict[str, list[int]]:
    begun = {(r.pid, r.span): r for r in records if r.kind == "begin"}
    found: dict[str, list[int]] = collections.defaultdict(list)
    for record in records:
        if record.kind == "end":
            begin = begun[record.pid, record.span]
            found[begin.name].append(record.monotonic_ns - begin.monotonic_ns)
    return found


def test_the_numbers_are_those_of_the_records(trace: Path, page: str) -> None:
    data, records = data_of(page), list(shmtrace.read(trace))
    assert data["records"] == len(records) == sum(data["kinds"].values())
    assert (data["first_ns"], data["last_ns"]) == (records[0].time_ns, records[-1].time_ns)
    events = {(event["name"], event["kind"]): event["count"] for event in data["events"]}
    assert events == collections.Counter((record.name, record.kind) for record in records)
    processes = {process["pid"]: process["records"] for process in data["processes"]}
    assert processes == collections.Counter(record.pid for record in records)
    for rows in (data["events"], data["processes"]):
        for row in rows:
            assert sum(row["rates"]) == row.get("count", row.get("records"))
            assert len(row["rates"]) == data["axis"]["bins"]


def test_durations_are_those_of_the_records(trace: Path, page: str) -> None:
    expected = durations(list(shmtrace.read(trace)))
    spans = {span["name"]: span for span in data_of(page)["spans"] if span["count"]}
    assert spans.keys() == expected.keys()
    for name, found in expected.items():
        span = spans[name]
        assert (span["count"], span["total_ns"]) == (len(found), sum(found))
        assert (span["min_ns"], span["max_ns"]) == (min(found), max(found))
        assert sum(count for _, count in span["buckets"]) == len(found)
        for key, share in (("p50_ns", 0.5), ("p90_ns", 0.9), ("p99_ns", 0.99)):
            exact = sorted(found)[int(np.ceil(share * len(found))) - 1]
            assert span[key] == pytest.approx(exact, rel=1 / 32)


def test_a_counter_is_its_values(page: str) -> None:
    (counter,) = data_of(page)["counters"]
    assert (counter["name"], counter["pid"], counter["count"]) == ("depth", os.getpid(), 200)
    assert (counter["min"], counter["max"], counter["last"]) == (0, 6, 199 % 7)


def test_the_span_of_a_killed_worker_is_open(page: str) -> None:
    data = data_of(page)
    (span,) = data["open_spans"]
    assert (span["name"], data["open_spans_count"]) == ("left", 1)
    assert span["pid"] not in {os.getpid(), None}
    assert span["last_of_process_ns"] > span["begin_ns"]


class Elements(html.parser.HTMLParser):
    """The elements of a page, and what they refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: collections.Counter[str] = collections.Counter()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found[tag] += 1
        self.links += [str(value) for name, value in attrs if name in {"src", "href", "srcset", "action"}]


def test_text_of_the_trace_is_escaped_and_nothing_is_fetched(page: str) -> None:
    elements = Elements(page)
    assert elements.links == []
    assert elements.found["script"] == 2
    assert "outer &lt;b&gt;" in page
    assert "outer <b>" not in page
    assert "url(" not in page
    assert "@import" not in page


@pytest.mark.peers
@pytest.mark.heavy
def test_everything_fits_a_phone(page: str, tmp_path: Path, peer: Callable[[str], str]) -> None:
    (tmp_path / "page.html").write_text(page)
    with browsing(peer("chromium"), tmp_path / "profile") as browser:
        browser.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
        browser.open((tmp_path / "page.html").as_uri())
        browser.until("document.readyState === 'complete' && document.querySelector('footer')")
        assert browser.evaluate("innerWidth") == 390
        cut = "[...document.querySelectorAll('body *')].filter(one => one.getBoundingClientRect().right > 390)"
        assert browser.evaluate(f"{cut}.map(one => one.outerHTML.slice(0, 80))") == []
        browser.evaluate("document.querySelectorAll('.wide button')[1].click()")  # the heads of cards sort, too
        counts = browser.evaluate(
            "[...document.querySelectorAll('.wide tr td:nth-child(2)')].map(one => one.dataset.v)"
        )
        assert counts[:2] == ["200", "200"]
        assert browser.errors == []


def test_losses_show(tmp_path: Path) -> None:
    trace = rich_trace().save_directory(tmp_path / "trace")
    done = commands.run("report", trace, "-o", "-", "--json")
    data, records = json.loads(done.stdout), list(shmtrace.read(trace))
    expected: collections.Counter[str] = collections.Counter()
    for record in records:
        if record.kind == "loss":
            expected[str(record.fields["reason"])] += int(record.fields["count"])  # type: ignore[call-overload]
    assert data["losses"] == expected
    assert commands.run("report", trace, "-o", tmp_path / "out.html").returncode == 0
    assert "Lost and missed" in (tmp_path / "out.html").read_text()


def test_stdin_is_a_trace_too(tmp_path: Path) -> None:
    trace = small_trace().save(tmp_path / "trace")
    with trace.open("rb") as file:
        done = subprocess.run(
            [*commands.SHMTRACE, "report", "-", "-o", "-", "--json"], stdin=file, capture_output=True, timeout=50
        )
    assert json.loads(done.stdout)["records"] == 12


def test_what_is_no_trace_leaves_no_page(tmp_path: Path) -> None:
    (tmp_path / "trace").write_bytes(b"nothing")
    done = commands.run("report", tmp_path / "trace", "-o", tmp_path / "out.html")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert not (tmp_path / "out.html").exists()


@given(st.lists(st.integers(0, 1 << 53), min_size=1))
def test_a_duration_lies_in_its_bucket(values: list[int]) -> None:
    for value, bucket in zip(values, buckets_of(np.array(values)).tolist(), strict=True):
        assert value < bucket_begin(bucket + 1) * (1 + 1e-15)
        assert bucket_begin(bucket) <= max(value, 1)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=20), min_size=1, max_size=10))
def test_bins_hold_what_was_added_in_whatever_order(batches: list[list[int]]) -> None:
    axis = Axis()
    table = axis.table()
    for batch in batches:
        bins = axis.bins_of(np.array(batch))
        table.add(np.zeros(len(batch), np.int64), bins)
    whole = [time for batch in batches for time in batch]
    expected = collections.Counter((time - axis.origin) // axis.width_ns for time in whole)
    found = table.row(0, axis.used).tolist()
    assert {at: count for at, count in enumerate(found) if count} == expected
