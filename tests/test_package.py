"""The public face of the package."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

import commands
import shmtrace
from shmtrace import errors

ROOT = Path(__file__).parent.parent


def test_every_public_name_is_there() -> None:
    for name in shmtrace.__all__:
        assert getattr(shmtrace, name) is not None
    assert set(shmtrace.__all__) <= set(dir(shmtrace))


def test_every_exception_is_public() -> None:
    assert set(errors.__all__) <= set(shmtrace.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'frobnicate'"):
        shmtrace.frobnicate  # noqa: B018


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert shmtrace.__version__ == project["version"]


def test_importing_the_package_imports_next_to_nothing() -> None:
    program = "import sys; before = set(sys.modules); import shmtrace; print(sorted(set(sys.modules) - before))"
    assert commands.run("-c", program, command=[sys.executable]).stdout == "['shmtrace']\n"


def test_a_trace_can_be_read_without_the_compiler() -> None:
    program = "import sys, shmtrace; shmtrace.read; print('numba' in sys.modules)"
    assert commands.run("-c", program, command=[sys.executable]).stdout == "False\n"
