"""docs/recipes/fork.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipe import blob_of, cook

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipe import Recipe


def test_every_child_is_in_the_trace_to_its_last_event_before_exit_or_kill(recipe: Callable[[str], Recipe]) -> None:
    course = cook(recipe("fork"))
    assert sorted(course.by_pid.values()) == [2, 1000, 1000, 1000, 1000]
    assert {name for pid in course.by_pid for name in course.names(pid)} == {"prefork.py"}
    numbers = set()
    for pid, count in course.by_pid.items():
        blobs = [blob_of(record) for record in course.records if record.pid == pid]
        if count == 2:
            assert blobs == [b"parent", b"parent again"]
        else:
            number = int(blobs[0].split()[0])
            assert blobs == [b"%d %d" % (number, step) for step in range(1000)]
            numbers.add(number)
    assert numbers == {0, 1, 2, 3}
