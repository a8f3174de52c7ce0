"""Calls of functions, which name the function by a number that its process has told before.

A call and its end show as begin and end of a span with the function's name.  The end is that of the last call of the
same function which its thread has begun and not ended; the calls inside of that one have ended, too.  What a trace says
is not trusted: so many numbers, functions and calls are kept, and no more.
"""

from __future__ import annotations

import collections
import itertools
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from .. import wire
from ..native.rows import MOST_PASSED

if TYPE_CHECKING:
    from .decode import Fields
    from .records import Record

__all__ = ["DEFINES", "KINDS", "LEVEL", "OTHER", "Function", "Functions", "Names", "is_step", "unknown"]

DEFINES = "function"  # the kind of record that says what a number means
KINDS = {"call": "begin", "return": "end", "unwind": "end"}  # and those that have one, with what they show as
LEVEL = "info"
MOST_NUMBERS = 1 << 18  # of all processes together; those that were not called for the longest time are forgotten
MOST_BYTES = 32 << 20  # of different functions; those that come later show as OTHER
ENTRY_BYTES = 512  # what one takes beside its texts
MOST_CALLS = 1 << 18  # open at a time in all threads together; the first ones are forgotten first
FIRST_NUMBER = 1 << 40  # of calls, which are spans: above all others

_Process: TypeAlias = "tuple[int, int | None]"  # pid, start time
_Thread: TypeAlias = "tuple[_Process, int]"


class Function(NamedTuple):
    """What a number means."""

    name: str
    file: str | None = None
    line: int = 0

    @property
    def fields(self) -> Fields:
        """What a call shows."""
        return {} if self.file is None else {"file": self.file, "line": self.line}


OTHER = Function("function")


def unknown(number: int) -> Function:
    """One of which nobody said what it is."""
    return Function(f"function {number}")


def is_step(kind: str, fields: tuple[tuple[str, str], ...]) -> bool:
    """Whether a class of such a kind has the fields that it should have."""
    return kind in wire.FUNCTION_FIELDS and fields == tuple(wire.split_fields(wire.FUNCTION_FIELDS[kind]))


class Names:
    """The different functions that there are in all processes."""

    def __init__(self) -> None:
        self._known: dict[Function, Function] = {}
        self._bytes = 0

    def __getitem__(self, function: Function) -> Function:
        """The same one whenever it is an equal one; OTHER if there are too many."""
        found = self._known.get(function)
        if found is None:
            self._bytes += len(function.name) + len(function.file or "") + ENTRY_BYTES
            if self._bytes > MOST_BYTES:
                return OTHER
            found = self._known[function] = function
        return found

    def described(self, fields: Fields) -> tuple[int, Function]:
        """Number and function of a record that says what a number means."""
        number, line, module, name, file = (fields[key] for key in ("function", "line", "module", "name", "file"))
        assert isinstance(number, int)
        assert isinstance(line, int)
        return number, self[Function(f"{module}.{name}", str(file), line)]


class Functions:
    """All that are known, and the calls that are open.  To the numbers that calls are given `own` is added."""

    def __init__(self, own: int = 0) -> None:
        self._names = Names()
        self._known: collections.OrderedDict[tuple[_Process | None, int], Function] = collections.OrderedDict()
        self._calls: dict[_Thread, dict[int, int]] = {}  # functions of a thread's calls, the innermost last
        self._open: collections.OrderedDict[int, _Thread] = collections.OrderedDict()  # calls, as they began
        self._numbers = itertools.count(FIRST_NUMBER + own)

    def define(self, pid: int | None, start: int | None, fields: Fields, *, early: bool = False) -> None:
        """A process tells what a number means.  If it comes `early`, ahead of its turn, it pushes no other out."""
        if pid is not None and not (early and len(self._known) >= MOST_NUMBERS):
            number, function = self._names.described(fields)
            self._keep(((pid, start), number), function)

    def _keep(self, key: tuple[_Process | None, int], function: Function) -> None:
        self._known[key] = function
        self._known.move_to_end(key)
        if len(self._known) > MOST_NUMBERS:
            self._known.popitem(last=False)

    def resolve(self, record: Record) -> Record:
        """A call or its end, as the begin or end of a span; the end of a call that was not seen has no number."""
        number = record.fields["function"]
        assert isinstance(number, int)
        process = None if record.pid is None else (record.pid, record.process_start)
        function = self._known.get((process, number)) or self._names[unknown(number)]
        self._keep((process, number), function)
        span = parent = None
        if record.kind == "call":
            if process is not None:
                span, parent = self._begin((process, record.tid or 0), number)
            fields = function.fields
        else:
            if process is not None:
                span = self._end((process, record.tid or 0), number)
            exception = record.fields.get("exception")
            fields = {"exception": exception} if exception else {}
        return record._replace(
            name=function.name, kind=KINDS[record.kind], level=LEVEL, span=span, parent=parent, fields=fields
        )

    def _begin(self, thread: _Thread, function: int) -> tuple[int, int | None]:
        """Numbers of a call and of the one around it."""
        call = next(self._numbers)
        parent = next(reversed(self._calls.get(thread, {})), None)
        if len(self._open) >= MOST_CALLS:
            self._forget(next(iter(self._open)))
        self._open[call] = thread
        self._calls.setdefault(thread, {})[call] = function
        return call, parent

    def _end(self, thread: _Thread, function: int) -> int | None:
        calls = self._calls.get(thread, {})
        inside = []
        for call in itertools.islice(reversed(calls), MOST_PASSED):
            inside.append(call)
            if calls[call] == function:
                for ended in inside:
                    self._forget(ended)
                return call
        return None

    def _forget(self, call: int) -> None:
        thread = self._open.pop(call)
        calls = self._calls[thread]
        del calls[call]
        if not calls:
            del self._calls[thread]
