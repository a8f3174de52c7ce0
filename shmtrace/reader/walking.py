"""Packets to rows, and what is in order to batches: the walk is jitted code's, what is rare is Python's."""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING

from .. import wire
from ..native.rows import (
    ANY,
    AT_ONCE,
    CURSOR,
    DAMAGED,
    HERE_AHEAD,
    HERE_BAD,
    MAP,
    SKIPPED,
    SPECIAL,
    UNKNOWN,
    WALKED,
)
from .batch import BLOB, CONTEXT, LEVEL_NAMES, LOG, LOSS, RAW_LOG, fixed_size, program
from .beside import Beside
from .description import describe
from .errors import InvalidDescription
from .functions import DEFINES
from .log import unpack_log
from .ordering import CONTEXT_HEAD, Ordering
from .records import decode_fields, loss_of, undescribed
from .rows import Blocks, Cursor, Row, Rows, Tables, jitted, signed
from .stream import COLLECTORS_IDS, Metadata, Packet, RecordDamaged, Skipped, heads
from .times import Times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .batch import Batch
    from .description import Description
    from .stream import Head, Item, Run

__all__ = ["Decoder"]

BATCHES_BESIDE = 1  # waits for another thread, which has hardly ever to wait
_LOG_HEAD = struct.Struct("<IIB")


