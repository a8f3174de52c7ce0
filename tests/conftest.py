"""What all tests share: a runtime directory and names of channels of their own, and that nothing is left behind."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import time
from multiprocessing import forkserver, resource_tracker
from typing import TYPE_CHECKING

import pytest

import leftovers
from shmtrace import place
from shmtrace.channel import when_attached
from shmtrace.native.tables import PLACE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_numbers = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def runtime_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of the FIFOs, for this test run and every process that it starts."""
    directory = tmp_path_factory.mktemp("fifos")
    directory.chmod(0o700)
    mark = os.environ.setdefault("SHMTRACE_TEST_RUN", str(os.getpid()))
    leftovers.sweep()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHMTRACE_DIR", str(directory))
        patch.delenv("SHMTRACE", raising=False)
        yield directory
    for helper in (forkserver._forkserver, resource_tracker._resource_tracker):  # they would live as long as pytest
        stop: Callable[[], None] = getattr(helper, "_stop")  # noqa: B009 - typeshed does not have it
        stop()
    limit = time.monotonic() + 5
    while (pids := leftovers.processes(mark)) and time.monotonic() < limit:
        time.sleep(0.05)
    objects = leftovers.shared_memory(os.getpid())
    leftovers.end(pids)
    for path in objects:
        path.unlink(missing_ok=True)
    assert not pids, f"processes left by tests: {pids}"
    assert not objects, f"shared memory left by tests: {[path.name for path in objects]}"
    assert not list(directory.iterdir()), f"left in the runtime directory: {list(directory.iterdir())}"


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """A command that a test runs in this process sets them for good; later workers must not have these."""
    numbers = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def no_context_is_left() -> Iterator[None]:
    """A context that a test sets would be that of all that follow, and their blobs would name it."""
    number, definition = place.number(PLACE.context, 4), place.defined.get(place.NOTHING)
    yield
    when_attached.clear()
    if place.number(PLACE.context, 4) != number:
        place.set_context(number, definition)


@pytest.fixture
def new_name(runtime_directory: Path) -> Iterator[Callable[[], str]]:
    """Makes names of channels that nobody else uses; what lies under them afterwards is removed."""
    names: list[str] = []

    def make() -> str:
        names.append(f"t{os.getpid()}-{next(_numbers)}")
        return names[-1]

    yield make
    for name in names:
        segment = f"shmtrace.{os.getuid()}.{name}"
        for path in leftovers.shared_memory(os.getpid()):
            if path.name in {segment, f"sem.{segment}.full", f"sem.{segment}.waiting"}:
                path.unlink(missing_ok=True)
        for path in runtime_directory.glob(f"{name}*"):
            if path.name == name or path.name.startswith(f"{name}."):
                path.unlink(missing_ok=True)


@pytest.fixture
def channel_name(new_name: Callable[[], str]) -> str:
    """A name of a channel that nobody else uses; what lies under it afterwards is removed."""
    return new_name()


@pytest.fixture
def peer() -> Callable[[str], str]:
    """Finds a program of others; without it the test is skipped, or fails under `tools/test --peers`."""

    def find(program: str) -> str:
        path = shutil.which(program)
        if path is None:
            if os.environ.get("SHMTRACE_PEERS"):
                pytest.fail(f"{program} is required by tools/test --peers, but it is not installed")
            pytest.skip(f"needs {program}")
        return path

    return find


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Heavy tests run only when asked for."""
    if not os.environ.get("SHMTRACE_ALL"):
        for item in items:
            if item.get_closest_marker("heavy"):
                item.add_marker(pytest.mark.skip(reason="heavy: tools/test --all runs it"))
