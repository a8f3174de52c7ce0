"""A small channel whose words anybody may write, with the collector's jitted half in this process, step by step.

A rig is for a process that may die or hang: `in_child` runs a function in a forked one, with a time limit, and says in
which case it died.  On either side of a rig's segment there is memory that cannot be touched.
"""

from __future__ import annotations

import faulthandler
import fcntl
import mmap
import os
import select
import signal
import traceback
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from unittest import mock

from shmtrace import creation, layout, wire
from shmtrace import segment as segments
from shmtrace.channel import open_channel
from shmtrace.clock import choose_clock, read_clocks
from shmtrace.collector import copies
from shmtrace.collector import state as states
from shmtrace.collector.state import State
from shmtrace.layout import CLASS, CONTROL, CPU, LANE, PAGE, TOTALS, WRITER, Geometry
from shmtrace.native import tables, warmup
from shmtrace.native.loader import libc
from shmtrace.reader.records import Decoder
from shmtrace.reader.stream import Parser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shmtrace import Channel
    from shmtrace.reader.stream import Item
    from shmtrace.segment import Segment

GEOMETRY = Geometry(page_size=4096, pages=8, cpus=1, lanes_per_cpu=2, writers=8, classes_bytes=4096)
ME = 1 << layout.OWNER_PID_SHIFT | layout.UNKNOWN_WRITER  # what a rig's collector stores into an owner word
FLUSH_MS = 10
PUMPS = 200  # far more calls than a few pages need
PIPE_BYTES = 1 << 20
GUARD_BYTES = 1 << 20
MAP_FIXED, PROT_NONE = 0x10, 0
WIDTHS = {"U16": 2, "U64": 8, "Stamp": 8}  # of the fields of a record's header


def make_channel(name: str, mode: int = layout.MODE_DROP) -> None:
    """A channel so small that a look at each of its words is quick."""
    kind = choose_clock()
    clock = kind, *read_clocks(kind)
    creation.create_segment(name, GEOMETRY, mode=mode, flush_ms=FLUSH_MS, block_ms=1000, clock=clock, session=(0, 0))


def _map_guarded(size: int, file: int = -1, protection: int = mmap.PROT_READ | mmap.PROT_WRITE) -> int:
    """As `map_memory`, but with guards."""
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    start: int = libc.mmap(None, size + 2 * GUARD_BYTES, PROT_NONE, private, -1, 0)
    flags = mmap.MAP_SHARED if file >= 0 else private
    address: int = libc.mmap(start + GUARD_BYTES, size, protection, flags | MAP_FIXED, file, 0)
    assert address == start + GUARD_BYTES
    return address


@contextmanager
def guarded() -> Iterator[None]:
    """Segments that are mapped in the block have guards on both sides."""
    with (
        mock.patch.object(segments, "map_memory", _map_guarded),
        mock.patch.object(copies, "map_memory", _map_guarded),
    ):
        yield


def _describe(segment: Segment) -> tuple[int, bytes]:
    """As `describe_stream`, which takes its time to measure the clock."""
    text = wire.metadata(
        uuid=str(uuid.UUID(bytes=segment.uuid)),
        boot_id=str(uuid.UUID(int=0)),
        channel="rig",
        hostname="host",
        clock_kind=layout.CLOCK_TSC,
        frequency=10**9,
        offset_s=0,
        offset=0,
    )
    return 0, wire.metadata_packet(text, segment.uuid)


@contextmanager
def quick_description() -> Iterator[None]:
    """Nobody measures the clock in the block."""
    with mock.patch.object(states, "describe_stream", _describe):
        yield


class Field(NamedTuple):
    """One word of a segment."""

    table: type
    number: int  # of the entry
    name: str
    at: int
    width: int  # bytes

    @property
    def label(self) -> str:
        return f"{self.table.__name__} {self.number} {self.name}"


