"""Which spans are open, and which context each thread is in, as far as the records that came so far tell.

A span is known by its process (host, pid and start time) and its number.  Records must come in the order of time, as
those of a directory do.  What a trace says is not trusted: no more than MOST_SPANS are kept, and the oldest are
forgotten first; the same goes for threads with a context.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from typing import TYPE_CHECKING, TypeAlias

from .. import wire
from ..native.rows import FIRST_NAMELESS, MOST_PASSED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .records import Record

__all__ = ["OpenSpan", "Spans"]

MOST_SPANS = 1 << 16  # open at a time, in all processes together
MOST_THREADS = 1 << 16  # with a context
OWN_NUMBERS_BITS = 44  # of several traces each numbers spans and calls in a range of its own

# Host, pid, start time of the process, number of a span or thread.
_Key: TypeAlias = "tuple[str | None, int | None, int | None, int]"


@dataclasses.dataclass(slots=True)
class OpenSpan:
    """A span that has begun and not ended."""

    begin: Record
    last: Record  # the newest record in it; the begin record, if there is no other
    losses: int  # how many losses had been told when it began


class Spans:
    """Follows records, of which `add` gets each one, in the order of time.

    To the numbers that spans without one are given `own` is added.
    """

    def __init__(self, own: int = 0) -> None:
        self._open: collections.OrderedDict[_Key, OpenSpan] = collections.OrderedDict()  # in the order of their begin
        self._threads: dict[_Key, dict[int, None]] = {}  # numbers of a thread's open spans, the innermost last
        self._contexts: dict[_Key, int] = {}  # what a thread's last record named, if that was one
        self._nameless = itertools.count(FIRST_NAMELESS + own)
        self.losses = 0
        self.forgotten = 0  # spans that were open and are not known any more

    def context_of(self, record: Record, number: int) -> int:
        """The context that a record names, as its thread's following ones do; or that its thread tells."""
        thread = _thread(record)
        if number == wire.BY_THREAD:
            return self._contexts.get(thread, 0)
        self._contexts.pop(thread, None)
        if number:
            if len(self._contexts) >= MOST_THREADS:
                del self._contexts[next(iter(self._contexts))]
            self._contexts[thread] = number
        return number

    def add(self, record: Record) -> Record:
        """Takes a record into account, and gives it with the numbers that its thread tells in their places."""
        if record.kind == "loss":
            self.losses += 1
        if record.span is None or record.pid is None:
            return record
        if wire.BY_THREAD in {record.span, record.parent}:
            record = self._resolve(record)
        if record.kind == "begin":
            self._begin(record)
        elif record.kind == "end":
            self._end(record)
        elif record.span is not None:
            self._touch(record, record.span)
        return record

    def around(self, record: Record) -> OpenSpan | None:
        """The span that a record is in; for a begin record: that it begins in."""
        number = record.parent if record.kind == "begin" else record.span
        return None if number is None else self._open.get(_key(record, number))

    def innermost(self, record: Record) -> OpenSpan | None:
        """The last span that the record's thread has begun and not ended."""
        numbers = self._threads.get(_thread(record))
        return self._open.get(_key(record, next(reversed(numbers)))) if numbers else None

    def _innermost_of(self, record: Record) -> OpenSpan | None:
        """The same, among those that a kernel began under the record's name."""
        for number in itertools.islice(reversed(self._threads.get(_thread(record), {})), MOST_PASSED):
            span = self._open[_key(record, number)]
            if number >= FIRST_NAMELESS and span.begin.name == record.name:
                return span
        return None

    def __iter__(self) -> Iterator[OpenSpan]:
        """Those that are open, in the order in which they began."""
        return iter(self._open.values())

    def _resolve(self, record: Record) -> Record:
        inner = self.innermost(record) if record.kind != "end" else self._innermost_of(record)
        number = None if inner is None else inner.begin.span
        if record.kind == "begin":
            span = next(self._nameless) if record.span == wire.BY_THREAD else record.span
            return record._replace(span=span, parent=number if record.parent == wire.BY_THREAD else record.parent)
        return record._replace(span=number if record.span == wire.BY_THREAD else record.span)

    def _begin(self, record: Record) -> None:
        assert record.span is not None
        key = _key(record, record.span)
        if key in self._open:  # of a program that was there before exec
            self._forget(key)
        elif len(self._open) >= MOST_SPANS:
            self._forget(next(iter(self._open)))
            self.forgotten += 1
        self._touch(record, record.parent)
        self._open[key] = OpenSpan(record, record, self.losses)
        self._threads.setdefault(_thread(record), {})[record.span] = None

    def _end(self, record: Record) -> None:
        if record.span is not None and (found := self._open.get(_key(record, record.span))) is not None:
            self._forget(_key(record, record.span))
            self._touch(record, found.begin.parent)

    def _touch(self, record: Record, number: int | None) -> None:
        if number is not None and (span := self._open.get(_key(record, number))) is not None:
            span.last = record

    def _forget(self, key: _Key) -> None:
        begin = self._open.pop(key).begin  # it may end in another thread than it began in
        numbers = self._threads[_thread(begin)]
        del numbers[key[3]]
        if not numbers:
            del self._threads[_thread(begin)]


def _key(record: Record, number: int) -> _Key:
    return record.host, record.pid, record.process_start, number


def _thread(record: Record) -> _Key:
    return record.host, record.pid, record.process_start, record.tid or 0
