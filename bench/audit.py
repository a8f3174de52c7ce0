"""A consumer that checks every byte: `python -m bench.audit FIFO LANES CPUS PRODUCERS` reads until the FIFO's end.

It takes the stream apart by itself, in code of numba, so that it keeps up with the collector, and shares nothing with
`shmtrace.reader` but the table of the wire.  Events are those of `bench.numbered`.  Of each packet it checks magic and
uuid, that its number follows the lane's last one, that stamps do not run backwards, that nothing told is taken back,
and that the records fill it; of each record that its writer was announced in that lane as the same thread as ever; of
each event its size, its words, and that its number is above the lane's last one of that producer.

Numbers that came twice or never are found by the judge: the sum of digests of what came must be that of what was
accepted.  So the memory does not depend on the number of events.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np

from shmtrace import wire

from .checks import DESCRIPTION, FAULTS, LANE_CPU, LANE_TOLD, MORE, TOTAL_OTHERS, TOTAL_PACKETS, Seen, take
from .numbered import WORD

BUFFER_BYTES = 8 << 20  # a packet may be as long as a page with a writer record for each of its records
CHUNK_BYTES = 1 << 20  # at most half of the buffer
WRITERS = 4096


class Damaged(Exception):
    """The stream is not as it should be."""


class Audit:
    """What was found so far."""

    def __init__(self, lanes: int, cpus: int, producers: int, *, buffer_bytes: int = BUFFER_BYTES) -> None:
        self._seen = Seen(
            uuid=_table(3), lanes=_table(lanes, 4), cpus=_table(cpus), sources=_table(producers, 4),
            last=_table(lanes, producers, value=-1), threads=np.zeros((lanes, WRITERS), np.int64), totals=_table(2),
        )  # fmt: skip
        self._buffer = _table(buffer_bytes // WORD)
        self._bytes = self._buffer.view(np.uint8)
        self._room = memoryview(self._bytes.data)
        self._held = self._received = self._descriptions = 0
        self._scan()  # compiles

    def read(self, file: int) -> bool:
        """Take what there is, and check it; False at the stream's end.  Raises Damaged, and BlockingIOError."""
        count = os.readv(file, [self._room[self._held : self._held + CHUNK_BYTES]])
        self._held += count
        self._received += count
        while self._scan():
            pass
        return count > 0

    def end(self) -> None:
        """Nothing more comes.  Raises Damaged if something is missing."""
        if self._held:
            raise Damaged(f"{self._held} bytes at the end are no packet")

    def _scan(self) -> bool:
        """Check; True if a description was passed, behind which there may be more."""
        taken, why = take(self._buffer, self._held // WORD, self._seen)
        if why not in {MORE, DESCRIPTION}:
            offset = self._received - self._held + taken * WORD
            raise Damaged(f"the packet at byte {offset} of the stream: {FAULTS[why]}")
        self._drop(taken * WORD)
        return why == DESCRIPTION and self._describe()

    def _describe(self) -> bool:
        if self._held < wire.METADATA_BYTES:
            return False
        size = int.from_bytes(self._room[wire.METADATA.packet_size :][:4], "little") // 8
        if self._held < size:
            return False
        uuid = np.zeros(3 * WORD, np.uint8)  # its place in a packet is the same
        uuid[wire.METADATA.uuid : wire.METADATA.uuid + 16] = self._bytes[wire.METADATA.uuid : wire.METADATA.uuid + 16]
        self._seen.uuid[:] = uuid.view(np.int64)
        self._seen.uuid[0] >>= 32
        self._drop(size)
        self._descriptions += 1
        return True

    def _drop(self, count: int) -> None:
        self._bytes[: self._held - count] = self._bytes[count : self._held]
        self._held -= count

    def report(self) -> dict[str, Any]:
        """Everything that the judge compares."""
        seen = self._seen
        sources = [
            {"delivered": count, "digest": sum_, "bytes": bytes_, "pid": thread & 0xFFFF_FFFF, "tid": thread >> 32}
            for count, sum_, bytes_, thread in seen.sources.tolist()
        ]
        told = np.bincount(seen.lanes[:, LANE_CPU], seen.lanes[:, LANE_TOLD], len(seen.cpus))
        return {
            "sources": sources, "delivered_by_cpu": seen.cpus.tolist(), "told_by_cpu": told.astype(int).tolist(),
            "packets": int(seen.totals[TOTAL_PACKETS]), "other_records": int(seen.totals[TOTAL_OTHERS]),
            "received_bytes": self._received, "descriptions": self._descriptions,
        }  # fmt: skip


def _table(*shape: int, value: int = 0) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Numbers that have their memory already, so that it does not grow later."""
    table = np.empty(shape, np.int64)
    table.fill(value)
    return table


def main() -> None:
    """Say on stdout what was found, as JSON."""
    path, lanes, cpus, producers = sys.argv[1], *map(int, sys.argv[2:])
    audit = Audit(lanes, cpus, producers)
    file = os.open(path, os.O_RDONLY)
    before = time.process_time()
    while audit.read(file):
        pass
    audit.end()
    print(json.dumps(audit.report() | {"cpu_s": time.process_time() - before}))


if __name__ == "__main__":
    main()
