"""os.write to a pipe that a process drains: the simplest way to get bytes to another process."""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bench.peer import Emitter, calling_with_two

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "os.write to a pipe"


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """Events of up to 4096 bytes are written whole."""
    read_end, write_end = os.pipe()
    yield Emitter(
        calling_with_two(os.write, write_end, bytes(size)),
        send=partial(os.write, write_end),
        receive=partial(os.read, read_end, 1 << 16),
    )
    os.close(read_end)
    os.close(write_end)
