"""LTTng-UST: a tracepoint with a sequence of bytes in a C program, a session recording to files."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench import lttng, native

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peer import Emitter

NAME = "LTTng-UST tracepoint"
LANGUAGE = "C"
LIBRARIES = ("-llttng-ust", "-llttng-ust-common", "-ldl")
missing = lttng.missing_for_c
serving = lttng.daemon


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """Its events are counted by babeltrace2 in the trace that it wrote."""
    with (
        native.built("lttng.c", *LIBRARIES) as program,
        lttng.session("--userspace", "shmtrace_bench:blob") as session,
        native.emitter(program, size, "recorded") as emitter,
    ):
        emitter.counted = session.counted
        yield emitter
