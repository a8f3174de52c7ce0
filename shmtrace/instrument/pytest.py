"""The pytest plugin: `--shmtrace DIR` records a run of tests, and the fixture `shmtrace_events` has a test's events.

pytest imports this module wherever shmtrace is installed, so what it needs is imported when it is used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .testing import Events

__all__ = ["shmtrace_events"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("shmtrace").addoption(
        "--shmtrace", metavar="DIR", help="record what the tests do, and their phases as spans, into DIR"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Begin before the first module of the user's is imported, which may attach a channel."""
    directory = early_config.known_args_namespace.shmtrace
    if directory and "PYTEST_XDIST_WORKER" not in os.environ:  # whose controller does it
        from contextlib import ExitStack

        from ..errors import ShmtraceError
        from ..session import record

        recording = ExitStack()
        try:
            recording.enter_context(record(directory))
        except ShmtraceError as error:
            raise pytest.UsageError(f"--shmtrace: {error}") from None
        early_config.add_cleanup(recording.close)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("shmtrace") and os.environ.get("SHMTRACE"):
        from .testing import open_phases

        open_phases(config)


@pytest.fixture
def shmtrace_events() -> Iterator[Events]:
    """The events that the test records: `.named("request")`, `.all()`, `.wait_for("job", 3)`; `.channel` takes them.

    Channels that `shmtrace.attach()` gave to modules before record here, too, and so do processes that the test starts.
    """
    from .testing import recorded_events

    with recorded_events() as events:
        yield events
