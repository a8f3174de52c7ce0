"""Records as a user wrote them, out of a trace directory, a saved stream or a pipe."""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import itertools
import operator
import os
import pathlib
import stat
import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeAlias

from .. import wire
from ..layout import UNKNOWN_WRITER, WIDTHS
from .clock import Clock
from .contexts import Contexts
from .description import OWN_FIELDS, describe
from .errors import InvalidDescription, NotATrace, TraceWarning, needs_extra
from .files import Directory, Lane, first_records, is_file, open_file, parsed
from .functions import DEFINES, KINDS, Functions
from .log import unpack_log
from .spans import Spans
from .stream import COLLECTORS_IDS, Metadata, Packet, RecordDamaged, Skipped, heads, struct_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from .decode import Fields
    from .description import Description, EventClass
    from .stream import Head, Item

__all__ = [
    "MOST_WRITERS",
    "Decoder",
    "Record",
    "Records",
    "Writer",
    "follow_directory",
    "loss_of",
    "read",
    "writer_of",
]

NAME_BYTES = WIDTHS["Name48"]
MOST_WRITERS = 1 << 20  # known in all lanes together; one more, and all are forgotten
ROUND_S = 0.05  # between two looks at a directory that is being recorded

_WRITER = struct_of(wire.WRITER_BODY)
_LOSS = struct_of(wire.LOSS_BODY)
CLOCK = struct_of(wire.CLOCK_BODY)


class Record(NamedTuple):
    """One event, or one note of what is missing.

    `kind` is event, begin, end, counter, log or loss.  `pid`, `tid` and names are None where the writer is not known.
    Spans are numbered for each process, which `pid` and `process_start` name together; what the trace does not tell is
    None.
    """

    time_ns: int  # wall clock, since 1970
    monotonic_ns: int
    cycles: int
    name: str
    kind: str
    cpu: int
    lane: int
    pid: int | None
    tid: int | None
    process: str | None
    thread: str | None
    fields: Fields
    span: int | None = None  # that begins or ends, or is open around this
    parent: int | None = None  # the span around one that begins
    task: int | None = None  # of a begin record: of the asyncio task, greenlet or plain thread
    level: str | None = None  # critical, error, warning, info or debug
    process_start: int | None = None  # clock ticks since boot
    host: str | None = None  # of several traces that are read as one: which it is of
    channel: str | None = None


class Writer(NamedTuple):
    """A thread that writes."""

    start: int  # of the process, clock ticks since boot
    thread_start: int
    pid: int
    tid: int
    process: str
    thread: str
    host: str = ""  # only if several traces are read as one

    @property
    def identity(self) -> tuple[int, int, int, int]:
        """Threads whose names have changed are still the same."""
        return self.start, self.thread_start, self.pid, self.tid


NOBODY = (None, None, None, None, None, None)  # in place of a Writer
_NO_NUMBERS = tuple(None if name == "context" else 0 for name in OWN_FIELDS)
EXCEPTION = "exception"  # a field of every end record

# A record as its lane has it: its cycles, itself, and the number of its context; None: it is of a kind that has none.
# One that defines a context has the kind CONTEXT and the map as a field, and goes no further than to who finishes them.
Source: TypeAlias = "str | os.PathLike[str] | BinaryIO"
Raw: TypeAlias = "tuple[int, Record, int | None]"
CONTEXT = "context"

_WriterKey: TypeAlias = "tuple[str, int, int]"  # place, lane and number

# Name, kind, level, OWN_FIELDS and the user's fields.
Decoded: TypeAlias = "tuple[str, str, str | None, tuple[int | None, ...], Fields]"


def writer_of(body: memoryview) -> tuple[int, Writer] | None:
    """Number and thread that a writer record announces; None: it is too short."""
    if len(body) < _WRITER.size:
        return None
    start, thread_start, pid, tid, number = _WRITER.unpack_from(body)
    process, _, rest = bytes(body[_WRITER.size :]).partition(b"\0")
    thread = rest.partition(b"\0")[0]
    names = (name[:NAME_BYTES].decode("utf-8", "replace") for name in (process, thread))
    return number, Writer(start, thread_start, pid, tid, *names)


