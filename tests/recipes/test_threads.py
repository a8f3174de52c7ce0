"""docs/recipes/threads.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipe import blob_of, cook

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipe import Recipe


def test_every_thread_is_in_the_trace_under_its_tid_and_name(recipe: Callable[[str], Recipe]) -> None:
    course = cook(recipe("threads"))
    assert list(course.by_pid.values()) == [6000]
    names: dict[int | None, str | None] = {}
    blobs: dict[int | None, list[bytes]] = {}
    for record in course.records:
        assert names.setdefault(record.tid, record.thread) == record.thread
        blobs.setdefault(record.tid, []).append(blob_of(record))
    crew = {name for name in names.values() if name and name.startswith("crew")}
    pool = {name for name in names.values() if name and name.startswith("pool")}
    assert crew == {f"crew {number}" for number in range(4)}
    assert pool <= {"pool_0", "pool_1"}
    assert crew | pool == set(names.values())
    for tid, name in names.items():
        if name in crew:
            assert name is not None
            assert blobs[tid] == [b"%s %d" % (name[-1].encode(), step) for step in range(1000)], "in order"
    everything = {b"%d %d" % (number, step) for number in range(6) for step in range(1000)}
    assert {blob for of_one in blobs.values() for blob in of_one} == everything
