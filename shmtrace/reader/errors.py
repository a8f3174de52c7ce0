"""What can be wrong with a trace, or with the place that it is to be written to."""

from __future__ import annotations

from ..errors import ShmtraceError

__all__ = ["DirectoryNotEmpty", "InvalidDescription", "NotATrace", "OutputFailed", "TraceWarning"]


class NotATrace(ShmtraceError, ValueError):
    """What was given to be read holds no trace of shmtrace."""


class InvalidDescription(ShmtraceError, ValueError):
    """The metadata of a trace is not what shmtrace writes."""


class DirectoryNotEmpty(ShmtraceError):
    """A trace is recorded only into a directory of its own."""


class OutputFailed(ShmtraceError, OSError):
    """A file or directory could not be written."""


class TraceWarning(UserWarning):
    """A part of a trace could not be read; the rest was."""