def loss_of(body: memoryview) -> tuple[str, int] | None:
    """Reason and count of a loss record; None: it is too short."""
    if len(body) < _LOSS.size:
        return None
    _, _, count, reason = _LOSS.unpack_from(body)
    return wire.LOSS_REASONS.get(reason, str(reason)), count


class Decoder:
    """Turns packets into records.  Knows the description, the clock, and who the writers of each lane are.

    `warn` gets a line for each problem, which begins with the place.  To the numbers that are given to spans and calls
    here `own` is added.
    """

    def __init__(self, warn: Callable[[str], None], own: int = 0) -> None:
        self.settled = False  # all that the trace says about its clock is known
        self.bytes_read = 0  # of the packets whose records were given
        self._warn = warn
        self.description: Description | None = None
        self._clock: Clock | None = None
        self._writers: dict[_WriterKey, Writer] = {}
        self._unknown: set[int] = set()  # ids told already
        self._early: dict[_WriterKey, Writer] = {}  # the same, of packets that are only learned from
        self._contexts = Contexts()
        self._functions = Functions(own)
        self._spans = Spans(own)

    def describe(self, text: str) -> Description:
        """Reads all that follows by this description."""
        description = describe(text)
        if self._clock is None:
            self._clock = Clock(description.clock)
        else:
            self._clock.describe(description.clock)
        self.description = description
        self._unknown.clear()
        return description

    def learn(self, items: Iterable[Item], *, contexts: bool) -> None:
        """Takes what packets say about the clock, ahead of their records; what is wrong is told when these are read.

        With `contexts` it also takes these.  That needs a look at each record, and is of use where lanes follow each
        other: in the order of time a context is defined before it is named.
        """
        for item in items:
            if isinstance(item, Metadata):
                with contextlib.suppress(InvalidDescription):
                    self.describe(item.text)
            elif isinstance(item, Packet):
                with contextlib.suppress(RecordDamaged):
                    self._learn(item, contexts=contexts)

    def _learn(self, packet: Packet, *, contexts: bool) -> None:
        for head in heads(packet):
            if head.id == wire.ID_CLOCK:
                self._read_clock(_body(packet, head))
            elif not contexts and head.id not in COLLECTORS_IDS:
                break
            elif contexts and head.id == wire.ID_WRITER:
                _announce(self._early, "", packet.lane, _body(packet, head))
            elif (writer := self._early.get(("", packet.lane, head.writer))) is None:
                continue
            elif head.id == wire.ID_LOG:
                self._learn_context(_body(packet, head), writer)
            else:
                self._learn_function(head.id, _body(packet, head), writer)

    def _learn_context(self, body: memoryview, writer: Writer) -> None:
        if (log := unpack_log(body)) is not None and log.defines:
            self._contexts.define((writer.pid, writer.start, log.defines), bytes(body), early=True)

    def _learn_function(self, identifier: int, body: memoryview, writer: Writer) -> None:
        made = self.description.classes.get(identifier) if self.description else None
        if made is not None and made.kind == DEFINES:
            with contextlib.suppress(ValueError):
                self._functions.define(writer.pid, writer.start, made.decode(body)[1], early=True)

    def records(self, items: Iterable[Item], place: str) -> Iterator[Record]:
        """The records in what a parser gave; `place` is the name of what it parsed."""
        return self.finish(self.decode(items, place))

    def finish(self, raws: Iterable[Raw]) -> Iterator[Record]:
        """Adds what other records tell: a context's fields, and the spans of a thread.  Exact in the order of time."""
        for _, record, context in raws:
            known = None if context is None or record.pid is None else self._spans.context_of(record, context)
            if known:
                key = record.pid, record.process_start, known
                if record.kind == CONTEXT:
                    body = record.fields["msgpack"]
                    assert isinstance(body, bytes)
                    self._contexts.define(key, body)
                else:
                    self._contexts.add_to(record.fields, key)
            if record.kind == DEFINES:
                self._functions.define(record.pid, record.process_start, record.fields)
            elif record.kind in KINDS:
                yield self._functions.resolve(record)
            elif record.kind != CONTEXT:
                yield self._spans.add(record)

    def decode(self, items: Iterable[Item], place: str) -> Iterator[Raw]:
        """The records in what a parser gave, each as it stands there."""
        for item in items:
            if isinstance(item, Packet):
                yield from self._packet(item, place)
            elif isinstance(item, Skipped):
                self._warn(f"{place}: byte {item.offset}: {item.size} bytes skipped: {item.why}")
            elif isinstance(item, Metadata):
                self._try_describe(item, place)

    def _try_describe(self, item: Metadata, place: str) -> None:
        try:
            self.describe(item.text)
        except InvalidDescription as error:
            self._warn(f"{place}: byte {item.offset}: {error}")

    def _packet(self, packet: Packet, place: str) -> Iterator[Raw]:
        if packet.missing:
            yield self._loss(packet, packet.begin, "gap", packet.missing)
        if packet.missed:
            yield self._loss(packet, packet.begin, "missed", packet.missed)
        try:
            for head in heads(packet):
                raw = self._record(packet, head, place)
                if raw is not None:
                    yield raw
        except RecordDamaged as error:
            self._warn(f"{place}: byte {packet.offset + error.at}: the rest of a packet skipped: {error}")
        self.bytes_read += len(packet.data)

    def _record(self, packet: Packet, head: Head, place: str) -> Raw | None:
        """The record as the user wrote it; None if it is none of his."""
        body = _body(packet, head)
        if head.id in COLLECTORS_IDS:
            return self._collectors(packet, head, body, place)
        try:
            decoded = self._decode(head.id, body)
        except ValueError as error:
            self._warn(f"{place}: byte {packet.offset + head.body}: skipped: {error}")
            return None
        if decoded is None:
            return None
        name, kind, level, (span, context, parent, task), fields = decoded
        wall, monotonic = self._convert(head.cycles)
        start, _, pid, tid, process, thread = self._writers.get((place, packet.lane, head.writer), NOBODY)[:6]
        record = Record(
            wall, monotonic, head.cycles, name, kind, head.cpu, packet.lane, pid, tid, process, thread, fields,
            span or None, parent or None, task or None, level, start,
        )  # fmt: skip
        return head.cycles, record, context

    def _decode(self, identifier: int, body: memoryview) -> Decoded | None:
        """What a user wrote; None: padding, or something that was complained about before."""
        made = self.description.classes.get(identifier) if self.description else None
        if made is not None:
            numbers, fields = decode_fields(made, body)
            return made.name, made.kind, made.level, numbers + _NO_NUMBERS[len(numbers) :], fields
        if identifier == wire.ID_BLOB:
            return "blob", "event", None, _NO_NUMBERS, {"blob": bytes(body)}
        if identifier == wire.ID_LOG:
            return _decode_log(body)
        if identifier != wire.ID_PADDING and identifier not in self._unknown:
            self._unknown.add(identifier)
            raise undescribed(identifier)
        return None

    def _collectors(self, packet: Packet, head: Head, body: memoryview, place: str) -> Raw | None:
        """Takes what the collector says.  Only losses show."""
        if head.id == wire.ID_LOSS:
            loss = loss_of(body)
            return None if loss is None else self._loss(packet, head.cycles, *loss)
        if head.id == wire.ID_CLOCK:
            if not self.settled:
                self._read_clock(body)
        else:
            _announce(self._writers, place, packet.lane, body)
        return None

    def _loss(self, packet: Packet, cycles: int, reason: str, count: int) -> Raw:
        fields: Fields = {"reason": reason, "count": count}
        wall, monotonic = self._convert(cycles)
        record = Record(
            wall, monotonic, cycles, "loss", "loss", packet.cpu, packet.lane, None, None, None, None, fields
        )
        return cycles, record, None

    def _convert(self, cycles: int) -> tuple[int, int]:
        return self._clock.convert(cycles) if self._clock is not None else (0, 0)

    def _read_clock(self, body: memoryview) -> None:
        if len(body) >= CLOCK.size and self._clock is not None:
            self._clock.add(*CLOCK.unpack_from(body))


