"""Function tracing, in this process by hand, and in real ones by `shmtrace run --functions` and the .pth file."""

from __future__ import annotations

import asyncio
import cProfile
import json
import os
import pstats
import random
import shutil
import sys
import threading
import time
import types
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import llvmlite
import pytest

import shmtrace
from commands import run as command
from reader.test_columns_plain import PROGRAM as PROGRAM_OF_COLUMNS
from reader.test_columns_plain import WITHOUT
from recording import recorded as recording
from shmtrace import layout
from shmtrace.instrument import functions as bridge
from shmtrace.reader import columns
from test_desk import scribble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from instrument.recorded import Recorded
    from shmtrace.reader import Record

APART_NS = 100_000  # so much may clocks differ
MONITORS = sys.version_info >= (3, 12)


def module(name: str, source: str) -> types.ModuleType:
    """A module of this source."""
    made = types.ModuleType(name)
    exec(compile(source, f"/where/{name}.py", "exec"), made.__dict__)
    return made


@pytest.fixture
def traced(recorded: Recorded) -> Iterator[Callable[..., None]]:
    """Trace the functions of modules, until the test ends."""
    installed: list[bridge.Functions] = []

    def trace(*modules: str) -> None:
        installed.append(bridge.install(recorded.channel, modules))

    yield trace
    for functions in installed:
        functions.uninstall()


def stop(recorded: Recorded) -> list[Record]:
    for functions in list(bridge._installed):
        functions.uninstall()
    return recorded.records()


def steps(records: list[Record]) -> list[str]:
    return [f"{'>' if record.kind == 'begin' else '<'} {record.name}" for record in records]


def test_each_call_is_a_slice_with_name_file_and_line(traced: Callable[..., None], recorded: Recorded) -> None:
    work = module("work", "def outer():\n    return inner() + inner()\ndef inner():\n    return 1\n")
    traced("work")
    work.outer()
    records = stop(recorded)
    assert steps(records) == [
        "> work.outer",
        "> work.inner",
        "< work.inner",
        "> work.inner",
        "< work.inner",
        "< work.outer",
    ]
    assert records[0].fields == {"file": "/where/work.py", "line": 1}
    assert records[1].parent == records[0].span == records[5].span
    assert records[1].span == records[2].span != records[3].span


def test_a_function_that_an_exception_leaves_is_marked(traced: Callable[..., None], recorded: Recorded) -> None:
    work = module("work", "def fail():\n    raise KeyError('x')\n")
    traced("work")
    with pytest.raises(KeyError):
        work.fail()
    begin, end = stop(recorded)
    assert (begin.kind, end.kind, end.span) == ("begin", "end", begin.span)
    assert end.fields == {"exception": "KeyError" if MONITORS else "BaseException"}


def test_a_generator_ends_at_each_yield_and_goes_on(traced: Callable[..., None], recorded: Recorded) -> None:
    source = "def numbers():\n    try:\n        yield 1\n        yield 2\n    except ValueError:\n        yield 3\n"
    work = module("work", source)
    traced("work")
    numbers = work.numbers()
    assert next(numbers) == 1
    assert next(numbers) == 2
    assert numbers.throw(ValueError) == 3
    assert next(numbers, None) is None
    assert steps(stop(recorded)) == ["> work.numbers", "< work.numbers"] * 4


def test_coroutines_of_several_tasks_nest_in_their_thread(traced: Callable[..., None], recorded: Recorded) -> None:
    source = "import asyncio\nasync def step(n):\n    for _ in range(n):\n        await asyncio.sleep(0)\n"
    work = module("work", source)

    async def both() -> None:
        await asyncio.gather(work.step(2), work.step(3))

    traced("work")
    asyncio.run(both())
    assert steps(stop(recorded)) == ["> work.step", "< work.step"] * 7


@pytest.mark.parametrize(
    ("patterns", "wanted"),
    [
        ((), {"app", "app.views", "application", "other"}),
        (("app",), {"app", "app.views"}),
        (("app*",), {"app", "app.views", "application"}),
        (("-app",), {"application", "other"}),
        (("app", "-app.views"), {"app"}),
    ],
)
def test_modules_are_chosen_by_name_and_pattern(
    traced: Callable[..., None], recorded: Recorded, patterns: tuple[str, ...], wanted: set[str]
) -> None:
    names = ("app", "app.views", "application", "other")
    made = [module(name, "def run():\n    pass\n") for name in names]
    traced(*patterns)
    for each in made:
        each.run()
    seen = {record.name.removesuffix(".run") for record in stop(recorded) if record.name.endswith(".run")}
    assert seen & set(names) == wanted


