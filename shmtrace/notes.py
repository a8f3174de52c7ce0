"""What shmtrace says to people: one line on stderr."""

from __future__ import annotations

import sys

__all__ = ["say"]


def say(message: str) -> None:
    """Say it, as one line, if there is a stderr.  Never raises: tracing does not take the program down."""
    if sys.stderr is not None:
        try:  # noqa: SIM105  (contextlib is what a worker would wait for)
            print(f"shmtrace: {' '.join(message.splitlines())}", file=sys.stderr, flush=True)
        except Exception:  # noqa: BLE001, S110  (it may be closed, or a pipe that nobody reads)
            pass
