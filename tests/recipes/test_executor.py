"""docs/recipes/executor.md."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from typing import TYPE_CHECKING

from recipe import cook, running

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipe import Recipe


def test_each_task_has_a_process_of_its_own_in_the_trace(recipe: Callable[[str], Recipe]) -> None:
    course = cook(recipe("executor"))
    assert Counter(course.blobs) == {b"%s %d" % (what, n): 1 for what in (b"begin", b"end") for n in range(12)}
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
    counts = Counter(course.blobs)
    assert set(counts.values()) == {1}, "nothing twice"
    assert all(counts[b"end %d" % number] for number in range(done)), "what was answered is in the trace"
    begun = {blob.partition(b" ")[2] for blob in counts if blob.startswith(b"begin")}
    ended = {blob.partition(b" ")[2] for blob in counts if blob.startswith(b"end")}
    assert ended <= begun
    assert len(begun - ended) <= 3, "what the workers were doing"
    assert course.by_pid[victim] > 0
