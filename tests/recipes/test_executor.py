"""docs/recipes/executor.md."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from typing import TYPE_CHECKING

from recipe import cook, running, spans_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipe import Recipe


def test_each_task_has_a_process_of_its_own_in_the_trace(recipe: Callable[[str], Recipe]) -> None:
    course = cook(recipe("executor"))
    spans = spans_of(course.records)
    assert Counter(begin.fields["number"] for begin, _ in spans) == dict.fromkeys(range(12), 1)
    assert all(end for _, end in spans)
    assert list(course.by_pid.values()) == [2] * 12
    names = [course.names(pid) for pid in course.by_pid]
    assert len({name for (name,) in names}) == 12
    assert all(re.fullmatch(r"SpawnProcess-\d+", str(name)) for (name,) in names)


def test_what_a_killed_worker_had_emitted_is_in_the_trace(recipe: Callable[[str], Recipe]) -> None:
    page = recipe("executor")
    with running([*page.command()[:-2], "3000"], page.directory) as course:
        assert course.process.stdout is not None
        answers = [course.process.stdout.readline() for _ in range(20)]
        victim = max(course.writers())
        os.kill(victim, signal.SIGKILL)
        course.finish()
    rest = course.stdout.splitlines()
    assert rest[-1] == "a worker was killed"
    done = len(answers) + len(rest) - 1
    spans = spans_of(course.records)
    assert set(Counter(begin.fields["number"] for begin, _ in spans).values()) == {1}, "nothing twice"
    ended = {begin.fields["number"] for begin, end in spans if end}
    assert ended >= set(range(done)), "what was answered is in the trace"
    assert len(spans) - len(ended) <= 3, "what the workers were doing"
    assert course.by_pid[victim] > 0
