"""os.write to a file opened with O_APPEND, which all processes of a program may share."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.peer import Counted, Emitter, calling_with_two

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "os.write to a file, O_APPEND"


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """The file's length tells how many there are."""
    with tempfile.NamedTemporaryFile(prefix="bench-") as file:
        descriptor = os.open(file.name, os.O_WRONLY | os.O_APPEND)
        yield Emitter(
            calling_with_two(os.write, descriptor, bytes(size)),
            counted=lambda _: Counted(os.fstat(descriptor).st_size // size),
        )
        os.close(descriptor)
