"""The same span in code that runs as tasks of asyncio do, in a Context that was made for it."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING

from bench.peers.shmtrace_span import plain, spanning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.peer import Emitter
    from shmtrace.channel import Channel

NAME = "shmtrace span in a task, two records"


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """Without fields."""

    def run(made: Channel) -> Callable[[int], None]:
        context, spans = copy_context(), plain(made)
        return lambda count: context.run(spans, count)

    with spanning(size, run) as found:
        yield found
