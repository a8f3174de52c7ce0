"""What `attach()` gave to the modules of this process, led into another channel for a while: a test's, or a cell's."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .. import known
from ..channel import Channel, attach

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["redirected"]


@contextmanager
def redirected(channel: Channel, outside: str | None) -> Iterator[None]:
    """While the block runs, $SHMTRACE names this channel, and what attached before records into it, too.

    Behind the block it names `outside`, and what has attached in the block leads there.

    A module that has kept `channel.event` itself, from a time when there was no channel, is not reached.  What code of
    a cell or a test has attached may be a thing of the past, as it runs again: that defines nothing unless it is used.
    """
    states = {id(found): (found, found.state()) for found in _attached() if found is not channel}
    os.environ["SHMTRACE"] = channel.name
    for found, _ in states.values():
        found.follow(channel.state(), when_used=not found.is_of_module and not _is_in_kernels(found))
    try:
        yield
    finally:
        os.environ.pop("SHMTRACE", None)
        if outside is not None:
            os.environ["SHMTRACE"] = outside
        others = [found for found in _attached() if found is not channel and id(found) not in states]
        for found in others:
            found.follow(attach().state())
        for found, state in states.values():
            if found.is_ambient:  # else it was closed in the block
                found.follow(state)


def _is_in_kernels(channel: Channel) -> bool:
    kernels = sys.modules.get("shmtrace.kernels")
    return kernels is not None and kernels.may_use(channel)


def _attached() -> list[Channel]:
    return [found for found in known.of_type(Channel) if found.is_ambient]
