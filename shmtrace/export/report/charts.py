"""Charts as SVG without any text in it, so that they stretch; what is to be read stands beside them, in HTML."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["area", "band", "histogram", "mini_histogram", "stacked"]

HEIGHT = 100


def stacked(layers: Sequence[tuple[str, Sequence[float]]], losses: Sequence[float], top: float) -> str:
    """Areas on each other, the first one lowest, each with the class that colours it; losses as marks from above."""
    width = len(layers[0][1]) if layers else 1
    below = [0.0] * width
    parts = []
    for name, values in layers:
        above = [low + value for low, value in zip(below, values, strict=True)]
        parts.append(f'<path class="{name}" d="{_steps(above, below, top)}"/>')
        below = above
    parts += [f'<rect class="loss" x="{at}" y="-6" width="1" height="6"/>' for at, count in enumerate(losses) if count]
    return _svg("".join(parts), width, "height:11rem")


def area(values: Sequence[float], top: float) -> str:
    """One series, of which small values still show."""
    rooted = [math.sqrt(value / top) if top else 0.0 for value in values]
    return _svg(f'<path class="k0" d="{_steps(rooted, [0.0] * len(rooted), 1)}"/>', len(values), "height:1.4rem")


def band(series: Sequence[tuple[int, float, float, float]], bins: int, low: float, high: float) -> str:
    """Means as a line, within a band from the least to the greatest."""
    span = (high - low) or 1.0

    def y(value: float) -> str:
        return _number(HEIGHT - (value - low) / span * HEIGHT)

    upper = [f"{at + 0.5} {y(most)}" for at, _, _, most in series]
    lower = [f"{at + 0.5} {y(least)}" for at, _, least, _ in reversed(series)]
    line = " ".join(f"{at + 0.5},{y(mean)}" for at, mean, _, _ in series)
    if len(series) == 1:
        line = f"0,{y(series[0][1])} {bins},{y(series[0][1])}"
    body = f'<path class="band" d="M{" L".join(upper + lower)}Z"/><polyline class="stroke" points="{line}"/>'
    return _svg(body, max(bins, 1), "height:6rem")


def histogram(buckets: Sequence[tuple[float, int]], low: float, high: float, marks: Sequence[float]) -> str:
    """How often which duration, the durations on a logarithmic scale; with marks at some durations."""
    bars = _bars(buckets, low, high, 64)
    lines = "".join(
        f'<line class="mark" x1="{_number(at)}" x2="{_number(at)}" y1="0" y2="{HEIGHT}"/>'
        for at in (_place(mark, low, high) * 64 for mark in marks)
    )
    ground = f'<line class="ground" x1="0" x2="64" y1="{HEIGHT}" y2="{HEIGHT}"/>'
    return _svg(ground + bars + lines, 64, "height:6rem")


def mini_histogram(buckets: Sequence[tuple[float, int]], low: float, high: float) -> str:
    """The same, for a row of a table."""
    return _svg(_bars(buckets, low, high, 32), 32, "", "mini")


def _bars(buckets: Sequence[tuple[float, int]], low: float, high: float, bars: int) -> str:
    counts = [0] * bars
    for begin, count in buckets:
        counts[min(int(_place(begin, low, high) * bars), bars - 1)] += count
    top = max(counts)
    return "".join(
        f'<rect class="k0" x="{at + 0.05}" y="{_number(HEIGHT - height)}" width=".9" height="{_number(height)}"/>'
        for at, count in enumerate(counts)
        if count and (height := max(4.0, count / top * HEIGHT))
    )


def _place(duration: float, low: float, high: float) -> float:
    """Where on a logarithmic scale, 0 to 1."""
    if high <= low:
        return 0.5
    return min(max(math.log(max(duration, low) / low) / math.log(high / low), 0.0), 1.0)


def _steps(above: Sequence[float], below: Sequence[float], top: float) -> str:
    """The area between two lines that have a step a bin."""

    def y(value: float) -> str:
        return _number(HEIGHT - value / (top or 1) * HEIGHT)

    there = "".join(f"V{y(value)}H{at + 1}" for at, value in enumerate(above))
    back = "".join(f"V{y(value)}H{at}" for at, value in reversed(list(enumerate(below))))
    return f"M0 {y(below[0] if below else 0)}{there}{back}Z"


def _svg(body: str, width: int, style: str, name: str = "") -> str:
    return (
        f'<svg viewBox="0 0 {width} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true"'
        f"{f' class={name}' if name else ''}{f' style={style}' if style else ''}>{body}</svg>"
    )


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
