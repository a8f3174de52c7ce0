"""Snapshots on occasion: when an exception is not handled, when a signal arrives."""

from __future__ import annotations

import itertools
import os
import signal as signals
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .notes import say

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from .channel import Channel

_numbers = itertools.count(1)


class Trigger:
    """Takes snapshots of a channel, each into a directory of its own below one that is made when it is needed."""

    def __init__(self, channel: Channel, directory: str | os.PathLike[str]) -> None:
        self._channel = channel
        self._directory = Path(directory).absolute()  # the program may change its directory

    def take(self, why: str) -> None:
        """Take one and say where it is.  Never raises: the program has other worries."""
        target = self._directory / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{next(_numbers)}"
        try:
            events = self._channel.snapshot(target)
        except Exception as error:  # noqa: BLE001
            say(f"{why}: no snapshot of {self._channel.name!r}: {error}")
        else:
            say(f"{why}: snapshot of {self._channel.name!r}, {events:,} events -> {target}")

    def on_exceptions(self) -> None:
        """At each exception that nobody handles, in any thread; then what would have happened without us."""
        hook, thread_hook = sys.excepthook, threading.excepthook

        def handle(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
            self.take(f"unhandled {kind.__name__}")
            hook(kind, error, traceback)

        def handle_in_thread(arguments: threading.ExceptHookArgs) -> None:
            if arguments.exc_type is not SystemExit:
                self.take(f"unhandled {arguments.exc_type.__name__} in a thread")
            thread_hook(arguments)

        sys.excepthook, threading.excepthook = handle, handle_in_thread

    def on_signal(self, number: int) -> None:
        """At each such signal; then what the program's own handler does.  Call it in the main thread."""
        before = signals.getsignal(number)

        def handle(number: int, frame: FrameType | None) -> None:
            self.take(f"signal {number}")
            if callable(before):
                before(number, frame)
            elif before is signals.SIG_DFL and number not in (signals.SIGUSR1, signals.SIGUSR2):
                signals.signal(number, signals.SIG_DFL)  # the signal ends the program, as it would have
                os.kill(os.getpid(), number)
                signals.signal(number, handle)  # or stopped it, or is one that does nothing

        signals.signal(number, handle)