def fields(table: type, number: int = 0) -> Iterator[Field]:
    """The words of one entry of a table.  Texts are none."""
    starts: dict[type, int] = {
        CONTROL: 0,
        CPU: GEOMETRY.cpus_at + number * layout.LINE_BYTES,
        LANE: GEOMETRY.lanes_at + number * layout.LANE_BYTES,
        WRITER: GEOMETRY.writers_at + number * layout.WRITER_BYTES,
        CLASS: GEOMETRY.classes_at,
        PAGE: GEOMETRY.descriptors_at + number * layout.PAGE_BYTES,
        wire.RECORD: GEOMETRY.pages_at + number * GEOMETRY.page_size,
        TOTALS: GEOMETRY.lanes_at + LANE.totals + number * layout.TOTALS_BYTES,
    }
    for name, offset in layout.fields_of(table).items():
        at = starts[table]
        width = WIDTHS[table.__annotations__[name]] if table is wire.RECORD else layout.width_of(table, name)
        if width <= 16 and name != "totals":
            yield Field(table, number, name, at + offset, width)


def set_semaphore(segment: Segment, which: str, value: int) -> None:
    """The low half of a sem_t is its count."""
    with Path(segments.semaphore_path(segment.name, which)).open("r+b") as file:
        file.write(value.to_bytes(4, "little"))


def repair(segment: Segment, pristine: bytes) -> None:
    """What an administrator can do, with the control block as it was: the words of the producers, as they were made.

    The collector's own words are left to the collector.
    """
    damaged = segment.u64(CONTROL.damaged)
    segment.write(0, pristine)
    segment.set_u64(CONTROL.damaged, damaged)
    segment.set_u32(CONTROL.recording, 1)
    for lane in range(GEOMETRY.lanes):
        at = segment.lane_at(lane)
        sequence = segment.u64(at + LANE.position) >> layout.SEQUENCE_SHIFT
        segment.set_u64(at + LANE.position, sequence << layout.SEQUENCE_SHIFT | layout.NO_PAGE_POSITION)
        segment.set_u64(at + LANE.owner, 0)
    for page in range(GEOMETRY.pages):
        segment.set_u64(GEOMETRY.descriptors_at + page * layout.PAGE_BYTES + PAGE.owner, 0)
    set_semaphore(segment, "waiting", GEOMETRY.pages)


