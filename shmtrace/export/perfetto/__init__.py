"""A trace as Perfetto's UI shows it: processes, threads, slices, instants, counters; and who wrote on which cpu.

`packets` gives the file piece by piece.  docs/perfetto.md says what becomes what.

    output      the file in the making: packets, names, tracks
    protobuf    the bytes of what there are millions of
    tracks      processes and threads; lanes: on which track of a thread a span goes
    events      records
    arguments   their fields
    losses      what is missing
    cpus        who wrote on which cpu
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .events import Events
from .output import Output

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ...reader.batch import Batch

__all__ = ["packets"]


def packets(batches: Iterable[Batch]) -> Iterator[bytes]:
    """The packets of a trace whose records come in the order of time; a piece a batch."""
    output = Output()
    events = Events(output)
    for batch in batches:
        events.add(batch)
        yield output.take()
    events.finish()
    yield output.take()
