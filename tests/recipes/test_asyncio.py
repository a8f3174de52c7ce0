"""docs/recipes/asyncio.md."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from recipe import blob_of, cook

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipe import Recipe


def test_every_task_and_thread_is_in_the_trace(recipe: Callable[[str], Recipe]) -> None:
    course = cook(recipe("asyncio"))
    assert list(course.by_pid.values()) == [600]
    kinds = (b"begin", b"measure", b"end")
    assert Counter(course.blobs) == {b"%s %d" % (kind, number): 1 for kind in kinds for number in range(200)}
    threads = {record.thread for record in course.records if not blob_of(record).startswith(b"measure")}
    assert threads == {"MainThread"}
    measuring = {record.thread for record in course.records if blob_of(record).startswith(b"measure")}
    assert measuring
    assert all(name and name.startswith("asyncio_") for name in measuring)
    for number in range(200):  # what a task did is in order of time, whatever the threads
        of_one = [blob for blob in course.blobs if blob.split()[1] == b"%d" % number]
        assert [blob.split()[0] for blob in of_one] == list(kinds)
