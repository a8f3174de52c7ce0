"""Counts over time when nobody knows ahead how long it takes: bins that become wider as time goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ...reader.rows import Array

__all__ = ["BINS", "Axis", "Table"]

BINS = 512
FINEST_NS = 1 << 14


class Axis:
    """BINS bins of one width from an origin on.  Its tables follow when the bins become wider, or begin earlier."""

    def __init__(self) -> None:
        self.origin = 0
        self.width_ns = FINEST_NS
        self._last: int | None = None
        self._tables: list[Table] = []

    def table(self, merge: Any = np.add, fill: float = 0, dtype: str = "i8") -> Table:  # noqa: ANN401 - an ufunc
        """A new table; `merge` makes one bin of two."""
        made = Table(merge, fill, dtype)
        self._tables.append(made)
        return made

    @property
    def used(self) -> int:
        """Bins from the origin to the last time."""
        return 0 if self._last is None else (self._last - self.origin) // self.width_ns + 1

    def bins_of(self, times: Array) -> Array:
        """The bins of some times (ns), of which there is one at least."""
        low, high = int(times.min()), int(times.max())
        if self._last is None:
            self.origin = self._last = low
        self._last = max(self._last, high)
        while True:
            shift = max(0, -((low - self.origin) // self.width_ns))
            if self._last - (self.origin - shift * self.width_ns) < BINS * self.width_ns:
                break
            self.width_ns *= 2
            for table in self._tables:
                table.halve()
        if shift:
            self.origin -= shift * self.width_ns
            for table in self._tables:
                table.shift(shift)
        return (times - self.origin) // self.width_ns


class Table:
    """Rows of BINS numbers."""

    def __init__(self, merge: Any, fill: float, dtype: str) -> None:  # noqa: ANN401 - an ufunc
        self._merge, self._fill = merge, fill
        self.rows = np.full((0, BINS), fill, dtype)

    def add(self, rows: Array, bins: Array, values: Array | int = 1) -> None:
        """Merges a value into the bin of each row."""
        if len(rows) == 0:
            return
        need = int(rows.max()) + 1
        if need > len(self.rows):
            more = np.full((max(need, 2 * len(self.rows)), BINS), self._fill, self.rows.dtype)
            more[: len(self.rows)] = self.rows
            self.rows = more
        if self._merge is np.add and isinstance(values, int):
            counts = np.bincount(rows * BINS + bins, minlength=self.rows.size)
            self.rows += counts.reshape(self.rows.shape)
        else:
            self._merge.at(self.rows, (rows, bins), values)

    def halve(self) -> None:
        """Two bins become one."""
        merged = self._merge.reduce(self.rows.reshape(len(self.rows), BINS // 2, 2), axis=2)
        self.rows = np.full_like(self.rows, self._fill)
        self.rows[:, : BINS // 2] = merged

    def shift(self, bins: int) -> None:
        """So many bins come before the first."""
        moved = np.full_like(self.rows, self._fill)
        moved[:, bins:] = self.rows[:, : BINS - bins]
        self.rows = moved

    def row(self, number: int, used: int) -> Array:
        """The first bins of a row, which need not be there yet."""
        if number < len(self.rows):
            return self.rows[number, :used]
        return np.full(used, self._fill, self.rows.dtype)
