"""What shmtrace says to people: one line on stderr."""

from __future__ import annotations

import sys
from contextlib import suppress

__all__ = ["say"]


def say(message: str) -> None:
    """Say it, if there is a stderr.  Never raises: tracing does not take the program down."""
    if sys.stderr is not None:
        with suppress(Exception):
            print(f"shmtrace: {message}", file=sys.stderr, flush=True)
