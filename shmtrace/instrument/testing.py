"""What the pytest plugin does once somebody wants it: phases of tests as spans, and the events of a test."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from .. import place
from ..channel import create_channel, remove_channel
from ..errors import ShmtraceError
from ..reader import read
from .redirect import redirected
from .spans import Pairs, next_number

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from ..channel import Channel
    from ..reader import Record
    from .spans import Pair

__all__ = ["Events", "Phases", "recorded_events"]

POLL_S = 0.02
_END = "outcome:u8{passed=0,failed=1,skipped=2,xfailed=3,xpassed=4,interrupted=5} exception:str"
_OUTCOMES = {name: number for number, name in enumerate(("passed", "failed", "skipped", "xfailed", "xpassed"))}
INTERRUPTED = len(_OUTCOMES)
_numbers = itertools.count(1)


class Phases:
    """A plugin that records setup, call and teardown of each test as a span."""

    def __init__(self, channel: Channel) -> None:
        self._pairs = Pairs(channel, "test:str", _END)
        self._open: tuple[Pair, int] | None = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        self._begin("test setup", item)
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        self._begin("test call", item)
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        self._begin("test teardown", item)
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # what skips and expected failures make of an outcome is known here
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        outcome: str = report.outcome
        if hasattr(report, "wasxfail"):
            outcome = {"skipped": "xfailed", "passed": "xpassed"}.get(outcome, outcome)
        self._end(_OUTCOMES.get(outcome, 0), call.excinfo.typename if call.excinfo is not None else "")
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        try:
            return (yield)
        finally:
            self._end(INTERRUPTED, "")

    def _begin(self, name: str, item: pytest.Item) -> None:
        pair = self._pairs.get(name)
        if pair is not None:
            self._open = pair, next_number()
            pair.begin(self._open[1], item.nodeid)
            place.enter(self._open[1], pair.identifier)

    def _end(self, outcome: int, exception: str) -> None:
        if self._open is not None:
            pair, number = self._open
            self._open = None
            place.leave(number)
            pair.end(number, outcome, exception)


class Events:
    """What was recorded in a test so far, by this process and those that it started."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel  #: to which `$SHMTRACE` and what was attached before lead

    def all(self) -> list[Record]:
        """The records, oldest first, of every kind.  Raises ShmtraceError if there were too many to keep them all."""
        with tempfile.TemporaryDirectory(prefix="shmtrace-") as directory:
            self.channel.snapshot(directory)
            records = list(read(directory))
        lost = [record for record in records if record.kind == "loss"]
        if lost:
            raise ShmtraceError(
                f"the test has recorded more than its channel holds: {lost[0].fields}; look at them earlier, or record "
                "the test with --shmtrace DIR"
            )
        return records

    def named(self, name: str) -> list[Record]:
        """Those of one name: of a tracepoint, span, counter or log."""
        return [record for record in self.all() if record.name == name]

    def wait_for(self, name: str, count: int = 1, timeout_s: float = 10.0) -> list[Record]:
        """Those of one name, once there are so many: other processes may still be at it.  Raises TimeoutError."""
        limit = time.monotonic() + timeout_s
        while len(found := self.named(name)) < count:
            if time.monotonic() > limit:
                names = sorted({record.name for record in self.all()})
                raise TimeoutError(
                    f"{len(found)} records {name!r} within {timeout_s:g} s, not {count}; there are: "
                    f"{', '.join(names) or 'none'}"
                )
            time.sleep(POLL_S)
        return found


@contextmanager
def recorded_events() -> Iterator[Events]:
    """A channel for the length of a test."""
    name = f"test-{os.getpid()}-{next(_numbers)}"
    with create_channel(name, mode="overwrite") as channel:
        try:
            with redirected(channel, os.environ.get("SHMTRACE")):
                yield Events(channel)
        finally:
            remove_channel(name)


def open_phases(config: Any) -> None:
    """Record the phases of the tests that this process runs."""
    from ..channel import open_channel

    channel = open_channel(os.environ["SHMTRACE"])  # which no test leads elsewhere
    config.pluginmanager.register(Phases(channel), "shmtrace phases")
