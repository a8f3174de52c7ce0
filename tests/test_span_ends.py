"""How spans end: by hand, of generators, of loops, of functions of unusual kinds, and in kernels."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import types
import weakref
from typing import TYPE_CHECKING, Any

import pytest

import commands
import shmtrace
from shmtrace.reader import columns
from written import written

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
    from pathlib import Path


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in production, where a wrong call must not raise."""
    monkeypatch.setenv("SHMTRACE_STRICT", "0")
    monkeypatch.setattr("shmtrace.tracepoint._sites", set())  # nothing was told yet


@pytest.mark.parametrize("way", ["end", "exit", "use"])
@pytest.mark.usefixtures("lenient")
def test_what_a_span_ends_with_is_an_exception_its_type_or_refused(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[Any] = [None, ValueError, ValueError("x"), "failed", True, 1 << 80, int, object()]
    with written(tmp_path / "trace") as trace:
        load = trace.channel.span("load")
        for value in given:
            if way == "use":
                use: Any = load()
                use()
                use(value, None, None)
            else:
                load.begin()
                load.end(value) if way == "end" else load.__exit__(value, None, None)
        assert trace.channel.missed == 0
    assert [record.fields.get("exception") for record in trace.of_kind("end")] == [
        None, "ValueError", "ValueError", None, None, None, None, None,
    ]  # fmt: skip
    said = [line for line in capsys.readouterr().err.splitlines() if "load: end takes an exception" in line]
    if way == "use":  # it is an exception that `with` passes, and nobody else is to call it
        assert said == []
    else:
        (line,) = said  # once a call site
        assert line.startswith(f"shmtrace: {__file__}:")
        assert line.endswith("not str")


def test_where_the_user_is_strict_that_is_a_type_error_and_the_span_has_ended(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        load = trace.channel.span("load")
        load.begin()
        with pytest.raises(TypeError, match="load: end takes an exception or its type, not str"):
            load.end("failed")
        load.begin()
        with pytest.raises(TypeError, match="load: end takes an exception or its type, not reason"):
            load.end(reason="failed")
        load.begin()
        with pytest.raises(TypeError, match="load: end takes an exception or its type, not str"):
            load.end(exception="failed")
        load.begin()
        load.end(exception=KeyError)
    assert [record.kind for record in trace.named("load")] == ["begin", "end"] * 4
    assert [record.fields.get("exception") for record in trace.of_kind("end")] == [None, None, None, "KeyError"]
    with pytest.raises(TypeError, match="load: end takes an exception or its type, not str"):
        load.end("failed")  # whether somebody reads or not


def test_a_span_ends_through_another_object_of_its_definition(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        load = trace.channel.span("load", shard="u8")
        other = shmtrace.open_channel(trace.channel.name).span("load", shard="u8")
        assert other is not load
        load.begin(1)
        other.end()
        other.begin(2)
        with load(3):
            pass
        load.end()
    begins = {record.fields["shard"]: record.span for record in trace.of_kind("begin")}
    assert [record.span for record in trace.of_kind("end")] == [begins[1], begins[3], begins[2]]


@pytest.mark.parametrize("way", ["close", "throw", "break"])
def test_what_a_generator_does_when_it_is_closed_is_in_its_span(way: str, tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        load, note = trace.channel.span("load"), trace.channel.tracepoint("note")

        @load
        def steps() -> Iterator[int]:
            try:
                yield 1
            finally:
                note()

        @load
        async def async_steps() -> AsyncIterator[int]:
            try:
                yield 1
            finally:
                await asyncio.sleep(0)
                note()

        async def main() -> None:
            generator: Any = async_steps()
            await anext(generator)
            await (generator.aclose() if way != "throw" else generator.athrow(GeneratorExit))

        generator: Any = steps()
        if way == "break":
            for _ in generator:
                break
            del generator
        else:
            next(generator)
            generator.close() if way == "close" else end(generator)
        asyncio.run(main()) if way != "throw" else end_async(main)
    begins = [record.span for record in trace.of_kind("begin")]
    assert [record.span for record in trace.named("note")] == begins
    assert [(record.span, record.fields) for record in trace.of_kind("end")] == [(span, {}) for span in begins]


def end(generator: Generator[int, None, None]) -> None:
    """As `close`, but the exception comes out."""
    with pytest.raises(GeneratorExit):
        generator.throw(GeneratorExit)


def end_async(main: Callable[[], Any]) -> None:
    with pytest.raises(GeneratorExit):
        asyncio.run(main())


@pytest.mark.parametrize("kind", ["generator", "async generator"])
def test_what_a_generator_holds_is_gone_when_it_was_left(kind: str, tmp_path: Path) -> None:
    class Batch:
        """Can be referred to weakly."""

    def steps(_batch: Batch) -> Iterator[int]:
        yield 1

    async def async_steps(_batch: Batch) -> AsyncIterator[int]:
        yield 1

    async def leave(generator: AsyncGenerator[int, None]) -> None:
        await anext(generator)
        await generator.aclose()

    gc.disable()
    try:
        with written(tmp_path / "trace") as trace:
            batch, load = Batch(), trace.channel.span("load")
            reference = weakref.ref(batch)
            if kind == "generator":
                generator = load(steps)(batch)
                next(generator)
                generator.close()
                del generator
            else:
                asyncio.run(leave(load(async_steps)(batch)))
            del batch
            assert reference() is None
    finally:
        gc.enable()


@pytest.mark.usefixtures("lenient")
def test_a_use_is_no_value_of_a_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with written(tmp_path / "trace") as trace:
        load, other = trace.channel.span("load", shard="u32"), trace.channel.span("other", text="str")
        assert load.begin(load(3)) is False
        assert other.begin(load(3)) is False
        assert trace.channel.stats()["missed"]["bad_arguments"] == 2
    assert trace.of_kind("begin") == []
    assert capsys.readouterr().err.count("not recorded: ") == 2


def test_a_generator_that_goes_on_when_it_is_closed_is_told_so(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:

        @trace.channel.span("load")
        def steps() -> Iterator[int]:
            try:
                yield 1
            except GeneratorExit:
                yield 2

        generator: Any = steps()
        next(generator)
        with pytest.raises(RuntimeError, match="generator ignored GeneratorExit"):
            generator.close()
        del generator
    assert [record.kind for record in trace.named("load")] == ["begin", "end"]


@pytest.mark.parametrize("way", ["break", "error"])
def test_however_a_loop_over_a_loader_ends_its_work_has_not_failed(way: str, tmp_path: Path) -> None:
    def use(items: Iterator[int]) -> None:
        for _ in items:
            if way == "break":
                break
            raise KeyError

    with written(tmp_path / "trace") as trace, contextlib.suppress(KeyError):
        use(trace.channel.iter([1, 2], "fetch"))
    assert [(record.name, record.fields) for record in trace.of_kind("end")] == [("fetch wait", {}), ("fetch work", {})]


def test_a_generator_that_can_be_awaited_is_a_span_and_can_still_be(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:

        @trace.channel.span("load")
        @types.coroutine
        def step() -> Generator[None, None, int]:
            yield
            return 17

        async def main() -> int:
            number: int = await step()
            return number

        assert asyncio.run(main()) == 17
    assert [record.kind for record in trace.named("load")] == ["begin", "end"]


def test_whatever_is_called_is_a_span_as_long_as_it_takes(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        load, note = trace.channel.span("load"), trace.channel.tracepoint("note", where="str")

        async def wait(where: str) -> str:
            await asyncio.sleep(0)
            note(where)
            return where

        class Waiting:
            async def __call__(self, where: str) -> str:
                return await wait(where)

        class Work:
            @load
            @classmethod
            async def of_class(cls, where: str) -> str:
                return await wait(where)

            static = load()(staticmethod(wait))

        calls: list[Any] = [
            load(functools.partial(wait, "partial")), functools.partial(load(Waiting()), "object"),
            functools.partial(Work.of_class, "class"), functools.partial(Work().static, "static"),
        ]  # fmt: skip
        assert [asyncio.run(call()) for call in calls] == ["partial", "object", "class", "static"]
    assert [record.kind for record in trace.records] == ["begin", "event", "end"] * 4
    assert [record.span for record in trace.named("note")] == [record.span for record in trace.of_kind("begin")]


@pytest.mark.parametrize("is_recorded", [True, False])
def test_async_with_is_the_same(is_recorded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    async def work(load: shmtrace.spans.Span, plain: shmtrace.spans.Span) -> None:
        async with load(3) as use, plain as same:
            await asyncio.sleep(0)
            assert same is plain
        async with use:
            raise KeyError

    monkeypatch.delenv("SHMTRACE", raising=False)
    with written(tmp_path / "trace") if is_recorded else contextlib.nullcontext() as trace:
        channel = trace.channel if trace is not None else shmtrace.attach()
        load, plain = channel.span("load", shard="u8"), channel.span("plain")
        with pytest.raises(KeyError):
            asyncio.run(work(load, plain))
    if trace is not None:
        assert [(record.kind, record.name, record.fields) for record in trace.records] == [
            ("begin", "load", {"shard": 3}), ("begin", "plain", {}), ("end", "plain", {}), ("end", "load", {}),
            ("begin", "load", {"shard": 3}), ("end", "load", {"exception": "KeyError"}),
        ]  # fmt: skip


def test_an_end_that_is_the_first_record_of_a_reader_has_its_context(channel_name: str, tmp_path: Path) -> None:
    channel = shmtrace.create_channel(channel_name, page_size=4096, pages=64)
    load, use = channel.span("load"), channel.span("slow", shard="u8")(1)
    with channel.context(request_id="r-17"):
        for number in range(2):
            with (
                commands.running("collect", channel_name) as collector,
                commands.running("record", channel_name, "-o", tmp_path / str(number)) as recorder,
            ):
                commands.until(lambda: channel.enabled)
                if number == 0:
                    load.begin()
                    use.__enter__()
                else:
                    use.__exit__(None, None, None)
                    load.end()
                collector.terminate()
                assert recorder.wait(commands.LIMIT_S) == 0
            commands.until(lambda: not channel.enabled)
    ends = [record for record in shmtrace.read(tmp_path / "1") if record.kind == "end"]
    assert [(record.name, record.fields) for record in ends] == [
        ("slow", {"request_id": "r-17"}), ("load", {"request_id": "r-17"})
    ]  # fmt: skip
    shmtrace.remove_channel(channel_name)


@pytest.mark.usefixtures("lenient")
def test_a_kernels_end_without_a_begin_ends_no_span_of_another_name(tmp_path: Path) -> None:
    numba = pytest.importorskip("numba")
    with written(tmp_path / "trace") as trace:
        outer, load = trace.channel.span("outer"), trace.channel.span("load", shard="u8")
        note = trace.channel.tracepoint("note", number="u16")

        def work(number: int) -> None:
            load.begin(number)  # refused, if that is too great
            note(number)
            load.end()

        kernel = numba.njit(work)
        with outer:
            kernel(300)
            kernel(3)
            note(1)
        with load(7):  # a kernel ends what a kernel began
            kernel(301)
            note(2)
    numbers = {str(record.fields.get("shard", "outer")): record.span for record in trace.of_kind("begin")}
    assert [(record.name, record.span) for record in trace.records if record.kind in {"event", "end"}] == [
        ("note", numbers["outer"]), ("load", None), ("note", numbers["3"]), ("load", numbers["3"]),
        ("note", numbers["outer"]), ("outer", numbers["outer"]),
        ("note", numbers["7"]), ("load", None), ("note", numbers["7"]), ("load", numbers["7"]),
    ]  # fmt: skip
    assert [int(span) for batch in columns.read(trace.directory) for span in batch.span] == [
        record.span or 0 for record in trace.records
    ]
