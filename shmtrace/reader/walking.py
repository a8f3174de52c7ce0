"""Packets to rows, and what is in order to batches: the walk is jitted code's, what is rare is Python's."""

from __future__ import annotations

import contextlib
import struct
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from .. import wire
from ..native.rows import ANY, DAMAGED, HERE_BAD, MAP, ROWS, SKIPPED, SPECIAL, UNKNOWN, VARIABLE, WALKED
from .batch import BLOB, CONTEXT, LEVEL_NAMES, LOG, LOSS, RAW_LOG, fixed_size, program
from .description import describe
from .errors import InvalidDescription
from .functions import DEFINES
from .log import unpack_log
from .ordering import CONTEXT_HEAD, Ordering
from .records import decode_fields, loss_of, undescribed
from .rows import Blocks, Rows, Tables, address_of, jitted
from .stream import COLLECTORS_IDS, RECORD, Head, Metadata, Packet, RecordDamaged, Run, Skipped, heads
from .times import Times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Executor, Future

    from .batch import Batch
    from .description import Description
    from .stream import Item

__all__ = ["Decoder"]

BATCHES_BESIDE = 2  # wait for another thread, so that it need not wait
LOSS_ROOM = 64  # bytes of a row that tells of a loss
_LOG_HEAD = struct.Struct("<IIB")


