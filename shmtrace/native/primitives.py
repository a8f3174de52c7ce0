"""What code that runs with numba and without it is made of: of intrinsics.py and lanes.py, else of plain.py."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .plain import has_numba

_source: Any = import_module(f"{__package__}.{'intrinsics' if has_numba() else 'plain'}")
_shape: Any = import_module(f"{__package__}.{'lanes' if has_numba() else 'plain'}")

frozen = _source.frozen
load8, load16, load32, load64, get64 = _source.load8, _source.load16, _source.load32, _source.load64, _source.get64
store8, store16, store32, store64 = _source.store8, _source.store16, _source.store32, _source.store64
put64, copy, move4, move8, move16 = _source.put64, _source.copy, _source.move4, _source.move8, _source.move16
times, minus, plus, high = _source.times, _source.minus, _source.plus, _source.high
swapped, as_double, text, room = _source.swapped, _source.as_double, _source.text, _source.room
first_zero = _source.first_zero
apart, inlined, padded = _shape.apart, _shape.inlined, _shape.padded