def _body(packet: Packet, head: Head) -> memoryview:
    return packet.data[head.body : head.body + head.size]


def _announce(writers: dict[_WriterKey, Writer], place: str, lane: int, body: memoryview) -> None:
    """Keeps who a writer record says stands behind a number in a lane."""
    announced = writer_of(body)
    if announced is None or announced[0] == UNKNOWN_WRITER:
        return
    if len(writers) >= MOST_WRITERS:
        writers.clear()
    writers[place, lane, announced[0]] = announced[1]


def decode_fields(made: EventClass, body: memoryview) -> tuple[tuple[int, ...], Fields]:
    """The numbers of the kind, and the fields as they are shown.  Raises ValueError."""
    try:
        numbers, fields = made.decode(body)
    except ValueError as error:
        raise ValueError(f"a record of {made.name!r} with {error}") from None
    if made.kind == "end" and fields.get(EXCEPTION) == "":
        del fields[EXCEPTION]
    return numbers, fields


def undescribed(identifier: int) -> ValueError:
    """What is wrong with a record of an unknown class."""
    return ValueError(f"all records of event class {identifier}, of which there is no description")


def _decode_log(body: memoryview) -> Decoded:
    log = unpack_log(body)
    if log is None:
        return "log", "log", "info", _NO_NUMBERS, {"msgpack": bytes(body)}
    if log.defines is not None:
        return "", CONTEXT, None, (0, log.defines, 0, 0), {"msgpack": bytes(body)}
    return log.name, "log", log.level, (log.span, log.context, 0, 0), log.fields