class Decoder:
    """Turns packets into rows, and rows into batches.  As records.Decoder, which says more.

    To the numbers that it gives to spans and calls it adds `own`.
    """

    def __init__(self, warn: Callable[[str], None], own: int = 0) -> None:
        self.code = jitted()
        self.blocks = Blocks()
        self.description: Description | None = None
        self._beside = Beside(self._finish)
        self._ordering = Ordering(self.code, own, self._beside.wait)
        self.threads = self._ordering.threads
        self._warn = warn
        self._times = Times(self.code["convert"])
        self._settled = False
        self._unknown: set[int] = set()  # ids told already
        self.tables = Tables(self.threads.writers, UNKNOWN)
        self._learning = Tables(self.threads.writers, SKIPPED)
        self._learning.sizes[[wire.ID_WRITER, wire.ID_CLOCK, wire.ID_LOG]] = AT_ONCE
        self._nothing = Rows(0, 0, Blocks())
        self._set_tables(None)

    # what the description says

    def describe(self, text: str) -> Description:
        """Reads all that follows by this description."""
        self._beside.wait()
        description = describe(text)
        self._times.describe(description.clock)
        self.description = description
        self._unknown.clear()
        self._set_tables(description)
        return description

    def _set_tables(self, description: Description | None) -> None:
        sizes, classes = self.tables.sizes, self.tables.classes
        sizes.fill(UNKNOWN)
        sizes[[wire.ID_WRITER, wire.ID_CLOCK]], sizes[wire.ID_LOSS] = AT_ONCE, SPECIAL
        sizes[wire.ID_LOG], classes[wire.ID_LOG] = MAP, LOG
        sizes[wire.ID_BLOB], classes[wire.ID_BLOB] = ANY, BLOB
        sizes[wire.ID_PADDING] = SKIPPED
        programs = {}
        for made in () if description is None else description.classes.values():
            classes[made.id] = self._ordering.number_of(made)
            parts = [fixed_size(kind) for _, kind in made.fields]
            if None in parts:
                programs[made.id] = program(made)
            else:
                sizes[made.id] = 4 * made.own + sum(part or 0 for part in parts)
            self._learning.sizes[made.id] = AT_ONCE if made.kind == DEFINES else SKIPPED
        self.tables.set_programs(programs)

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
        cursor = Cursor()
        cursor.take(packet._replace(missing=0, missed=0))
        while self.code["walk"](cursor.address, self._nothing.address, self._learning.address) not in {WALKED, DAMAGED}:
            head = cursor.head()
            if head.id == wire.ID_CLOCK:
                self._times.read(_body(packet, head))
            elif head.id == wire.ID_WRITER:
                self.threads.announce_early(packet.lane << 16, _body(packet, head))
            elif (thread := self.threads.early_at(packet.lane << 16 | head.writer)) >= 0:
                self._learn_numbered(head.id, _body(packet, head), self.threads.process_of(thread))
            if not cursor.skip(head):
                break

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

    def tell(self, item: Metadata | Skipped, place: str, rows: Rows) -> None:
        """Says that bytes are damaged; or reads all that follows by another description."""
        if isinstance(item, Skipped):
            self._warn(f"{place}: byte {item.offset}: {item.size} bytes skipped: {item.why}")
            return
        self._times.convert(rows)
        try:
            self.describe(item.text)
        except InvalidDescription as error:
            self._warn(f"{place}: byte {item.offset}: {error}")

    def stopped(self, cursor: Cursor, place: str, rows: Rows) -> None:
        """Does what jitted code does not, where a walk stopped ahead of the end.  There it may go on then."""
        why = cursor[CURSOR.why]
        if why == HERE_AHEAD:
            self._gap(cursor, rows)
            return
        if why != DAMAGED:
            head = cursor.head()
            if why == HERE_BAD:
                self._complain(cursor.item, head, place)
            elif head.id == wire.ID_LOG:
                self._log(cursor, head, rows)
            else:
                self._collectors(cursor, head, rows)
            if cursor.skip(head):
                return
        at = cursor[CURSOR.at]
        error = RecordDamaged(at - cursor[CURSOR.packet])
        self._warn(f"{place}: byte {cursor.item.offset + at}: the rest of a packet skipped: {error}")
        cursor.skip_packet()

    def _gap(self, cursor: Cursor, rows: Rows) -> None:
        cursor[CURSOR.ahead] = 0
        item = cursor.item
        assert isinstance(item, Packet)
        for reason, count in (("gap", item.missing), ("missed", item.missed)):
            if count:
                _add(cursor, rows, _loss(item.begin, item.cpu, reason, count))

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

    def _log(self, cursor: Cursor, head: Head, rows: Rows) -> None:
        body = bytes(_body(cursor.item, head))
        thread = self.threads.at(cursor[CURSOR.scope] | head.writer)
        log = unpack_log(body)
        made = LOG
        if log is None:
            made = RAW_LOG
        elif log.defines is not None:
            made, body = CONTEXT, CONTEXT_HEAD.pack(0, log.defines) + body
        else:
            body = _LOG_HEAD.pack(log.span, log.context, LEVEL_NAMES.index(log.level)) + body
        _add(cursor, rows, Row(head.cycles, made, thread, head.cpu, body))

    def _collectors(self, cursor: Cursor, head: Head, rows: Rows) -> None:
        body = _body(cursor.item, head)
        if head.id == wire.ID_LOSS:
            if (loss := loss_of(body)) is not None:
                at = cursor[CURSOR.packet] + wire.PACKET.cpu_id
                cpu = int.from_bytes(cursor.item.data[at : at + 4], "little")
                _add(cursor, rows, _loss(head.cycles, cpu, *loss))
        elif head.id == wire.ID_WRITER:
            self.threads.announce(cursor[CURSOR.scope], body)
        elif not self._settled:
            self._times.convert(rows)
            self._times.read(body)

    # rows in order to batches

    def finish(self, rows: Rows) -> Iterator[Batch]:
        """The rows as a batch, if there are any, with what the order of time tells.  They are not used again."""
        if (batch := self._finish(rows)) is not None:
            yield batch
        self._ordering.forget()

    def finish_beside(self, rows: Rows) -> Iterator[Batch]:
        """As `finish`, but the batch comes with a later call, or with `finished`: others are decoded meanwhile.

        Whatever changes what the other thread reads waits until that is done with all that it has.
        """
        self._beside.call(rows)
        if len(self._beside) > BATCHES_BESIDE:
            yield from self._first_beside()
        self._ordering.forget()

    def finished(self) -> Iterator[Batch]:
        """The batches that have not come yet."""
        while self._beside:
            yield from self._first_beside()

    def close(self) -> None:
        """There is no other thread any more."""
        self._beside.close()

    def _first_beside(self) -> Iterator[Batch]:
        if (batch := self._beside.take()) is not None:
            yield batch

    def _finish(self, rows: Rows) -> Batch | None:
        self._times.convert(rows)
        return self._ordering.finish(rows)


def _body(item: Packet | Run, head: Head) -> memoryview:
    return item.data[head.body : head.body + head.size]


def _add(cursor: Cursor, rows: Rows, row: Row) -> None:
    cursor[CURSOR.top] = max(cursor[CURSOR.top], signed(row.cycles ^ 1 << 63))
    rows.add(row, cursor[CURSOR.lane])


def _loss(cycles: int, cpu: int, reason: str, count: int) -> Row:
    return Row(cycles, LOSS, -1, cpu, reason.encode() + b"\0" + count.to_bytes(8, "little"))
