"""OpenTelemetry's SDK: an event is a span, through a BatchSpanProcessor with default settings.

Each worker sets up a provider of its own after its start, as the documentation asks for. The exporter is the SDK's
ConsoleSpanExporter, writing to a file of the worker, a line a span. The provider shuts down at exit by itself.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .peer import Recovered, plain_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "OpenTelemetry batch"
PACKAGES = ("opentelemetry-sdk",)
WARNING = "Queue full, dropping Span"
_PATTERN = "spans.*.json"


def command(directory: Path, module: str, arguments: list[str]) -> list[str]:
    """As it is."""
    del directory
    return plain_command(module, arguments)


@contextmanager
def recording(directory: Path) -> Iterator[None]:
    """Nothing happens in the main process."""
    del directory
    yield


def emitter(handed: None, directory: Path) -> Callable[[str], object]:
    """A span that ends at once, its text an attribute."""
    del handed
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    file = (directory / _PATTERN.replace("*", str(os.getpid()))).open("w")
    provider = TracerProvider()
    exporter = ConsoleSpanExporter(out=file, formatter=lambda span: f"{span.to_json(indent=None)}\n")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("job")

    def emit(text: str) -> None:
        tracer.start_span("event", attributes={"text": text}).end()

    return emit


def finish() -> None:
    """Nothing is to be done."""


def recover(directory: Path) -> Recovered:
    """A line is a span."""
    found = Recovered(())

    def texts() -> Iterator[str]:
        for path in sorted(directory.glob(_PATTERN)):
            with path.open(errors="replace") as lines:
                for line in lines:
                    try:
                        text: str = json.loads(line)["attributes"]["text"]
                    except (ValueError, KeyError):
                        found.undecodable.append(line)
                    else:
                        yield text

    found.texts = texts()
    return found
