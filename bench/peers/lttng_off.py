"""LTTng-UST: a tracepoint in a C program that no session has enabled."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench import lttng, native

from .lttng_c import LIBRARIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peer import Emitter

NAME = "LTTng-UST tracepoint, no session"
LANGUAGE = "C"
missing = lttng.missing_for_c
serving = lttng.daemon


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """Nothing is recorded."""
    with native.built("lttng.c", "-DUNUSED", *LIBRARIES) as program, native.emitter(program, size) as emitter:
        yield emitter
