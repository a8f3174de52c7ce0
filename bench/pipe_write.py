"""os.write to a pipe that a process drains: the simplest way to get bytes to another process."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "os.write to a pipe"


@contextmanager
def running() -> Iterator[Callable[[bytes], object]]:
    """What is called with a blob."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as reader:
        assert reader.stdin is not None
        yield partial(os.write, reader.stdin.fileno())
