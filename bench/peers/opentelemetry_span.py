"""OpenTelemetry's SDK: a span with an attribute, through a BatchSpanProcessor with default settings.

Its exporter only counts.  What does not fit into the processor's queue is dropped with a warning that has no number.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from itertools import repeat
from typing import TYPE_CHECKING, Any

from bench.peer import Cost, Counted, Emitter, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NAME = "OpenTelemetry span, batch"
PACKAGES = ("opentelemetry-sdk",)
FIRST_EVENT = """
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
class Nowhere(SpanExporter):
    def export(self, spans):
        return SpanExportResult.SUCCESS
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(Nowhere()))
with provider.get_tracer("bench").start_as_current_span("first event"):
    pass
"""


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """As the documentation has it: `with tracer.start_as_current_span(...)`."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    logging.disable(logging.WARNING)
    exported = 0

    class Counter(SpanExporter):  # type: ignore[misc]
        def export(self, spans: Sequence[Any]) -> Any:  # noqa: ANN401
            nonlocal exported
            exported += len(spans)
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Counter()))
    tracer = provider.get_tracer("bench")
    attributes = {"blob": text(size)}

    def emit(count: int) -> Cost:
        cpu, begin = time.process_time(), time.perf_counter()
        for _ in repeat(None, count):
            with tracer.start_as_current_span("event", attributes=attributes):
                pass
        return Cost(time.perf_counter() - begin, time.process_time() - cpu)

    def counted(_: int) -> Counted:
        provider.shutdown()
        return Counted(exported)

    def settle() -> None:
        provider.force_flush()

    yield Emitter(emit, settle=settle, counted=counted)
