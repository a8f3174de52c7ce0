"""The benchmarks run, briefly, so that they cannot rot, and their accounts are right.

Nothing is asserted about times.
"""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from bench import (
    collecting,
    delivery,
    disabled,
    functions,
    geometry,
    latency,
    memory,
    native,
    others,
    peers,
    process,
    reading,
    recording,
    report,
    scale,
    specification,
    start,
    stores,
)
from bench.peer import Counted
from commands import run

ROOT = Path(__file__).parents[1]
PRESENT = [name for name in peers.NAMES if peers.missing(name) is None]
ONE_BY_ONE = [name for name in PRESENT if name not in specification.NAMES]
SECONDS = 0.005


def measure(directory: Path, *arguments: str) -> dict[str, Any]:
    """Run it as a user does; its figures."""
    path = directory / "figures.json"
    result = run(
        "--seconds", str(SECONDS), "--json", path, *arguments, command=[sys.executable, "-m", "bench"], cwd=ROOT
    )
    assert result.returncode == 0, result.stderr
    figures: dict[str, Any] = json.loads(path.read_text())
    return figures


def assert_accounts(row: dict[str, Any]) -> None:
    """What was emitted is delivered, told or untold, and of shmtrace's nothing is untold."""
    if "delivered" in row:
        assert row["emitted"] == row["delivered"] + row["told"] + row["untold"]
        if row["peer"].startswith("shmtrace"):
            assert row["untold"] == 0
            assert row["delivered"] > 0


