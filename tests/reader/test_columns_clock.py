"""Times in columns: jitted code converts what it can, and whatever converts, it is what the clock says."""

from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reader.build import FREQUENCY
from shmtrace.layout import CLOCK_TSC
from shmtrace.reader.batch import BLOB
from shmtrace.reader.clock import Clock
from shmtrace.reader.description import ClockDescription
from shmtrace.reader.rows import Blocks, Row, Rows, jitted
from shmtrace.reader.times import Times

pytestmark = pytest.mark.timeout(100)
U64 = (1 << 64) - 1
words = st.one_of(
    st.integers(0, U64),
    st.builds(lambda bits, off: min(max((1 << bits) + off, 0), U64), st.integers(0, 64), st.integers(-3, 3)),
)


def converted(clock: Clock, cycles: list[int]) -> list[tuple[int, int]]:
    """Wall clock and monotonic clock of rows with these cycles."""
    times = Times(jitted()["convert"], clock)
    rows = Rows(len(cycles), 0, Blocks())
    for number in cycles:
        rows.add(Row(number, BLOB, -1, 0, b""), 0)
    times.convert(rows)
    count = rows.count
    return list(zip(rows["time"][:count].tolist(), rows["monotonic"][:count].tolist(), strict=True))


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, U64), st.lists(st.tuples(words, words, words), max_size=4), st.lists(words, min_size=1, max_size=8)
)
def test_times_are_those_of_the_clock_whatever_it_says(
    frequency: int, readings: list[tuple[int, int, int]], cycles: list[int]
) -> None:
    clock = Clock(ClockDescription(CLOCK_TSC, frequency, 1_700_000_000, 5))
    for reading in readings:
        clock.add(*reading)
    ends = [end for end, _, _ in readings]
    around = [min(max(end + off, 0), U64) for end in ends for off in (-1, 0, 1, 10**6, 10**12)]
    assert converted(clock, cycles + around) == [clock.convert(number) for number in cycles + around]


def test_the_times_of_a_usual_trace_are_converted_by_jitted_code() -> None:
    clock = Clock(ClockDescription(CLOCK_TSC, FREQUENCY, 1_700_000_000, 5))
    start = 10**15
    for second in range(100):
        clock.add(start + second * FREQUENCY, second * 10**9, 1_800_000_000 * 10**9 + second * (10**9 + 30))
    cycles = [start + number * FREQUENCY // 100 for number in range(10_000)]
    wanted = [clock.convert(number) for number in cycles]
    with mock.patch.object(clock, "convert", wraps=clock.convert) as convert:
        assert converted(clock, cycles) == wanted
    assert convert.call_count <= 101  # once a line
