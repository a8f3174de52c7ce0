"""The user's context: it is in every following record of its task or thread, whatever kind of record that is."""

from __future__ import annotations

import asyncio
import json
import sys
import textwrap
import threading
from typing import TYPE_CHECKING

import numba
import numpy as np
import pytest

import commands
import shmtrace
from shmtrace import wire
from shmtrace.layout import CONTROL
from shmtrace.log import Log
from written import written

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shmtrace.reader import Record
    from shmtrace.reader.rows import Array
    from written import Trace

BLOB, CONTEXT = np.frombuffer(b"of a kernel", np.uint8), {"request_id": "r-17"}


def without(record: Record, *names: str) -> dict[str, object]:
    """The fields of a record but for its own."""
    return {name: value for name, value in record.fields.items() if name not in names}


def test_a_context_is_in_every_following_record_of_its_task(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        step = trace.channel.tracepoint("step", name="str")
        step("before")
        trace.channel.context(request_id="r-17")
        step("first")
        with trace.channel.context(user="u"):
            step("both")
            with trace.channel.span("load"):
                step("in a span")
            trace.channel.log("noted")
        step("again")

        async def child(name: str) -> None:
            trace.channel.context(request_id=name)
            await asyncio.sleep(0.001)
            step(name)

        async def main() -> None:
            await asyncio.gather(child("a"), child("b"))

        asyncio.run(main())
        step("last")
        thread = threading.Thread(target=step, args=("thread",))
        thread.start()
        thread.join()
    found = {
        record.fields["name"]: {k: v for k, v in record.fields.items() if k != "name"} for record in trace.named("step")
    }
    assert found["before"] == {}
    assert found["first"] == found["again"] == found["last"] == {"request_id": "r-17"}
    assert found["both"] == found["in a span"] == {"request_id": "r-17", "user": "u"}
    assert (found["a"], found["b"]) == ({"request_id": "a"}, {"request_id": "b"})
    assert trace.named("noted")[0].fields == {"request_id": "r-17", "user": "u"}
    assert trace.of_kind("begin")[0].fields == {"request_id": "r-17", "user": "u"}


def test_a_context_that_was_set_while_nobody_read_is_told_to_who_reads_later(channel_name: str, tmp_path: Path) -> None:
    channel = shmtrace.create_channel(channel_name, page_size=4096, pages=64)
    channel.context(request_id="early")
    step = channel.tracepoint("step", number="u8")
    for number in range(2):
        with (
            commands.running("collect", channel_name) as collector,
            commands.running("record", channel_name, "-o", tmp_path / str(number)) as recorder,
        ):
            commands.until(lambda: channel.enabled)
            assert step(number)
            collector.terminate()
            assert recorder.wait(commands.LIMIT_S) == 0
        commands.until(lambda: not channel.enabled)
        records = [record for record in shmtrace.read(tmp_path / str(number)) if record.kind == "event"]
        assert [record.fields for record in records] == [{"number": number, "request_id": "early"}]
    shmtrace.remove_channel(channel_name)


def test_a_reader_that_comes_while_a_context_is_told_is_told_too(
    channel_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = shmtrace.create_channel(channel_name, mode="overwrite")
    segment, step = channel.segment, channel.tracepoint("step")
    assert segment is not None
    write = Log.write

    def write_and_change(log: Log, fields: dict[object, object]) -> bool:
        done = write(log, fields)
        if not changed:
            changed.append(segment.u32(CONTROL.period))
            segment.set_u32(CONTROL.period, changed[0] + 1)  # as a reader does that comes
        return done

    changed: list[int] = []
    monkeypatch.setattr(Log, "write", write_and_change)
    with channel.context(request_id="r-17"):
        before = told(channel, tmp_path / "before")
        step()
        assert told(channel, tmp_path / "after") == before + 1
    shmtrace.remove_channel(channel_name)


def told(channel: shmtrace.Channel, directory: Path) -> int:
    """Records, those counted that define contexts."""
    return channel.snapshot(directory) - sum(record.kind != "loss" for record in shmtrace.read(directory))


def every_kind(channel: shmtrace.Channel) -> Callable[[], None]:
    """A function that writes ten records, which are of each kind and made in each way."""
    event, depth = channel.event, channel.counter("depth")
    step, load = channel.tracepoint("step", number="u8"), channel.span("load", shard="u8")

    def write() -> None:
        step(1)
        depth(2)
        event(b"bytes")
        event(bytearray(b"a bytearray"))
        with channel.reserve(8) as view:
            view[:] = b"reserved"
        channel.log("noted", size=3)
        load.begin(4)
        load.end()
        with load(5):
            pass

    return write


def test_every_kind_of_record_has_it(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        write = every_kind(trace.channel)
        write()
        with trace.channel.context(**CONTEXT):
            write()
            with trace.channel.context(user="u"):
                write()
        write()
    own = ("number", "value", "blob", "size", "shard")
    found = [without(record, *own) for record in trace.records]
    assert found == [*10 * [{}], *10 * [CONTEXT], *10 * [{**CONTEXT, "user": "u"}], *10 * [{}]]
    blobs = [record.fields["blob"] for record in trace.named("blob")]
    assert blobs == 4 * [b"bytes", b"a bytearray", b"reserved"]


@pytest.mark.parametrize("as_what", ["records", "JSON", "text", "a table"])
def test_each_reader_shows_it(as_what: str, tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        trace.channel.event(b"one")
        with trace.channel.context(**CONTEXT), trace.channel.span("load"):
            trace.channel.event(b"two")
            trace.channel.counter("depth")(2)
        trace.channel.event(b"three")
    directory = tmp_path / "trace"
    match as_what:
        case "records":
            found = [(record.name, record.span, record.fields) for record in trace.records if record.kind != "end"]
            assert found[0] == ("blob", None, {"blob": b"one"})
            assert found[2] == ("blob", found[1][1], {"blob": b"two", **CONTEXT})
            assert found[3] == ("depth", found[1][1], {"value": 2.0, **CONTEXT})
        case "JSON":
            done = commands.run("convert", directory, "-o", tmp_path / "out.jsonl")
            assert (done.returncode, done.stderr) == (0, "")
            lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
            assert [line["fields"] for line in lines if line["name"] == "blob"] == [
                {"blob": "one"},
                {"blob": "two", **CONTEXT},
                {"blob": "three"},
            ]
        case "text":
            lines = commands.run("tail", directory).stdout.splitlines()
            assert any("two" in line and "request_id='r-17'" in line for line in lines)
        case "a table":
            rows = shmtrace.read(directory).to_arrow("blob").to_pylist()
            assert [(row["blob"], row["span"] is None) for row in rows] == [
                (b"one", True),
                (b"two", False),
                (b"three", True),
            ]


def test_a_blob_that_has_no_room_for_it_is_recorded_as_it_is(tmp_path: Path) -> None:
    with written(tmp_path / "trace", page_size=4096, pages=16) as trace, trace.channel.context(**CONTEXT):
        limit = 4096 - wire.RECORD_BYTES
        for size in (limit, limit - wire.PLACED_BYTES + 1, limit - wire.PLACED_BYTES):
            assert trace.channel.event(bytes(size))
        with pytest.raises(ValueError, match="at most 4080"):
            trace.channel.event(bytes(limit + 1))
        with pytest.raises(TypeError):
            trace.channel.event("text")
        assert sum(trace.channel.stats()["missed"].values()) == 0
    found = [(len(record.fields["blob"]), without(record, "blob")) for record in trace.named("blob")]  # type: ignore[arg-type]  # bytes
    assert found == [(4080, {}), (4071, {}), (4070, CONTEXT)]


def test_blobs_of_tasks_and_threads_have_their_own(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        event = trace.channel.event

        async def child(name: str) -> None:
            with trace.channel.context(task=name):
                for _ in range(3):
                    event(name.encode())
                    await asyncio.sleep(0)
            event(b"none")

        async def main() -> None:
            await asyncio.gather(child("a"), child("b"))

        asyncio.run(main())
        with trace.channel.context(**CONTEXT):
            thread = threading.Thread(target=event, args=(b"none",))
            thread.start()
            thread.join()
    wanted: dict[object, object] = {b"a": {"task": "a"}, b"b": {"task": "b"}, b"none": {}}
    assert len(trace.named("blob")) == 9
    for record in trace.named("blob"):
        assert without(record, "blob") == wanted[record.fields["blob"]]


def test_channels_that_are_attached_later_and_other_objects_of_one_have_it(
    channel_name: str, new_name: Callable[[], str], tmp_path: Path
) -> None:
    first = shmtrace.create_channel(channel_name, mode="overwrite")
    beside = shmtrace.open_channel(channel_name)
    with first.context(**CONTEXT):
        later = shmtrace.create_channel(new_name(), mode="overwrite")
        again = shmtrace.open_channel(channel_name)
        assert [found.event(b"blob") for found in (first, beside, later, again)] == 4 * [True]
        again.close()
        assert not again.event(b"blob")
    for channel, count in ((first, 3), (later, 1)):
        channel.snapshot(tmp_path / channel.name)
        records = [record for record in shmtrace.read(tmp_path / channel.name) if record.name == "blob"]
        assert [without(record, "blob") for record in records] == count * [CONTEXT]
        shmtrace.remove_channel(channel.name)


def test_a_channel_with_a_context_goes_when_nobody_has_it(channel_name: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"  # of its own: what kernels may look for stays
    program.write_text(
        textwrap.dedent("""
            import gc, sys, weakref, shmtrace
            channel = shmtrace.open_channel(sys.argv[1])
            with channel.context(request_id="r-17"):
                channel.event(b"blob")
            gone = weakref.ref(channel)
            channel.close()
            del channel
            gc.collect()
            assert gone() is None
        """)
    )
    shmtrace.create_channel(channel_name)
    done = commands.run(str(program), channel_name, command=[sys.executable])
    assert (done.returncode, done.stderr) == (0, "")
    shmtrace.remove_channel(channel_name)


def test_a_first_blob_that_attaches_the_channel_has_it(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import sys, shmtrace
            channel = shmtrace.attach()
            channel.context(request_id="r-17")
            assert channel.event(sys.argv[1].encode()), "recorded"
        """)
    )
    assert commands.run("run", "-o", tmp_path / "trace", program, "blob").returncode == 0
    records = [record for record in shmtrace.read(tmp_path / "trace") if record.name == "blob"]
    assert [record.fields for record in records] == [{"blob": b"blob", **CONTEXT}]


def test_bytes_reserved_in_a_page_have_the_context_that_is_set_at_the_end_of_the_block(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        channel = trace.channel
        with channel.reserve(5) as view:
            view[:] = b"first"
            inner = channel.context(**CONTEXT)
        with channel.reserve(6) as view:
            view[:] = b"second"
            inner.__exit__()
    found = {record.fields["blob"]: without(record, "blob") for record in trace.named("blob")}
    assert found == {b"first": CONTEXT, b"second": {}}


@pytest.mark.parametrize("leak", [lambda view: view[1:], lambda view: np.frombuffer(view, np.uint8)])
def test_a_view_of_a_reservation_that_outlives_its_block_is_an_error_with_a_context_too(
    tmp_path: Path, leak: Callable[[memoryview], object]
) -> None:
    with written(tmp_path / "trace") as trace, trace.channel.context(**CONTEXT):
        reservation = trace.channel.reserve(8)
        leaked = [leak(reservation.__enter__())]
        with pytest.raises(BufferError, match="nothing is recorded"):
            reservation.__exit__(None, None, None)
        assert not reservation.recorded
        del leaked
        with trace.channel.reserve(8) as view:
            view[:] = b"recorded"
    assert [record.fields for record in trace.named("blob")] == [{"blob": b"recorded", **CONTEXT}]


# -- kernels


def kernel_of(trace: Trace) -> Callable[[], int]:
    """A kernel that writes five records."""
    event, depth = trace.channel.event, trace.channel.counter("depth")
    step, load = trace.channel.tracepoint("step", number="u8"), trace.channel.span("load")

    @numba.njit(nogil=True)
    def kernel(blob: Array) -> int:
        load.begin()
        recorded = step(1) + depth(2) + event(blob)
        load.end()
        return int(recorded)

    return lambda: int(kernel(BLOB))


def test_records_of_a_kernel_have_that_of_its_thread(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        kernel, outer = kernel_of(trace), trace.channel.span("outer")
        assert kernel() == 3
        with outer:  # which began without
            with trace.channel.context(**CONTEXT):
                assert kernel() == 3
                with trace.channel.context(user="u"):
                    assert kernel() == 3
                thread = threading.Thread(target=kernel)
                thread.start()
                thread.join()
                assert kernel() == 3
            assert kernel() == 3
    own = ("number", "value", "blob")
    found = [without(record, *own) for record in trace.records if record.name != "outer"]
    wanted = [{}, CONTEXT, {**CONTEXT, "user": "u"}, {}, CONTEXT, {}]
    assert found == [context for context in wanted for _ in range(5)]
    assert [record.fields["blob"] for record in trace.named("blob")] == 6 * [BLOB.tobytes()]


def test_kernels_records_in_another_channel_than_that_of_the_context_have_it(
    new_name: Callable[[], str], tmp_path: Path
) -> None:
    with written(tmp_path / "trace") as trace:
        kernel, other = kernel_of(trace), shmtrace.create_channel(new_name())
        assert kernel() == 3
        with other.context(**CONTEXT):
            assert kernel() == 3
            with other.context(user="u"):
                assert kernel() == 3
            assert kernel() == 3
        assert kernel() == 3
        shmtrace.remove_channel(other.name)
    found = [without(record, "number", "value", "blob") for record in trace.records]
    assert found == [context for context in ({}, CONTEXT, {**CONTEXT, "user": "u"}, CONTEXT, {}) for _ in range(5)]


def test_a_blob_of_a_kernel_that_has_no_room_for_it_is_recorded_as_it_is(tmp_path: Path) -> None:
    with written(tmp_path / "trace", page_size=4096, pages=16) as trace, trace.channel.context(**CONTEXT):
        event, limit = trace.channel.event, 4096 - wire.RECORD_BYTES

        @numba.njit
        def kernel(blob: Array) -> bool:
            return bool(event(blob))

        sizes = (limit, limit - wire.PLACED_BYTES + 1, limit - wire.PLACED_BYTES, limit + 1)
        assert [kernel(np.zeros(size, np.uint8)) for size in sizes] == [True, True, True, False]
        assert trace.channel.stats()["missed"]["bad_arguments"] == 1
    found = [(len(record.fields["blob"]), without(record, "blob")) for record in trace.named("blob")]  # type: ignore[arg-type]  # bytes
    assert found == [(4080, {}), (4071, {}), (4070, CONTEXT)]


def test_log_in_a_kernel_is_refused_in_so_many_words(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        log = trace.channel.log

        @numba.njit
        def kernel() -> bool:
            return bool(log("noted"))

        with pytest.raises(numba.core.errors.TypingError, match=r"channel\.log is for Python alone: in a kernel, use"):
            kernel()


# -- where it could go wrong


def test_a_blob_of_any_buffer_is_recorded_with_it(tmp_path: Path) -> None:
    days = np.array(["2026-11-30"], "datetime64[D]")  # which memoryview does not take
    with written(tmp_path / "trace") as trace, trace.channel.context(**CONTEXT):
        assert trace.channel.event(days)
        assert trace.channel.event(memoryview(b"view"))
    found = [(record.fields["blob"], without(record, "blob")) for record in trace.named("blob")]
    assert found == [(days.tobytes(), CONTEXT), (b"view", CONTEXT)]


def test_a_signal_handler_with_a_context_changes_nothing_for_what_it_interrupts(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import signal, time, shmtrace
            channel = shmtrace.attach()
            step, inner = channel.tracepoint("step", inside="bool"), channel.tracepoint("inner")

            def handle(*_):
                with channel.context(inner=1):
                    inner()

            handle()  # a handler in the middle of an import would find half a module
            signal.signal(signal.SIGALRM, handle)
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                with channel.context(main=1):
                    step(True)
                step(False)
            signal.setitimer(signal.ITIMER_REAL, 0)
        """)
    )
    assert commands.run("run", "-o", tmp_path / "trace", program).returncode == 0
    records = list(shmtrace.read(tmp_path / "trace"))
    assert sum(record.name == "inner" for record in records) > 100
    for record in records:
        if record.name == "step":
            assert ("main" in record.fields) == record.fields["inside"]
        elif record.name == "inner":
            assert record.fields["inner"] == 1


def test_a_tracepoint_imports_nothing_for_a_context_that_was_never_set(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import sys, shmtrace
            step = shmtrace.attach().tracepoint("step", numbers="u16[]")

            class Nothing:  # more can be imported, as when the interpreter ends
                def find_spec(self, name, path=None, target=None):
                    raise ModuleNotFoundError(name)

            sys.meta_path.insert(0, Nothing())
            assert step([1, 2])
        """)
    )
    ran = commands.run("run", "-o", tmp_path / "trace", program)
    assert (ran.returncode, "Error" in ran.stderr) == (0, False)
    assert [record.fields for record in shmtrace.read(tmp_path / "trace")] == [{"numbers": [1, 2]}]
