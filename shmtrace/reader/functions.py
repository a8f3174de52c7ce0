"""Calls of functions, which name the function by a number that its process has told before.

A function's end is that of the last call of the same function which its thread has begun and not ended.
"""

from __future__ import annotations

import collections
import itertools
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from .decode import Fields
    from .records import Record

__all__ = ["DEFINES", "KINDS", "Functions"]

DEFINES = "function"  # the kind of record that says what a number means
KINDS = {"call": "begin", "return": "end", "unwind": "end"}  # and those that have one, with what they show as
MOST_FUNCTIONS = 1 << 20  # of all processes together; the first ones are forgotten first
MOST_CALLS = 1 << 20  # open at a time in all threads together
FIRST_NUMBER = 1 << 40  # of calls, which are spans: above all others

_Key: TypeAlias = "tuple[int | None, int | None, int]"  # pid, start time of the process, number or thread


class Function(NamedTuple):
    """What a number means."""

    name: str
    fields: Fields


class Functions:
    """All that are known, and the calls that are open."""

    def __init__(self) -> None:
        self._known: collections.OrderedDict[_Key, Function] = collections.OrderedDict()
        self._calls: dict[_Key, list[tuple[int, int]]] = {}  # of a thread: the function's number and the call's
        self._open = 0
        self._numbers = itertools.count(FIRST_NUMBER)

    def define(self, pid: int | None, start: int | None, fields: Fields, *, early: bool = False) -> None:
        """A process tells what a number means.  If it comes `early`, ahead of its turn, it pushes no other out."""
        number, module, name = fields.get("function"), fields.get("module"), fields.get("name")
        if not isinstance(number, int) or (early and len(self._known) >= MOST_FUNCTIONS):
            return
        self._known[pid, start, number] = Function(
            f"{module}.{name}", {"file": fields.get("file"), "line": fields.get("line")}
        )
        if len(self._known) > MOST_FUNCTIONS:
            self._known.popitem(last=False)

    def resolve(self, record: Record) -> Record:
        """A call or its end, as the begin or end of a span; the end of a call that was not seen has no number."""
        number = record.fields["function"]
        assert isinstance(number, int)
        known = self._known.get((record.pid, record.process_start, number))
        name = f"function {number}" if known is None else known.name
        thread = record.pid, record.process_start, record.tid or 0
        calls = self._calls.setdefault(thread, [])
        if record.kind == "call":
            parent = calls[-1][1] if calls else None
            call = next(self._numbers)
            if self._open < MOST_CALLS:
                calls.append((number, call))
                self._open += 1
            fields = {} if known is None else dict(known.fields)
            return record._replace(name=name, kind="begin", span=call, parent=parent, fields=fields)
        ended = self._end(calls, number)
        if not calls:
            del self._calls[thread]
        fields = {"exception": record.fields["exception"]} if record.kind == "unwind" else {}
        return record._replace(name=name, kind="end", span=ended, fields=fields)

    def _end(self, calls: list[tuple[int, int]], number: int) -> int | None:
        for at in range(len(calls) - 1, -1, -1):
            if calls[at][0] == number:
                call = calls[at][1]
                self._open -= len(calls) - at
                del calls[at:]  # the ends of those inside are missing
                return call
        return None
