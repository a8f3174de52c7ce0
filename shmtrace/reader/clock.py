"""Cycles to nanoseconds, through the readings that the collector puts into the stream.

The description's frequency comes from a short calibration and drifts by tens of milliseconds an hour.  A clock record
is three clocks read together; between two of them time is a straight line.  All in integers: a float has no room for
nanoseconds since 1970.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .description import ClockDescription

__all__ = ["Clock"]

SECOND_NS = 1_000_000_000
SLOPE_SPAN_NS = SECOND_NS  # readings this far apart know the frequency better than the description
DENSITY = 100  # readings kept a second
MOST_READINGS = 1 << 16  # kept in all; then every other one is forgotten
LIMIT_NS = 1 << 63  # a time is a signed 64-bit number of ns, everywhere: what lies beyond it is damage
STEP_NS = 10_000  # wall and monotonic clock drift apart by more than this and
STEP_PPM = 100  # this: somebody set the wall clock


class Reading(NamedTuple):
    """The three clocks at one moment."""

    cycles: int
    monotonic_ns: int
    realtime_ns: int

    @property
    def offset_ns(self) -> int:
        """How far the wall clock is ahead of the monotonic one."""
        return self.realtime_ns - self.monotonic_ns


class Clock:
    """Converts cycles; knows more with every reading."""

    def __init__(self, description: ClockDescription) -> None:
        self._description = description
        self._readings: list[Reading] = []
        self._forget()

    def describe(self, description: ClockDescription) -> None:
        """Another description of the same clock.  What was read stays true."""
        self._description = description
        self._forget()

    def _forget(self) -> None:
        self._low = self._high = 0  # the line at hand is good for these cycles: none

    def add(self, cycles: int, monotonic_ns: int, realtime_ns: int) -> None:
        """One more reading.  One that is close to another, or contradicts it, changes nothing."""
        reading = Reading(cycles, monotonic_ns, realtime_ns)
        at = bisect.bisect_left(self._readings, reading)
        near = self._description.frequency // DENSITY
        if at and not (
            cycles - self._readings[at - 1].cycles > near and monotonic_ns > self._readings[at - 1].monotonic_ns
        ):
            return
        if at < len(self._readings) and not (
            self._readings[at].cycles - cycles > near and self._readings[at].monotonic_ns > monotonic_ns
        ):
            return
        self._readings.insert(at, reading)
        if len(self._readings) > MOST_READINGS:
            del self._readings[1:-1:2]
        self._forget()

    def convert(self, cycles: int) -> tuple[int, int]:
        """Nanoseconds of the wall clock (since 1970) and of the monotonic clock."""
        if not self._low <= cycles < self._high:
            self._draw(cycles)
        run = cycles - self._cycles
        monotonic_ns = self._monotonic_ns + run * self._rise // self._run
        wall_ns = monotonic_ns + self._offset_ns + run * self._drift // self._run
        if -LIMIT_NS <= wall_ns < LIMIT_NS and -LIMIT_NS <= monotonic_ns < LIMIT_NS:
            return wall_ns, monotonic_ns
        return _bounded(wall_ns), _bounded(monotonic_ns)

    @property
    def line(self) -> tuple[int, int, int, int, int, int, int, int]:
        """The line of the last one that was converted.

        It begins at these cycles and ends before those, goes through a point (cycles, monotonic_ns, offset_ns), and has
        a rise, over a run of cycles, and a drift of the offset.
        """
        point = self._cycles, self._monotonic_ns, self._offset_ns
        return (self._low, self._high, *point, self._rise, self._run, self._drift)

    def _draw(self, cycles: int) -> None:
        """The line that `cycles` is on: a point, and rise and drift of the offset over a run of cycles."""
        readings = self._readings
        at = bisect.bisect_right(readings, cycles, key=lambda reading: reading.cycles)
        self._low = readings[at - 1].cycles if at else -1
        self._high = readings[at].cycles if at < len(readings) else 1 << 64
        if 0 < at < len(readings):
            before, after = readings[at - 1], readings[at]
            self._rise, self._run = after.monotonic_ns - before.monotonic_ns, after.cycles - before.cycles
            self._drift = after.offset_ns - before.offset_ns
            if abs(self._drift) > max(STEP_NS, self._rise * STEP_PPM // 1_000_000):
                self._drift = 0  # set somewhere in between; nobody knows where, so it counts from the next reading on
        else:
            before = readings[-1 if at else 0] if readings else self._described()
            self._rise, self._run, self._drift = SECOND_NS, self._description.frequency, 0
            if readings and (rise := readings[-1].monotonic_ns - readings[0].monotonic_ns) > SLOPE_SPAN_NS:
                self._rise, self._run = rise, readings[-1].cycles - readings[0].cycles
        self._cycles, self._monotonic_ns, self._offset_ns = before.cycles, before.monotonic_ns, before.offset_ns

    def _described(self) -> Reading:
        """For want of a reading: cycles are taken to count from the boot, as the monotonic clock does."""
        known = self._description
        return Reading(0, 0, known.offset_s * SECOND_NS + known.offset * SECOND_NS // known.frequency)


def _bounded(time_ns: int) -> int:
    return max(-LIMIT_NS, min(time_ns, LIMIT_NS - 1))
