"""Cycles to time: within 20 microseconds of what the machine's own clocks said."""

from __future__ import annotations

import pytest

from reader.build import BOOT_NS, FREQUENCY
from shmtrace.layout import CLOCK_TSC
from shmtrace.reader.clock import Clock
from shmtrace.reader.description import ClockDescription

SECOND = 10**9
TARGET_NS = 20_000
DESCRIBED = ClockDescription(CLOCK_TSC, FREQUENCY, BOOT_NS // SECOND, 0)
pytestmark = pytest.mark.timeout(60)


class Machine:
    """A machine whose counter runs `ppm` faster than its description says, from monotonic time 100 s on."""

    def __init__(self, ppm: int = 0, offset_ns: int = BOOT_NS) -> None:
        self.ppm = ppm
        self.offset_ns = offset_ns

    def cycles(self, monotonic_ns: int) -> int:
        return monotonic_ns * FREQUENCY * (1_000_000 + self.ppm) // (SECOND * 1_000_000)

    def read(self, clock: Clock, monotonic_ns: int) -> None:
        """The collector reads the three clocks."""
        clock.add(self.cycles(monotonic_ns), monotonic_ns, monotonic_ns + self.offset_ns)


def test_without_readings_the_description_counts() -> None:
    clock = Clock(ClockDescription(CLOCK_TSC, 3, 5, 6))
    assert clock.convert(9) == ((5 + (6 + 9) // 3) * SECOND, 3 * SECOND)


def test_nanoseconds_since_1970_are_exact() -> None:
    clock = Clock(DESCRIBED)
    clock.add(1000, 777, 1_799_999_999_999_999_999)
    assert clock.convert(1000) == (1_799_999_999_999_999_999, 777)
    assert clock.convert(1002) == (1_800_000_000_000_000_000, 778)


def test_between_two_readings_time_is_a_straight_line() -> None:
    clock = Clock(DESCRIBED)
    clock.add(0, 0, 100)
    clock.add(FREQUENCY, 3 * SECOND, 100 + 3 * SECOND)
    assert clock.convert(FREQUENCY // 2) == (100 + 3 * SECOND // 2, 3 * SECOND // 2)


def test_records_before_the_first_reading_are_converted_backwards() -> None:
    clock = Clock(DESCRIBED)
    Machine().read(clock, 100 * SECOND)
    assert clock.convert(Machine().cycles(99 * SECOND)) == (BOOT_NS + 99 * SECOND, 99 * SECOND)


def test_an_hour_of_drift_stays_within_the_target() -> None:
    machine, clock = Machine(ppm=300), Clock(DESCRIBED)
    start = 100 * SECOND
    for second in range(3601):
        machine.read(clock, start + second * SECOND)
    for tenth in range(0, 36_001, 7):
        moment = start + tenth * SECOND // 10
        wall, monotonic = clock.convert(machine.cycles(moment))
        assert abs(monotonic - moment) < TARGET_NS
        assert abs(wall - BOOT_NS - moment) < TARGET_NS


def test_readings_that_come_one_by_one_are_enough_for_what_follows() -> None:
    machine, clock = Machine(ppm=15), Clock(DESCRIBED)
    for second in range(100, 1000):
        machine.read(clock, second * SECOND)
        moment = second * SECOND + SECOND  # up to the next one
        assert abs(clock.convert(machine.cycles(moment))[1] - moment) < TARGET_NS


def test_readings_more_than_a_second_apart_know_the_frequency_better() -> None:
    machine, clock = Machine(ppm=500), Clock(DESCRIBED)
    for second in (100, 101, 102):
        machine.read(clock, second * SECOND)
    for moment in (90 * SECOND, 110 * SECOND):
        assert abs(clock.convert(machine.cycles(moment))[1] - moment) < TARGET_NS


@pytest.mark.parametrize("step", [-3600 * SECOND, -SECOND, 10 * SECOND, SECOND // 1000])
def test_setting_the_wall_clock_does_not_disturb_the_monotonic_one(step: int) -> None:
    machine, clock = Machine(), Clock(DESCRIBED)
    machine.read(clock, 100 * SECOND)
    machine.read(clock, 101 * SECOND)
    machine.offset_ns += step
    machine.read(clock, 102 * SECOND)
    for tenth in range(1000, 1030):
        moment = tenth * SECOND // 10
        wall, monotonic = clock.convert(machine.cycles(moment))
        assert monotonic == moment
        assert wall - moment == (BOOT_NS if moment < 102 * SECOND else BOOT_NS + step)


def test_a_wall_clock_that_is_slewed_is_followed() -> None:
    machine, clock = Machine(), Clock(DESCRIBED)
    for second in range(100, 110):
        machine.offset_ns = BOOT_NS + second * 50_000  # 50 ppm
        machine.read(clock, second * SECOND)
    wall, _ = clock.convert(machine.cycles(105 * SECOND + SECOND // 2))
    assert wall == BOOT_NS + 105 * SECOND + SECOND // 2 + 105 * 50_000 + 25_000


def test_the_order_of_readings_makes_no_difference() -> None:
    machine = Machine(ppm=40)
    clocks = Clock(DESCRIBED), Clock(DESCRIBED)
    for clock, seconds in zip(clocks, (range(100, 110), reversed(range(100, 110))), strict=True):
        for second in seconds:
            machine.read(clock, second * SECOND)
    for moment in range(99 * SECOND, 111 * SECOND, SECOND // 3):
        assert clocks[0].convert(machine.cycles(moment)) == clocks[1].convert(machine.cycles(moment))


def test_readings_that_contradict_others_change_nothing() -> None:
    clock = Clock(DESCRIBED)
    for second in (100, 102):
        Machine().read(clock, second * SECOND)
    before = clock.convert(Machine().cycles(101 * SECOND))
    clock.add(Machine().cycles(101 * SECOND), 50 * SECOND, 0)
    clock.add(Machine().cycles(101 * SECOND), 200 * SECOND, 0)
    clock.add(Machine().cycles(102 * SECOND) + 1, 103 * SECOND, 0)
    clock.add((1 << 64) - 1, 0, 0)
    assert clock.convert(Machine().cycles(101 * SECOND)) == before


@pytest.mark.parametrize("cycles", [0, 1, (1 << 64) - 1])
def test_any_number_of_cycles_has_a_time(cycles: int) -> None:
    clock = Clock(DESCRIBED)
    clock.convert(cycles)
    Machine().read(clock, 100 * SECOND)
    clock.convert(cycles)
