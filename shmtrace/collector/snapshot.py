"""A snapshot: what is in a channel's pages now, as a trace directory, without a collector and without a reader."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import ChannelRemoved
from ..layout import CONTROL
from ..reader.recorder import Recorder
from ..reader.stream import Parser
from ..rescue import give_back_lanes
from .copies import Copies

if TYPE_CHECKING:
    import os

    from ..segment import Segment


def take_snapshot(segment: Segment, directory: str | os.PathLike[str]) -> Recorder:
    """Write a snapshot into a directory that is empty or does not exist; the recorder, closed, with its counts.

    Raises ChannelRemoved, DirectoryNotEmpty, OutputFailed.
    """
    if segment.u32(CONTROL.removed):
        raise ChannelRemoved(f"the channel {segment.name!r} was removed, and what was in its pages with it")
    if not segment.is_streamed:
        with suppress(OSError):  # the channel was removed just now; its pages are there all the same
            give_back_lanes(segment)
    events = 0
    with Recorder(directory, delivered=lambda: events) as recorder, Copies(segment) as copies:
        parser = Parser()
        for packet, records in copies.packets():
            events += records
            recorder.add(parser.feed(packet))
        recorder.add(parser.end())
    if recorder.failure is not None:
        raise recorder.failure
    return recorder
