"""What the tests of the bridges share."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

import shmtrace
from instrument.recorded import Recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def recorded(channel_name: str, tmp_path: Path) -> Iterator[Recorded]:
    """A channel that records without a reader."""
    with shmtrace.create_channel(channel_name, mode="overwrite", page_size=16384, pages=256) as channel:
        yield Recorded(channel, tmp_path)
    shmtrace.remove_channel(channel_name)


@pytest.fixture
def package() -> Callable[[str], None]:
    """A package of others; without it the test is skipped, or fails under `tools/test --all`."""

    def need(name: str) -> None:
        if find_spec(name) is None:
            if os.environ.get("SHMTRACE_ALL"):
                pytest.fail(f"{name} is required by tools/test --all, but it is not installed")
            pytest.skip(f"needs {name}")

    return need
