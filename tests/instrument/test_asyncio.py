"""Spans of tasks, with real loops."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

import commands
import shmtrace
from instrument.recorded import see
from shmtrace.instrument import asyncio as bridge

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from instrument.recorded import Recorded, Seen

Run: TypeAlias = "Callable[[Coroutine[Any, Any, object]], dict[str, Traced]]"
needs_eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="needs the eager tasks of Python 3.12")


class Traced:
    """The two records of a task's span, and its name if it was told."""

    def __init__(self, begin: Seen) -> None:
        self.begin = begin
        self.end: Seen | None = None
        self.name = ""

    @property
    def parent(self) -> object:
        return self.begin.own.get("parent")

    @property
    def number(self) -> object:
        return self.begin.own["span"]


def traced(records: list[Seen]) -> dict[str, Traced]:
    """By the last part of the coroutine's name."""
    tasks = {seen.own["span"]: Traced(seen) for seen in records if seen.kind == "begin"}
    for seen in records:
        if seen.kind == "end":
            tasks[seen.own["span"]].end = seen
        elif seen.name == bridge.NAME:
            tasks[seen.own["span"]].name = str(seen.fields["task"])
    return {task.begin.name.rpartition(".")[2]: task for task in tasks.values()}


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture
def run(runner: asyncio.Runner, recorded: Recorded) -> Run:
    """Runs a coroutine in a loop whose tasks are recorded, and gives them."""
    bridge.install(runner.get_loop(), channel=recorded.channel)

    def run_it(coroutine: Coroutine[Any, Any, object]) -> dict[str, Traced]:
        runner.run(coroutine)
        return traced(recorded.seen())

    return run_it


async def part() -> int:
    await asyncio.sleep(0)
    return 1


def test_a_task_is_a_span_with_its_coroutines_name_inside_of_the_one_that_made_it(run: Run) -> None:
    names = []

    async def main() -> None:
        await asyncio.create_task(part(), name="first part")
        names.append(asyncio.current_task().get_name())  # type: ignore[union-attr]

    tasks = run(main())
    main_task, part_task = tasks["main"], tasks["part"]
    assert main_task.begin.name.endswith("inside_of_the_one_that_made_it.<locals>.main")
    assert part_task.begin.name == "part"
    assert part_task.name == "first part"
    assert part_task.parent == main_task.number
    assert part_task.end is not None
    assert part_task.end.fields == {"task": "first part", "cancelled": False, "exception_text": ""}
    assert main_task.end is not None
    assert [main_task.end.fields["task"]] == names


def test_what_a_task_records_is_inside_of_its_span(run: Run, recorded: Recorded) -> None:
    load, note = recorded.channel.span("load"), recorded.channel.tracepoint("note", n="u8")

    async def inner(number: int) -> None:
        await asyncio.sleep(0)
        note(number)

    async def main() -> None:
        note(0)
        with load:
            await asyncio.gather(inner(1), inner(2))
        note(3)

    tasks = run(main())
    seen = recorded.seen()
    inners = [record.own["span"] for record in seen if record.kind == "begin" and record.name.endswith("inner")]
    notes = [record.own["span"] for record in sorted(seen, key=lambda r: str(r.fields)) if record.name == "note"]
    assert notes == [tasks["main"].number, *inners, tasks["main"].number]
    assert tasks["load"].parent == tasks["main"].number
    assert tasks["inner"].parent == tasks["load"].number


def test_a_failing_group_cancels_its_tasks_and_both_are_told(runner: asyncio.Runner, recorded: Recorded) -> None:
    bridge.install(runner.get_loop(), channel=recorded.channel)

    async def fail() -> None:
        raise KeyError("missing")

    async def hang() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(hang(), name="hanging")
            group.create_task(fail())

    with pytest.raises(ExceptionGroup):
        runner.run(main())
    ends = {name: task.end.fields for name, task in traced(recorded.seen()).items() if task.end is not None}
    assert ends["hang"] == {"task": "hanging", "cancelled": True, "exception_text": ""}
    assert (ends["fail"]["exception"], ends["fail"]["exception_text"]) == ("KeyError", "'missing'")
    assert ends["main"]["exception"] == "ExceptionGroup"


def test_an_exception_that_nobody_looked_at_is_still_complained_about(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise KeyError("missing")

    async def main() -> None:
        task = asyncio.create_task(fail())
        await asyncio.sleep(0.01)
        del task

    with caplog.at_level(logging.ERROR, "asyncio"):
        run(main())
    assert "Task exception was never retrieved" in caplog.text


def test_it_composes_with_a_factory_that_was_there(runner: asyncio.Runner, recorded: Recorded) -> None:
    made = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coroutine.__name__)
        return asyncio.Task(coroutine, loop=loop, **options)

    loop = runner.get_loop()
    loop.set_task_factory(factory)
    tasks = bridge.install(loop, channel=recorded.channel)
    runner.run(part())
    assert made == ["part"]
    assert "part" in traced(recorded.seen())
    tasks.uninstall()
    tasks.uninstall()
    assert loop.get_task_factory() is factory
    runner.run(part())
    assert made == ["part", "part"]
    assert sum(seen.kind == "begin" for seen in recorded.seen()) == 1


