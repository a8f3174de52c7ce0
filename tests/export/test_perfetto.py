"""Perfetto files: what was written is what the library reads back; slices nest; what is missing is marked."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import io
import json
import math
import multiprocessing
import os
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import commands
import shmtrace
from export.shown import Shown, unnested
from hostile.streams import hostile_parts, joined
from reader.build import Trace, small_trace
from shmtrace.export.perfetto import packets
from shmtrace.export.perfetto.lanes import Lane, Process, Thread
from shmtrace.export.text import json_line
from shmtrace.reader import NotATrace, columns
from shmtrace.reader.sorting import in_order
from written import written

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from hostile.streams import Part
    from shmtrace.reader import Record

pytestmark = pytest.mark.timeout(100)
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)  # each example is a recording
KINDS = {"event": "instant", "log": "instant", "begin": "begin", "end": "end", "counter": "counter"}


def shown(directory: Path) -> Shown:
    return Shown(b"".join(packets(columns.read(directory))))


def plain(value: object) -> object:
    """As Perfetto has what JSON lines have."""
    if isinstance(value, dict) and value:
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list) and value:
        return [plain(item) for item in value]
    return str(value) if value is None or isinstance(value, (dict, list)) else value


def expected(records: list[Record]) -> list[tuple[object, ...]]:
    return [
        (KINDS[record.kind], record.name, record.pid, record.monotonic_ns) for record in records if record.kind in KINDS
    ]


def check(directory: Path, records: list[Record]) -> Shown:
    """Each record is there, in the order of time, in its process."""
    made = shown(directory)
    found = [(event.kind, event.name, made.of_process(event.track), event.time_ns) for event in made.users()]
    assert found == expected(records)
    return made


def test_threads_and_processes_are_tracks_with_their_names(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        trace.channel.event(b"x")
    made = check(tmp_path / "trace", trace.records)
    (event,) = made.named("blob")
    thread = made.tracks[event.track].thread
    process = made.tracks[made.tracks[event.track].parent_uuid].process
    record = trace.named("blob")[0]
    assert (thread.pid, thread.tid, thread.thread_name) == (record.pid, record.tid, record.thread)
    assert (process.pid, process.process_name) == (record.pid, record.process)
    assert event.arguments == {"blob": "x"}


def divide(step: AbstractContextManager[object], depth: Callable[[float], bool]) -> None:
    for number in range(3):
        with step:
            depth(number + 0.5)
    raise ZeroDivisionError


def test_spans_are_nested_slices_with_what_happened_in_them(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        load, step = trace.channel.span("load", shard="u32"), trace.channel.span("step")
        depth = trace.channel.counter("queue depth")
        with pytest.raises(ZeroDivisionError), load(3):
            divide(step, depth)
    made = check(tmp_path / "trace", trace.records)
    assert unnested(made.users()) == []
    (begin,) = made.named("load", "begin")
    (end,) = made.named("load", "end")
    assert (begin.arguments, end.arguments) == ({"shard": 3}, {"exception": "ZeroDivisionError"})
    assert {event.track for event in made.named("step")} == {begin.track}
    assert [event.value for event in made.named("queue depth")] == [0.5, 1.5, 2.5]


def test_tasks_that_take_turns_have_lanes_of_their_own_and_share_them_later(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        load, step = trace.channel.span("load", n="u8"), trace.channel.span("step")

        async def task(number: int) -> None:
            with load(number):
                for _ in range(3):
                    with step:
                        await asyncio.sleep(0)

        async def main() -> None:
            for _ in range(2):
                await asyncio.gather(*map(task, range(4)))

        asyncio.run(main())
    made = check(tmp_path / "trace", trace.records)
    assert unnested(made.users()) == []
    tracks = {event.track for event in made.named("load")}
    assert len(tracks) == 4
    assert sorted(made.tracks[track].name for track in tracks) == ["", "tasks", "tasks", "tasks"]


def test_tasks_of_the_bridge_have_lanes_of_their_own(tmp_path: Path) -> None:
    from shmtrace.instrument.asyncio import install

    with written(tmp_path / "trace") as trace:
        step = trace.channel.span("step")

        async def work() -> None:
            with step:
                await asyncio.sleep(0.001)

        async def main() -> None:
            install(channel=trace.channel)
            with step:
                tasks = [asyncio.create_task(work()) for _ in range(3)]
            await asyncio.gather(*tasks)

        asyncio.run(main())
    made = check(tmp_path / "trace", trace.records)
    assert unnested(made.users()) == []
    assert len({event.track for event in made.events if event.name.endswith("work")}) == 3


def _die(name: str) -> None:
    channel = shmtrace.open_channel(name)
    with channel.span("work"), channel.span("part"):
        channel.log("last words")
        os.kill(os.getpid(), signal.SIGKILL)


def test_spans_of_a_killed_worker_stay_open_and_are_marked_at_its_last_record(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        worker = multiprocessing.get_context("spawn").Process(target=_die, args=(trace.channel.name,))
        worker.start()
        worker.join()
        trace.channel.event(b"later")
    made = check(tmp_path / "trace", trace.records)
    assert [event.kind for event in made.named("work")] == ["begin"]
    marks = [event for event in made.events if event.categories == ["open"]]
    assert [mark.name for mark in marks] == ["work did not end", "part did not end"]
    assert {mark.time_ns for mark in marks} == {made.named("last words")[0].time_ns}
    assert {made.of_process(mark.track) for mark in marks} == {worker.pid}


def test_losses_are_instants_on_a_sequence_that_says_so(tmp_path: Path) -> None:
    trace = Trace()
    trace.lane().at(1000).writer(7, pid=100).blob(b"a", writer=7).packet()
    trace.lane().at(2000).blob(b"b", writer=7).loss(5).packet(sequence=4, discarded=3)
    made = shown(trace.save_directory(tmp_path / "trace"))
    losses = [packet for packet in made.packets if packet.previous_packet_dropped]
    assert {packet.trusted_packet_sequence_id for packet in losses} == {2}
    assert [event.arguments for event in made.named("loss")] == [
        {"reason": "gap", "count": 3, "cpu": 0},
        {"reason": "missed", "count": 3, "cpu": 0},
        {"reason": "unread", "count": 5, "cpu": 0},
    ]
    assert len(made.named("blob")) == 2


def test_ends_whose_begin_nobody_saw_close_no_other_slice(tmp_path: Path) -> None:
    channel = shmtrace.create_channel(f"t{os.getpid()}-perfetto")
    try:
        load = channel.span("load")
        from recording import recorded

        begun = load()
        begun.__enter__()
        with recorded(channel, tmp_path / "trace"), load():
            begun.__exit__(None, None, None)
    finally:
        channel.close()
        shmtrace.remove_channel(channel.name)
    made = shown(tmp_path / "trace")
    ends = made.named("load", "end")
    assert len(ends) >= 1
    assert all(made.tracks[event.track].name in {"", "ends without a begin"} for event in ends)


def test_a_field_called_flow_links_events(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        send = trace.channel.tracepoint("send", flow="u64")
        take = trace.channel.span("take", flow="str")
        send(7)
        send(0)
        with take("r-1"):
            trace.channel.log("done", flow="r-1")
    made = check(tmp_path / "trace", trace.records)
    assert [event.flows for event in made.named("send")] == [[7], []]
    assert made.named("take", "begin")[0].flows == made.named("done")[0].flows != []


def test_each_cpu_has_a_track_that_says_who_wrote(tmp_path: Path) -> None:
    trace = Trace()
    for number, (pid, cpu, at) in enumerate([(100, 0, 1000), (100, 0, 1200), (200, 0, 1400), (100, 3, 1600)]):
        lane = trace.lane(cpu, cpu=cpu).at(at)
        lane.writer(pid, pid=pid).blob(b"%d" % number, writer=pid).packet()
    made = shown(trace.save_directory(tmp_path / "trace"))
    slices = [
        (made.tracks[event.track].name, event.name, event.kind, event.time_ns)
        for event in made.events
        if made.tracks[event.track].name.startswith("cpu ")
    ]
    assert sorted(slices) == sorted([
        ("cpu 0", "python[100] main[100]", "begin", 500), ("cpu 0", "", "end", 600),
        ("cpu 0", "python[200] main[200]", "begin", 700), ("cpu 0", "", "end", 700),
        ("cpu 3", "python[100] main[100]", "begin", 800), ("cpu 3", "", "end", 800),
    ])  # fmt: skip


def test_the_clocks_are_told_together(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        trace.channel.event(b"x")
    made = shown(tmp_path / "trace")
    snapshot = next(packet.clock_snapshot for packet in made.packets if packet.HasField("clock_snapshot"))
    clocks = {clock.clock_id: clock.timestamp for clock in snapshot.clocks}
    record = trace.records[0]
    assert clocks[snapshot.primary_trace_clock] == record.monotonic_ns
    assert clocks[1] == record.time_ns


def test_functions_are_slices_of_their_thread(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("def inner():\n    pass\n\ndef outer():\n    inner()\n\nfor _ in range(3):\n    outer()\n")
    done = commands.run("run", "--include", "__main__", "-o", tmp_path / "trace", program)
    assert done.returncode == 0, done.stderr
    made = shown(tmp_path / "trace")
    counts = collections.Counter((event.kind, event.name) for event in made.users())
    for name in ("__main__.inner", "__main__.outer"):
        assert counts["begin", name] == counts["end", name] == 3
    assert unnested(made.users()) == []
    assert made.named("__main__.inner", "begin")[0].arguments["line"] == 1


FLOATS = st.floats(allow_nan=False, allow_infinity=False)  # those are texts in JSON
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | FLOATS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=8,
)
TYPES = {
    "u64": st.integers(0, 2**64 - 1), "i64": st.integers(-(2**63), 2**63 - 1), "f64": FLOATS,
    "bool": st.booleans(), "str": st.text(max_size=50), "bytes": st.binary(max_size=50),
    "u16[]": st.lists(st.integers(0, 65535), max_size=5),
    "f64[2]": st.lists(FLOATS, min_size=2, max_size=2),
    "u8{red=0,green=1}": st.sampled_from([0, 1]),
}  # fmt: skip


@settings(max_examples=15, deadline=None, phases=UNSHRUNK, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_values_are_read_back_as_they_were_written(tmp_path: Path, data: st.DataObject) -> None:
    kinds = list(TYPES)
    rows = data.draw(st.lists(st.tuples(*TYPES.values()), min_size=1, max_size=6))
    logs = data.draw(st.lists(st.dictionaries(st.from_regex("[a-z]{1,5}", fullmatch=True), VALUES), max_size=6))
    around = data.draw(st.dictionaries(st.sampled_from(["f0", "where", "a"]), st.text(min_size=1), max_size=2))
    directory = tmp_path / str(sum(1 for _ in tmp_path.iterdir()))
    with written(directory) as trace:
        typed = trace.channel.tracepoint("typed", **{f"f{at}": kind for at, kind in enumerate(kinds)})
        with trace.channel.context(**around):
            for row in rows:
                typed(*row)
            for fields in logs:
                trace.channel.log("logged", **fields)
    made = check(directory, trace.records)
    for name in ("typed", "logged"):
        found = [event.arguments for event in made.named(name)]
        wanted = [_fields(record) for record in trace.named(name)]
        assert found == wanted


def _fields(record: Record) -> dict[str, object]:
    return {key: plain(value) for key, value in json.loads(json_line(record))["fields"].items()}


def test_floats_that_are_no_numbers_are_what_they_are(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        trace.channel.tracepoint("typed", value="f64", few="f32[2]")(math.inf, [math.nan, -math.inf])
    (event,) = shown(tmp_path / "trace").named("typed")
    assert repr(event.arguments) == "{'value': inf, 'few': [nan, -inf]}"


@pytest.mark.parametrize("save", ["save", "save_directory"])
def test_convert_writes_the_file_that_a_suffix_asks_for(tmp_path: Path, save: str) -> None:
    trace = getattr(small_trace(), save)(tmp_path / "trace")
    done = commands.run("convert", trace, "-o", tmp_path / "out.pftrace")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(Shown((tmp_path / "out.pftrace").read_bytes()).named("blob")) == 12


def test_what_is_no_trace_leaves_an_older_file_alone(tmp_path: Path) -> None:
    (tmp_path / "trace").write_bytes(b"nothing")
    (tmp_path / "out.pftrace").write_text("older")
    done = commands.run("convert", tmp_path / "trace", "-o", tmp_path / "out.pftrace")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert (tmp_path / "out.pftrace").read_text() == "older"


def test_a_stream_that_is_being_written_is_converted_when_it_ends(tmp_path: Path) -> None:
    """As in `cat FIFO | shmtrace convert - -o x.pftrace`; the spans of several threads come in the order of time."""
    with shmtrace.create_channel(f"t{os.getpid()}-live") as channel:
        try:
            convert = [*commands.SHMTRACE, "convert", "-", "-o", str(tmp_path / "out.pftrace")]
            with (
                commands.running("collect", channel.name),
                subprocess.Popen(["cat", channel.fifo], stdout=subprocess.PIPE) as cat,
                subprocess.Popen(convert, stdin=cat.stdout, stderr=subprocess.PIPE, text=True) as process,
            ):
                commands.until(lambda: channel.enabled)
                work(channel)
                shmtrace.remove_channel(channel.name, drain=True)
                _, said = process.communicate(timeout=commands.LIMIT_S)
                assert (process.returncode, said) == (0, "")
        finally:
            with contextlib.suppress(shmtrace.ChannelNotFound):
                shmtrace.remove_channel(channel.name)
    made = Shown((tmp_path / "out.pftrace").read_bytes())
    assert unnested(made.users()) == []
    counts = collections.Counter((event.name, event.kind) for event in made.users())
    assert counts == {("work", "begin"): 300, ("work", "end"): 300, ("tick", "instant"): 300}


def work(channel: shmtrace.Channel) -> None:
    span, tick = channel.span("work"), channel.tracepoint("tick", number="u32")

    def loop() -> None:
        for number in range(100):
            with span:
                tick(number)

    threads = [threading.Thread(target=loop) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_damage_is_named_and_the_rest_is_converted(tmp_path: Path) -> None:
    (tmp_path / "trace").write_bytes(small_trace().garbage(b"garbage").stream)
    done = commands.run("convert", tmp_path / "trace", "-o", tmp_path / "out.pftrace")
    assert done.returncode == 0
    assert done.stderr.startswith(f"shmtrace: {tmp_path}/trace: byte ")
    assert len(done.stderr.splitlines()) == 1
    assert len(Shown((tmp_path / "out.pftrace").read_bytes()).named("blob")) == 10
    strict = commands.run("convert", tmp_path / "trace", "-o", tmp_path / "out.pftrace", "--strict")
    assert strict.returncode == 1


@settings(max_examples=30, deadline=None)
@given(hostile_parts())
def test_of_a_hostile_stream_the_library_reads_what_the_reader_gives(parts: list[Part]) -> None:
    stream = joined(parts)
    said: list[str] = []
    try:
        with in_order(io.BytesIO(stream), said.append) as trace:
            made = Shown(b"".join(packets(columns.read(trace, warn=said.append))))
            records = list(shmtrace.read(trace, warn=said.append))
    except NotATrace:
        return
    assert [(event.kind, event.name) for event in made.users()] == [
        (KINDS[record.kind], record.name) for record in records if record.kind in KINDS
    ]


def test_spans_whose_numbers_come_again_and_again_make_no_more_tracks() -> None:
    thread = Thread(Process(1, "", 1), 1)
    thread.lanes.append(Lane(thread, b"", []))
    for _ in range(100):
        for number in (1, 2):
            lane = thread.lane_for(number, 0, number)
            if lane is None:
                lane = Lane(thread, b"", [])
                thread.lanes.append(lane)
            thread.begin(lane, number, number, "", 0)
    assert len(thread.lanes) <= 3
    assert sum(len(lane.open) for lane in thread.lanes) == 2
