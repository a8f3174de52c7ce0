"""What can be wrong with a trace, or with the place that it is to be written to."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ..errors import ShmtraceError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "DirectoryNotEmpty",
    "ExtraMissing",
    "InvalidDescription",
    "NoSuchTable",
    "NotATrace",
    "OutputFailed",
    "TraceDamaged",
    "TraceWarning",
    "needs_extra",
]


class NotATrace(ShmtraceError, ValueError):
    """What was given to be read holds no trace of shmtrace."""


class InvalidDescription(ShmtraceError, ValueError):
    """The metadata of a trace is not what shmtrace writes."""


class DirectoryNotEmpty(ShmtraceError):
    """A trace is recorded only into a directory of its own."""


class OutputFailed(ShmtraceError, OSError):
    """A file or directory could not be written."""


class NoSuchTable(ShmtraceError, LookupError):
    """A trace has no table of that name."""


class ExtraMissing(ShmtraceError, ImportError):
    """A package that this needs, and shmtrace does not, is not installed."""


class TraceDamaged(ShmtraceError):
    """A part of a trace could not be read, and that was not to be."""


class TraceWarning(UserWarning):
    """A part of a trace could not be read; the rest was."""


@contextlib.contextmanager
def needs_extra(extra: str, *, what: str) -> Iterator[None]:
    """Imports packages of an extra; raises ExtraMissing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ExtraMissing(
            f"{what} needs {error.name}, which is not installed: pip install 'shmtrace[{extra}]'"
        ) from None
