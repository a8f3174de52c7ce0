"""OpenTelemetry's SDK in a workload of its specification, with a SimpleSpanProcessor whose exporter only counts."""

from __future__ import annotations

import time
from contextlib import contextmanager
from itertools import repeat
from typing import TYPE_CHECKING, Any

from bench.peer import Cost, Counted, Emitter
from bench.specification import INTEGER_AND_EVENT, TEXTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

NAME = "OpenTelemetry SDK"
PACKAGES = ("opentelemetry-sdk",)


def provider() -> tuple[Any, Callable[[], int]]:
    """A provider with a processor, and what says how many spans it has exported."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

    exported = 0

    class Counter(SpanExporter):  # type: ignore[misc]
        def export(self, spans: Sequence[Any]) -> Any:  # noqa: ANN401
            nonlocal exported
            exported += len(spans)
            return SpanExportResult.SUCCESS

    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(Counter()))
    return made, lambda: exported


def spans(tracer: Any, size: int) -> Callable[[int], Cost]:  # noqa: ANN401
    """The loop of a workload."""

    def with_event(count: int) -> Cost:
        cpu, begin = time.process_time(), time.perf_counter()
        for _ in repeat(None, count):
            with tracer.start_as_current_span("span", attributes={"number": 17}) as span:
                span.add_event("event")
        return Cost(time.perf_counter() - begin, time.process_time() - cpu)

    def with_texts(count: int) -> Cost:
        cpu, begin = time.process_time(), time.perf_counter()
        for _ in repeat(None, count):
            with tracer.start_as_current_span("span", attributes=TEXTS):
                pass
        return Cost(time.perf_counter() - begin, time.process_time() - cpu)

    return with_event if size == INTEGER_AND_EVENT else with_texts


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """`size` is the workload."""
    made, exported = provider()
    yield Emitter(spans(made.get_tracer("bench"), size), counted=lambda _: Counted(exported()))
