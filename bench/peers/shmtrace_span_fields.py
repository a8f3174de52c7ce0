"""A span with fields, `with load(3):`: two records, which count as one event here."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import repeat
from typing import TYPE_CHECKING

from bench.peers.shmtrace_span import spanning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.peer import Emitter
    from shmtrace.channel import Channel

NAME = "shmtrace span with a field, two records"


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """A number as its field."""

    def run(made: Channel) -> Callable[[int], None]:
        load = made.span("load", shard="u32")

        def spans(count: int) -> None:
            for _ in repeat(None, count):
                with load(7):
                    pass

        return spans

    with spanning(size, run) as found:
        yield found
