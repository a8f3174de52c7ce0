"""Trace events of Python processes, through per-cpu pages in shared memory, as a CTF stream from a FIFO.

PYTEST_DONT_REWRITE: there is a plugin for pytest in here, and whoever calls pytest may have imported this before.
"""

TYPE_CHECKING = False  # importing typing costs more than all the rest of this module

__version__ = "0.1.0"

__all__ = [
    "Channel",
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
    "attach",
    "create_channel",
    "open_channel",
    "read",
    "record",
    "remove_channel",
]

if TYPE_CHECKING:
    from shmtrace.channel import Channel, attach, create_channel, open_channel, remove_channel
    from shmtrace.errors import (
        ChannelBusy,
        ChannelError,
        ChannelExists,
        ChannelForeign,
        ChannelIncompatible,
        ChannelNotFound,
        ChannelNotStreamed,
        ChannelRemoved,
        CollectorRunning,
        InvalidGeometry,
        InvalidName,
        NotEnoughSharedMemory,
        PythonUnsupported,
        RecorderRunning,
        RuntimeDirectoryError,
        SharedMemoryUnavailable,
        ShmtraceError,
        TooManyTracepoints,
        TracepointConflict,
    )
    from shmtrace.reader import read
    from shmtrace.session import record

_CHANNEL = frozenset({"Channel", "attach", "create_channel", "open_channel", "remove_channel"})
_MODULES = {"read": "reader", "record": "session"}  # every other public name is an error's


def __getattr__(name: str) -> object:
    """Import what a program uses when it uses it: a producer pays for neither reader nor session."""
    if name not in __all__:
        raise AttributeError(f"module 'shmtrace' has no attribute {name!r}")
    module = "channel" if name in _CHANNEL else _MODULES.get(name, "errors")
    value: object = getattr(__import__(f"shmtrace.{module}", fromlist=[name]), name)  # importlib would be imported
    globals()[name] = value
    return value


def load_ipython_extension(shell: object) -> None:
    """`%load_ext shmtrace`, which gives the magic `%%shmtrace`."""
    from shmtrace.instrument.ipython import load

    load(shell)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