def test_threads_have_calls_of_their_own(traced: Callable[..., None], recorded: Recorded) -> None:
    work = module("work", "def outer():\n    inner()\ndef inner():\n    pass\n")
    traced("work")
    threads = [threading.Thread(target=work.outer, name=f"worker {number}") for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = stop(recorded)
    for number in range(3):
        mine = [record for record in records if record.thread == f"worker {number}"]
        assert steps(mine) == ["> work.outer", "> work.inner", "< work.inner", "< work.outer"]
        assert mine[1].parent == mine[0].span


def test_once_uninstalled_nothing_is_recorded(traced: Callable[..., None], recorded: Recorded) -> None:
    work = module("work", "def run():\n    pass\n")
    traced("work")
    stop(recorded)
    work.run()
    assert recorded.records() == []


def test_installed_again_with_other_modules_it_records_those(traced: Callable[..., None], recorded: Recorded) -> None:
    one, other = module("one", "def run():\n    pass\n"), module("other", "def run():\n    pass\n")
    for name in ("one", "other"):
        traced(name)
        one.run()
        other.run()
        stop(recorded)
    assert steps(recorded.records()) == ["> one.run", "< one.run", "> other.run", "< other.run"]


def test_a_code_object_that_is_gone_leaves_its_number_to_nobody(
    traced: Callable[..., None], recorded: Recorded
) -> None:
    traced("made*")
    for number in range(100):  # of which many get the address of one that is gone
        module(f"made{number}", "def run():\n    pass\n").run()
    runs = [step for step in steps(stop(recorded)) if step.endswith(".run")]
    assert runs == [f"{mark} made{number}.run" for number in range(100) for mark in "><"]


def test_each_reader_is_told_what_the_numbers_mean(channel_name: str, tmp_path: Path) -> None:
    work = module("work", "def run():\n    pass\n")
    for number in range(2):
        with shmtrace.record(tmp_path / str(number), name=channel_name) as channel:
            functions = bridge.install(channel, ["work"])
            work.run()
            work.run()
            functions.uninstall()
        assert steps(list(shmtrace.read(tmp_path / str(number)))) == ["> work.run", "< work.run"] * 2


@pytest.mark.parametrize("setting", ["", "SHMTRACE_CLOCK=monotonic", "SHMTRACE_CPU=0"])
def test_with_readers_that_come_and_go_each_call_has_its_time(
    channel_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    if setting:
        monkeypatch.setenv(*setting.split("="))
    work = module("work", "def run():\n    pass\n")
    channel = shmtrace.create_channel(channel_name, page_size=4096, pages=256)
    functions = bridge.install(channel, ["work"])
    try:
        for reader in range(2):
            work.run()  # nobody reads
            times = []
            with recording(channel, tmp_path / str(reader)):
                for _ in range(1000):  # of which a page has room for 85
                    before = time.time_ns()
                    work.run()
                    times.append((before, time.time_ns()))
            assert channel.missed == 0
            records = list(shmtrace.read(tmp_path / str(reader)))
            assert steps(records) == ["> work.run", "< work.run"] * 1000
            for at, (before, after) in enumerate(times):
                begin, end = (record.time_ns for record in records[2 * at : 2 * at + 2])
                assert before - APART_NS <= begin <= end <= after + APART_NS
    finally:
        functions.uninstall()
        channel.close()
        shmtrace.remove_channel(channel_name)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one cpu")
def test_a_thread_that_moves_tells_each_time_on_which_cpu_it_is(
    traced: Callable[..., None], recorded: Recorded
) -> None:
    work = module("work", "def run():\n    pass\n")
    traced("work")
    allowed = os.sched_getaffinity(0)
    cpus = sorted(allowed)[:2] * 10
    try:
        for cpu in cpus:
            os.sched_setaffinity(0, {cpu})
            for _ in range(3):  # the first one looks where it is, the others find it
                work.run()
    finally:
        os.sched_setaffinity(0, allowed)
    assert [record.cpu for record in stop(recorded)] == [cpu for cpu in cpus for _ in range(6)]


def test_a_position_that_somebody_scribbles_over_is_not_believed(
    traced: Callable[..., None], recorded: Recorded
) -> None:
    """Calls go on, and nothing is written but into pages."""
    work = module("work", "def run():\n    pass\n")
    traced("work")
    segment = recorded.channel.segment
    assert segment is not None
    geometry = segment.geometry
    work.run()
    before = [segment.read(at, size) for at, size in ((0, 64), (geometry.writers_at, 4096))]
    draw = random.Random(1)
    for _ in range(300):
        work.run()
        for lane in range(geometry.lanes):
            scribble(segment, segment.lane_at(lane) + layout.LANE.position, draw)
        work.run()
    assert [segment.read(at, size) for at, size in ((0, 64), (geometry.writers_at, 4096))] == before


@pytest.mark.skipif(not MONITORS, reason="sys.monitoring came with Python 3.12")
def test_beside_other_tools_it_takes_a_free_place(traced: Callable[..., None], recorded: Recorded) -> None:
    monitoring = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
    monitoring.use_tool_id(2, "another profiler")
    try:
        work = module("work", "def run():\n    pass\n")
        traced("work")
        work.run()
        assert steps(stop(recorded)) == ["> work.run", "< work.run"]
        assert monitoring.get_tool(2) == "another profiler"
    finally:
        monitoring.free_tool_id(2)


@pytest.mark.skipif(not MONITORS, reason="cProfile and we are one hook until Python 3.11")
def test_beside_cprofile_both_see_all(traced: Callable[..., None], recorded: Recorded) -> None:
    work = module("work", "def run():\n    pass\n")
    traced("work")
    profile = cProfile.Profile()
    profile.runcall(work.run)
    assert steps(stop(recorded)) == ["> work.run", "< work.run"]
    assert any(function == "run" for _, _, function in pstats.Stats(profile).stats)  # type: ignore[attr-defined]


def test_one_recorder_that_ends_leaves_the_others(traced: Callable[..., None], recorded: Recorded) -> None:
    one, other = module("one", "def run():\n    pass\n"), module("other", "def run():\n    pass\n")
    traced("one")
    second = bridge.install(recorded.channel, "other")  # one pattern may be given as it is
    second.uninstall()
    one.run()
    third = bridge.install(recorded.channel, ["other"])
    bridge._installed[0].uninstall()
    other.run()
    third.uninstall()
    assert steps(recorded.records()) == ["> one.run", "< one.run", "> other.run", "< other.run"]


HARSH = """
import os, sys, tempfile
directory = tempfile.mkdtemp()
os.chdir(directory)
os.rmdir(directory)
source = "def render(): return 'ok'\\nprint(render())"
exec(compile(source, "template.html", "exec"))


class Odd:
    def __str__(self):
        raise KeyError


exec(compile(source, "odd.html", "exec"), {"__name__": Odd()})


def down(depth):
    return 1 + down(depth - 1) if depth else last()


exec("def last(): return 0")
sys.setrecursionlimit(200)
for depth in range(150, 250):
    try:
        down(depth)
    except RecursionError:
        break
print(depth)
"""


def test_no_program_fails_for_being_traced(tmp_path: Path) -> None:
    (tmp_path / "harsh.py").write_text(HARSH)
    plain = command(tmp_path / "harsh.py", command=[sys.executable])
    traced = command("run", "--functions", "-o", tmp_path / "trace", tmp_path / "harsh.py")
    assert (plain.returncode, plain.stderr) == (0, "")
    assert (traced.returncode, traced.stdout.split()[:2]) == (0, ["ok", "ok"]), traced.stderr
    assert int(traced.stdout.split()[2]) >= int(plain.stdout.split()[2]) - 5, "a frame or two are below the program"
    assert {record.name for record in shmtrace.read(tmp_path / "trace")} >= {"__main__.render", "?.render"}


PROGRAM = """
import multiprocessing, os, signal, threading

def work(number):
    return leaf(number)

def leaf(number):
    return number

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def factorial(number):
    return number * factorial(number - 1) if number else 1

def count(most):
    yield from range(most)

def fail():
    raise KeyError("x")

def steps():
    list(count(3))
    factorial(20)
    try:
        fail()
    except KeyError:
        pass

if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        worker = multiprocessing.get_context(method).Process(target=work, args=(1,), name=method)
        worker.start()
        worker.join()
    steps()
    thread = threading.Thread(target=work, args=(2,))
    thread.start()
    thread.join()
    worker = multiprocessing.get_context("spawn").Process(target=die, name="killed")
    worker.start()
    worker.join()
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program whose processes are traced from outside."""
    directory = tmp_path_factory.mktemp("functions")
    (directory / "program.py").write_text(PROGRAM)
    done = command(
        "run", "-o", directory / "trace", "--include", "__main__", "--include", "__mp_main__", directory / "program.py"
    )
    assert done.returncode == 0, done.stderr
    assert "0 missed, 0 lost" in done.stderr
    return directory / "trace"


def test_run_records_the_functions_of_every_kind_of_worker(run: Path) -> None:
    records = [record for record in shmtrace.read(run) if record.name.endswith(("work", "leaf"))]
    processes = {record.pid: record.process for record in records}
    assert len(processes) == 4
    for pid in processes:
        mine = [record.name.rpartition(".")[2] for record in records if record.pid == pid]
        assert mine == ["work", "leaf", "leaf", "work"]


def test_where_a_killed_worker_was_shows_as_open_calls(run: Path) -> None:
    lines = command("tail", run).stdout.splitlines()
    opened = [line for line in lines if line.startswith("open: ")]
    assert any("__mp_main__.die" in line for line in opened)


def test_columns_name_calls_as_records_do(run: Path) -> None:
    records = list(shmtrace.read(run))
    assert [record for batch in columns.read(run, rows=50) for record in batch.records()] == records
    assert {"begin", "end"} == {record.kind for record in records}
    assert all(record.fields["file"] and record.span for record in records if record.kind == "begin")


def test_without_numba_calls_have_names_too(run: Path, tmp_path: Path) -> None:
    (tmp_path / "without.py").write_text(WITHOUT + PROGRAM_OF_COLUMNS)
    done = command(tmp_path / "without.py", run, command=[sys.executable], SHMTRACE_CACHE=str(tmp_path / "cache"))
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "False\n")


def test_calls_are_spans_with_durations_in_sql(run: Path) -> None:
    sql = (
        "SELECT s.name AS name, count(*) AS n, count(s.duration_ns) AS ended, max(s.exception) AS exception, "
        "max(s.fields->>'$.line') AS line FROM spans s WHERE s.name LIKE '%.factorial' OR s.name LIKE '%.fail' "
        "OR s.name LIKE '%.die' OR s.name LIKE '%.count' GROUP BY ALL ORDER BY name"
    )
    rows = [json.loads(line) for line in command("query", run, sql, "--json").stdout.splitlines()]
    found = {row["name"].rpartition(".")[2]: row for row in rows}
    assert {name: (row["n"], row["ended"]) for name, row in found.items()} == {
        "count": (4, 4), "die": (1, 0), "factorial": (21, 21), "fail": (1, 1),
    }  # fmt: skip
    assert found["fail"]["exception"] == ("KeyError" if MONITORS else "BaseException")
    assert int(found["factorial"]["line"]) > 1
    deep = "SELECT count(*) AS n FROM spans a JOIN spans b ON b.pid = a.pid AND b.span = a.parent WHERE a.name = b.name"
    assert json.loads(command("query", run, deep, "--json").stdout) == {"n": 20}


def test_a_report_has_the_busiest_functions(run: Path) -> None:
    data = json.loads(command("report", run, "-o", "-", "--json").stdout)
    spans = {span["name"]: span["count"] for span in data["spans"]}
    assert spans["__main__.factorial"] == 21
    assert any(span["name"].endswith(".die") for span in data["open_spans"])


def test_without_the_variable_the_pth_file_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import sys\nassert 'shmtrace' not in sys.modules\n")
    done = command("run", "-o", tmp_path / "trace", tmp_path / "program.py")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("late", [False, True])
def test_where_numba_is_found_too_late_one_line_says_so(late: bool, channel_name: str, tmp_path: Path) -> None:  # noqa: FBT001
    """Python learns of numba's directory after the file that calls us, or when it has started."""
    venv.create(tmp_path / "venv")
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    own, numbas = Path(bridge.__file__).parents[2], str(Path(llvmlite.__file__).parents[1])
    (packages / "a.pth").write_text(f"{own}\n")
    shutil.copy(own / "shmtrace" / "instrument" / "functions.pth", packages / "shmtrace-functions.pth")
    if not late:
        (packages / "z.pth").write_text(f"{numbas}\n")
    program = (
        f"import sys; sys.path.append({numbas!r})\nimport shmtrace\n"
        "def work(): return shmtrace.attach().event(b'once')\nprint(work())"
    )
    channel = shmtrace.create_channel(channel_name, mode="overwrite")
    done = command(
        "-c", program, command=[str(tmp_path / "venv" / "bin" / "python")],
        SHMTRACE=channel_name, SHMTRACE_FUNCTIONS="__main__",
    )  # fmt: skip
    channel.snapshot(tmp_path / "trace")
    shmtrace.remove_channel(channel_name)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    assert len(done.stderr.splitlines()) == late
    assert done.stderr.startswith("shmtrace: functions were not recorded: " if late else "")
    names = {record.name for record in shmtrace.read(tmp_path / "trace")}
    assert "blob" in names
    assert ("__main__.work" in names) is not late


def test_a_pattern_that_is_none_is_refused(tmp_path: Path) -> None:
    done = command("run", "--include", "a,b", "-o", tmp_path / "trace", "true")
    assert done.returncode == 2
    assert "'a,b'" in done.stderr
