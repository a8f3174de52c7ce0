"""Rows in the order of time to batches: what is open then, and who is inside of whom; contexts, functions, classes."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from ..native.rows import FIRST_NAMELESS, KIND_UNWIND, SPANS, WIDE
from .batch import KINDS, RESERVED_CLASSES, Batch, function_body, function_classes
from .contexts import ENTRY_BYTES, MOST_BYTES
from .functions import DEFINES, FIRST_NUMBER, MOST_CALLS, MOST_NUMBERS, Names, unknown
from .functions import KINDS as STEPS
from .rows import COLUMNS, Growing, Numbered, OpenSpans
from .spans import MOST_SPANS
from .threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from .decode import Fields
    from .description import EventClass
    from .functions import Function
    from .rows import Array, Rows

__all__ = ["CONTEXT_HEAD", "Ordering"]

CONTEXT_HEAD = struct.Struct("<II")  # ahead of a context's map
_KIND_NUMBERS = {kind: number for number, kind in enumerate((*KINDS, "context", DEFINES, *STEPS))}
assert _KIND_NUMBERS["unwind"] == KIND_UNWIND


class Ordering:
    """What is known of the rows so far, by the order of time.  To the numbers of spans and calls it adds `own`.

    `wait` is called before anything changes that another thread may be reading.
    """

    def __init__(self, code: dict[str, Callable[..., int]], own: int, wait: Callable[[], None]) -> None:
        self._code = code
        self._spans = OpenSpans(MOST_SPANS, FIRST_NAMELESS + own)
        self._calls = OpenSpans(MOST_CALLS, FIRST_NUMBER + own)
        self.threads = Threads(code["put"], self._spans, self._calls, wait)
        self._classes: Growing[EventClass] = Growing(RESERVED_CLASSES)
        self._class_numbers = {made: number for number, made in enumerate(RESERVED_CLASSES)}
        self._names: dict[str, int] = {}  # of classes
        self._contexts: list[bytes] = []
        self._contexts_bytes = 0
        self._context_numbers = Numbered(code["put"], self._spans, SPANS.contexts, SPANS.named)
        self._functions = Names()
        self._function_numbers = Numbered(code["put"], self._spans, SPANS.functions, SPANS.called)
        self._begins: dict[Function, int] = {}  # classes of calls, and
        self._called: dict[int, Function] = {}  # functions of these
        self._before = 0  # rows
        self._learn_classes()

    def number_of(self, made: EventClass) -> int:
        """Of a class, which it learns."""
        number = self._class_numbers.get(made)
        if number is None:
            number = self._class_numbers[made] = len(self._classes)
            self._classes.append(made)
            self._learn_classes()
        return number

    def _learn_classes(self) -> None:
        new = self._classes[self._spans.known(SPANS.own) :]
        self._spans.extend(SPANS.own, [made.own for made in new])
        self._spans.extend(SPANS.kinds, [_KIND_NUMBERS.get(made.kind, 0) for made in new])
        self._spans.extend(SPANS.names, [self._names.setdefault(made.name, len(self._names)) for made in new])

    def forget(self) -> None:
        """Threads that are not needed any more."""
        self.threads.forget(lambda: self._context_numbers.processes() | self._function_numbers.processes())

    def finish(self, rows: Rows) -> Batch | None:
        """The rows as a batch, if there are any.  They are not used again."""
        self._forget_numbered()
        count, header = rows.count, self._spans.header
        header[SPANS.before // 8], header[SPANS.steps // 8] = self._before, 0
        self._order(rows, 0)
        while (at := int(header[SPANS.at // 8])) < count:
            self._order(rows, at + self._stopped(rows, at))
        self._before += count
        if header[SPANS.steps // 8]:
            self._tell_functions(rows, rows.kept)
        if not rows.kept:
            return None
        return self._batch({name: rows[name][: rows.kept] for name in COLUMNS}, rows.data[: rows.used + WIDE])

    def _order(self, rows: Rows, at: int) -> None:
        rows.kept = self._code["finish"](rows.address, self._spans.address, self._calls.address, at, rows.kept)

    def _stopped(self, rows: Rows, at: int) -> int:
        """Takes the row, that jitted code stopped at, into account; how many rows that are done with."""
        made, thread = self._classes[rows["classes"][at]], int(rows["threads"][at])
        process = self.threads.process_of(thread)
        number = int(self._spans.header[SPANS.number // 8])
        if made.kind in STEPS:
            self._name_function(process, number, self._functions[unknown(number)])
            return 0
        if thread >= 0:
            start, size = int(rows["starts"][at]), int(rows["sizes"][at])
            body = rows.data[start : start + size].tobytes()
            if made.kind == DEFINES:
                self.define_function(process, made.decode(memoryview(body))[1])
            elif number:
                self.define(process, number, body[CONTEXT_HEAD.size :])
        return 1

    def _batch(self, rows: dict[str, Array], data: Array) -> Batch:
        return Batch(
            time_ns=rows["time"],
            monotonic_ns=rows["monotonic"],
            cycles=rows["cycles"],
            class_id=rows["classes"],
            cpu=rows["cpus"],
            lane=rows["lanes"],
            thread_id=rows["threads"],
            span=rows["spans"],
            parent=rows["parents"],
            task=rows["tasks"],
            context=rows["contexts"],
            start=rows["starts"],
            size=rows["sizes"],
            data=data,
            classes=self._classes,
            threads=self.threads.known,
            contexts=self._contexts,
            origin=np.zeros(len(rows["time"]), np.uint16),
            origins=[],
            code=self._code,
        )

    def define(self, process: int, number: int, body: bytes, *, early: bool = False) -> None:
        """A context of a process, which may be `early`: not in the order of time."""
        if early and self._contexts_bytes + len(body) + ENTRY_BYTES > MOST_BYTES:
            return
        self._context_numbers.add(process, number, self._before)
        self._contexts.append(body)
        self._contexts_bytes += len(body) + ENTRY_BYTES

    def define_function(self, process: int, fields: Fields, *, early: bool = False) -> None:
        """A process tells what the number of a function means."""
        if not early or len(self._function_numbers) < MOST_NUMBERS:
            self._name_function(process, *self._functions.described(fields))

    def _name_function(self, process: int, number: int, function: Function) -> None:
        begin = self._begins.get(function)
        if begin is None:
            begin = self._begins[function] = len(self._classes)
            self._called[begin] = function
            self._classes += function_classes(function)
            self._learn_classes()
        known = self._function_numbers.get(process, number)
        if known is None:
            self._function_numbers.add(process, number, self._before)
            self._spans.extend(SPANS.begins, [begin])
        else:
            self._spans[SPANS.begins][known] = begin

    def _tell_functions(self, rows: Rows, kept: int) -> None:
        """Gives calls bodies that say where the function is.  All calls of one have the same."""
        classes = rows["classes"][:kept]
        there = np.flatnonzero(np.bincount(classes)).tolist()
        bodies = {number: function_body(self._called[number]) for number in there if number in self._called}
        rows.need(0, sum(map(len, bodies.values())))
        sizes, starts = np.full(len(self._classes), -1, np.int32), np.empty(len(self._classes), np.int32)
        for number, body in bodies.items():
            starts[number], sizes[number] = rows.add_body(body), len(body)
        called = np.flatnonzero(sizes[classes] >= 0)
        rows["starts"][called], rows["sizes"][called] = starts[classes[called]], sizes[classes[called]]

    def _forget_numbered(self) -> None:
        """If there are too many contexts or functions, those that were not named for the longest time go."""
        if self._contexts_bytes > MOST_BYTES:
            size, kept = 0, []
            for index in self._context_numbers.newest():
                size += len(self._contexts[index]) + ENTRY_BYTES
                if size > MOST_BYTES // 2:
                    break
                kept.append(index)
            kept.reverse()
            self._context_numbers.keep(kept)
            self._contexts = [self._contexts[index] for index in kept]
            self._contexts_bytes = sum(len(body) + ENTRY_BYTES for body in self._contexts)
        if len(self._function_numbers) > MOST_NUMBERS:
            kept = self._function_numbers.newest()[: MOST_NUMBERS // 2]
            self._function_numbers.keep(kept)
            self._spans.keep(SPANS.begins, kept)
