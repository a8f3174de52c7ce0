"""What a test's block of code wrote, as it is read from the trace."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import shmtrace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from shmtrace.reader import Record


class Trace:
    """A channel that is recorded while the block runs; then its records."""

    def __init__(self, channel: shmtrace.Channel, directory: Path) -> None:
        self.channel = channel
        self.directory = directory
        self.records: list[Record] = []
        self.warnings: list[str] = []

    def named(self, name: str) -> list[Record]:
        """Those of one name."""
        return [record for record in self.records if record.name == name]

    def of_kind(self, kind: str) -> list[Record]:
        """Those of one kind."""
        return [record for record in self.records if record.kind == kind]

    def parents(self) -> dict[str, str | None]:
        """The name of each span, and of the one around it; names must be unique."""
        names = {(record.pid, record.span): record.name for record in self.of_kind("begin")}
        return {
            record.name: names.get((record.pid, record.parent)) if record.parent else None
            for record in self.of_kind("begin")
        }


@contextmanager
def written(directory: Path, **options: object) -> Iterator[Trace]:
    """Record the block; afterwards the trace has the records."""
    with shmtrace.record(directory, **options) as channel:  # type: ignore[arg-type]  # those of create_channel
        trace = Trace(channel, directory)
        yield trace
    trace.records = list(shmtrace.read(directory, warn=trace.warnings.append))
