"""Who writes: the threads that stand behind the numbers of writers in lanes, for rows and for jitted code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..layout import UNKNOWN_WRITER
from ..native.rows import NOBODY, SPANS
from .records import MOST_WRITERS, writer_of
from .rows import Growing, Hashed

if TYPE_CHECKING:
    from collections.abc import Callable

    from .records import Writer
    from .rows import OpenSpans

__all__ = ["Threads"]

MOST_THREADS = 1 << 16  # before those that have ended are forgotten


class Threads:
    """Numbers of threads, of their processes, and of their identities: threads of one differ in names only.

    A writer stands at a `place`: number of the file << 32 | lane << 16 | number in the lane, as CURSOR.scope has it.
    `wait` is called before anything changes that another thread may be reading.
    """

    def __init__(self, put: Callable[..., int], spans: OpenSpans, calls: OpenSpans, wait: Callable[[], None]) -> None:
        self.writers = Hashed(put)  # by place
        self.known: Growing[Writer] = Growing()
        self._spans, self._calls, self._wait = spans, calls, wait
        self._numbers: dict[Writer, int] = {}
        self._processes: dict[tuple[int, int] | None, int] = {None: NOBODY}
        self._next_process = NOBODY + 1
        self._identities: dict[tuple[int, int, int], int] = {}
        self._free_identities: list[int] = []
        self._announced: dict[int, int] = {}  # by place
        self._early: dict[int, int] = {}  # the same, of packets that are only learned from
        self._most = MOST_THREADS

    def process_of(self, thread: int) -> int:
        """The number of a thread's process."""
        return NOBODY if thread < 0 else int(self._spans[SPANS.processes][thread])

    def at(self, place: int) -> int:
        """The thread; -1: it is not known."""
        return self._announced.get(place, -1)

    def early_at(self, place: int) -> int:
        """The same of what is only learned from."""
        return self._early.get(place, -1)

    def announce(self, scope: int, body: memoryview) -> None:
        """Keeps who a writer record says stands behind a number in a lane."""
        if len(self._announced) >= MOST_WRITERS:
            self._announced.clear()
            self.writers.clear()
        if (found := self._place_of(scope, body)) is not None:
            place, thread = found
            self._announced[place] = self.writers[place] = thread

    def announce_early(self, scope: int, body: memoryview) -> None:
        """The same of what is only learned from."""
        if len(self._early) >= MOST_WRITERS:
            self._early.clear()
        if (found := self._place_of(scope, body)) is not None:
            place, thread = found
            self._early[place] = thread

    def settle(self) -> None:
        """All that is only learned from has been."""
        self._early.clear()

    def _place_of(self, scope: int, body: memoryview) -> tuple[int, int] | None:
        found = writer_of(body)
        if found is None or found[0] == UNKNOWN_WRITER:
            return None
        number, writer = found
        thread = self._numbers.get(writer)
        return scope | number, self._learn(writer) if thread is None else thread

    def _learn(self, writer: Writer) -> int:
        self._wait()
        thread = self._numbers[writer] = len(self.known)
        self.known.append(writer)
        process = self._processes.get((writer.pid, writer.start))
        if process is None:
            process = self._processes[writer.pid, writer.start] = self._next_process
            self._next_process += 1
        key = writer.pid, writer.start, writer.tid
        identity = self._identities.get(key)
        if identity is None:
            identity = self._identities[key] = self._new_identity()
        self._spans.extend(SPANS.processes, [process])
        self._spans.extend(SPANS.identities, [identity])
        return thread

    def _new_identity(self) -> int:
        if self._free_identities:
            identity = self._free_identities.pop()
            self._spans[SPANS.latest][identity] = 0
            return identity
        self._spans.extend(SPANS.latest, [0])
        for open_spans in (self._spans, self._calls):
            open_spans.extend(SPANS.tails, [-1])
        return self._spans.known(SPANS.tails) - 1

    def forget(self, numbering: Callable[[], set[int]]) -> None:
        """If there are many, those go that stand at no place: all rows in which they are have been left.

        A process goes if it has no thread, no open span, and is not one of those that `numbering` tells.
        """
        if len(self.known) <= self._most:
            return
        self._wait()
        kept = sorted({*self._announced.values(), *self._early.values()})
        new = {thread: number for number, thread in enumerate(kept)}
        self._announced = {place: new[thread] for place, thread in self._announced.items()}
        self._early = {place: new[thread] for place, thread in self._early.items()}
        self.writers.clear()
        for place, thread in self._announced.items():
            self.writers[place] = thread
        self.known = Growing(self.known[thread] for thread in kept)
        self._numbers = {writer: thread for thread, writer in enumerate(self.known)}
        for field in (SPANS.processes, SPANS.identities):
            self._spans.keep(field, kept)
        self._most = MOST_THREADS + 2 * len(kept)
        self._forget_processes(numbering())

    def _forget_processes(self, numbering: set[int]) -> None:
        count = len(self.known)
        live = set(self._spans[SPANS.identities][:count].tolist())
        tails = self._spans[SPANS.tails], self._calls[SPANS.tails]
        kept = {key: i for key, i in self._identities.items() if i in live or tails[0][i] >= 0 or tails[1][i] >= 0}
        self._free_identities += [i for key, i in self._identities.items() if key not in kept]
        self._identities = kept
        numbers = {NOBODY, *self._spans[SPANS.processes][:count].tolist()} | numbering
        open_in = {key[:2] for key in kept}
        self._processes = {key: n for key, n in self._processes.items() if n in numbers or key in open_in}
