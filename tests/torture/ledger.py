"""What the producers did, in memory that outlives them."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

PROCESSES = 8192  # that write, in a round
NUMBERS = 16_384  # events of a process at most
ACCEPTED, REFUSED = 1, 2  # what the ledger says of an event; 0: `event()` has not returned


class Entry(NamedTuple):
    """What a process did."""

    slot: int
    pid: int
    group: int  # of cpus, one of which it wrote to
    ended: bool  # in order; else it was killed
    states: bytes  # of the events whose `event()` returned

    @property
    def accepted(self) -> int:
        return self.states.count(ACCEPTED)

    @property
    def refused(self) -> int:
        return self.states.count(REFUSED)


class Ledger:
    """What `event()` returned, for each event of each process of a round."""

    _HEAD = 16  # of the ledger: whether to stop; of a slot: pid, group of cpus, whether it ended
    _SLOT = _HEAD + NUMBERS

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, self._HEAD + PROCESSES * self._SLOT)
        self._used = 0

    def close(self) -> None:
        self.memory.close()

    def take(self, count: int) -> range | None:
        """Slots for so many processes; none when the ledger is full."""
        slots = range(self._used, self._used + count)
        if slots.stop > PROCESSES:
            return None
        self._used = slots.stop
        return slots

    def stop(self) -> None:
        """Ask all producers to end."""
        self.memory[0] = 1

    @property
    def stopping(self) -> bool:
        return self.memory[0] != 0

    def begin(self, slot: int, group: int) -> int:
        """The calling process has this slot.  Returns where in `memory` the states of its events go."""
        at = self._HEAD + slot * self._SLOT
        self.memory[at : at + 5] = os.getpid().to_bytes(4, "little") + bytes([group])
        return at + self._HEAD

    def end(self, slot: int) -> None:
        """The process ends in order: none of its events is under way."""
        self.memory[self._HEAD + slot * self._SLOT + 5] = 1

    def entries(self) -> Iterator[Entry]:
        """The processes that began."""
        for slot in range(self._used):
            at = self._HEAD + slot * self._SLOT
            pid = int.from_bytes(self.memory[at : at + 4], "little")
            if pid:
                begin = at + self._HEAD
                end = self.memory.find(b"\0", begin, begin + NUMBERS)
                states = self.memory[begin : end if end >= 0 else begin + NUMBERS]
                yield Entry(slot, pid, self.memory[at + 4], self.memory[at + 5] != 0, states)