class Records:
    """The records of a trace, one by one; or a table of them.

    Tables are `events`, `spans`, `counters`, `writers`, `losses`, and one of each tracepoint, span and counter.  They
    need pyarrow (`pip install 'shmtrace[arrow]'`).
    """

    def __init__(
        self,
        source: Source | Sequence[Source],
        warn: Callable[[str], None],
        records: Iterator[Record],
        decoder: Decoder | None = None,
    ) -> None:
        self._source = source
        self._warn = warn
        self._records = records
        self._decoder = decoder

    def __iter__(self) -> Iterator[Record]:
        return self._records

    def __next__(self) -> Record:
        return next(self._records)

    @property
    def bytes_read(self) -> int:
        """Bytes of the packets of one trace whose records were given so far; of several it is not known: 0."""
        return 0 if self._decoder is None else self._decoder.bytes_read

    def to_arrow(self, table: str = "events") -> pa.Table:
        """A table as a `pyarrow.Table`.  Reads the trace from its beginning.

        Raises:
            NoSuchTable: the trace has none of that name.
        """
        with needs_extra("arrow", what="to_arrow"):
            from ..export.parquet import one_table
        from .columns import read as read_batches

        merged = isinstance(self._source, Sequence) and not isinstance(self._source, str)
        return one_table(read_batches(self._source, warn=self._warn), table, merged=merged)

    def to_pandas(self, table: str = "events") -> pd.DataFrame:
        """A table as a `pandas.DataFrame`."""
        return self.to_arrow(table).to_pandas()

    def to_polars(self, table: str = "events") -> pl.DataFrame:
        """A table as a `polars.DataFrame`."""
        import polars as pl

        return pl.DataFrame(self.to_arrow(table))


def read(
    source: Source | Sequence[Source], *, warn: Callable[[str], None] | None = None, follow: bool = False
) -> Records:
    """The records of a trace: a directory, a file that holds what `cat` read from a FIFO, or an open binary file.

    The lanes of a directory are merged by time; a stream comes as it was sent, lane by lane.  Several traces are merged
    by time, and each record has its `host` and `channel`.

    Args:
        source: path of the directory or file, or a binary file; or a sequence of these.
        warn: gets a line for each part that cannot be read; otherwise these are `TraceWarning`s.
        follow: a directory that is being recorded is read until its recorder ends.

    Raises:
        NotATrace: the source cannot be opened or holds no trace.
    """
    warn = warn or warn_of
    if isinstance(source, Sequence) and not isinstance(source, str):
        from .columns import read as read_batches

        if follow:
            raise ValueError("one trace can be followed, not several")
        batches = read_batches(source, warn=warn)
        return Records(source, warn, (record for batch in batches for record in batch.records()))
    decoder = Decoder(warn)
    return Records(source, warn, _read(source, warn, decoder, follow=follow), decoder)


