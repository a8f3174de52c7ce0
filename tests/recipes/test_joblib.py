"""docs/recipes/joblib.md."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest

import commands
from recipe import cook, running, spans_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipe import Recipe

pytestmark = pytest.mark.heavy


def test_every_worker_is_in_the_trace(recipe: Callable[[str], Recipe], needs: Callable[[str], None]) -> None:
    needs("joblib")
    course = cook(recipe("joblib"))
    assert course.stdout == "200\n"
    spans = spans_of(course.records)
    assert Counter(begin.fields["number"] for begin, _ in spans) == dict.fromkeys(range(200), 1)
    assert all(end for _, end in spans)
    assert 1 <= len(course.by_pid) <= 3
    for pid in course.by_pid:
        (name,) = course.names(pid)
        assert re.fullmatch(r"LokyProcess-\d+", str(name))


def test_what_a_killed_worker_had_emitted_is_in_the_trace(
    recipe: Callable[[str], Recipe], needs: Callable[[str], None]
) -> None:
    needs("joblib")
    page = recipe("joblib")
    with running([*page.command()[:-1], "20000"], page.directory) as course:
        commands.until(lambda: len(course.writers()) == 3)
        victim = max(course.writers())
        os.kill(victim, signal.SIGKILL)
        course.finish(status=1)
    assert "TerminatedWorkerError" in course.stderr
    spans = spans_of(course.records)
    assert set(Counter(begin.fields["number"] for begin, _ in spans).values()) == {1}, "nothing twice"
    assert sum(end is None for _, end in spans) <= 3, "what the workers were doing"
    assert course.by_pid[victim] > 0
