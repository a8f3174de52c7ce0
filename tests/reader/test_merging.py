"""Several traces as one timeline: what two hosts, two channels, or a channel twice have recorded."""

from __future__ import annotations

import itertools
import json
import os
import struct
import uuid
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import shmtrace
from commands import run
from export.shown import Shown, unnested
from reader.build import FREQUENCY, Trace
from shmtrace import wire
from shmtrace.export.text import json_line
from shmtrace.layout import CLOCK_TSC
from shmtrace.reader import columns

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(100)
WALL_S = 1_700_000_000
CLASSES = {"tick": ("event", "n:u32"), "load": ("begin", "n:u32"), "loaded": ("end", "exception:str")}


def describe(*, host: str, channel: str, boot: int, ahead_s: int = 0, first: int = 16) -> str:
    classes = "".join(
        wire.event(first + number, name.removesuffix("ed"), wire.class_fields(fields, kind), 6, kind)
        for number, (name, (kind, fields)) in enumerate(CLASSES.items())
    )
    return wire.metadata(
        uuid=str(uuid.UUID("12345678-9abc-def0-1234-56789abcdef0")), boot_id=str(uuid.UUID(int=boot)), channel=channel,
        hostname=host, clock_kind=CLOCK_TSC, frequency=FREQUENCY, offset_s=WALL_S + ahead_s, offset=0, classes=classes,
    )  # fmt: skip


def trace(cycles: list[int], *, first: int = 16, pid: int = 7, **description: object) -> Trace:
    """A tick at each of these times, numbered; around all of them a span."""
    made = Trace(describe(first=first, **description))  # type: ignore[arg-type]
    lane = made.lane().at(cycles[0]).writer(1, pid=pid)
    lane.add(first + 1, struct.pack("<5I", 1, 0, 0, 1, 99))
    for number, at in enumerate(cycles):
        lane.at(at).add(first, struct.pack("<3I", 1, 0, number))
    lane.add(first + 2, struct.pack("<2I", 1, 0) + b"\0")
    lane.packet()
    return made


def save(directory: Path, *traces: Trace) -> list[Path]:
    return [made.save_directory(directory / f"{number}") for number, made in enumerate(traces)]


def test_channels_of_one_boot_are_merged_by_the_monotonic_clock(tmp_path: Path) -> None:
    paths = save(
        tmp_path,
        trace([10, 30, 50], host="one", boot=1, channel="a"),
        trace([20, 40, 60], host="one", boot=1, channel="b", first=20, ahead_s=-100),  # somebody had set the wall clock
    )
    records = [record for record in shmtrace.read(paths) if record.name == "tick"]
    assert [(record.channel, record.fields["n"]) for record in records] == [
        ("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2),
    ]  # fmt: skip
    assert {record.host for record in records} == {"one"}


def test_hosts_are_merged_by_their_wall_clocks(tmp_path: Path) -> None:
    paths = save(
        tmp_path,
        trace([FREQUENCY * 10, FREQUENCY * 30], host="one", boot=1, channel="a"),
        trace([FREQUENCY * 5, FREQUENCY * 9], host="two", boot=2, channel="a", ahead_s=15),
    )
    hosts = [record.host for record in shmtrace.read(paths) if record.name == "tick"]
    assert hosts == ["one", "two", "two", "one"]


def test_one_trace_knows_no_host(tmp_path: Path) -> None:
    (path,) = save(tmp_path, trace([1], host="one", boot=1, channel="a"))
    assert {(record.host, record.channel) for record in shmtrace.read(path)} == {(None, None)}
    assert "host" not in shmtrace.read(path).to_arrow().column_names


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=40).map(sorted), min_size=1, max_size=4))
def test_any_traces_come_in_order_and_whole(tmp_path: Path, times: list[list[int]]) -> None:
    place = tmp_path / str(sum(1 for _ in tmp_path.iterdir()))
    place.mkdir()
    made = [
        trace(cycles, host=f"host {number % 2}", boot=number % 2, channel=f"{number}", pid=number)
        for number, cycles in enumerate(times)
    ]
    paths = save(place, *made)
    records = [record for batch in columns.read(paths, rows=5) for record in batch.records()]
    assert [record.time_ns for record in records] == sorted(record.time_ns for record in records)
    for number, path in enumerate(paths):
        mine = [record._replace(host=None, channel=None) for record in records if record.channel == f"{number}"]
        assert mine == list(shmtrace.read(path))


