"""A snapshot of a hostile segment: what is good of it is a trace, and nothing outside of it is read."""

from __future__ import annotations

import functools
import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import shmtrace
from hostile.rig import GEOMETRY, fields, guarded, in_child, make_channel, quick_description
from hostile.test_words import nasty
from shmtrace import layout, wire
from shmtrace.collector.snapshot import take_snapshot
from shmtrace.layout import CONTROL, CPU, LANE, PAGE, WRITER
from shmtrace.segment import open_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hostile.rig import Case, Field
    from shmtrace.segment import Segment

pytestmark = pytest.mark.timeout(120)
MODES = pytest.mark.parametrize("mode", [layout.MODE_DROP, layout.MODE_OVERWRITE], ids=["drop", "overwrite"])
FEW = ((LANE, 0), (PAGE, 1), (wire.RECORD, 0))
ENTRIES = (*FEW, (CONTROL, 0), (CPU, 0), (LANE, 1), (WRITER, 1), (PAGE, 0), (PAGE, 2), (wire.RECORD, 1))


def filled(name: str, mode: int, sizes: Iterable[int]) -> tuple[Segment, list[bytes]]:
    """A channel that records, with events in it."""
    make_channel(name, mode)
    with guarded():
        segment = open_segment(name)
        channel = shmtrace.open_channel(name)
    segment.set_u32(CONTROL.recording, 1)
    blobs = [b"%d " % number + bytes(size - 4) for number, size in enumerate(sizes, 10)]
    return segment, [blob for blob in blobs if channel.event(blob)]


def snapshot(segment: Segment) -> list[object]:
    """The blobs of a snapshot."""
    with tempfile.TemporaryDirectory() as directory, guarded(), quick_description():
        place = Path(directory, "trace")
        take_snapshot(segment, place)
        records = shmtrace.read(place, warn=lambda _: None)
        return [record.fields["blob"] for record in records if record.name == "blob"]


def check_entry(case: Case, name: str, mode: int, words: list[Field], *, everything: bool) -> list[str]:
    segment, blobs = filled(name, mode, itertools.repeat(1000, 20))
    wrong = []
    for field in words:
        for value in nasty(field, everything=everything):
            case(f"{field.label} = {value:#x}")
            before = segment.read(field.at, field.width)
            segment.write(field.at, value.to_bytes(field.width, "little"))
            found = snapshot(segment)
            segment.write(field.at, before)
            if field.table is not wire.RECORD and set(found) - set(blobs):
                wrong.append(f"{case.text}: made up")
    case("as it was")
    if not set(blobs[-4:]) <= set(snapshot(segment)):
        wrong.append("something is missing though the segment is as it was")
    return wrong


@MODES
@pytest.mark.parametrize("everything", [False, pytest.param(True, marks=pytest.mark.heavy)])
def test_any_value_of_any_word_is_survived(new_name: Callable[[], str], mode: int, *, everything: bool) -> None:
    wrong = []
    for table, number in ENTRIES if everything else FEW:
        words = [
            field
            for field in fields(table, number)
            if field.name != "removed" and (table is not CONTROL or field.at >= CONTROL.clock_cycles)
        ]
        check = functools.partial(check_entry, name=new_name(), mode=mode, words=words, everything=everything)
        wrong += in_child(check, 60)
    assert wrong == []


@MODES
def test_no_byte_behind_the_copies_is_read(channel_name: str, mode: int) -> None:
    """A record's header that would begin in the last bytes of the last page that is copied."""

    def read_the_last_page(case: Case) -> list[str]:
        pages = len(GEOMETRY.ring(0)) if mode == layout.MODE_OVERWRITE else GEOMETRY.pages
        sizes = itertools.chain.from_iterable(itertools.repeat((1000, 1000, 1000, 1000, 8), pages))
        segment, _ = filled(channel_name, mode, sizes)
        lane = segment.lane_at(0)
        position = segment.u64(lane + LANE.position)
        case(f"position = {position:#x} + 8")
        assert position & layout.COMMITTED_MASK == GEOMETRY.page_size - 8
        segment.set_u64(lane + LANE.position, position + 8)
        snapshot(segment)
        return []

    assert in_child(read_the_last_page) == []
