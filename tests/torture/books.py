"""What the consumer got, against the ledger."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import struct
import subprocess
from collections import Counter
from typing import TYPE_CHECKING, Any

import emit
import shmtrace
from shmtrace.reader import NotATrace
from shmtrace.reader.stream import Packet, Parser, heads

from . import Broken
from .ledger import ACCEPTED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from shmtrace.reader import Record

    from .consumers import Trace
    from .ledger import Entry

LIMIT_S = 100
EXPECTED_LOSSES = ("missed", "overwritten")
_ACCEPTED_ONLY = bytes(state == ACCEPTED for state in range(256))


def demand_equal(what: str, first: int, second: int) -> None:
    if first != second:
        raise Broken(f"{what}: {first:,} and {second:,}")


def demand_between(what: str, low: int, number: int, high: int) -> None:
    if not low <= number <= high:
        raise Broken(f"{what}: {number:,} is not between {low:,} and {high:,}")


@dataclasses.dataclass
class Books:
    """What was read back from the traces of a round."""

    entries: dict[int, Entry]
    seen: dict[int, bytearray] = dataclasses.field(default_factory=dict)  # by slot, a byte for each number
    delivered: int = 0
    by_group: Counter[int] = dataclasses.field(default_factory=Counter)
    told: Counter[str] = dataclasses.field(default_factory=Counter)  # losses, by reason

    def read(self, trace: Trace) -> None:
        """Read a trace, and check each record of it."""
        said: list[str] = []
        last: dict[tuple[int, int], int] = {}  # number, by slot and lane
        try:
            for record in shmtrace.read(trace.place, warn=said.append):
                if record.kind == "loss":
                    self._note_loss(record.fields, trace)
                else:
                    self._check_record(record, last, trace)
        except NotATrace:
            if trace.is_whole:
                raise Broken(f"{trace.place.name} is no trace") from None
        if said and trace.is_whole:
            raise Broken(f"{trace.place.name} cannot be read: {said[0]}")

    def _note_loss(self, fields: dict[str, Any], trace: Trace) -> None:
        if trace.is_whole and fields["reason"] not in EXPECTED_LOSSES:
            raise Broken(f"{trace.place.name} tells of a loss: {fields}")
        self.told[fields["reason"]] += fields["count"]

    def _check_record(self, record: Record, last: dict[tuple[int, int], int], trace: Trace) -> None:
        slot, number = _read_payload(record, trace)
        where = f"event {number} of process {slot} in {trace.place.name}, lane {record.lane}"
        entry = self.entries.get(slot)
        if entry is None:
            raise Broken(f"{where}: there was no such process")
        if record.pid not in {entry.pid, None}:
            raise Broken(f"{where}: written by pid {entry.pid}, read as {record.pid}'s")
        known = len(entry.states)
        if number > known or (number == known and entry.ended):
            raise Broken(f"{where}: delivered, but it was never written")
        if number < known and entry.states[number] != ACCEPTED:
            raise Broken(f"{where}: delivered, but it was refused")
        marks = self.seen.setdefault(slot, bytearray(known + 1))
        if marks[number]:
            raise Broken(f"{where}: delivered twice")
        marks[number] = 1
        before = last.get((slot, record.lane), -1)
        if number <= before:
            raise Broken(f"{where}: delivered after event {before}")
        last[slot, record.lane] = number
        self.delivered += 1
        self.by_group[entry.group] += 1

    def extra(self) -> int:
        """Events that were committed although their `event()` did not return."""
        return sum(marks[-1] for marks in self.seen.values())

    def missing(self) -> dict[int, list[int]]:
        """Events that were accepted and are in no trace, by slot."""
        found = {}
        for slot, entry in self.entries.items():
            accepted = entry.states.translate(_ACCEPTED_ONLY)
            marks = self.seen.get(slot, bytes(len(accepted) + 1))
            if accepted != marks[:-1]:
                found[slot] = [number for number, state in enumerate(accepted) if state and not marks[number]]
        return found


def _read_payload(record: Record, trace: Trace) -> tuple[int, int]:
    blob = record.fields.get("blob")
    if record.name == "blob" and isinstance(blob, bytes):
        with contextlib.suppress(AssertionError, struct.error):
            return emit.read_payload(blob)
    raise Broken(f"nobody wrote this into {trace.place.name}, lane {record.lane}: {str(record)[:500]}")


def look_with_babeltrace2(babeltrace2: str, directory: Path, uuid: bytes) -> None:
    """Babeltrace2 reads the trace without a complaint, and as many records as are in it."""
    result = subprocess.run(
        [babeltrace2, directory, "--component", "sink.utils.counter"], capture_output=True, text=True, timeout=LIMIT_S
    )
    if result.returncode or result.stderr:
        raise Broken(f"babeltrace2 says of {directory.name}: {result.stderr[:1000]}")
    counted = re.findall(r"(\d+) Event messages?\n", result.stdout)  # once in a while, and at the end
    demand_equal(f"records in {directory.name}, and for babeltrace2", _records(directory, uuid), int(counted[-1]))


def _records(directory: Path, uuid: bytes) -> int:
    """Records in a trace directory, those of the collector included."""
    return sum(1 for file in directory.glob("stream_*") for packet in _packets(file, uuid) for _ in heads(packet))


def _packets(file: Path, uuid: bytes) -> Iterator[Packet]:
    parser = Parser(uuid)
    for item in [*parser.feed(file.read_bytes()), *parser.end()]:
        if isinstance(item, Packet):
            yield item
