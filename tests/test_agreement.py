"""One trace: all readers, babeltrace2, JSON lines, DuckDB, Perfetto's library, agree in counts and values."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import subprocess
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pytest

import commands
import shmtrace
from export.shown import Shown
from judge import PID
from shmtrace.reader import columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

duckdb = pytest.importorskip("duckdb")
pytestmark = [pytest.mark.peers, pytest.mark.timeout(600)]
EVENT = re.compile(
    r"\[\d+\.\d{9}\] \S+ (.*?): \{ cpu_id = \d+, lane = (\d+) \}, \{ .*?writer = (\d+), .*?\}, \{ (.*) \}"
)
FIELDS = re.compile(r"(?:, |^)status = (\d+), latency = (\S+), size = (-?\d+), path = \"(.*)\"$")


class Request(NamedTuple):
    """The values of a tracepoint."""

    status: int
    latency: float
    size: int
    path: str


class Account(NamedTuple):
    """What one reader says."""

    counts: dict[tuple[str, int], int]  # by name and pid
    requests: Counter[Request]


def emit(count: int) -> None:
    """In a process of its own."""
    channel = shmtrace.attach()
    request = channel.tracepoint("request", status="u16", latency="f64", size="i32", path="str")
    load, depth = channel.span("load", shard="u32"), channel.counter("queue depth")
    for number in range(count):
        channel.event(b"\xff%d" % number)
        with load(number & 7):
            request(number & 0xFFFF, number / 7, -number, f"/{number} \u00e9")
        if number % 8 == 0:
            depth(number)
            channel.log("cache miss", key=f"k{number}", ratio=number / 3)


def record(directory: Path, processes: int, count: int) -> None:
    with shmtrace.record(directory, mode="block", block_ms=60_000):
        workers = [multiprocessing.get_context("spawn").Process(target=emit, args=(count,)) for _ in range(processes)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert all(worker.exitcode == 0 for worker in workers)


def account(events: Iterable[tuple[str, int, Request | None]]) -> Account:
    counts: Counter[tuple[str, int]] = Counter()
    requests: Counter[Request] = Counter()
    for name, pid, request in events:
        counts[name, pid] += 1
        if request is not None:
            requests[request] += 1
    return Account(dict(counts), requests)


def by_babeltrace2(program: str, trace: Path) -> Iterator[tuple[str, int, Request | None]]:
    command = [program, "--clock-seconds", "--no-delta", str(trace)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids: dict[tuple[str, str], int] = {}
        for line in process.stdout:
            match = EVENT.match(line)
            assert match, line
            name, lane, writer, body = match.groups()
            if name == "writer":
                who = PID.search(body)
                assert who, line
                pids[lane, who[2]] = int(who[1])
            elif name not in {"clock", "padding"}:
                found = FIELDS.search(body) if name == "request" else None
                request = None
                if found:
                    request = Request(int(found[1]), float(found[2]), int(found[3]), found[4])
                yield ("cache miss" if name == "log" else name), pids[lane, writer], request
    assert process.returncode == 0


def by_json_lines(trace: Path, directory: Path) -> Iterator[tuple[str, int, Request | None]]:
    done = commands.run("convert", trace, "-o", directory / "trace.jsonl")
    assert (done.returncode, done.stderr) == (0, "")
    with (directory / "trace.jsonl").open() as lines:
        for line in map(json.loads, lines):
            yield line["name"], line["pid"], Request(**line["fields"]) if line["name"] == "request" else None


def by_duckdb(trace: Path, directory: Path) -> Iterator[tuple[str, int, Request | None]]:
    done = commands.run("convert", trace, "-o", directory / "trace.parquet")
    assert (done.returncode, done.stderr) == (0, "")
    rows = duckdb.execute("SELECT name, pid, fields FROM read_parquet(?)", [str(directory / "trace.parquet")])
    while part := rows.fetchmany(10_000):
        for name, pid, fields in part:
            yield name, pid, Request(**json.loads(fields)) if name == "request" else None


def by_perfetto(trace: Path, directory: Path) -> Iterator[tuple[str, int, Request | None]]:
    """As its own library reads the file."""
    done = commands.run("convert", trace, "-o", directory / "trace.pftrace")
    assert (done.returncode, done.stderr) == (0, "")
    shown = Shown((directory / "trace.pftrace").read_bytes())
    pids = {track: shown.of_process(track) for track in shown.tracks}
    for event in shown.users():
        request = Request(**event.arguments) if event.name == "request" else None  # type: ignore[arg-type]
        yield event.name, pids[event.track] or 0, request


def by_tables(trace: Path, directory: Path) -> Counter[Request]:
    """The typed table of the tracepoint, in a directory of Parquet files."""
    done = commands.run("convert", trace, "-o", f"{directory}/tables/")
    assert (done.returncode, done.stderr) == (0, "")
    query = "SELECT status, latency, size, path FROM read_parquet(?)"
    return Counter(Request(*row) for row in duckdb.execute(query, [f"{directory}/tables/request/*.parquet"]).fetchall())


def check(program: str, directory: Path, processes: int, count: int) -> None:
    trace = directory / "trace"
    record(trace, processes, count)
    ours = account(
        (made.name, made.pid or 0, Request(**made.fields) if made.name == "request" else None)  # type: ignore[arg-type]
        for made in shmtrace.read(trace)
    )
    assert sum(ours.counts.values()) == processes * (count * 4 + 2 * -(-count // 8))
    assert sum(ours.requests.values()) == processes * count
    assert account(by_json_lines(trace, directory)) == ours
    assert account(by_duckdb(trace, directory)) == ours
    assert account(by_perfetto(trace, directory)) == ours
    assert by_tables(trace, directory) == ours.requests
    assert sum(map(len, columns.read(trace))) == sum(ours.counts.values())
    theirs = account(by_babeltrace2(program, trace))
    assert theirs.counts == ours.counts
    # babeltrace2 prints six digits of a float
    rounded: Counter[Request] = Counter()
    for made, times in ours.requests.items():
        rounded[made._replace(latency=float(f"{made.latency:g}"))] += times
    assert Counter(theirs.requests) == rounded


def test_all_readers_agree(tmp_path: Path, peer: Callable[[str], str]) -> None:
    check(peer("babeltrace2"), tmp_path, 2, 500)


@pytest.mark.heavy
def test_all_readers_agree_on_a_million_events(tmp_path: Path, peer: Callable[[str], str]) -> None:
    check(peer("babeltrace2"), tmp_path, max(2, os.cpu_count() or 1), 130_000)
