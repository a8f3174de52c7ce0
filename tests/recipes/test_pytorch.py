"""docs/recipes/pytorch.md."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest

import commands
from recipe import blob_of, running

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipe import Recipe

pytestmark = pytest.mark.heavy
WORKERS, EPOCHS = 3, 2


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
    assert Counter(course.blobs) == {
        **{b"load %d" % index: EPOCHS for index in range(200)},
        **{b"worker %d of 3" % number: EPOCHS for number in range(WORKERS)},
        **{b"step %d %d" % (epoch, step): 1 for epoch in range(EPOCHS) for step in range(20)},
    }
    assert course.by_pid[int(main)] == EPOCHS * 20
    workers = {record.pid for record in course.records if blob_of(record).startswith(b"worker")}
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
        main = min(course.writers())
        victim = max(course.writers())
        os.kill(victim, signal.SIGKILL)
        course.finish(status=1)
    assert f"DataLoader worker (pid {victim}) is killed by signal" in " ".join(course.stderr.split())
    counts = Counter(course.blobs)
    assert set(counts.values()) == {1}
    steps = course.by_pid[main]
    loaded = {int(blob.split()[1]) for blob in counts if blob.startswith(b"load")}
    assert loaded >= set(range(steps * 10)), "what was trained with had been loaded"
    assert course.by_pid[victim] > 0
