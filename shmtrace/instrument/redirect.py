"""What `attach()` gave to the modules of this process, led into another channel for a while: a test's, or a cell's."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .. import known
from ..channel import Channel, attach

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["redirected"]


@contextmanager
def redirected(channel: Channel) -> Iterator[None]:
    """While the block runs, $SHMTRACE names this channel, and what attached before records into it, too.

    A module that has kept `channel.event` itself, from a time when there was no channel, is not reached.
    """
    before = os.environ.get("SHMTRACE")
    states = {id(found): (found, found.state()) for found in _attached() if found is not channel}
    os.environ["SHMTRACE"] = channel.name
    for found, _ in states.values():
        found.follow(channel.state())
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("SHMTRACE", None)
        else:
            os.environ["SHMTRACE"] = before
        others = [found for found in _attached() if found is not channel and id(found) not in states]
        for found in others:  # they attached in the block
            found.follow(attach().state())
        for found, state in states.values():
            if found.is_ambient:  # else it was closed in the block
                found.follow(state)


def _attached() -> list[Channel]:
    return [found for found in known.of_type(Channel) if found.is_ambient]
