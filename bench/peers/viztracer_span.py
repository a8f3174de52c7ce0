"""VizTracer: `with tracer.log_event(...)`, a span."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from itertools import repeat
from typing import TYPE_CHECKING

from bench.peer import Cost, Counted, Emitter, text

from .viztracer_instant import PACKAGES, tracing

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NAME", "PACKAGES", "running"]

NAME = "VizTracer log_event, a span"


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """Its name is the payload."""
    with tracing() as (tracer, path):
        name = text(size)

        def emit(count: int) -> Cost:
            cpu, begin = time.process_time(), time.perf_counter()
            for _ in repeat(None, count):
                with tracer.log_event(name):
                    pass
            return Cost(time.perf_counter() - begin, time.process_time() - cpu)

        def counted(_: int) -> Counted:
            tracer.stop()
            tracer.save()
            events = json.loads(path.read_text())["traceEvents"]
            return Counted(sum(event["ph"] in {"X", "B"} and event["name"].startswith(name[:8]) for event in events))

        yield Emitter(emit, counted=counted)
