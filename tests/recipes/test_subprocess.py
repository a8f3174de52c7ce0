"""docs/recipes/subprocess.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipe import blob_of, cook

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipe import Recipe


def test_every_child_is_in_the_trace_through_a_shell_too(recipe: Callable[[str], Recipe]) -> None:
    course = cook(recipe("subprocess"))
    by_name = {name: pid for pid in course.by_pid for name in course.names(pid)}
    assert set(by_name) == {"parent.py", "child.py"}
    parent = by_name["parent.py"]
    assert [record.fields["blob"] for record in course.records if record.pid == parent] == [b"begin", b"end"]
    children = {}
    for pid in set(course.by_pid) - {parent}:
        blobs = [blob_of(record) for record in course.records if record.pid == pid]
        who = blobs[0].partition(b" ")[0]
        assert blobs == [b"%s %d" % (who, number) for number in range(100)]
        children[who] = pid
    assert set(children) == {b"0", b"1", b"2", b"3"}
