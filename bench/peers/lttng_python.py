"""LTTng-UST's agent for Python: a logger whose records go through a library in C into a session.

Debian's python3-lttngust belongs to the system's Python.  It is pure Python over a shared library, so any interpreter
can import it from there, and is made to.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench import lttng
from bench.peer import Emitter, calling, text

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "LTTng-UST Python agent"
DIRECTORY = Path("/usr/lib/python3/dist-packages/lttngust")
IMPORT = f"""
import importlib.util, logging, sys
spec = importlib.util.spec_from_file_location("lttngust", "{DIRECTORY}/__init__.py")
sys.modules["lttngust"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
logger = logging.getLogger("shmtrace_bench")
logger.setLevel(logging.INFO)
"""
FIRST_EVENT = f"""
{IMPORT}
logger.info("first event")
"""
serving = lttng.daemon


def missing() -> str | None:
    """Why it cannot run here; None if it can."""
    return lttng.missing() or (None if DIRECTORY.exists() else "python3-lttngust is not installed")


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """The agent's channel has LTTng's default sizes."""
    with lttng.session("--python", "shmtrace_bench") as session:
        exec(compile(IMPORT, "agent", "exec"), {})  # noqa: S102 - imports the package from where it is
        logger = logging.getLogger("shmtrace_bench")
        while not logging.getLogger().handlers:  # the daemon enables it by and by
            time.sleep(0.01)
        yield Emitter(calling(logger.info, text(size)), counted=session.counted)
