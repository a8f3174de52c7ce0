"""Another thread of the fast reader: its results come in order, its errors come out, and it ends."""

from __future__ import annotations

import contextlib
import sys
import threading
import weakref
from typing import TYPE_CHECKING, cast

import pytest

import commands
from reader.build import Trace
from shmtrace.reader import columns
from shmtrace.reader.beside import Beside

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from shmtrace.reader.batch import Batch

pytestmark = pytest.mark.timeout(100)


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "shmtrace-reader"]


def saved(directory: Path) -> Path:
    """A trace of some batches of ten."""
    trace = Trace()
    lane = trace.lane().writer(1, pid=1)
    for number in range(100):
        lane.at(number).blob(b"", writer=1)
    lane.packet()
    return trace.save_directory(directory / "trace")


def test_results_come_in_order_and_errors_where_they_belong() -> None:
    beside: Beside[int, int] = Beside(lambda number: 12 // number)
    try:
        for number in (3, 0, 4):
            beside.call(number)
        assert len(beside) == 3
        assert beside.take() == 4
        beside.wait()
        with pytest.raises(ZeroDivisionError):
            beside.take()
        beside.call(6)
        assert (beside.take(), beside.take(), len(beside)) == (3, 2, 0)
    finally:
        beside.close()
    assert not readers()


class Numbers(list[int]):
    """A list that can be watched."""


def test_it_holds_nothing_that_it_has_been_given() -> None:
    beside: Beside[Numbers, int] = Beside(sum)
    try:
        given = Numbers([1, 2])
        seen = weakref.ref(given)
        beside.call(given)
        assert beside.take() == 3
        beside.call(Numbers())  # the thread has let go of what came before
        beside.take()
        del given
        assert seen() is None
    finally:
        beside.close()


def test_no_thread_is_left_when_a_trace_is_read_in_part(tmp_path: Path) -> None:
    with contextlib.closing(cast("Generator[Batch]", columns.read(saved(tmp_path), rows=10))) as batches:
        next(batches)
        assert readers()
    assert not readers()


def test_a_program_ends_that_has_read_a_trace_in_part(tmp_path: Path) -> None:
    program = f"""
import builtins
from shmtrace.reader import columns
builtins.kept = columns.read({str(saved(tmp_path))!r}, rows=10)  # until the very end
next(builtins.kept)
"""
    done = commands.run("-c", program, command=[sys.executable])
    assert (done.returncode, done.stderr) == (0, "")
