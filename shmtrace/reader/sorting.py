"""A stream in the order of time: its packets as a directory, whose lanes are merged when they are read."""

from __future__ import annotations

import os
import pathlib
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from .files import open_file, parsed
from .recorder import Recorder
from .stream import Skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["in_order"]


@contextmanager
def in_order(source: str | os.PathLike[str] | BinaryIO, warn: Callable[[str], None]) -> Iterator[pathlib.Path]:
    """The directory of a trace; of a stream, one that is there during the block.

    Raises:
        NotATrace: the source cannot be opened or holds no trace.
        OutputFailed: there is no room for the directory.
    """
    if isinstance(source, (str, os.PathLike)):
        path = pathlib.Path(source)
        if path.is_dir():
            yield path
            return
        with open_file(path) as file, _sorted(file, str(path), warn) as directory:
            yield directory
        return
    with _sorted(source, str(getattr(source, "name", "stream")), warn) as directory:
        yield directory


@contextmanager
def _sorted(source: BinaryIO, place: str, warn: Callable[[str], None]) -> Iterator[pathlib.Path]:
    with tempfile.TemporaryDirectory(prefix="shmtrace-") as scratch:
        directory = pathlib.Path(scratch) / "trace"
        with Recorder(directory, delivered=lambda: 0) as recorder:
            for items in parsed(source, place):
                for item in items:
                    if isinstance(item, Skipped):
                        warn(f"{place}: byte {item.offset}: {item.size} bytes skipped: {item.why}")
                recorder.add(items)
                if recorder.failure is not None:
                    raise recorder.failure
        yield directory