class Decoder:
    """Turns packets into rows, and rows into batches.  As records.Decoder, which says more.

    To the numbers that it gives to spans and calls it adds `own`.
    """

    def __init__(self, warn: Callable[[str], None], own: int = 0) -> None:
        self.code = jitted()
        self.blocks = Blocks()
        self.description: Description | None = None
        self._ordering = Ordering(self.code, own, self._wait)
        self.threads = self._ordering.threads
        self._warn = warn
        self._times = Times(self.code["convert"])
        self._settled = False
        self._unknown: set[int] = set()  # ids told already
        self._tables = Tables(self.threads.writers, UNKNOWN)
        self._learning = Tables(self.threads.writers, SKIPPED)
        self._learning.sizes[[wire.ID_WRITER, wire.ID_CLOCK, wire.ID_LOG]] = SPECIAL
        self._nothing = Rows(0, 0, Blocks())
        self._beside: deque[Future[Batch | None]] = deque()  # what another thread has been given
        self._set_tables(None)

    # what the description says

    def describe(self, text: str) -> Description:
        """Reads all that follows by this description."""
        self._wait()
        description = describe(text)
        self._times.describe(description.clock)
        self.description = description
        self._unknown.clear()
        self._set_tables(description)
        return description

    def _set_tables(self, description: Description | None) -> None:
        sizes, classes = self._tables.sizes, self._tables.classes
        sizes.fill(UNKNOWN)
        sizes[list(COLLECTORS_IDS)] = SPECIAL
        sizes[wire.ID_LOG], classes[wire.ID_LOG] = MAP, LOG
        sizes[wire.ID_BLOB], classes[wire.ID_BLOB] = ANY, BLOB
        sizes[wire.ID_PADDING] = SKIPPED
        programs = {}
        for made in () if description is None else description.classes.values():
            classes[made.id] = self._ordering.number_of(made)
            parts = [fixed_size(kind) for _, kind in made.fields]
            if None in parts:
                sizes[made.id] = VARIABLE
                programs[made.id] = program(made)
            else:
                sizes[made.id] = 4 * made.own + sum(part or 0 for part in parts)
            self._learning.sizes[made.id] = SPECIAL if made.kind == DEFINES else SKIPPED
        self._tables.set_programs(programs)

    # what is learned ahead

    def learn(self, items: Iterable[Item], *, contexts: bool) -> None:
        """As records.Decoder.learn."""
        for item in items:
            if isinstance(item, Metadata):
                with contextlib.suppress(InvalidDescription):
                    self.describe(item.text)
            elif isinstance(item, Packet):
                self._learn(item, contexts=contexts)
        self._ordering.forget()

    def settle(self) -> None:
        """All that the trace says about its clock is known."""
        self._settled = True
        self.threads.settle()

    def _learn(self, packet: Packet, *, contexts: bool) -> None:
        if not contexts:
            with contextlib.suppress(RecordDamaged):
                for head in heads(packet):
                    if head.id not in COLLECTORS_IDS:
                        break
                    if head.id == wire.ID_CLOCK:
                        self._times.read(_body(packet, head))
            return
        for why, head in self._stops(packet, self._nothing, self._learning):
            if why == DAMAGED:
                break
            if head.id == wire.ID_CLOCK:
                self._times.read(_body(packet, head))
            elif head.id == wire.ID_WRITER:
                self.threads.announce_early(packet.lane << 16, _body(packet, head))
            elif (thread := self.threads.early_at(packet.lane << 16 | head.writer)) >= 0:
                self._learn_numbered(head.id, _body(packet, head), self.threads.process_of(thread))

    def _learn_numbered(self, identifier: int, body: memoryview, process: int) -> None:
        if identifier == wire.ID_LOG:
            if (log := unpack_log(body)) is not None and log.defines:
                self._ordering.define(process, log.defines, bytes(body), early=True)
        elif self.description is not None:
            with contextlib.suppress(ValueError):
                self._ordering.define_function(
                    process, self.description.classes[identifier].decode(body)[1], early=True
                )

    # packets to rows

    def decode(self, item: Item, place: str, rows: Rows) -> None:
        """Adds the rows of what a parser gave; `place` is the name of what it parsed."""
        if isinstance(item, (Packet, Run)):
            self._packets(item, place, rows)
        elif isinstance(item, Skipped):
            self._warn(f"{place}: byte {item.offset}: {item.size} bytes skipped: {item.why}")
        else:
            self._times.convert(rows)
            try:
                self.describe(item.text)
            except InvalidDescription as error:
                self._warn(f"{place}: byte {item.offset}: {error}")

    def _packets(self, item: Packet | Run, place: str, rows: Rows) -> None:
        room = len(item.data)
        rows.need(room // wire.RECORD_BYTES + 2, room + 2 * LOSS_ROOM)
        rows.header[ROWS.lane // 8] = item.lane
        rows.header[ROWS.scope // 8] = rows.place << 32 | item.lane << 16
        if isinstance(item, Packet):
            if item.missing:
                _add_loss(rows, item.cpu, item.begin, "gap", item.missing)
            if item.missed:
                _add_loss(rows, item.cpu, item.begin, "missed", item.missed)
        for why, head in self._stops(item, rows, self._tables):
            if why == DAMAGED:
                packet = int(rows.header[ROWS.packet // 8])
                error = RecordDamaged(head.body - packet)
                self._warn(f"{place}: byte {item.offset + head.body}: the rest of a packet skipped: {error}")
            elif why == HERE_BAD:
                self._complain(item, head, place)
            elif head.id == wire.ID_LOG:
                self._log(item, head, rows)
            else:
                self._collectors(item, head, rows)

    def _stops(self, item: Packet | Run, rows: Rows, tables: Tables) -> Iterator[tuple[int, Head]]:
        """Makes rows of records; gives those of which it makes none, and where a packet is damaged."""
        base, walk = address_of(np.frombuffer(item.data, np.uint8)), self.code["walk"]
        at = end = 0
        stop = item.content_bytes if isinstance(item, Packet) else len(item.data)
        while at < stop:
            why = walk(rows.address, tables.address, base, at, end, stop)
            if why == WALKED:
                return
            at, end = int(rows.header[ROWS.stopped // 8]), int(rows.header[ROWS.ended // 8])
            if why != DAMAGED:
                cycles, identifier, cpu, writer, size = RECORD.unpack_from(item.data, at)
                body = at + wire.RECORD_BYTES
                yield why, Head(cycles, identifier, cpu, writer, size, body)
                at = wire.padded(body + size)
                if at < end or end == body + size:
                    continue
                at = body + size
            yield DAMAGED, Head(0, 0, 0, 0, 0, at)
            at = end = wire.padded(end)

    def _complain(self, item: Packet | Run, head: Head, place: str) -> None:
        made = self.description.classes.get(head.id) if self.description else None
        try:
            if made is not None:
                decode_fields(made, _body(item, head))
            elif head.id not in self._unknown:
                self._unknown.add(head.id)
                raise undescribed(head.id)
        except ValueError as error:
            self._warn(f"{place}: byte {item.offset + head.body}: skipped: {error}")

    def _log(self, item: Packet | Run, head: Head, rows: Rows) -> None:
        body = bytes(_body(item, head))
        thread = self.threads.at(int(rows.header[ROWS.scope // 8]) | head.writer)
        log = unpack_log(body)
        if log is None:
            rows.add(head.cycles, RAW_LOG, thread, head.cpu, body)
        elif log.defines:
            rows.add(head.cycles, CONTEXT, thread, head.cpu, CONTEXT_HEAD.pack(0, log.defines) + body)
        else:
            numbers = _LOG_HEAD.pack(log.span, log.context, LEVEL_NAMES.index(log.level))
            rows.add(head.cycles, LOG, thread, head.cpu, numbers + body)

    def _collectors(self, item: Packet | Run, head: Head, rows: Rows) -> None:
        body = _body(item, head)
        if head.id == wire.ID_LOSS:
            if (loss := loss_of(body)) is not None:
                at = int(rows.header[ROWS.packet // 8]) + wire.PACKET.cpu_id
                _add_loss(rows, int.from_bytes(item.data[at : at + 4], "little"), head.cycles, *loss)
        elif head.id == wire.ID_WRITER:
            self.threads.announce(int(rows.header[ROWS.scope // 8]), body)
        elif not self._settled:
            self._times.convert(rows)
            self._times.read(body)

    # rows in order to batches

    def finish(self, rows: Rows) -> Iterator[Batch]:
        """The rows as a batch, if there are any, with what the order of time tells.  They are not used again."""
        if (batch := self._finish(rows)) is not None:
            yield batch
        self._ordering.forget()

    def finish_beside(self, rows: Rows, pool: Executor) -> Iterator[Batch]:
        """As `finish`, but the batch comes with a later call, or with `finished`: others are decoded meanwhile.

        Whatever changes what the pool's one thread reads waits until that is done with all that it has.
        """
        self._beside.append(pool.submit(self._finish, rows))
        if len(self._beside) > BATCHES_BESIDE:
            yield from self._first_beside()
        self._ordering.forget()

    def finished(self) -> Iterator[Batch]:
        """The batches that have not come yet."""
        while self._beside:
            yield from self._first_beside()

    def _first_beside(self) -> Iterator[Batch]:
        batch = self._beside.popleft().result()
        if batch is not None:
            yield batch

    def _finish(self, rows: Rows) -> Batch | None:
        self._times.convert(rows)
        return self._ordering.finish(rows)

    def _wait(self) -> None:
        """Until no other thread reads or writes anything of this."""
        for batch in self._beside:
            batch.result()


def _body(item: Packet | Run, head: Head) -> memoryview:
    return item.data[head.body : head.body + head.size]


def _add_loss(rows: Rows, cpu: int, cycles: int, reason: str, count: int) -> None:
    rows.add(cycles, LOSS, -1, cpu, reason.encode() + b"\0" + count.to_bytes(8, "little"))
