"""Events that can be told apart: who emitted them, and which of theirs it is, in every word.

    word 0      the producer
    word 1      the event's number among its producer's, from 0; refused ones have a number, too
    words 2...  the number again: as many words as the number's remainder by SIZES says

A producer gives a sum of its accepted events' digests, the consumer (`bench.audit`) of those that came.  With both sums
and counts the same, each accepted event came once, and the numbers that did not come are those of refused ones.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    import shmtrace

    Words: TypeAlias = npt.NDArray[np.int64]
    Flags: TypeAlias = npt.NDArray[np.bool_]

WORD = 8
HEAD_WORDS = 2
SIZES = 8  # from 16 to 72 bytes
BLOCK = 1024
FACTOR, SHIFT = 0x1E37_79B9_7F4A_7C15, 29


def digest(number: Words) -> Words:
    """Of each of these numbers; all in 64 bits with a sign.  In a kernel of numba it takes a single one, too."""
    scattered = (number + 1) * FACTOR
    scattered ^= scattered >> SHIFT
    return scattered * FACTOR


def blob(producer: int, number: int) -> bytes:
    """A single event."""
    words = HEAD_WORDS + number % SIZES
    return struct.pack(f"={words}q", producer, *[number] * (words - 1))


class Tally:
    """What became of a producer's events."""

    def __init__(self) -> None:
        self.emitted = self.accepted = self.bytes = self.digest = 0

    def emit(self, channel: shmtrace.Channel, producer: int) -> None:
        """The next event, by itself."""
        event = blob(producer, self.emitted)
        if channel.event(event):
            self.accepted += 1
            self.bytes += len(event)
            scattered = _int64((self.emitted + 1) * FACTOR)
            self.digest = _int64(self.digest + (scattered ^ scattered >> SHIFT) * FACTOR)
        self.emitted += 1

    def words(self) -> list[int]:
        """Four numbers of 64 bits."""
        return [self.emitted, self.accepted, self.bytes, self.digest]


def emitting(channel: shmtrace.Channel, producer: int, events: int, tally: Tally | None = None) -> Iterator[Tally]:
    """Call `event` so often; gives the tally after each thousand, one that was begun if it is given."""
    import numpy as np

    block = np.zeros((BLOCK, HEAD_WORDS + SIZES), np.int64)
    tally = tally or Tally()
    numbers = np.arange(tally.emitted, tally.emitted + BLOCK, dtype=np.int64)
    block[:, 0], block[:, 1:] = producer, numbers[:, None]
    sizes = (HEAD_WORDS + numbers % SIZES) * WORD
    blobs = [memoryview(row.data).cast("B")[:size] for row, size in zip(block, sizes.tolist(), strict=True)]
    event, end = channel.event, tally.emitted + events
    while tally.emitted < end:
        count = min(BLOCK, end - tally.emitted)
        accepted = np.frombuffer(bytes(map(event, blobs[:count])), bool)
        _add(tally, accepted, numbers[:count], sizes[:count])
        numbers += BLOCK
        block[:, 1:] += BLOCK
        yield tally


def emitting_in_a_kernel(channel: shmtrace.Channel, producer: int, events: int) -> Iterator[Tally]:
    """The same from code of numba."""
    import numba
    import numpy as np

    event = channel.event
    njit: Any = numba.njit

    @njit(nogil=True)  # type: ignore[untyped-decorator]
    def emit(words: Words, first: int, accepted: Flags) -> None:
        for i in range(len(accepted)):
            words[1:] = first + i
            accepted[i] = event(words[: HEAD_WORDS + (first + i) % SIZES])

    words = np.zeros(HEAD_WORDS + SIZES, np.int64)
    words[0] = producer
    numbers = np.arange(BLOCK, dtype=np.int64)
    sizes = (HEAD_WORDS + numbers % SIZES) * WORD
    accepted = np.zeros(BLOCK, bool)
    tally = Tally()
    while tally.emitted < events:
        count = min(BLOCK, events - tally.emitted)
        emit(words, tally.emitted, accepted[:count])
        _add(tally, accepted[:count], numbers[:count], sizes[:count])
        numbers += BLOCK
        yield tally


def _add(tally: Tally, accepted: Flags, numbers: Words, sizes: Words) -> None:
    tally.emitted += len(accepted)
    tally.accepted += int(accepted.sum())
    tally.bytes += int(sizes[accepted].sum())
    tally.digest = _int64(tally.digest + int(digest(numbers[accepted]).sum()))


def _int64(number: int) -> int:
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)
