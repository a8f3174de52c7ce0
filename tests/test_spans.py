"""Spans and logs: nesting in threads, tasks, generators and greenlets; what is left by a killed worker."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import datetime as dt
import json
import os
import pickle
import signal
import sys
import textwrap
import threading
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

import commands
import shmtrace
from shmtrace.export.text import json_line
from written import written

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path


def test_spans_nest_and_events_are_in_the_innermost_one(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        outer, inner = trace.channel.span("outer"), trace.channel.span("inner", shard="u32")
        request = trace.channel.tracepoint("request", status="u16")
        request(1)
        with outer:
            request(2)
            with inner(7):
                request(3)
                trace.channel.log("note", a=1)
            request(4)
        inner.begin(shard=8)
        request(5)
        inner.end()
    assert [record.fields for record in trace.named("inner")] == [{"shard": 7}, {}, {"shard": 8}, {}]
    numbers = [record.span for record in trace.named("outer") + trace.named("inner")]
    first, second, third = numbers[0], numbers[2], numbers[4]
    assert len({first, second, third}) == 3
    assert [record.span for record in trace.named("request")] == [None, first, second, first, third]
    assert trace.named("note")[0].span == second
    assert [record.parent for record in trace.of_kind("begin")] == [None, first, None]


def test_an_exception_ends_a_span_and_is_named(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        plain, load = trace.channel.span("plain"), trace.channel.span("load", shard="u32")
        for span in (plain, load(3)):
            with pytest.raises(ZeroDivisionError), span:
                _ = 1 / 0
    assert [record.fields for record in trace.of_kind("end")] == [{"exception": "ZeroDivisionError"}] * 2


def test_decorated_functions_are_spans_and_stay_what_they_are(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        plain, load = trace.channel.span("plain"), trace.channel.span("load", shard="u32")

        @plain
        def add(a: int, b: int) -> int:
            """Add."""
            return a + b

        @load(3)
        def fail() -> None:
            raise ValueError

        assert (add(1, b=2), add.__name__, add.__doc__) == (3, "add", "Add.")
        with pytest.raises(ValueError, match=r"^$"):
            fail()
        with pytest.raises(TypeError, match="load decorates a function, not int"):
            load(3)(4)
    assert [record.name for record in trace.of_kind("begin")] == ["plain", "load"]
    assert [record.fields for record in trace.of_kind("end")] == [{}, {"exception": "ValueError"}]


def test_a_generator_is_a_span_that_is_not_around_what_runs_between_its_steps(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        load, note = trace.channel.span("load", shard="u32"), trace.channel.tracepoint("note", where="str")

        @load(1)
        def one() -> Iterator[int]:
            note("inside")
            got = yield 1
            note(f"inside {got}")
            yield 2

        @load(2)
        def other() -> Iterator[int]:
            yield 3

        first, second = one(), other()
        assert next(first) == 1
        assert next(second) == 3
        note("outside")
        assert first.send("x") == 2
        assert list(second) == []
        note("outside")
        first.close()
        note("outside")
    begins = {record.fields["shard"]: record.span for record in trace.of_kind("begin")}
    assert [record.parent for record in trace.of_kind("begin")] == [None, None]
    assert [(record.fields["where"], record.span) for record in trace.named("note")] == [
        ("inside", begins[1]), ("outside", None), ("inside x", begins[1]), ("outside", None), ("outside", None),
    ]  # fmt: skip
    assert [(record.span, record.fields) for record in trace.of_kind("end")] == [(begins[2], {}), (begins[1], {})]


def test_tasks_begin_in_the_span_in_which_they_were_made(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        spans = {
            name: trace.channel.span(name) for name in ("main", "made here", "awaited in", "child", "late", "thread")
        }
        step = trace.channel.tracepoint("step", name="str")

        async def child(name: str) -> None:
            with spans[name]:
                step(name)
                await asyncio.sleep(0.01)
                step(name)

        @spans["main"]
        async def main() -> None:
            with spans["made here"]:
                task = asyncio.create_task(child("child"))
            with spans["awaited in"]:
                await asyncio.gather(task, child("late"), asyncio.to_thread(in_thread))

        def in_thread() -> None:
            with spans["thread"]:
                step("thread")

        asyncio.run(main())
    assert trace.parents() == {
        "main": None, "made here": "main", "awaited in": "main", "child": "made here", "late": "awaited in",
        "thread": "awaited in",
    }  # fmt: skip
    names = {record.span: record.name for record in trace.of_kind("begin")}
    assert all(names[record.span] == record.fields["name"] for record in trace.named("step"))
    assert len({record.task for record in trace.of_kind("begin")}) >= 3
    assert len(trace.of_kind("end")) == 6


def test_who_runs_in_a_copy_of_a_context_is_where_that_was_made(tmp_path: Path) -> None:
    """In a thread, where nobody would copy it unasked, and whatever else has been set since, there and here."""
    others = [contextvars.ContextVar[str](f"other {number}") for number in range(60)]
    with written(tmp_path / "trace") as trace:
        outer, inner, later = (trace.channel.span(name) for name in ("outer", "inner", "later"))
        for count in (0, 1, 5, 60):
            for setting in ("nowhere", "here", "there", "there, later"):
                for other in others[:count]:
                    other.set(setting)
                mine = contextvars.ContextVar[str]("mine")
                with outer:
                    copy = contextvars.copy_context()
                    if setting == "there":
                        copy.run(mine.set, setting)
                    elif setting == "here":
                        mine.set(setting)
                with later:
                    if setting == "there, later":
                        copy.run(mine.set, setting)
                    for _ in range(2):
                        copy.run(inner.begin)
                        with later:
                            copy.run(inner.end)
                with later:
                    pass
    begins = {record.span: record for record in trace.of_kind("begin")}
    parents = [(record.name, begins[record.parent].name if record.parent else None) for record in begins.values()]
    assert parents == 16 * [
        ("outer", None), ("later", None), ("inner", "outer"), ("later", "later"), ("inner", "outer"),
        ("later", "later"), ("later", None),
    ]  # fmt: skip


class Wanderer:
    """Spans in tasks, threads and copies of contexts, at random; and a ContextVar that is set and reset in them."""

    def __init__(self, channel: shmtrace.Channel, seed: int) -> None:
        self._span = channel.span("span", number="u32")
        self._random = Random(seed)
        self._truth = contextvars.ContextVar("truth", default=0)
        self._others = [contextvars.ContextVar[int](f"other {number}") for number in range(40)]
        self._kept: list[contextvars.Context] = []
        self.parents: dict[int, int] = {}

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        number = len(self.parents) + 1
        self.parents[number] = self._truth.get()
        with self._span(number):
            token = self._truth.set(number)
            yield
            self._truth.reset(token)

    def _run_anywhere(self, depth: int) -> None:
        """Here, in a copy of this context, or in one that was made some time ago."""
        others = [contextvars.copy_context(), *self._random.sample(self._kept, min(len(self._kept), 1))]
        chosen = self._random.choice([None, *others])
        try:
            self.go(depth) if chosen is None else chosen.run(self.go, depth)
        except RuntimeError as error:
            assert "already entered" in str(error)  # noqa: PT017

    def go(self, depth: int) -> None:
        for _ in range(self._random.randrange(3)):
            self._random.choice(self._others).set(depth)
            if self._random.random() < 0.3:
                self._kept.append(contextvars.copy_context())
            with self._inside():
                if depth:
                    self._run_anywhere(depth - 1)

    async def task(self, depth: int) -> None:
        children = []
        for _ in range(self._random.randrange(4)):
            if self._random.random() < 0.5:
                self._random.choice(self._others).set(depth)
            with self._inside():
                for _ in range(self._random.randrange(3) if depth else 0):
                    children.append(asyncio.create_task(self.task(depth - 1)))
                    await asyncio.sleep(self._random.choice((0, 0, 0.001)))
                self.go(1)
                if self._random.random() < 0.2:
                    await asyncio.to_thread(self.go, 0)
            if self._random.random() < 0.2:
                del self._kept[: len(self._kept) // 2]
        await asyncio.gather(*children)


@pytest.mark.parametrize("seed", range(4))
def test_a_span_is_in_the_one_that_a_variable_would_name(seed: int, tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        wanderer = Wanderer(trace.channel, seed)
        for _ in range(5):
            wanderer.go(3)
            asyncio.run(wanderer.task(4))
    begins = {record.span: record for record in trace.of_kind("begin")}
    found = {
        record.fields["number"]: begins[record.parent].fields["number"] if record.parent else 0
        for record in begins.values()
    }
    assert len(found) > 20
    assert found == wanderer.parents
    assert len(trace.of_kind("end")) == len(found)


def test_a_task_whose_context_lies_where_an_ended_ones_lay_has_its_spans_apart(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        before, inner, outer = (trace.channel.span(name) for name in ("before", "inner", "outer"))

        def make() -> contextvars.Context:
            with before:
                return contextvars.copy_context()

        ended = contextvars.copy_context()
        made_by_it, address = ended.run(make), id(ended)
        del ended
        kept = [made_by_it.run(contextvars.copy_context) for _ in range(100)]
        (same,) = [context for context in kept if id(context) == address] or pytest.skip("memory was not used again")
        same.run(inner.begin)
        made_by_it.run(outer.begin)
        made_by_it.run(outer.end)
        same.run(inner.end)
    assert trace.parents() == {"before": None, "inner": "before", "outer": "before"}
    assert len({record.task for record in trace.of_kind("begin")}) == 3


def test_an_async_generator_is_a_span(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        load, step = trace.channel.span("load"), trace.channel.tracepoint("step", name="str")

        @load
        async def numbers() -> AsyncIterator[int]:
            step("inside")
            await asyncio.sleep(0)
            yield 1
            step("inside")
            yield 2

        async def main() -> list[int]:
            found = []
            async for number in numbers():
                step("outside")
                found.append(number)
            return found

        assert asyncio.run(main()) == [1, 2]
    begin = trace.of_kind("begin")[0]
    for record in trace.named("step"):
        assert record.span == (begin.span if record.fields["name"] == "inside" else None)
    assert [record.span for record in trace.of_kind("end")] == [begin.span]


def test_threads_have_their_spans_apart(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        outer, inner = trace.channel.span("outer"), trace.channel.span("inner", number="u8")
        barrier = threading.Barrier(2)

        def work(number: int) -> None:
            with inner(number):
                barrier.wait(10)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
        with outer:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    # Before 3.14 a thread does not inherit a context.
    assert {record.parent for record in trace.named("inner") if record.kind == "begin"} <= {
        None,
        trace.of_kind("begin")[0].span,
    }
    assert len({record.span for record in trace.named("inner")}) == 2


def test_greenlets_have_their_spans_apart(tmp_path: Path) -> None:
    greenlet = pytest.importorskip("greenlet")
    with written(tmp_path / "trace") as trace:
        load = trace.channel.span("load", number="u8")
        step = trace.channel.tracepoint("step", number="u8")

        def work(number: int) -> None:
            with load(number):
                main.switch()
                step(number)
                main.switch()
            main.switch()

        main = greenlet.getcurrent()
        workers = [greenlet.greenlet(work) for _ in range(3)]
        for worker, number in zip(workers, range(3), strict=True):
            worker.switch(number)
        for _ in range(2):
            for worker in workers:
                worker.switch()
    spans = {record.span: record.fields["number"] for record in trace.of_kind("begin")}
    assert len(spans) == 3
    assert {record.parent for record in trace.of_kind("begin")} == {None}
    assert all(spans[record.span] == record.fields["number"] for record in trace.named("step"))


def test_spans_may_be_nested_deeply(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        load = trace.channel.span("load", depth="u16")

        def down(depth: int) -> None:
            if depth:
                with load(depth):
                    down(depth - 1)

        down(200)
    begins = trace.of_kind("begin")
    assert [record.parent for record in begins] == [None, *(record.span for record in begins[:-1])]
    assert [record.span for record in trace.of_kind("end")] == [record.span for record in reversed(begins)]


def test_a_span_with_its_fields_may_be_used_inside_of_itself(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        load = trace.channel.span("load", shard="u32")(3)
        with load, load:
            pass
    begins, ends = trace.of_kind("begin"), trace.of_kind("end")
    assert [record.span for record in ends] == [record.span for record in reversed(begins)]


def test_uses_whose_memory_is_used_again_keep_their_own_fields(tmp_path: Path) -> None:
    """More than are kept, and with longer fields, given up and made anew in no order."""
    texts = [f"{number}:{'x' * (number * 7 % 200)}" for number in range(300)]
    random = Random(7)
    with written(tmp_path / "trace") as trace:
        load, other = trace.channel.span("load", text="str"), trace.channel.span("other", text="str", number="u64")
        held: list[tuple[str, Any]] = []
        entered = []
        for number, text in enumerate(texts):
            held.append((text, load(text) if number % 3 else other(text, number=number)))
            if number % 5 == 4:
                for _ in range(4):
                    chosen, use = held.pop(random.randrange(len(held)))
                    entered.append(chosen)
                    with use:
                        pass
    begun = [record.fields for record in trace.of_kind("begin")]
    assert [fields["text"] for fields in begun] == entered
    assert all(str(fields["text"]).startswith(f"{fields['number']}:") for fields in begun if "number" in fields)


def test_one_use_of_a_span_in_many_tasks_and_threads_at_a_time_is_a_span_in_each(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        use = trace.channel.span("load", shard="u32")(3)
        event = trace.channel.tracepoint("inside", number="u32")

        @use
        async def work(number: int) -> None:
            for _ in range(1 + number % 3):  # so that they end in another order than they began in
                await asyncio.sleep(0)
            event(number)

        async def many() -> None:
            await asyncio.gather(*map(work, range(10)))

        @use
        def count(number: int) -> None:
            barrier.wait(10)
            event(number)

        asyncio.run(many())
        barrier = threading.Barrier(5)
        threads = [threading.Thread(target=count, args=(10 + number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    begun = [record.span for record in trace.of_kind("begin")]
    assert len(set(begun)) == 15
    assert sorted(record.span or 0 for record in trace.of_kind("end")) == sorted(number or 0 for number in begun)
    assert {record.span for record in trace.named("inside")} == set(begun)


def test_a_use_that_ends_in_another_task_than_it_began_in_ends_its_own_span(tmp_path: Path) -> None:
    async def begin_and_end() -> None:
        async def step(function: Callable[..., object], *arguments: object) -> None:
            function(*arguments)

        with use:
            pass
        await asyncio.create_task(step(use.__enter__))
        with outer:
            await asyncio.create_task(step(use.__exit__, None, None, None))

    with written(tmp_path / "trace") as trace:
        use, outer = trace.channel.span("load", shard="u32")(3), trace.channel.span("outer")
        asyncio.run(begin_and_end())
    first, _, second, third, end, _ = trace.records
    assert [first.name, second.name, third.name] == ["load", "load", "outer"]
    assert (end.kind, end.name, end.span) == ("end", "load", second.span)


def test_uses_take_every_value_that_tracepoints_take_and_refuse_what_these_refuse(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHMTRACE_STRICT", "0")
    with written(tmp_path / "trace") as trace:
        load = trace.channel.span("load", shard="u32", path="str", data="bytes", sizes="u16[]")
        with load(3, "a\0b", bytearray(b"x"), [1, 2]):
            pass
        with load(sizes=(), data=b"", path="\N{SNOWMAN}" * 100, shard=2**32 - 1):
            pass
        wrong: list[tuple[object, ...]] = [(1,), (1, "", b"", [], 5), (-1, "", b"", []), ("1", "", b"", [])]
        for arguments in wrong:
            with load(*arguments):
                pass
        with load(1, "", b"", [], more=1):
            pass
        missed = trace.channel.stats()["missed"]["bad_arguments"]
        assert load(1, "", b"", [])(len)("abc") == 3
    fields = [record.fields for record in trace.of_kind("begin")]
    assert fields[0] == {"shard": 3, "path": "a\N{REPLACEMENT CHARACTER}b", "data": b"x", "sizes": [1, 2]}
    assert fields[1] == {"shard": 2**32 - 1, "path": "\N{SNOWMAN}" * 100, "data": b"", "sizes": []}
    assert (len(fields), missed) == (3, 5)
    lines = [line for line in capfd.readouterr().err.splitlines() if "not recorded" in line]
    assert len(lines) == 2  # call sites
    assert all("test_spans.py" in line for line in lines)


def test_a_use_gives_back_what_it_takes(channel_name: str, tmp_path: Path) -> None:
    with shmtrace.create_channel(channel_name, mode="overwrite") as channel:
        load = channel.span("load", path="str")
        path = str(tmp_path)
        with load(path) as use:
            before = [sys.getrefcount(thing) for thing in (load, path, type(use))]
            for _ in range(1000):
                with load(path), use:
                    load(path)
            assert [sys.getrefcount(thing) for thing in (load, path, type(use))] == before
        with pytest.raises(TypeError, match="cannot create"):
            type(use)()
        with pytest.raises(TypeError, match="one function, not 2"):
            use(1, 2)
        with pytest.raises(TypeError, match="a function, not int"):
            use(1)
    shmtrace.remove_channel(channel_name)


def test_threads_that_python_did_not_start_have_their_spans_apart(tmp_path: Path) -> None:
    """Each call from such a thread has another thread state, often where the last one was."""
    with written(tmp_path / "trace") as trace:
        load, step = trace.channel.span("load"), trace.channel.tracepoint("step", number="u32")
        start_type = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)

        @start_type
        def call(_: int | None) -> int:
            step(0)
            load.begin()  # and never ends
            return 0

        libc = ctypes.CDLL(None)
        for _ in range(50):
            thread = ctypes.c_ulong()
            assert libc.pthread_create(ctypes.byref(thread), None, call, None) == 0
            assert libc.pthread_join(thread, None) == 0
    assert {record.span for record in trace.named("step")} == {None}
    assert {record.parent for record in trace.of_kind("begin")} == {None}
    assert len({record.span for record in trace.of_kind("begin")}) == 50


def test_spans_of_a_channel_that_comes_late_where_no_code_is_kept_yet_begin_and_end(tmp_path: Path) -> None:
    name = f"t{os.getpid()}-late"
    program = tmp_path / "late.py"
    program.write_text(
        textwrap.dedent(f"""
            import shmtrace
            channel = shmtrace.attach()
            load = channel.span("load", shard="u32")
            made = shmtrace.create_channel({name!r}, mode="overwrite")
            with load(3):
                pass
            load.begin(4)
            load.end()
            made.snapshot({str(tmp_path / "trace")!r})
            shmtrace.remove_channel({name!r})
        """)
    )
    ran = commands.run(
        str(program),
        command=[sys.executable],
        SHMTRACE=name,
        SHMTRACE_CACHE=str(tmp_path / "cold"),
        SHMTRACE_STRICT="0",
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    records = [record for record in shmtrace.read(tmp_path / "trace") if record.kind != "loss"]
    assert [(record.name, record.kind, record.fields) for record in records] == [
        ("load", "begin", {"shard": 3}), ("load", "end", {}), ("load", "begin", {"shard": 4}), ("load", "end", {}),
    ]  # fmt: skip


def test_a_loop_over_a_loader_tells_waiting_from_working(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        step = trace.channel.tracepoint("step", number="u8")
        for item in trace.channel.iter(range(3), "fetch"):
            step(item)
            if item == 1:
                break
    assert [record.name for record in trace.of_kind("begin")] == ["fetch wait", "fetch work"] * 2
    assert len(trace.of_kind("end")) == 4
    work = {record.span for record in trace.named("fetch work")}
    assert {record.span for record in trace.named("step")} == work


def test_a_log_takes_anything_and_never_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHMTRACE_STRICT", "0")

    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    endless: list[Any] = []
    endless.append(endless)
    with written(tmp_path / "trace") as trace:
        log = trace.channel.log
        assert log("plain", a=1, b="x", c=1.5, d=None, e=True, f=b"\1", g=-1, h=2**40, i=False)
        assert log("nested", a=[1, {"b": (2, 3)}], when=dt.date(2026, 1, 2), big=2**80, set={1})
        assert log("odd", a=Odd(), b=endless, c="\ud800", d="long " * 1000)
        assert log("huge", a="x" * 200_000, b=1)
        assert log(name="a field of this name") is False  # the name of the log is missing
        assert log(5, x=1)
    fields = {record.name: record.fields for record in trace.of_kind("log")}
    assert fields["plain"] == {
        "a": 1, "b": "x", "c": 1.5, "d": None, "e": True, "f": b"\1", "g": -1, "h": 2**40, "i": False,
    }  # fmt: skip
    assert fields["nested"]["a"] == [1, {"b": [2, 3]}]
    assert fields["nested"]["when"] == "datetime.date(2026, 1, 2)"
    assert fields["odd"]["a"] == "<Odd>"
    assert fields["odd"]["d"] == "long " * 1000
    assert fields["huge"]["b"] == 1
    assert fields["5"] == {"x": 1}


def test_a_log_with_more_than_fits_keeps_what_fits(tmp_path: Path) -> None:
    class Odd(set[int]):
        def __iter__(self) -> Iterator[int]:
            raise KeyError

    with written(tmp_path / "trace", page_size=8192) as trace:
        log = trace.channel.log
        assert log("odd", value=Odd())
        assert log("many", **{f"field{number}": "x" * 100 for number in range(2000)})
        assert log("one", long="x" * 100_000, short=1)
        assert log("name " * 10_000, short=1)
    fields = {record.name: record.fields for record in trace.of_kind("log")}
    assert fields["odd"] == {"value": "<Odd>"}
    assert "many" in fields
    assert fields["one"] == {"long": "<100005 bytes: too long>", "short": 1}
    assert fields["name " * 200] == {"short": 1}


def test_a_log_pickles_by_its_channel(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        log = pickle.loads(pickle.dumps(trace.channel.log))
        assert log("again", a=1)
    assert [record.fields for record in trace.of_kind("log")] == [{"a": 1}]


def test_a_worker_killed_inside_a_span_leaves_it_open_with_its_last_events(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import os, signal, shmtrace
            channel = shmtrace.attach()
            load = channel.span("load", shard="u32")
            request = channel.tracepoint("request", status="u16")
            with load(1):
                pass
            with load(3):
                request(200)
                os.kill(os.getpid(), signal.SIGKILL)
        """)
    )
    ran = commands.run("run", "-o", tmp_path / "trace", program)
    assert ran.returncode == 128 + signal.SIGKILL
    lines = commands.run("tail", f"{tmp_path}/trace").stdout.splitlines()
    assert lines[-1].startswith("open: load shard=3")
    assert "request status=200" in lines[-1]
    assert sum(line.startswith("open: ") for line in lines) == 1
    assert '"open' not in commands.run("tail", "--json", f"{tmp_path}/trace").stdout


