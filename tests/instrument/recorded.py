"""What a bridge has recorded: a real channel whose pages are looked at."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import shmtrace

if TYPE_CHECKING:
    from pathlib import Path

    from shmtrace.reader import Record

_NAMES = {0: "name", 1: "span", 2: "context", 3: "level"}  # of a log, where a reader leaves them among the fields


class Recorded:
    """A flight recorder, and what is in it."""

    def __init__(self, channel: shmtrace.Channel, directory: Path) -> None:
        self.channel = channel
        self._directories = (directory / f"snapshot{number}" for number in itertools.count())

    def records(self) -> list[Record]:
        directory = next(self._directories)
        self.channel.snapshot(directory)
        return [record for record in shmtrace.read(directory) if record.kind != "loss"]

    def seen(self) -> list[Seen]:
        return [see(record) for record in self.records()]


class Seen(NamedTuple):
    """A record as its user wrote it."""

    kind: str
    name: str
    fields: dict[str, object]
    own: dict[str, object]  # of its kind: the numbers of spans


def see(record: Record) -> Seen:
    own = {
        name.lstrip("_"): getattr(record, name) for name in ("span", "parent", "task", "level") if hasattr(record, name)
    }
    fields: dict[str, object] = {}
    for key, value in dict[object, object](record.fields.items()).items():
        if isinstance(key, int):
            own[_NAMES[key]] = value
        elif str(key).startswith("_"):
            own[str(key).strip("_")] = value
        else:
            fields[str(key)] = value
    return Seen(record.kind, str(own.pop("name", record.name)), fields, own)