def _read(source: Source, warn: Callable[[str], None], decoder: Decoder, *, follow: bool) -> Iterator[Record]:
    if not isinstance(source, (str, os.PathLike)):
        return _read_stream(source, str(getattr(source, "name", "stream")), decoder)
    path = pathlib.Path(source)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise NotATrace(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISDIR(mode):
        return _read_file(path, decoder)
    if follow:
        return itertools.chain.from_iterable(follow_directory(path, warn, decoder=decoder))
    directory = _Directory(path, warn, decoder)
    directory.open()
    return directory.round(last=True)


def warn_of(line: str) -> None:
    warnings.warn(line, TraceWarning, stacklevel=2)


def _read_file(path: pathlib.Path, decoder: Decoder) -> Iterator[Record]:
    with open_file(path) as file:
        yield from _read_stream(file, str(path), decoder)


def _read_stream(source: BinaryIO, place: str, decoder: Decoder) -> Iterator[Record]:
    if is_file(source):
        # a clock record says most about what came before it, so all of them are looked at first
        start = source.tell()
        for items in parsed(source, place):
            decoder.learn(items, contexts=True)
        decoder.settled = True
        source.seek(start)
    for items in parsed(source, place):
        yield from decoder.records(items, place)


class _Directory:
    """A trace directory, which may still grow."""

    def __init__(self, path: pathlib.Path, warn: Callable[[str], None], decoder: Decoder) -> None:
        self._warn = warn
        self._decoder = decoder
        self._directory = Directory(path, self._decoder.describe)
        self._lanes: dict[pathlib.Path, Lane] = {}
        self.open = self._directory.open

    def round(self, *, last: bool) -> Iterator[Record]:
        """What is new in all lanes, by time.

        Raises:
            NotATrace: there is no description.
        """
        sizes = self._directory.lanes()
        self.open()  # after the sizes: the recorder writes the description of a packet before the packet
        uuid = self._directory.uuid
        if not self._lanes:  # clock records tell of what came before them: look at those of all lanes first
            for path, size in sizes.items():
                for items in first_records(path, uuid, size):
                    self._decoder.learn(items, contexts=False)
            self._decoder.settled = last
        for path in sizes.keys() - self._lanes.keys():
            self._lanes[path] = Lane(path, uuid)
        parts = [self._raws(self._lanes[path], size, last=last) for path, size in sizes.items()]
        return self._decoder.finish(heapq.merge(*parts, key=operator.itemgetter(0)))

    def _raws(self, lane: Lane, until: int, *, last: bool) -> Iterator[Raw]:
        for items in lane.items(until, self._warn, last=last):
            yield from self._decoder.decode(items, str(lane.path))


def follow_directory(
    path: pathlib.Path,
    warn: Callable[[str], None],
    stopping: Callable[[], bool] = lambda: False,
    *,
    decoder: Decoder | None = None,
    pause_s: float = ROUND_S,
) -> Iterator[Iterator[Record]]:
    """What comes into a directory while it is recorded, round by round, until its recorder ends or `stopping()`.

    Between two rounds it pauses.

    Raises:
        NotATrace: nobody records there, and there is no trace.
    """
    directory = _Directory(path, warn, decoder or Decoder(warn))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise NotATrace(f"{path} cannot be read: {error.strerror}") from None
    try:
        last = False
        while not last:
            last = stopping() or not _is_recorded(descriptor)  # asked first: what came before that is read below
            yield directory.round(last=last) if last or (path / "metadata").exists() else iter(())
            if not last:
                time.sleep(pause_s)
    finally:
        os.close(descriptor)


def _is_recorded(descriptor: int) -> bool:
    """Whether a recorder holds its lock on the directory."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False
