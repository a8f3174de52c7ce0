"""What processes do that write events."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

import emit
import shmtrace

from . import Broken
from .ledger import ACCEPTED, NUMBERS, REFUSED

if TYPE_CHECKING:
    from collections.abc import Callable

    from .ledger import Ledger

BURST = 50  # events that follow each other closely
HASTE = ((1000, 0.0), (1000, 0.0), (200, 0.001))  # events, and the pause in s after them
LEISURE = ((100, 0.01), (20, 0.003), (5, 0.0005))
PATIENCE_S = 0.0003  # after an event that was refused
FAMILY = 65  # processes of a fork storm
LAST_EVENTS, LAST_S = 20, 30.0  # of the last producer


class Attached(NamedTuple):
    """A channel in a producer."""

    event: Callable[[bytes], bool]
    group: int  # of cpus, one of which it writes to
    blobs: tuple[int, ...]  # their sizes, used over and over


class Pen:
    """Writes the numbered events of one process, and what came of them into the ledger."""

    def __init__(self, ledger: Ledger, slot: int, attached: Attached) -> None:
        self._ledger = ledger
        self._slot = slot
        self._event, group, self._sizes = attached
        self._states = ledger.begin(slot, group)
        self._next = 0

    def write(self, count: int, *, patient: bool = True) -> int:
        """Write so many events, as long as there are numbers left; how many were accepted."""
        event, memory, at, sizes = self._event, self._ledger.memory, self._states, self._sizes
        numbers = range(self._next, min(self._next + count, NUMBERS))
        accepted = 0
        for first in range(numbers.start, numbers.stop, BURST):
            some = range(first, min(first + BURST, numbers.stop))
            blobs = [emit.payload(self._slot, number, sizes[number % len(sizes)]) for number in some]
            for number, blob in zip(some, blobs, strict=True):  # little but events: kills are to hit them
                if event(blob):
                    memory[at + number] = ACCEPTED
                    accepted += 1
                else:
                    memory[at + number] = REFUSED
                    if patient:
                        time.sleep(PATIENCE_S)
        self._next = numbers.stop
        return accepted

    @property
    def is_done(self) -> bool:
        return self._next == NUMBERS or self._ledger.stopping

    def end(self) -> None:
        self._ledger.end(self._slot)


class Producers:
    """The lives of producers, each in a process of its own.

    Args:
        ledger: where they say what they did.
        name: the channel to which each attaches itself.
        inherited: their parent's channel, which they use instead.
        cpus: slots of the channel; 0: it has the machine's, and producers write where they run.
        blobs: sizes.
        in_haste: whether they write about as fast as they can.
    """

    def __init__(
        self,
        ledger: Ledger,
        name: str,
        *,
        inherited: shmtrace.Channel | None,
        cpus: int,
        blobs: tuple[int, ...],
        in_haste: bool,
    ) -> None:
        self._ledger = ledger
        self._name = name
        self._inherited = inherited
        self._cpus = cpus
        self._blobs = blobs
        self._paces = HASTE if in_haste else LEISURE

    def _attach(self, choose: random.Random) -> Attached:
        if self._inherited is not None:
            return Attached(self._inherited.event, 0, self._blobs)
        group = 0
        os.environ["SHMTRACE"] = self._name
        if self._cpus:  # every second slot: who finds all lanes of a cpu taken goes on to the next
            group = choose.randrange((self._cpus + 1) // 2)
            os.environ["SHMTRACE_CPU"] = str(2 * group)
        return Attached(shmtrace.attach().event, group, self._blobs)

    def write(self, slot: int) -> None:
        """Write until all numbers are used up, or it is time to end."""
        choose = random.Random(slot)
        pen = Pen(self._ledger, slot, self._attach(choose))
        burst, pause = choose.choice(self._paces)
        patient = choose.random() < 0.7
        while not pen.is_done:
            pen.write(burst, patient=patient)
            time.sleep(pause)
        pen.end()

    def storm(self, slots: range) -> None:
        """Write and fork, over and over; the children write and fork, too, and some of them are killed."""
        choose = random.Random(slots[0])
        attached = self._attach(choose)
        pen = Pen(self._ledger, slots[0], attached)
        for child, grandchild in zip(slots[1::2], slots[2::2], strict=True):
            pen.write(choose.randint(0, 50))
            if pen.is_done:
                break
            pid = os.fork()
            if pid == 0:
                pen = Pen(self._ledger, child, attached)
                pen.write(choose.randint(0, 100))
                if choose.random() < 0.5 and os.fork() == 0:
                    pen = Pen(self._ledger, grandchild, attached)
                    pen.write(choose.randint(0, 200))
                pen.end()
                os._exit(0)
            if choose.random() < 0.5:
                time.sleep(choose.uniform(0, 0.004))
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        pen.end()

    def last(self, slot: int) -> None:
        """Write until some events were accepted, which must not take long."""
        pen = Pen(self._ledger, slot, self._attach(random.Random(slot)))
        limit, left = time.monotonic() + LAST_S, LAST_EVENTS
        while left and time.monotonic() < limit:
            accepted = pen.write(1)
            left -= accepted
            time.sleep(0 if accepted else 0.01)
        pen.end()
        if left:
            raise Broken(f"{left} of the last producer's events found no room in {LAST_S:.0f} s")