class Rig:
    """A channel, a producer, a collector that does one thing at a time, and what it wrote."""

    def __init__(self, name: str) -> None:
        make_channel(name)
        with guarded():
            self.segment: Segment = segments.open_segment(name)
            self.channel: Channel = open_channel(name)
        self.pristine = self.segment.read(0, layout.CONTROL_BYTES)
        self.state = State(self.segment, ME)
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.fcntl(self._write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.stream = b""
        self.complaints: list[str] = []
        self.accepted: list[bytes] = []
        self._emitted = 0
        self.begin()

    def close(self) -> None:
        self.state.close()
        self.segment.unmap()
        os.close(self._read)
        os.close(self._write)
        self.channel.close()
        with suppress(OSError):
            for path in self.objects():
                path.unlink()

    def objects(self) -> list[Path]:
        """Files by which the channel is known."""
        name = self.segment.name
        semaphores = [segments.semaphore_path(name, which) for which in creation.LIST_NAMES]
        return [Path(self.segment.fifo), *map(Path, semaphores), Path(segments.segment_path(name))]

    # words

    def word(self, field: Field) -> int:
        return int.from_bytes(self.segment.read(field.at, field.width), "little")

    def set_word(self, field: Field, value: int) -> None:
        self.segment.write(field.at, value.to_bytes(field.width, "little"))

    def repair(self) -> None:
        repair(self.segment, self.pristine)

    # what producer, collector and reader do

    def emit(self, count: int, size: int = 1000) -> list[bytes]:
        """Write so many events; those that were accepted."""
        blobs = [str(self._emitted + number).encode().ljust(size, b".") for number in range(count)]
        self._emitted += count
        accepted = [blob for blob in blobs if self.channel.event(blob)]
        self.accepted += accepted
        return accepted

    def begin(self) -> None:
        """A reader comes."""
        self.describe()
        self.state.enable(resumed=False)

    def describe(self) -> None:
        """Send a description, as the collector does when it is asked for one."""
        with quick_description():
            self.stream += self.state.describe()

    def pump(self, *, flush: bool = True) -> None:
        """Send what there is.  AssertionError when there is always more."""
        if flush:
            self.state.begin_flush()
        for _ in range(PUMPS):
            status = self.state.pump(self._write)
            assert status >= 0, f"cannot write: {os.strerror(-status)}"
            self._drain()
            if status == tables.PUMP_CLASSES:
                self.describe()
            elif status == tables.PUMP_IDLE and not self.state.flushing:
                return
        raise AssertionError("the collector finds no end")

    def turn(self) -> None:
        """All that a collector does in a round."""
        state = self.state
        state.want_clock()
        lane = state.suspect(0)
        while lane >= 0:
            lane = state.suspect(lane + 1)
        state.tokens_missing()
        for writer in range(1, GEOMETRY.writers):
            state.doom(writer)
        state.mark()
        state.free_doomed()
        self.pump(flush=False)
        self.pump()
        state.has_full_page()
        state.seal()
        self.pump()

    def change_readers(self) -> None:
        """The reader goes, and another one comes; its collector is killed and replaced meanwhile."""
        self.state.settle()
        self.state.depart(1000)
        self.state.discard()
        self.state.seal()
        self.state.discard()
        self.state.sweep()
        self.stream = b""
        self.begin()

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            while True:
                self.stream += os.read(self._read, PIPE_BYTES)

    # what came out

    def items(self) -> list[Item]:
        parser = Parser()
        return parser.feed(self.stream) + parser.end()

    def blobs(self) -> list[bytes]:
        """What the reader makes of the stream."""
        self.complaints = []
        records = Decoder(self.complaints.append).records(self.items(), "stream")
        return [record.fields["blob"] for record in records if isinstance(record.fields.get("blob"), bytes)]  # type: ignore[misc]

    @property
    def counted(self) -> int:
        """Damage that was counted."""
        stats = self.channel.stats()
        return int(stats["damaged_words"] + stats["lost"]["damaged"])

    def flows(self, rounds: int = 12) -> bool:
        """Whether what is written now comes out, if not at once."""
        last: list[bytes] = []
        for _ in range(rounds):
            last = self.emit(1)
            self.turn()
        return bool(last) and last[0] in self.blobs()


class Case:
    """What a child is doing, in memory that its parent shares."""

    BYTES = 2000

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self.BYTES)

    def __call__(self, text: str) -> None:
        self._memory[:] = text.encode()[: self.BYTES].ljust(self.BYTES, b"\0")

    @property
    def text(self) -> str:
        return bytes(self._memory).rstrip(b"\0").decode(errors="replace")


def in_child(function: Callable[[Case], list[str]], limit_s: float = 30) -> list[str]:
    """Run `function` in a forked process; the lines that it returns, and how it died if it did."""
    warmup()  # or each child would, where the cache is cold
    case = Case()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        faulthandler.disable()  # the parent says how it died
        said = ""
        try:
            said = "\n".join(function(case))
        except BaseException:  # noqa: BLE001
            said = f"{case.text}: {traceback.format_exc()}"
        os.write(write, said.encode()[:60_000])  # fits into the pipe
        os._exit(0)
    os.close(write)
    pidfd = os.pidfd_open(pid)
    try:
        ended = _ends(pidfd, limit_s)
        if not ended:
            os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        lines = os.read(read, 1 << 16).decode().splitlines()
    finally:
        os.close(pidfd)
        os.close(read)
    if not ended:
        lines.append(f"{case.text}: no end after {limit_s} s")
    elif os.WIFSIGNALED(status):
        lines.append(f"{case.text}: killed by {signal.Signals(os.WTERMSIG(status)).name}")
    return lines


def _ends(pidfd: int, limit_s: float) -> bool:
    return bool(select.select([pidfd], [], [], limit_s)[0])
