"""Which begins and ends of spans belong together.

A span ends with the first end of its number that follows its begin, unless another begins before: a program that was
there before exec gives numbers from 1 on, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..reader.rows import Array

__all__ = ["ENOUGH", "Pairs", "pairs_of"]

ENOUGH = 1 << 16  # records are paired so many at a time, or as many as there are open spans: so time is linear


class Pairs(NamedTuple):
    """Rows of records, each list in the order in which the spans began."""

    begins: Array  # that have ends
    ends: Array  # of these
    replaced: Array  # begins that another begin of their number follows
    open: Array  # begins that nothing of their number follows


def pairs_of(keys: Sequence[Array], is_end: Array) -> Pairs:
    """Pairs records that come in order.  Those of which all keys are the same are of one span, or of one number.

    The last key is sorted by first, as `numpy.lexsort` does it.
    """
    order = np.lexsort(keys)  # stable: those of one number stay in order
    same = np.ones(max(len(order) - 1, 0), np.bool_)
    for key in keys:
        ordered = key[order]
        same &= ordered[1:] == ordered[:-1]
    ends = is_end[order]
    followed = np.append(same, False)[: len(order)]
    ended = ~ends & followed & np.append(ends[1:], False)[: len(order)]
    pairs = np.flatnonzero(ended)
    pairs = pairs[np.argsort(order[pairs])]
    replaced, still_open = np.sort(order[~ends & followed & ~ended]), np.sort(order[~ends & ~followed])
    return Pairs(order[pairs], order[pairs + 1], replaced, still_open)
