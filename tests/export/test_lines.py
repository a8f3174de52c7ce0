"""Lines for people: times as asked for, and colours that change nothing but colours."""

from __future__ import annotations

import re

import pytest

from shmtrace.export.lines import Lines
from shmtrace.export.text import text_line
from shmtrace.reader import Record

pytestmark = pytest.mark.timeout(60)


def record(monotonic_ns: int, kind: str = "event", level: str | None = None, pid: int | None = 100) -> Record:
    wall = 1_700_000_000_000_000_000 + monotonic_ns
    return Record(wall, monotonic_ns, 6, "re\x1bq", kind, 2, 3, pid, 1, "p", "t", {"a": 1, "b": "\x1b"}, level=level)


def times(lines: Lines) -> list[str]:
    return [lines(record(at)).split()[0] for at in (5, 1_500_000_005, 500_000_005)]


def test_relative_times_are_since_the_first_line() -> None:
    assert times(Lines(times="relative")) == ["+0.000000000", "+1.500000000", "+0.500000000"]


def test_delta_is_since_the_line_before() -> None:
    assert times(Lines(times="delta")) == ["+0.000000000", "+1.500000000", "-1.000000000"]


def test_wall_times_are_those_of_a_text_line() -> None:
    assert Lines()(record(7)) == text_line(record(7))


@pytest.mark.parametrize("kind", ["event", "begin", "end", "counter", "log", "loss"])
@pytest.mark.parametrize("level", [None, "error", "debug"])
@pytest.mark.parametrize("pid", [None, 100])
def test_without_its_colours_a_line_is_the_one_without_colours(kind: str, level: str | None, pid: int | None) -> None:
    made = record(7, kind, level, pid)
    line = Lines(coloured=True)(made)
    assert "\x1b[" in line
    plain = re.sub(r"\x1b\[[0-9;]*m", "", line)
    assert plain == text_line(made)
    assert plain.isprintable()
