"""The floor of a tracer in C: time stamp, header and memcpy into a ring in memory, without any reader."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench import native

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peer import Emitter

NAME = "rdtsc + memcpy into a ring"
LANGUAGE = "C"
missing = native.missing


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """Nobody counts."""
    with native.built("ring.c") as program, native.emitter(program, size) as emitter:
        yield emitter
