"""VizTracer: the job runs under its command, which follows the processes; an event is `log_instant`.

`--max_stack_depth 0` keeps it from tracing functions, which nobody asked for here. All else is its default.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .peer import Recovered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "VizTracer"
PACKAGES = ("viztracer",)
WARNING = "Circular buffer is full"
_FILE = "result.json"


def command(directory: Path, module: str, arguments: list[str]) -> list[str]:
    """Its command."""
    options = ["--max_stack_depth", "0", "-o", str(directory / _FILE)]
    return [sys.executable, "-m", "viztracer", *options, "-m", module, "--", *arguments]


@contextmanager
def recording(directory: Path) -> Iterator[None]:
    """Nothing is to be done: it hooks into the start of processes."""
    del directory
    yield


def emitter(handed: None, directory: Path) -> Callable[[str], object]:
    """An instant event of the tracer that it made for this process."""
    del handed, directory
    from viztracer import get_tracer

    emit: Callable[[str], object] = get_tracer().log_instant
    return emit


def finish() -> None:
    """Nothing is to be done."""


def recover(directory: Path) -> Recovered:
    """The instant events of the file into which it merges those of all processes at the end."""
    path = directory / _FILE
    if not path.exists():
        return Recovered((), ["there is no result"])
    try:
        events = json.loads(path.read_text(errors="replace"))["traceEvents"]
    except (ValueError, KeyError):
        return Recovered((), ["the result is not its JSON"])
    return Recovered([event["name"] for event in events if event["ph"] == "i"])
