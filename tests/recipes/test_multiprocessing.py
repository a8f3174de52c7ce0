"""docs/recipes/multiprocessing.md."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from recipe import cook, running

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipe import Recipe

NAMES = {"fork": "ForkPoolWorker", "spawn": "SpawnPoolWorker", "forkserver": "ForkServerPoolWorker"}


@pytest.mark.parametrize("method", NAMES)
def test_every_worker_is_in_the_trace(method: str, recipe: Callable[[str], Recipe]) -> None:
    page = recipe("multiprocessing")
    command = page.command()
    assert command[-1] in NAMES
    with running([*command[:-1], method], page.directory) as course:
        course.finish()
    assert course.stdout.split() == [str(sum(number * number for number in range(300)))]
    begins = [record.pid for record in course.records if record.fields["blob"] == b"worker begins"]
    assert len(begins) == len(set(begins)) == 3
    assert set(course.by_pid) == set(begins), "nobody else has emitted"
    assert Counter(course.blobs) == Counter({b"worker begins": 3, **{b"%d" % number: 1 for number in range(300)}})
    names = [course.names(pid) for pid in course.by_pid]
    assert all(len(of_one) == 1 for of_one in names)
    assert len({name for (name,) in names}) == 3
    assert all(re.fullmatch(rf"{NAMES[method]}-\d+", str(name)) for (name,) in names)


def test_the_command_stands_on_the_page_as_it_is_run(recipe: Callable[[str], Recipe]) -> None:
    course = cook(recipe("multiprocessing"))
    assert sum(course.by_pid.values()) == 303
