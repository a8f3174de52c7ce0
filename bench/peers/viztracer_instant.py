"""VizTracer: log_instant with a payload.  Function tracing is off; its buffer holds all events of the run."""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.peer import Counted, Emitter, calling_with_two, text

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "VizTracer log_instant"
PACKAGES = ("viztracer",)
FIRST_EVENT = """
from viztracer import VizTracer
tracer = VizTracer(max_stack_depth=0, verbose=0)
tracer.start()
tracer.log_instant("first event")
"""
ENTRIES = 2_000_000


@contextmanager
def tracing() -> Iterator[tuple[Any, Path]]:
    """A tracer that records nothing by itself, and the file of its result."""
    from viztracer import VizTracer

    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        path = Path(directory, "result.json")
        tracer = VizTracer(
            max_stack_depth=0, verbose=0, tracer_entries=ENTRIES, output_file=str(path), ignore_c_function=True
        )
        tracer.start()
        yield tracer, path
        tracer.clear()


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """Counts the events of the file that it saves."""
    with tracing() as (tracer, path):

        def counted(_: int) -> Counted:
            tracer.stop()
            tracer.save()
            return Counted(sum(event["ph"] == "i" for event in json.loads(path.read_text())["traceEvents"]))

        yield Emitter(calling_with_two(tracer.log_instant, "event", {"blob": text(size)}), counted=counted)