def test_a_pid_on_two_hosts_is_two_processes(tmp_path: Path) -> None:
    paths = save(
        tmp_path,
        trace([10, 30], host="one", boot=1, channel="a"),
        trace([20, 60], host="two", boot=2, channel="a", first=30),
    )
    spans = shmtrace.read(paths).to_arrow("spans").to_pylist()
    assert [(span["host"], span["duration_ns"]) for span in spans] == [("one", 10), ("two", 20)]
    data = json.loads(run("report", *paths, "-o", "-", "--json").stdout)
    assert len(data["processes"]) == 2
    assert shmtrace.read(paths).to_arrow("tick").num_rows == 4  # one table, though the ids differ


def test_a_process_that_writes_into_two_channels_is_one(tmp_path: Path) -> None:
    paths = save(
        tmp_path,
        trace([10, 30], host="one", boot=1, channel="a"),
        trace([20, 60], host="one", boot=1, channel="b"),
    )
    assert len(json.loads(run("report", *paths, "-o", "-", "--json").stdout)["processes"]) == 1


def test_a_channel_that_was_recorded_twice_is_one_timeline(tmp_path: Path, channel_name: str) -> None:
    paths = []
    for number in range(2):
        paths.append(tmp_path / f"{number}")
        with shmtrace.record(paths[-1], name=channel_name) as channel:
            for count in range(100):
                channel.log("step", number=number, count=count)
    records = list(shmtrace.read(paths[::-1]))
    assert [(record.fields["number"], record.fields["count"]) for record in records] == list(
        itertools.product(range(2), range(100))
    )
    assert {(record.pid, record.host, record.channel) for record in records} == {
        (os.getpid(), os.uname().nodename, channel_name)
    }
    sql = "SELECT channel, host, count(*) AS n FROM events GROUP BY ALL"
    rows = run("query", *paths, sql, "--json").stdout
    assert json.loads(rows) == {"channel": channel_name, "host": os.uname().nodename, "n": 200}


def test_each_format_has_host_and_channel(tmp_path: Path) -> None:
    paths = save(
        tmp_path,
        trace([10, 30], host="one", boot=1, channel="a"),
        trace([20, 60], host="two", boot=2, channel="b"),
    )
    for suffix in (".jsonl", ".txt", ".parquet"):
        done = run("convert", *paths, "-o", tmp_path / f"out{suffix}")
        assert (done.returncode, done.stderr) == (0, "")
    text = (tmp_path / "out.jsonl").read_text()
    assert text.splitlines() == [json_line(record) for record in shmtrace.read(paths)]
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(line["host"], line["channel"]) for line in lines if line["name"] == "tick"] == [
        ("one", "a"), ("two", "b"), ("one", "a"), ("two", "b"),
    ]  # fmt: skip
    assert " one/a python[7] " in (tmp_path / "out.txt").read_text()
    from pyarrow import parquet

    table = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["host"], row["channel"], row["name"]) for row in table] == [
        (line["host"], line["channel"], line["name"]) for line in lines
    ]
    assert run("convert", *paths, "-o", f"{tmp_path}/tables/").returncode == 0
    rows = run(
        "query", tmp_path / "tables", "SELECT host, count(*) AS n FROM spans GROUP BY ALL ORDER BY host", "--csv"
    )
    assert rows.stdout.split() == ["host,n", "one,1", "two,1"]
    assert [row["host"] for row in shmtrace.read(paths).to_arrow("writers").to_pylist()] == ["one", "two"]


def test_perfetto_has_the_same_pid_of_two_hosts_as_two_processes(tmp_path: Path) -> None:
    paths = save(
        tmp_path,
        trace([1000, 3000], host="one", channel="app", boot=1),
        trace([2000, 4000], host="other", channel="app", boot=2),
    )
    assert run("convert", *paths, "-o", tmp_path / "both.pftrace").returncode == 0
    made = Shown((tmp_path / "both.pftrace").read_bytes())
    processes = {track.process.process_name or track.name for track in made.tracks.values() if "python" in str(track)}
    assert {name.partition("[")[0] for name in processes} >= {"one python", "other python"}
    assert [event.name for event in made.named("tick")] == ["tick"] * 4
    times = [event.time_ns for event in made.named("tick")]
    assert times == sorted(times)
    assert times[0] >= WALL_S * 10**9
    assert unnested(made.users()) == []
    assert len({event.track for event in made.named("load", "begin")}) == 2