def test_each_peer_that_is_there_is_measured_and_tables_and_chart_name_it(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    tables, chart = tmp_path / "tables.md", tmp_path / "chart.svg"
    drawn = ["--markdown", str(tables), "--chart", str(chart)]
    figures = measure(tmp_path, "--parts", "costs", "--sizes", "32", *drawn)
    assert [row["peer"] for row in figures["costs"]] == ONE_BY_ONE
    assert len(figures["left_out"]) == len(peers.NAMES) - len(PRESENT)
    for row in figures["costs"]:
        assert_accounts(row)
        assert row["ns"]["low"] <= row["ns"]["median"] <= row["ns"]["high"]
    written = tables.read_text()
    assert all(report.title(name) in written for name in ONE_BY_ONE)
    words = " ".join(ET.parse(chart).getroot().itertext())
    assert all(report.title(name) in words for name in ONE_BY_ONE if name not in {*report.OFF, *report.FLOORS})


def test_the_workloads_of_opentelemetry_are_measured_and_lose_nothing(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.sdk")
    figures = measure(tmp_path, "--parts", "specification")
    rows = figures["specification"]
    assert [(row["peer"], row["size"]) for row in rows] == [
        (name, size) for size in specification.WORKLOADS for name in specification.NAMES
    ]
    for row in rows:
        assert_accounts(row)
        assert row["delivered"] == row["emitted"] > 0
    written = report.text(figures)
    assert all(report.title(name) in written for name in specification.NAMES)


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is repeated for the sake of a median."""
    for module in (collecting, delivery, others, scale):
        monkeypatch.setattr(module, "REPETITIONS", 1)


@pytest.mark.usefixtures("once")
def test_many_processes_and_the_way_to_the_end_are_measured() -> None:
    names = ["shmtrace_event", "queue_put"]
    together = scale.measure(names, [1, 4], SECONDS, {})
    assert {(row["peer"], row["processes"]) for row in together} == {
        (name, count) for name in names for count in (1, 4)
    }
    delivered = delivery.measure(names, SECONDS, {})
    assert [row["peer"] for row in delivered] == names
    for row in [*together, *delivered]:
        assert_accounts(row)
        assert row["untold"] == 0


def test_what_is_switched_off_is_measured_against_an_empty_builtin() -> None:
    rows = disabled.measure(SECONDS)
    states = {shape: [row["state"] for row in rows if row["shape"] == shape] for shape in disabled.SHAPES}
    assert all(found[:3] == ["empty", "off", "unread"] for found in states.values())
    assert {shape for shape, found in states.items() if found[3:] != ["disabled"]} == {"event", "log"}
    (table,) = report.disabled(rows)
    assert all(f"| {row['shape']}, {row['state']} " in table for row in rows)


def test_the_start_of_a_worker_is_measured() -> None:
    rows = start.measure(["floor_len", "shmtrace_event"], SECONDS, {})
    assert [row["peer"] for row in rows] == ["bare", "numba", "shmtrace_event"]


@pytest.mark.usefixtures("once")
def test_the_collector_is_measured() -> None:
    figures = collecting.measure(SECONDS)
    assert figures["emitted"] == figures["delivered"] > 0


def test_the_cost_of_traced_functions_is_measured() -> None:
    rows = functions.measure(1, ("shmtrace",))
    assert [row["program"] for row in rows] == list(functions.PROGRAMS)
    assert functions.count_calls(lambda: functions.fib(5)) == 15 + 1  # the lambda's
    assert len(functions.summary(rows)) == 1 + len(rows)


def test_the_latency_is_measured() -> None:
    rows = latency.measure(["pipe_write", "queue_put"], SECONDS)
    assert [row["peer"] for row in rows] == [*[latency.TAIL] * len(latency.FLUSH_MS), "pipe_write", "queue_put"]
    assert all((row["collector_wakes_s"] is not None) == (row["peer"] == latency.TAIL) for row in rows)
    for row in rows:
        assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["p99.9_ms"]


@pytest.mark.usefixtures("once")
def test_workloads_of_others_lose_nothing() -> None:
    for row in others.fifo_table(scale=0.001):
        assert row["delivered"] == row["emitted"] > 0
    assert {"shmtrace", "logging"} <= {row["kind"] for row in others.log_messages(rounds=2)}


def test_the_tables_of_an_earlier_run_are_the_same(tmp_path: Path) -> None:
    figures = measure(tmp_path, "--only", "floor_len", "--parts", "costs", "--sizes", "8")
    result = run("--from", tmp_path / "figures.json", command=[sys.executable, "-m", "bench"], cwd=ROOT)
    assert result.stdout == report.text(figures) + "\n"


def test_what_is_not_installed_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers.PEERS["zmq_push"], "PACKAGES", ("no-such-package",))
    assert peers.missing("zmq_push") == "no-such-package is not installed"


@pytest.mark.parametrize("share", [50, 99, 99.9])
def test_a_percentile_is_a_value_that_occurred(share: float) -> None:
    values = [float(value) for value in range(1, 1001)]
    assert latency.percentile(values, share) == share * 10
    assert latency.percentile([3.0], share) == 3.0


def test_what_is_neither_delivered_nor_told_is_untold() -> None:
    assert process.accounts(10, Counted(6, 3)) == {"emitted": 10, "delivered": 6, "told": 3, "untold": 1}
    assert process.accounts(10, None) == {"emitted": 10}


def test_ways_to_read_a_trace_are_compared(tmp_path: Path) -> None:
    reading.record(tmp_path / "trace", 400, processes=1)
    assert reading.decode(tmp_path / "trace") == 400
    seconds = reading.measure(tmp_path / "trace", 400, 1)
    assert "columns" in seconds
    assert all(took > 0 for times in seconds.values() for took in times)


@pytest.mark.parametrize("name", memory.COMMANDS)
def test_memory_of_reading_stays_below_a_gigabyte(tmp_path: Path, name: str) -> None:
    memory.record(tmp_path / "trace", 3000, 8)
    command = [argument.format(directory=tmp_path) for argument in memory.COMMANDS[name]]
    found = memory.measure((tmp_path / "trace").read_bytes(), 5_000_000, command)
    assert found["repetitions"] > 10
    assert found["mb"] < 1000


def test_ways_to_take_a_stream_into_files_are_compared(tmp_path: Path) -> None:
    recording.stream(tmp_path / "stream", 2)
    found = recording.measure(tmp_path / "stream", tmp_path, 1)
    assert found.keys() == {"read, write", "splice", "recorder"}
    assert all(cost["median"] > 0 for cost in found.values())


def test_numbers_of_lanes_are_compared() -> None:
    alone, among, no_lane, no_page = geometry.measure_lanes(8, 1000)
    assert alone > 0
    assert among > 0
    assert no_lane + no_page < geometry.WRITERS * 1000


@pytest.mark.skipif(native.missing() is not None, reason="needs gcc")
def test_ways_to_write_a_record_are_compared_with_plain_stores() -> None:
    ways = stores.measure(2)
    assert ways[stores.PLAIN]["ratio"] == 1
    some = {"rdtscp", "rdtsc, compare-and-swap", "non-temporal stores", "huge pages", "first lap, faults"}
    assert some <= ways.keys()
