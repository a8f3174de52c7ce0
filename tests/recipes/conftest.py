"""Recipes are found by the name of their page; their commands find the programs that are installed beside Python."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Recipe]:
    """Takes a page's programs out of it."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore::DeprecationWarning")  # fork beside threads
    return lambda page: Recipe(page, tmp_path)


@pytest.fixture
def needs() -> Callable[[str], None]:
    """A module of others; without it the test is skipped, or fails under `tools/test --all`."""

    def look(module: str) -> None:
        if importlib.util.find_spec(module) is None:
            if os.environ.get("SHMTRACE_ALL"):
                pytest.fail(f"{module} is required by tools/test --all, but it is not installed")
            pytest.skip(f"needs {module}")

    return look
