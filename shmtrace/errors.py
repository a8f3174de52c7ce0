"""Every exception that shmtrace raises by name.  Each message says what was wrong, where, and what to do."""

from __future__ import annotations

__all__ = [
    "ChannelBusy",
    "ChannelError",
    "ChannelExists",
    "ChannelForeign",
    "ChannelIncompatible",
    "ChannelNotFound",
    "ChannelNotStreamed",
    "ChannelRemoved",
    "CollectorRunning",
    "InvalidGeometry",
    "InvalidName",
    "NotEnoughSharedMemory",
    "PythonUnsupported",
    "RecorderRunning",
    "RuntimeDirectoryError",
    "SharedMemoryUnavailable",
    "ShmtraceError",
    "TooManyTracepoints",
    "TracepointConflict",
]


class ShmtraceError(Exception):
    """The base of all errors of shmtrace."""


class ChannelError(ShmtraceError):
    """Something about a channel."""


class ChannelNotFound(ChannelError, LookupError):
    """There is no channel of that name."""


class ChannelExists(ChannelError):
    """A channel of that name exists already."""


class ChannelBusy(ChannelError):
    """A reader has the channel open."""


class ChannelRemoved(ChannelError):
    """The channel was removed while it was being used."""


class ChannelForeign(ChannelError, PermissionError):
    """The name belongs to another user, or what lies under it is not a channel's."""


class ChannelIncompatible(ChannelError):
    """The channel was made by another version of shmtrace, on another boot, or is damaged."""


class ChannelNotStreamed(ChannelError):
    """The channel is a flight recorder (mode "overwrite"): nothing leaves through a FIFO; take a snapshot."""


class TracepointConflict(ShmtraceError, ValueError):
    """Two event classes of one name differ in kind or fields."""


class TooManyTracepoints(ShmtraceError, MemoryError):
    """The channel has no room for another event class."""


class CollectorRunning(ChannelError):
    """The channel has a collector already."""


class RecorderRunning(ChannelError):
    """The channel's FIFO has a recorder or tail already."""


class InvalidName(ShmtraceError, ValueError):
    """Not a name that a channel or tracepoint can have."""


class InvalidGeometry(ShmtraceError, ValueError):
    """Sizes that a channel cannot have."""


class NotEnoughSharedMemory(ShmtraceError, MemoryError):
    """The file system of shared memory has no room for the channel."""


class SharedMemoryUnavailable(ShmtraceError, OSError):
    """The machine has no POSIX shared memory."""


class RuntimeDirectoryError(ShmtraceError, OSError):
    """The directory of the FIFOs is not a private directory of this user."""


class PythonUnsupported(ShmtraceError):
    """This interpreter keeps its objects in a way that shmtrace does not know."""
