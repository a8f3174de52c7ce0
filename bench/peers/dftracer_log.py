"""DFTracer: log_event with a payload, into its compressed trace; its buffer is on and the trace is written."""

from __future__ import annotations

import gzip
import os
import tempfile
import time
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

from bench.peer import Cost, Counted, Emitter, text

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "DFTracer log_event"
PACKAGES = ("dftracer",)
BUFFER_BYTES = 1 << 24
NAME_OF_EVENT = "bench-event"


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """Counts the events of the trace."""
    os.environ |= {
        "DFTRACER_ENABLE": "1",
        "DFTRACER_INIT": "FUNCTION",
        "DFTRACER_DISABLE_IO": "1",  # no interception of file accesses
        "DFTRACER_INC_METADATA": "1",  # arguments are written
        "DFTRACER_TRACE_COMPRESSION": "1",
        "DFTRACER_WRITE_BUFFER_SIZE": str(BUFFER_BYTES),
    }
    from dftracer.python import dftracer

    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        log = dftracer.initialize_log(logfile=str(directory / "trace"), data_dir="all", process_id=-1)
        profiler = dftracer.get_instance()
        payload: dict[str, tuple[int, int | float | str]] = {"blob": (0, text(size))}

        def emit(count: int) -> Cost:
            cpu, begin = time.process_time(), time.perf_counter()
            for _ in repeat(None, count):
                profiler.enter_event()
                profiler.log_event(NAME_OF_EVENT, "bench", profiler.get_time(), 0, string_args=payload)
                profiler.exit_event()
            return Cost(time.perf_counter() - begin, time.process_time() - cpu)

        def counted(_: int) -> Counted:
            log.finalize()
            found = 0
            for path in directory.iterdir():
                with gzip.open(path, "rb") as trace:
                    found += sum(NAME_OF_EVENT.encode() in line for line in trace)
            return Counted(found)

        yield Emitter(emit, counted=counted)
