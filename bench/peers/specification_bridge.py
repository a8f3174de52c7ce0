"""The same SDK with the same processor, and beside it the one that records: what that adds."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.peers.shmtrace_event import channel, collected, of_records

from .specification_sdk import PACKAGES, provider, spans

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peer import Emitter

__all__ = ["NAME", "PACKAGES", "running"]

NAME = "the same, and shmtrace's processor"


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """`size` is the workload."""
    from shmtrace.instrument.opentelemetry import SpanProcessor

    with channel() as made, collected(made):
        sdk, _ = provider()
        sdk.add_span_processor(SpanProcessor(made))
        yield of_records(made, size, 2, spans(sdk.get_tracer("bench"), size))
