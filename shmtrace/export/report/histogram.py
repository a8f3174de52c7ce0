"""Durations in buckets: 32 for each power of two, so that a percentile is right to within 1.6 percent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ...reader.rows import Array

__all__ = ["Histograms", "bucket_begin", "buckets_of"]

STEPS = 32
BUCKETS = 64 * STEPS


def buckets_of(durations: Array) -> Array:
    """The bucket of each duration (ns, not negative)."""
    mantissa, exponent = np.frexp(durations.astype(np.float64))
    found = (exponent - 1) * STEPS + ((2 * mantissa - 1) * STEPS).astype(np.int64)
    clipped: Array = np.clip(found, 0, BUCKETS - 1)
    return clipped


def bucket_begin(bucket: int) -> float:
    """The least duration of a bucket, in ns."""
    return float(2.0 ** (bucket // STEPS)) * (1 + bucket % STEPS / STEPS)


class Histograms:
    """A histogram a row, and what is exact: count, sum, least and greatest."""

    def __init__(self, rows: int) -> None:
        self.buckets = np.zeros((rows, BUCKETS), np.int64)
        self.count, self.total = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
        self.least, self.most = np.full(rows, np.iinfo(np.int64).max), np.zeros(rows, np.int64)

    def add(self, rows: Array, durations: Array) -> None:
        """One more duration for each of the rows."""
        np.add.at(self.buckets, (rows, buckets_of(durations)), 1)
        np.add.at(self.count, rows, 1)
        np.add.at(self.total, rows, durations)
        np.minimum.at(self.least, rows, durations)
        np.maximum.at(self.most, rows, durations)

    def percentile(self, row: int, share: float) -> int:
        """The duration below which so many are, in ns: the middle of its bucket."""
        bucket = int(np.searchsorted(np.cumsum(self.buckets[row]), max(1, np.ceil(share * self.count[row]))))
        middle = (bucket_begin(bucket) + bucket_begin(bucket + 1)) / 2
        return int(min(max(middle, self.least[row]), self.most[row]))
