"""The floor: what a call of a builtin costs that does nothing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.peer import Emitter, calling

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "len(b)"


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """Nothing is recorded."""
    yield Emitter(calling(len, bytes(size)))