def test_a_forked_childs_spans_are_its_own_and_have_the_context_in_which_it_was_made(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        outer, inner = trace.channel.span("outer"), trace.channel.span("inner")
        trace.channel.context(request_id="r-17")
        with outer:
            pid = os.fork()
            if pid == 0:
                with inner:
                    pass
                os._exit(0)
            os.waitpid(pid, 0)
    begins = {record.name: record for record in trace.of_kind("begin")}
    assert begins["inner"].pid == pid
    assert begins["inner"].span != begins["outer"].span
    assert begins["inner"].fields == begins["outer"].fields == {"request_id": "r-17"}
    assert len(trace.of_kind("end")) == 2


@pytest.mark.parametrize("statement", ["import numba", "pass"])
def test_spans_cost_nothing_where_no_code_can_be_had(statement: str) -> None:
    program = (
        f"{statement}\nimport shmtrace\nchannel = shmtrace.attach()\nload = channel.span('load', shard='u8')\n"
        "with load(3): pass\n@load(3)\ndef f(): return 1\nassert f() == 1\nload.begin(3); load.end()\n"
    )
    ran = commands.run("-c", program, command=[sys.executable], SHMTRACE_CACHE="/nowhere/at/all", SHMTRACE_STRICT="0")
    assert (ran.returncode, ran.stderr) == (0, "")


def test_keys_of_any_type_in_a_log_are_read(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        assert trace.channel.log("odd", cells={(1, (2, 3)): [4], None: 5, 1.5: 6, b"x": 7, frozenset([8]): 9}, a=1)
    (record,) = trace.of_kind("log")
    cells = {(1, (2, 3)): (4,), None: 5, 1.5: 6, b"x": 7, (8,): 9}
    assert (record.name, record.fields) == ("odd", {"cells": cells, "a": 1})
    assert json.loads(json_line(record))["fields"]["cells"]["(1, (2, 3))"] == [4]
