"""docs/recipes/gevent.md."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from recipe import blob_of, cook

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipe import Recipe

pytestmark = pytest.mark.heavy


def test_greenlets_are_one_writer_and_the_hubs_threads_are_others(
    recipe: Callable[[str], Recipe], needs: Callable[[str], None]
) -> None:
    needs("gevent")
    course = cook(recipe("gevent"))
    kinds = (b"begin", b"measure", b"end")
    expected = {b"main": 1, **{b"%s %d" % (kind, number): 1 for kind in kinds for number in range(201)}}
    assert Counter(course.blobs) == expected
    (pid,) = course.by_pid
    assert course.names(pid) == {"crawl.py"}
    greenlets = {(r.tid, r.thread) for r in course.records if not blob_of(r).startswith(b"measure")}
    assert greenlets == {(pid, "MainThread")}
    assert pid not in {record.tid for record in course.records if blob_of(record).startswith(b"measure")}