def test_it_composes_with_a_factory_that_takes_no_context(runner: asyncio.Runner, recorded: Recorded) -> None:
    loop = runner.get_loop()
    loop.set_task_factory(lambda loop, coroutine: asyncio.Task(coroutine, loop=loop))
    bridge.install(loop, channel=recorded.channel)
    loop.run_until_complete(part())
    assert traced(recorded.seen())["part"].end is not None


def test_below_another_factory_it_can_be_uninstalled(runner: asyncio.Runner, recorded: Recorded) -> None:
    loop = runner.get_loop()
    tasks = bridge.install(loop, channel=recorded.channel)
    inner = loop.get_task_factory()
    assert inner is not None
    loop.set_task_factory(partial(inner))  # another object
    tasks.uninstall()
    runner.run(part())
    assert recorded.seen() == []


def test_a_factory_that_fails_ends_the_span(runner: asyncio.Runner, recorded: Recorded) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise ValueError("no more")

    loop = runner.get_loop()
    loop.set_task_factory(refuse)
    bridge.install(loop, channel=recorded.channel)
    coroutine = part()
    with pytest.raises(ValueError, match="no more"):
        loop.create_task(coroutine)
    coroutine.close()
    loop.set_task_factory(None)
    end = traced(recorded.seen())["part"].end
    assert end is not None
    assert end.fields["exception"] == "ValueError"


def test_the_context_of_a_task_is_the_one_that_it_would_have(run: Run) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen = []

    async def look() -> None:
        seen.append(variable.get())
        variable.set("changed inside")

    async def main() -> None:
        variable.set("of main")
        await asyncio.create_task(look())
        context = contextvars.Context()
        await asyncio.create_task(look(), context=context)
        seen.extend([variable.get(), context[variable]])

    run(main())
    assert seen == ["of main", "none", "of main", "changed inside"]


def test_tasks_that_share_a_context_leave_it_as_it_was(runner: asyncio.Runner, recorded: Recorded) -> None:
    bridge.install(runner.get_loop(), channel=recorded.channel)
    note = recorded.channel.tracepoint("note")
    for _ in range(2):
        runner.run(part())  # a runner has one context for all

    async def main() -> None:
        note()

    runner.run(main())
    tasks = traced(recorded.seen())
    assert tasks["main"].parent in {None, 0}
    (seen,) = (seen for seen in recorded.seen() if seen.name == "note")
    assert seen.own["span"] == tasks["main"].number


@needs_eager
def test_an_eager_task_is_in_its_span_from_its_first_step_on(runner: asyncio.Runner, recorded: Recorded) -> None:
    loop = runner.get_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]
    bridge.install(loop, channel=recorded.channel)
    note = recorded.channel.tracepoint("note")

    async def at_once() -> None:
        note()

    async def later() -> None:
        await asyncio.sleep(0)
        note()

    async def main() -> None:
        task = asyncio.create_task(at_once())
        assert task.done()
        await asyncio.create_task(later(), name="later one")

    runner.run(main())
    seen = recorded.seen()
    tasks = traced(seen)
    notes = [record.own["span"] for record in seen if record.name == "note"]
    assert notes == [tasks["at_once"].number, tasks["later"].number]
    assert tasks["at_once"].end is not None
    assert tasks["later"].name == "later one"
    assert tasks["at_once"].parent == tasks["later"].parent == tasks["main"].number


PROGRAM = """
import asyncio, os, signal
from shmtrace.instrument.asyncio import new_event_loop

async def finish():
    pass

async def fetch(url):
    await asyncio.Event().wait()

async def die():
    await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    await asyncio.create_task(finish())
    async with asyncio.TaskGroup() as group:
        for url in ("a", "b"):
            group.create_task(fetch(url), name=f"fetch {url}")
        group.create_task(die())

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""


def test_tasks_of_a_killed_process_are_shown_as_open(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    directory = tmp_path / "trace"
    result = commands.run("run", "-o", directory, program)
    assert result.returncode == 128 + signal.SIGKILL, result.stderr
    tasks = traced([see(record) for record in shmtrace.read(directory)])
    assert {name for name, task in tasks.items() if task.end is None} == {"main", "fetch", "die"}
    lines = [line for line in commands.run("tail", directory).stdout.splitlines() if line.startswith("open: ")]
    assert [line.split()[1] for line in lines] == ["main", "fetch", "fetch", "die"]
    assert all(f"{bridge.NAME} task='fetch {url}'" in line for url, line in zip("ab", lines[1:], strict=False))
    assert all(" in main " in line for line in lines[1:])


def test_while_nobody_reads_tasks_are_made_as_ever() -> None:
    with asyncio.Runner(loop_factory=bridge.new_event_loop) as runner:
        assert runner.run(part()) == 1
