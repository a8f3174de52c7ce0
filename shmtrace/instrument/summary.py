"""What was recorded, in a short table."""

from __future__ import annotations

import dataclasses
import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..reader import Record

__all__ = ["Summary"]

HEADING = ("name", "kind", "count", "total ms", "mean ms", "longest ms", "failed", "open")
MOST_ROWS = 50  # that are shown
MOST_OPEN = 1 << 16  # spans whose end is waited for


@dataclasses.dataclass
class Row:
    """All records of one name and kind; a span is one, its two records together."""

    name: str
    kind: str
    count: int = 0
    ended: int = 0
    total_ns: int = 0
    longest_ns: int = 0
    failed: int = 0

    def cells(self) -> tuple[str, ...]:
        if self.kind != "span":
            return self.name, self.kind, f"{self.count:,}", "", "", "", "", ""
        mean = f"{self.total_ns / self.ended / 1e6:,.3f}" if self.ended else ""
        return (
            self.name, self.kind, f"{self.count:,}", f"{self.total_ns / 1e6:,.3f}", mean,
            f"{self.longest_ns / 1e6:,.3f}", f"{self.failed:,}" if self.failed else "",
            f"{self.count - self.ended:,}" if self.count > self.ended else "",
        )  # fmt: skip


class Summary:
    """Spans with their times, those that took longest first; then events, counters and logs."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._rows: dict[tuple[str, str], Row] = {}
        self._open: dict[tuple[object, ...], int] = {}  # when spans began
        self.records = 0
        self.losses: list[str] = []
        for record in records:
            self._add(record)

    @property
    def rows(self) -> list[Row]:
        """In the order in which they are shown."""
        return sorted(self._rows.values(), key=lambda row: (-row.total_ns, row.kind != "span", -row.count))

    def _add(self, record: Record) -> None:
        if record.kind == "loss":
            self.losses.append(f"{record.fields['count']} {record.fields['reason']}")
            return
        self.records += 1
        is_span = record.kind in {"begin", "end"}
        kind = "span" if is_span else record.kind
        row = self._rows.setdefault((record.name, kind), Row(record.name, kind))
        if record.kind != "end":
            row.count += 1
        if is_span:
            self._measure(row, record)

    def _measure(self, row: Row, record: Record) -> None:
        key = record.pid, record.process_start, record.span
        if record.kind == "begin":
            if len(self._open) < MOST_OPEN:
                self._open[key] = record.monotonic_ns
        elif key in self._open:
            took_ns = record.monotonic_ns - self._open.pop(key)
            row.ended += 1
            row.total_ns += took_ns
            row.longest_ns = max(row.longest_ns, took_ns)
            row.failed += "exception" in record.fields

    def _told(self) -> list[str]:
        """What else is to be said."""
        more = len(self._rows) - MOST_ROWS
        told = [f"records: {self.records:,}"]
        if more > 0:
            told.append(f"{more:,} more names")
        return told + [f"lost: {loss}" for loss in self.losses]

    def __repr__(self) -> str:
        lines = [HEADING, *(row.cells() for row in self.rows[:MOST_ROWS])]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = [
            "  ".join(
                cell.ljust(width) if number < 2 else cell.rjust(width)
                for number, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([*table, ", ".join(self._told())])

    def _repr_html_(self) -> str:
        """For a notebook."""

        def line(cells: Iterable[str], tag: str) -> str:
            aligned = (
                f'<{tag} style="text-align:{"left" if number < 2 else "right"}">{html.escape(cell)}</{tag}>'
                for number, cell in enumerate(cells)
            )
            return f"<tr>{''.join(aligned)}</tr>"

        body = "".join(line(row.cells(), "td") for row in self.rows[:MOST_ROWS])
        told = html.escape(", ".join(self._told()))
        return f"<table><thead>{line(HEADING, 'th')}</thead><tbody>{body}</tbody></table><p>{told}</p>"
