"""docs/recipes/numba.md."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from recipe import blob_of, cook

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipe import Recipe


def test_the_calls_of_kernels_are_in_the_trace_each_thread_with_its_own(recipe: Callable[[str], Recipe]) -> None:
    course = cook(recipe("numba"))
    kinds = [b"%s %s %d" % (k, w, n) for k in (b"total", b"smooth") for w in (b"begins", b"ends") for n in range(100)]
    assert Counter(course.blobs) == dict.fromkeys(kinds, 1)
    assert len(course.by_pid) == 1
    total = [record for record in course.records if blob_of(record).startswith(b"total")]
    assert {record.thread for record in total} == {"MainThread"}
    smooth = [record for record in course.records if blob_of(record).startswith(b"smooth")]
    assert {record.thread for record in smooth} <= {f"kernel_{number}" for number in range(4)}
    open_calls: dict[int | None, bytes] = {}
    for record in course.records:  # in each thread, begin and end in turn
        words = blob_of(record).split()
        if words[1] == b"begins":
            assert record.tid not in open_calls
            open_calls[record.tid] = words[2]
        else:
            assert open_calls.pop(record.tid) == words[2]
    assert not open_calls
