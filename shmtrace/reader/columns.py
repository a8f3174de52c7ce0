"""The fast reader: traces as batches of columns, decoded in jitted code, in bounded memory.

The parser is that of the record reader, and so is all that it says about damage.  What it gives, packets, jitted code
makes rows of.  Where a packet holds what is rare (records of the collector, logs, what does not make sense) it stops,
and Python does the same as the record reader.  Rows of lanes are merged by time like records.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import select
import stat
import struct
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from .. import wire
from ..layout import UNKNOWN_WRITER
from ..native.rows import (
    ALL_DONE,
    ANY,
    BIAS,
    DAMAGED,
    HERE_BAD,
    KIND_UNWIND,
    LINE,
    MAP,
    NOBODY,
    ROWS,
    SKIPPED,
    SPANS,
    SPECIAL,
    UNKNOWN,
    VARIABLE,
    WALKED,
)
from .batch import (
    BLOB,
    CONTEXT,
    KINDS,
    LEVEL_NAMES,
    LOG,
    LOSS,
    RAW_LOG,
    RESERVED_CLASSES,
    Batch,
    fixed_size,
    function_body,
    function_classes,
    program,
)
from .clock import Clock
from .contexts import ENTRY_BYTES, MOST_BYTES
from .description import describe
from .errors import InvalidDescription, NotATrace
from .files import Directory, Lane, first_records, is_file, open_file, parsed
from .functions import DEFINES, FIRST_NUMBER, MOST_CALLS, MOST_NUMBERS, Names, unknown
from .functions import KINDS as STEPS
from .log import unpack_log
from .merging import Origin, merge_boots, with_origin
from .records import (
    CLOCK,
    MOST_WRITERS,
    decode_fields,
    loss_of,
    undescribed,
    warn_of,
    writer_of,
)
from .rows import (
    COLUMNS,
    WIDE,
    Blocks,
    Growing,
    Hashed,
    Leaps,
    Numbered,
    OpenSpans,
    Rows,
    Tables,
    address_of,
    jitted,
    signed,
    words,
)
from .spans import FIRST_NAMELESS, MOST_SPANS, OWN_NUMBERS_BITS
from .stream import COLLECTORS_IDS, RECORD, Head, Metadata, Packet, RecordDamaged, Run, Skipped, heads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Executor, Future

    from .decode import Fields
    from .description import Description, EventClass
    from .functions import Function
    from .records import Source, Writer
    from .rows import Array
    from .stream import Item

__all__ = ["read"]

ROWS_AT_ONCE = 1 << 16
BYTES_AT_ONCE = 16 << 20
BATCHES_BESIDE = 2  # wait for another thread, so that it need not wait
LANES_BYTES = 32 << 20  # of files are held at a time, all lanes together, but
LEAST_CHUNK_BYTES, MOST_CHUNK_BYTES = 1 << 16, 1 << 20
_KIND_NUMBERS = {kind: number for number, kind in enumerate((*KINDS, "context", DEFINES, *STEPS))}
assert _KIND_NUMBERS["unwind"] == KIND_UNWIND
MOST_THREADS = 1 << 16  # before those that have ended are forgotten
LOSS_ROOM = 64  # bytes of a row that tells of a loss
_LOG_HEAD = struct.Struct("<IIB")
_CONTEXT_HEAD = struct.Struct("<II")


def read(
    source: Source | Sequence[Source], *, warn: Callable[[str], None] | None = None, rows: int = ROWS_AT_ONCE
) -> Iterator[Batch]:
    """The records of a trace as batches of columns, the same and in the same order as `shmtrace.read` gives them.

    Args:
        source: as for `shmtrace.read`.
        warn: as for `shmtrace.read`.
        rows: of a batch, about.

    Raises:
        NotATrace: the source cannot be opened or holds no trace.
    """
    warn = warn or warn_of
    if isinstance(source, Sequence) and not isinstance(source, str):
        return _read_several(source, warn, rows)
    return _read_one(Decoder(warn), source, warn, rows)


def _read_several(sources: Sequence[Source], warn: Callable[[str], None], rows: int) -> Iterator[Batch]:
    found = []
    for number, source in enumerate(sources):
        decoder = Decoder(warn, number << OWN_NUMBERS_BITS)
        batches = _read_one(decoder, source, warn, rows)
        first = list(itertools.islice(batches, 1))
        known = decoder.description
        if first and known is not None:
            origin = Origin(known.hostname, known.channel)
            found.append((known.boot_id, with_origin(itertools.chain(first, batches), origin)))
    if found:
        yield from merge_boots(found)


def _read_one(decoder: Decoder, source: Source, warn: Callable[[str], None], rows: int) -> Iterator[Batch]:
    if not isinstance(source, (str, os.PathLike)):
        return _read_stream(decoder, source, str(getattr(source, "name", "stream")), rows)
    path = pathlib.Path(source)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise NotATrace(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISDIR(mode):
        return _read_file(decoder, path, rows)
    directory = Directory(path, decoder.describe)
    sizes = directory.lanes()
    directory.open()
    return _read_directory(decoder, directory.uuid, sizes, warn, rows)


def _read_file(decoder: Decoder, path: pathlib.Path, rows: int) -> Iterator[Batch]:
    with open_file(path) as file:
        yield from _read_stream(decoder, file, str(path), rows)


def _read_stream(decoder: Decoder, source: BinaryIO, place: str, most: int) -> Iterator[Batch]:
    waits = True
    if is_file(source):
        start = source.tell()
        for items in parsed(source, place):
            decoder.learn(items, contexts=True)
        decoder.settle()
        source.seek(start)
        waits = False
    rows = _new_rows(decoder, most)
    for items in parsed(source, place):
        for item in items:
            decoder.decode(item, place, rows)
            if rows.count >= most or rows.used >= BYTES_AT_ONCE:
                yield from decoder.finish(rows)
                rows = _new_rows(decoder, most)
        if waits and rows.count and not _has_more(source):
            yield from decoder.finish(rows)
            rows = _new_rows(decoder, most)
    yield from decoder.finish(rows)


def _new_rows(decoder: Decoder, most: int) -> Rows:
    """For so many, and those of the packets with which there are so many."""
    more = MOST_CHUNK_BYTES // wire.RECORD_BYTES
    return Rows(most + more, BYTES_AT_ONCE + MOST_CHUNK_BYTES, decoder.blocks, finished=True)


def _has_more(source: BinaryIO) -> bool:
    """Whether the next read gives something at once."""
    try:
        return bool(select.select([source], [], [], 0)[0])
    except (OSError, ValueError, TypeError):  # it is no file of the system
        return True


def _read_directory(
    decoder: Decoder, uuid: bytes, sizes: dict[pathlib.Path, int], warn: Callable[[str], None], most: int
) -> Iterator[Batch]:
    for path, size in sizes.items():  # clock records tell of what came before them
        for items in first_records(path, uuid, size):
            decoder.learn(items, contexts=False)
    decoder.settle()
    chunk = max(LEAST_CHUNK_BYTES, min(LANES_BYTES // max(1, len(sizes)), MOST_CHUNK_BYTES))
    leaps = Leaps(decoder.code["leap"], uuid)
    lanes = {
        str(path): Lane(path, uuid, leaps).items(size, warn, last=True, chunk_bytes=chunk)
        for path, size in sizes.items()
    }
    with ThreadPoolExecutor(1) as pool:
        for full in _alone(decoder, lanes, most) if len(lanes) == 1 else _merged(decoder, lanes, most):
            yield from decoder.finish_beside(full, pool)
        yield from decoder.finished()


def _alone(decoder: Decoder, lanes: dict[str, Iterator[list[Item]]], most: int) -> Iterator[Rows]:
    """The rows of the only lane, so many at a time."""
    ((place, batches),) = lanes.items()
    rows = _new_rows(decoder, most)
    for item in itertools.chain.from_iterable(batches):
        decoder.decode(item, place, rows)
        if rows.count >= most or rows.used >= BYTES_AT_ONCE:
            yield rows
            rows = _new_rows(decoder, most)
    yield rows


def _merged(decoder: Decoder, lanes: dict[str, Iterator[list[Item]]], most: int) -> Iterator[Rows]:
    """The rows of all lanes in the order of time, so many at a time."""
    parts = [_LaneRows(decoder, number, place, batches) for number, (place, batches) in enumerate(lanes.items())]
    addresses = np.array([part.rows.address for part in parts], np.int64)
    heap = np.empty(len(parts), np.int64)
    target = Rows(most, BYTES_AT_ONCE, decoder.blocks, finished=True)
    while True:
        why = decoder.code["merge"](address_of(addresses), len(parts), address_of(heap), target.address)
        if why >= 0:
            parts[why].fill()
            continue
        yield target
        if why == ALL_DONE:
            break
        target = Rows(most, BYTES_AT_ONCE, decoder.blocks, finished=True)


class _LaneRows:
    """The rows of a lane that wait to be merged."""

    def __init__(self, decoder: Decoder, number: int, place: str, batches: Iterator[list[Item]]) -> None:
        self.rows = Rows(0, 0, Blocks())
        self.rows.place = number
        decoder.waiting.append(self.rows)
        self._decoder = decoder
        self._place = place
        self._batches = batches

    def fill(self) -> None:
        """Some more rows, if there are more."""
        self.rows.clear()
        while not self.rows.count:
            items = next(self._batches, None)
            if items is None:
                self.rows.header[ROWS.done // 8] = 1
                return
            for item in items:
                self._decoder.decode(item, self._place, self.rows)


class Decoder:
    """Turns packets into rows, and rows into batches.  As records.Decoder, which says more.

    To the numbers that it gives to spans and calls it adds `own`.
    """

    def __init__(self, warn: Callable[[str], None], own: int = 0) -> None:
        self._settled = False
        self.code = jitted()
        self._warn = warn
        self.description: Description | None = None
        self._clock: Clock | None = None
        self._classes: Growing[EventClass] = Growing(RESERVED_CLASSES)
        self._threads: Growing[Writer] = Growing()
        self._most_threads = MOST_THREADS
        self.waiting: list[Rows] = []  # of lanes, to be merged
        self._class_numbers = {made: number for number, made in enumerate(RESERVED_CLASSES)}
        self._thread_numbers: dict[Writer, int] = {}
        self._processes: dict[tuple[int, int] | None, int] = {None: NOBODY}
        self._next_process = NOBODY + 1
        self._identities: dict[tuple[int, int, int], int] = {}
        self._free_identities: list[int] = []
        self._announced: dict[int, int] = {}
        self._early: dict[int, int] = {}
        self._unknown: set[int] = set()
        self._writers = Hashed(self.code["put"])
        self._tables = Tables(self._writers, UNKNOWN)
        self._learning = Tables(self._writers, SKIPPED)
        self._learning.sizes[[wire.ID_WRITER, wire.ID_CLOCK, wire.ID_LOG]] = SPECIAL
        self.blocks = Blocks()
        self._nothing = Rows(0, 0, Blocks())
        self._spans, self._calls = (
            OpenSpans(MOST_SPANS, FIRST_NAMELESS + own),
            OpenSpans(MOST_CALLS, FIRST_NUMBER + own),
        )
        self._context_numbers = Numbered(self.code["put"], self._spans, SPANS.contexts, SPANS.named)
        self._contexts: list[bytes] = []
        self._contexts_bytes = 0
        self._function_numbers = Numbered(self.code["put"], self._spans, SPANS.functions, SPANS.called)
        self._functions = Names()
        self._begins: dict[Function, int] = {}  # classes of calls, and
        self._called: dict[int, Function] = {}  # functions of these
        self._line = words(LINE)
        self._before = 0  # rows
        self._beside: deque[Future[Batch | None]] = deque()  # what another thread has been given
        self._forget_line()
        self._set_tables(None)

    # what the description says

    def describe(self, text: str) -> Description:
        """Reads all that follows by this description."""
        self._wait()
        description = describe(text)
        if self._clock is None:
            self._clock = Clock(description.clock)
        else:
            self._clock.describe(description.clock)
        self._forget_line()
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
            number = self._class_numbers.get(made)
            if number is None:
                number = self._class_numbers[made] = len(self._classes)
                self._classes.append(made)
            classes[made.id] = number
            parts = [fixed_size(kind) for _, kind in made.fields]
            if None in parts:
                sizes[made.id] = VARIABLE
                programs[made.id] = program(made)
            else:
                sizes[made.id] = 4 * made.own + sum(part or 0 for part in parts)
            self._learning.sizes[made.id] = SPECIAL if made.kind == DEFINES else SKIPPED
        self._tables.set_programs(programs)
        self._learn_classes()

    def _learn_classes(self) -> None:
        new = self._classes[self._spans.known(SPANS.own) :]
        self._spans.extend(SPANS.own, [made.own for made in new])
        self._spans.extend(SPANS.kinds, [_KIND_NUMBERS.get(made.kind, 0) for made in new])

    # what is learned ahead

    def learn(self, items: Iterable[Item], *, contexts: bool) -> None:
        """As records.Decoder.learn."""
        for item in items:
            if isinstance(item, Metadata):
                with contextlib.suppress(InvalidDescription):
                    self.describe(item.text)
            elif isinstance(item, Packet):
                self._learn(item, contexts=contexts)
        self._forget_threads()

    def settle(self) -> None:
        """All that the trace says about its clock is known."""
        self._settled = True
        self._early.clear()

    def _learn(self, packet: Packet, *, contexts: bool) -> None:
        if not contexts:
            with contextlib.suppress(RecordDamaged):
                for head in heads(packet):
                    if head.id not in COLLECTORS_IDS:
                        break
                    if head.id == wire.ID_CLOCK:
                        self._read_clock(_body(packet, head))
            return
        for why, head in self._stops(packet, self._nothing, self._learning):
            if why == DAMAGED:
                break
            if head.id == wire.ID_CLOCK:
                self._read_clock(_body(packet, head))
            elif head.id == wire.ID_WRITER:
                self._announce(self._early, packet.lane << 16, _body(packet, head))
            elif (thread := self._early.get(packet.lane << 16 | head.writer, -1)) >= 0:
                self._learn_numbered(head.id, _body(packet, head), int(self._spans[SPANS.processes][thread]))

    def _learn_numbered(self, identifier: int, body: memoryview, process: int) -> None:
        if identifier == wire.ID_LOG:
            if (log := unpack_log(body)) is not None and log.defines:
                self._define(process, log.defines, bytes(body), early=True)
        elif self.description is not None:
            with contextlib.suppress(ValueError):
                self._define_function(process, self.description.classes[identifier].decode(body)[1], early=True)

    # packets to rows

    def decode(self, item: Item, place: str, rows: Rows) -> None:
        """Adds the rows of what a parser gave; `place` is the name of what it parsed."""
        if isinstance(item, (Packet, Run)):
            self._packets(item, place, rows)
        elif isinstance(item, Skipped):
            self._warn(f"{place}: byte {item.offset}: {item.size} bytes skipped: {item.why}")
        else:
            self.convert(rows)
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
        thread = self._announced.get(int(rows.header[ROWS.scope // 8]) | head.writer, -1)
        log = unpack_log(body)
        if log is None:
            rows.add(head.cycles, RAW_LOG, thread, head.cpu, body)
        elif log.defines:
            rows.add(head.cycles, CONTEXT, thread, head.cpu, _CONTEXT_HEAD.pack(0, log.defines) + body)
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
            self._announce(self._announced, int(rows.header[ROWS.scope // 8]), body)
        elif not self._settled:
            self.convert(rows)
            self._read_clock(body)

    def _announce(self, announced: dict[int, int], scope: int, body: memoryview) -> None:
        """Keeps who a writer record says stands behind a number in a lane."""
        found = writer_of(body)
        if found is None or found[0] == UNKNOWN_WRITER:
            return
        number, writer = found
        if len(announced) >= MOST_WRITERS:
            announced.clear()
            if announced is self._announced:
                self._writers.clear()
        thread = self._thread_numbers.get(writer)
        if thread is None:
            thread = self._learn_thread(writer)
        announced[scope | number] = thread
        if announced is self._announced:
            self._writers[scope | number] = thread

    def _learn_thread(self, writer: Writer) -> int:
        self._wait()
        thread = self._thread_numbers[writer] = len(self._threads)
        self._threads.append(writer)
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
            return self._free_identities.pop()
        for open_spans in (self._spans, self._calls):
            open_spans.extend(SPANS.tails, [-1])
        return self._spans.known(SPANS.tails) - 1

    def _forget_threads(self) -> None:
        """If there are many, those go that neither stand behind a number nor in a row that waits; all rows are left."""
        if len(self._threads) <= self._most_threads:
            return
        self._wait()
        waiting = [rows["threads"][: rows.count] for rows in self.waiting]
        used = {*self._announced.values(), *self._early.values()}.union(
            *(np.unique(array).tolist() for array in waiting)
        )
        kept = sorted(used - {-1})
        new = np.full(len(self._threads) + 1, -1, np.int32)  # the last is for -1
        new[kept] = np.arange(len(kept))
        for array in waiting:
            array[:] = new[array]
        self._announced = {key: int(new[thread]) for key, thread in self._announced.items()}
        self._early = {key: int(new[thread]) for key, thread in self._early.items()}
        self._writers.clear()
        for key, thread in self._announced.items():
            self._writers[key] = thread
        self._threads = Growing(self._threads[thread] for thread in kept)
        self._thread_numbers = {writer: thread for thread, writer in enumerate(self._threads)}
        for field in (SPANS.processes, SPANS.identities):
            self._spans.keep(field, kept)
        self._most_threads = MOST_THREADS + 2 * len(kept)
        self._forget_processes()

    def _forget_processes(self) -> None:
        """Those without threads that are known, open spans, or anything that they gave a number to."""
        count = len(self._threads)
        live = set(self._spans[SPANS.identities][:count].tolist())
        tails = self._spans[SPANS.tails], self._calls[SPANS.tails]
        kept = {key: i for key, i in self._identities.items() if i in live or tails[0][i] >= 0 or tails[1][i] >= 0}
        self._free_identities += [i for key, i in self._identities.items() if key not in kept]
        self._identities = kept
        numbers = {NOBODY, *self._spans[SPANS.processes][:count].tolist()}
        numbers |= self._context_numbers.processes() | self._function_numbers.processes()
        open_in = {key[:2] for key in kept}
        self._processes = {key: n for key, n in self._processes.items() if n in numbers or key in open_in}

    # the clock

    def _read_clock(self, body: memoryview) -> None:
        if len(body) >= CLOCK.size and self._clock is not None:
            self._clock.add(*CLOCK.unpack_from(body))
            self._forget_line()

    def _forget_line(self) -> None:
        self._line[LINE.low // 8], self._line[LINE.high // 8] = 0, BIAS  # good for nothing

    def convert(self, rows: Rows) -> None:
        """Times of the rows that have none yet, as the clock is known now.  Those of a lane have none until merged."""
        if not rows.finished:
            return
        at, count = rows.converted, rows.count
        rows.converted = count
        if self._clock is None:
            rows["time"][at:count] = rows["monotonic"][at:count] = 0
            return
        while at < count:
            at = self.code["convert"](rows.address, address_of(self._line), at)
            if at < count:
                cycles = int(rows["cycles"][at])
                rows["time"][at], rows["monotonic"][at] = self._clock.convert(cycles)
                self._draw_line()
                at += 1

    def _draw_line(self) -> None:
        """Lets jitted code convert, too, what is on the clock's line at hand."""
        assert self._clock is not None
        low, high, *numbers = self._clock.line
        self._line[LINE.low // 8], self._line[LINE.high // 8] = max(0, low) + BIAS, high - 1 + BIAS
        try:
            self._line[LINE.cycles // 8 :] = [signed(numbers[0]), *numbers[1:]]
        except OverflowError:  # numbers that no clock has
            self._forget_line()

    # rows in order to batches

    def finish(self, rows: Rows) -> Iterator[Batch]:
        """The rows as a batch, if there are any, with what the order of time tells.  They are not used again."""
        if (batch := self._finish(rows)) is not None:
            yield batch
        self._forget_threads()

    def finish_beside(self, rows: Rows, pool: Executor) -> Iterator[Batch]:
        """As `finish`, but the batch comes with a later call, or with `finished`: others are decoded meanwhile.

        Whatever changes what the pool's one thread reads waits until that is done with all that it has.
        """
        self._beside.append(pool.submit(self._finish, rows))
        if len(self._beside) > BATCHES_BESIDE:
            yield from self._first_beside()
        self._forget_threads()

    def finished(self) -> Iterator[Batch]:
        """The batches that have not come yet."""
        while self._beside:
            yield from self._first_beside()

    def _first_beside(self) -> Iterator[Batch]:
        batch = self._beside.popleft().result()
        if batch is not None:
            yield batch

    def _wait(self) -> None:
        """Until no other thread reads or writes anything of this."""
        for batch in self._beside:
            batch.result()

    def _finish(self, rows: Rows) -> Batch | None:
        self._forget_numbered()
        self.convert(rows)
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
        rows.kept = self.code["finish"](rows.address, self._spans.address, self._calls.address, at, rows.kept)

    def _stopped(self, rows: Rows, at: int) -> int:
        """Takes the row, that jitted code stopped at, into account; how many rows that are done with."""
        made, thread = self._classes[rows["classes"][at]], int(rows["threads"][at])
        process = NOBODY if thread < 0 else int(self._spans[SPANS.processes][thread])
        number = int(self._spans.header[SPANS.number // 8])
        if made.kind in STEPS:
            self._name_function(process, number, self._functions[unknown(number)])
            return 0
        if thread >= 0:
            start, size = int(rows["starts"][at]), int(rows["sizes"][at])
            body = rows.data[start : start + size].tobytes()
            if made.kind == DEFINES:
                self._define_function(process, made.decode(memoryview(body))[1])
            else:
                self._define(process, number, body[_CONTEXT_HEAD.size :])
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
            threads=self._threads,
            contexts=self._contexts,
            origin=np.zeros(len(rows["time"]), np.uint16),
            origins=[],
            code=self.code,
        )

    def _define(self, process: int, number: int, body: bytes, *, early: bool = False) -> None:
        """A context of a process."""
        if early and self._contexts_bytes + len(body) + ENTRY_BYTES > MOST_BYTES:
            return
        self._context_numbers.add(process, number, self._before)
        self._contexts.append(body)
        self._contexts_bytes += len(body) + ENTRY_BYTES

    def _define_function(self, process: int, fields: Fields, *, early: bool = False) -> None:
        """A process tells what a number means."""
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


def _body(item: Packet | Run, head: Head) -> memoryview:
    return item.data[head.body : head.body + head.size]


def _add_loss(rows: Rows, cpu: int, cycles: int, reason: str, count: int) -> None:
    rows.add(cycles, LOSS, -1, cpu, reason.encode() + b"\0" + count.to_bytes(8, "little"))
