"""The times of rows, which jitted code converts as long as they are on one line of the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..native.rows import BIAS, LINE
from .clock import Clock
from .records import CLOCK
from .rows import address_of, signed, words

if TYPE_CHECKING:
    from collections.abc import Callable

    from .description import ClockDescription
    from .rows import Rows

__all__ = ["Times"]


class Times:
    """What a trace says about its clock, and what that makes of cycles."""

    def __init__(self, convert: Callable[..., int], clock: Clock | None = None) -> None:
        self._convert = convert
        self._clock = clock
        self._line = words(LINE)
        self._forget_line()

    def describe(self, clock: ClockDescription) -> None:
        """What follows is by this clock."""
        if self._clock is None:
            self._clock = Clock(clock)
        else:
            self._clock.describe(clock)
        self._forget_line()

    def read(self, body: memoryview) -> None:
        """Takes what a clock record says."""
        if len(body) >= CLOCK.size and self._clock is not None:
            self._clock.add(*CLOCK.unpack_from(body))
            self._forget_line()

    def convert(self, rows: Rows) -> None:
        """Times of the rows that have none yet, as the clock is known now."""
        at, count = rows.converted, rows.count
        rows.converted = count
        if self._clock is None:
            rows["time"][at:count] = rows["monotonic"][at:count] = 0
            return
        while at < count:
            at = self._convert(rows.address, address_of(self._line), at)
            if at < count:
                cycles = int(rows["cycles"][at])
                rows["time"][at], rows["monotonic"][at] = self._clock.convert(cycles)
                self._draw_line(self._clock)
                at += 1

    def _draw_line(self, clock: Clock) -> None:
        """Lets jitted code convert, too, what is on the clock's line at hand."""
        low, high, *numbers = clock.line
        self._line[LINE.low // 8], self._line[LINE.high // 8] = max(0, low) + BIAS, high - 1 + BIAS
        try:
            self._line[LINE.cycles // 8 :] = [signed(numbers[0]), *numbers[1:]]
        except OverflowError:  # numbers that no clock has
            self._forget_line()

    def _forget_line(self) -> None:
        self._line[LINE.low // 8], self._line[LINE.high // 8] = 0, BIAS  # good for nothing
