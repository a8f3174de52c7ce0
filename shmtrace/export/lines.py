"""Records as lines for people, with the times and the colours that somebody asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .text import pieces, text_line, wall_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..reader import Record

__all__ = ["TIMES", "Lines"]

TIMES = ("wall", "relative", "delta")
WIDTH = 14  # of seconds with nine decimals
# SGR parameters that are legible on dark and light terminals
_DIM, _BOLD, _FIELD, _RESET = "2", "1", "36", "\x1b[0m"
_LEVELS = {"critical": "1;31", "error": "31", "warning": "33", "debug": "2"}
_KINDS = {"begin": "1;32", "end": "32", "counter": "1;35", "loss": "1;31"}
_PROCESSES = ("34", "35", "36", "32", "33", "94", "95", "96")


class Lines:
    """Makes a line of each record.  Times: local ones, or seconds since the first record, or since the one before."""

    def __init__(self, *, times: str = "wall", coloured: bool = False) -> None:
        self._when: Callable[[Record], str] = {
            "wall": wall_time, "relative": self.since_first, "delta": self._since_last,
        }[times]  # fmt: skip
        self._coloured = coloured
        self._first: Record | None = None
        self._last: Record | None = None
        self.since = wall_time if times == "wall" else self.since_first  # of what is told out of its turn

    def __call__(self, record: Record) -> str:
        """The record's line."""
        self._first = self._first or record
        when = self._when(record)
        self._last = record
        return self._paint(record, when) if self._coloured else text_line(record, when)

    def since_first(self, record: Record) -> str:
        """Seconds since the first record that had a line."""
        return _seconds(record, self._first or record)

    def _since_last(self, record: Record) -> str:
        return _seconds(record, self._last or record)

    def _paint(self, record: Record, when: str) -> str:
        made = pieces(record, when)
        who = _colour(made.who, _DIM if record.pid is None else _PROCESSES[record.pid % len(_PROCESSES)])
        level = made.level and _colour(made.level, _LEVELS.get(record.level or "", _BOLD))
        name = _colour(made.mark + made.name, _KINDS.get(record.kind, _BOLD))
        fields = "".join(f" {_colour(f'{key}=', _FIELD)}{value}" for key, value in made.fields)
        return f"{_colour(f'{made.when} {made.cpu}', _DIM)} {who} {level}{name}{fields}"


def _colour(text: str, parameters: str) -> str:
    return f"\x1b[{parameters}m{text}{_RESET}"


def _seconds(record: Record, before: Record) -> str:
    """In a stream, lanes follow each other, and what comes later may be earlier."""
    nanoseconds = record.monotonic_ns - before.monotonic_ns
    sign, (seconds, rest) = "-" if nanoseconds < 0 else "+", divmod(abs(nanoseconds), 1_000_000_000)
    return f"{sign}{seconds}.{rest:09}".rjust(WIDTH)
