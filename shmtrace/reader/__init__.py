"""Reads what comes out of a channel: a stream from its FIFO, or the directory in which it was recorded."""

from __future__ import annotations

from .errors import DirectoryNotEmpty, InvalidDescription, NotATrace, OutputFailed, TraceWarning
from .records import Record, read

__all__ = [
    "DirectoryNotEmpty",
    "InvalidDescription",
    "NotATrace",
    "OutputFailed",
    "Record",
    "TraceWarning",
    "read",
]
