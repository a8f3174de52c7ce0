"""docs/recipes/pytorch.md."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest

import commands
from recipe import blob_of, running, spans_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipe import Course, Recipe

pytestmark = pytest.mark.heavy
WORKERS, EPOCHS = 3, 2


def loaded(course: Course) -> Counter[object]:
    """How often each index was loaded."""
    return Counter(record.fields["index"] for record in course.records if record.name == "load")


@pytest.mark.parametrize(("method", "name"), [("fork", "ForkProcess"), ("spawn", "SpawnProcess")])
def test_every_worker_is_in_the_trace(
    method: str, name: str, recipe: Callable[[str], Recipe], needs: Callable[[str], None]
) -> None:
    needs("torch")
    page = recipe("pytorch")
    command = [method if word == "fork" else word for word in page.command()]
    with running(command, page.directory) as course:
        course.finish()
    main, total = course.stdout.split()
    assert float(total) == EPOCHS * 16 * sum(number * number for number in range(200))
    assert loaded(course) == dict.fromkeys(range(200), EPOCHS)
    begun = [record for record in course.records if record.name == "blob"]
    assert Counter(map(blob_of, begun)) == {b"worker %d of 3" % number: EPOCHS for number in range(WORKERS)}
    spans = spans_of(course.records)
    assert all(begin.pid == int(main) and end for begin, end in spans)
    # one wait more an epoch, for the end
    assert Counter(begin.name for begin, _ in spans) == {"fetch wait": EPOCHS * 21, "fetch work": EPOCHS * 20}
    workers = {record.pid for record in begun}
    assert workers == set(course.by_pid) - {int(main)}
    assert len(workers) == WORKERS * EPOCHS
    for pid in workers:
        assert pid is not None
        (of_one,) = course.names(pid)
        assert re.fullmatch(rf"{name}-\d+", str(of_one))


def test_what_a_killed_worker_had_emitted_is_in_the_trace(
    recipe: Callable[[str], Recipe], needs: Callable[[str], None]
) -> None:
    needs("torch")
    page = recipe("pytorch")
    with running([*page.command()[:-1], "1000000"], page.directory) as course:
        commands.until(lambda: len(course.writers()) == WORKERS + 1)
        victim = max(course.writers())
        os.kill(victim, signal.SIGKILL)
        course.finish(status=1)
    # torch names it; if it was just taking a batch from it, the connection's end comes first
    told = rf"DataLoader worker \(pid(\(s\))? {victim}\) (is killed by signal|exited unexpectedly)"
    assert re.search(rf"{told}|(EOF|Connection\w+|BrokenPipe)Error", " ".join(course.stderr.split()))
    counts = loaded(course)
    assert set(counts.values()) == {1}
    steps = sum(record.name == "fetch work" and record.kind == "begin" for record in course.records)
    assert set(counts) >= set(range(steps * 10)), "what was trained with had been loaded"
    assert course.by_pid[victim] > 0
