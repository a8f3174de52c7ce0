"""Cycles to nanoseconds, along a line of the clock, in jitted code."""

from __future__ import annotations

from . import primitives as do
from . import rows as shared
from .primitives import frozen, inlined, load64, store64

ROWS, LINE, BIAS, LAST_KEY = frozen(shared.ROWS), frozen(shared.LINE), shared.BIAS, shared.LAST_KEY
INEXACT = 2.0**-50  # a quotient of doubles is off by less than this part of it
SAFE = 2.0**62


@inlined
def reach(factor: float, divisor: float) -> float:
    """How many cycles from its point a line may be followed by `scaled`.

    So far the quotient of doubles is off by so little that the rest, which is that times the divisor, is an i64, and
    quotients can be added to each other and to where the point is.
    """
    exact = (SAFE / divisor - 4.0) / INEXACT
    return min(exact, SAFE / 8.0) / max(abs(factor) / divisor, 1.0)


@inlined
def scaled(number: int, factor: int, divisor: int, ratio: float) -> int:
    """`number * factor // divisor`, exact within `reach`."""
    result = int(float(number) * ratio)
    rest = do.minus(do.times(number, factor), do.times(result, divisor))  # both overflow alike
    while rest < 0:
        result -= 1
        rest += divisor
    while rest >= divisor:
        result += 1
        rest -= divisor
    return result


def convert(rows: int, line: int, at: int) -> int:
    """Times of the rows from `at` on; the first of them that is not on the line, or the number of rows."""
    count = load64(rows + ROWS.count)
    all_cycles, walls, steady = (
        load64(rows + ROWS.cycles), load64(rows + ROWS.time), load64(rows + ROWS.monotonic),
    )  # fmt: skip
    low, high, point = load64(line + LINE.low), load64(line + LINE.high), load64(line + LINE.cycles) ^ BIAS
    rise, run, drift = load64(line + LINE.rise), load64(line + LINE.run), load64(line + LINE.drift)
    monotonic, offset = load64(line + LINE.monotonic), load64(line + LINE.offset)
    if run <= 0 or abs(float(monotonic)) >= SAFE / 4.0 or abs(float(offset)) >= SAFE:
        return at  # there is no line yet, or it is that of no clock
    rising, drifting = float(rise) / float(run), float(drift) / float(run)
    far = int(max(0.0, min(reach(float(rise), float(run)), reach(float(drift), float(run)))))
    if point >= BIAS + far:
        low = max(low, point - far)
    if point <= LAST_KEY - far:
        high = min(high, point + far)
    while at < count:
        key = load64(all_cycles + 8 * at) ^ BIAS
        if key < low or key > high:
            break
        gone = key - point
        time = monotonic + scaled(gone, rise, run, rising)
        store64(steady + 8 * at, time)
        store64(walls + 8 * at, time + offset + scaled(gone, drift, run, drifting))
        at += 1
    return at
