"""Channels as a program sees them: create, open, attach, remove, and the event."""

from __future__ import annotations

import os
import sys

from . import known, layout
from .attachment import attach_or_kept, attach_segment, lasting_context
from .errors import (
    ChannelBusy,
    ChannelError,
    ChannelNotFound,
    InvalidGeometry,
    SharedMemoryUnavailable,
    ShmtraceError,
)
from .layout import CONTEXT, CONTROL, Geometry
from .native import functions, is_ready
from .native.builtin import METH_O, make_builtin
from .native.loader import libc
from .notes import say
from .process import is_dead
from .section import is_inside
from .segment import (
    MEMORY,
    channel_names,
    channels_elsewhere,
    check_name,
    foreign_channel,
    open_segment,
    open_semaphore,
    segment_path,
    user_name,
)

TYPE_CHECKING = False  # importing typing, pathlib or contextlib costs a worker more than attaching
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Any, Self, TypeVar

    from .attachment import Attachment
    from .log import UserContext
    from .reservation import Reservation
    from .segment import Segment
    from .spans import Span
    from .tracepoint import Event

    Item = TypeVar("Item")

__all__ = ["Channel", "attach", "create_channel", "list_channels", "open_channel", "remove_channel"]

PAGE_SIZE, PAGES, PAGES_A_CPU = 65_536, 512, 4  # measured: docs/design.md
LANES_PER_CPU = 8
WRITERS = 4096
when_attached: list[Callable[[Channel], None]] = []  # called with a channel that is attached now
EVENT_DOC = """event($self, blob, /)
--

Record a blob, any bytes-like object, with the time and the cpu.

Returns True if it was recorded, False if not: nobody reads, or there was no room (then it is counted in `missed`).
Raises TypeError for what is not bytes-like and ValueError, naming the limit, for what does not fit in a page."""


def _event_off(blob: bytes | bytearray | memoryview, /) -> bool:
    """`event` of a channel that is off for good, where no object code is at hand: the same errors, and False."""
    size = memoryview(blob).nbytes
    if size > layout.LONGEST_BLOB:
        raise ValueError(f"a blob of {size} bytes: a channel takes at most {layout.LONGEST_BLOB}")
    return False


class _Handle:
    """The first slots of a channel: jitted code reads them at fixed offsets."""

    __slots__ = ("_context", "_placed")
    _context: bytes
    _placed: Callable[[Any], bool]  # records a blob with the user's context; there is none before one was set


class Channel(_Handle):
    """A channel, open in this process.

    `event` is a builtin function: see its docstring.  Channels pickle by name, survive fork, and are context managers.
    Once closed, a channel is disabled: events return False.  Whether anything is recorded is decided by the readers of
    `fifo`, not here.
    """

    __slots__ = (
        "__weakref__", "_attachment", "_fifo", "_last_attachment", "event", "events", "is_ambient", "is_of_module",
        "is_pending", "log", "name",
    )  # fmt: skip

    event: Callable[[Any], bool]
    log: Callable[..., bool]
    name: str  #: of the channel; "" if there is none
    is_of_module: bool  # a module that was imported has attached it, when it was: that code does not run again
    is_pending: bool  # it is attached, or its events are defined, when it is used
    is_ambient: bool  # whichever $SHMTRACE or a block names, not one that the program calls by its name
    events: dict[tuple[str, str], Event]  # that were defined through this object, by kind and name

    def __init__(self, attachment: Attachment | None, name: str, pending: int = 0, *, is_ambient: bool = False) -> None:
        self._fifo = os.devnull
        self.events = {}
        self.is_ambient = is_ambient
        self.is_of_module = False
        self._attachment: Attachment | None = None
        self._last_attachment: Attachment | None = None
        self._use(attachment, name, pending)
        if attachment is None and not is_ready("producer"):  # who is not traced does not pay for a compiler
            self.event = self._event_late if pending else _event_off
        else:
            self._make_event()
        known.add(self)

    def _make_event(self) -> None:
        self.event = make_builtin(functions("producer")["channel_event"], self, "event", METH_O, EVENT_DOC)

    def _event_late(self, blob: bytes | bytearray | memoryview, /) -> bool:
        """`event` of a channel that is still to be attached, where no object code is at hand."""
        _event_off(blob)
        if not self.attach_pending():
            return False
        self._make_event()
        return self.event(blob)

    def _use(self, attachment: Attachment | None, name: str, pending: int = 0) -> None:
        if attachment is not None and self._attachment is not None:
            self._use(None, name)  # nobody is to write the class of the one into the other
        if attachment is not None:
            self._fifo = attachment.segment.fifo
        self._attachment = attachment
        self.name = name
        self._last_attachment = attachment or self._last_attachment
        self.is_pending = pending != 0
        if attachment is not None and not pending:
            self._record_into(attachment)
        else:
            self._bind(None, self.context_off(pending))

    def _record_into(self, attachment: Attachment) -> None:
        self._bind(attachment.segment, attachment.context)
        for listener in when_attached:
            listener(self)
        self.is_pending = False  # last: until then another thread does the same, and loses nothing

    def _bind(self, segment: Segment | None, context: bytes) -> None:
        self._context = context
        for event in list(self.events.values()):
            try:
                event.bind(segment, context)
            except ShmtraceError as error:  # another process has defined it otherwise
                say(str(error))

    def context_off(self, pending: int = 0) -> bytes:
        """A CONTEXT with which nothing is recorded, and that a call which is under way may go on with."""
        if self._last_attachment is not None:
            return self._last_attachment.context_off(pending)
        return lasting_context(pending=pending)

    def state(self) -> tuple[Attachment | None, str, int]:
        """What `follow` takes: this channel as it is now."""
        return self._attachment, self.name, self._number(CONTEXT.pending)

    def follow(self, state: tuple[Attachment | None, str, int], *, when_used: bool = False) -> None:
        """From here on be what another one is, or what this one was; so are its tracepoints, spans and counters.

        `when_used`: these are not defined before one of them, or the channel, is used.
        """
        attachment, name, pending = state
        self._use(attachment, name, id(_attach_late) if when_used else 0 if attachment is not None else pending)
        if self._attachment is not None:
            self._make_event()

    @property
    def segment(self) -> Segment | None:
        """Of the channel, while it is attached and not closed."""
        attachment = self._attachment
        return attachment.segment if attachment is not None else None

    def attach_pending(self) -> bool:
        """Attach the channel if that is still to be done; whether it is attached now."""
        if self.is_pending:
            _attach_late(self)
        return self._attachment is not None

    @property
    def fifo(self) -> Path:
        """What consumers open; the null device if there is no channel."""
        from pathlib import Path

        return Path(self._fifo)

    @property
    def enabled(self) -> bool:
        """True while the channel is recording."""
        attachment = self._attachment  # another thread may close the channel
        return attachment is not None and attachment.segment.u32(CONTROL.recording) != 0

    @property
    def missed(self) -> int:
        """Records refused since the channel was made, by all processes."""
        return sum(self._attachment.segment.missed().values()) if self._attachment else 0

    def stats(self) -> dict[str, Any]:
        """What the segment counts: in total, by reason and by cpu.  A closed channel has no numbers: an empty dict."""
        from .stats import segment_stats

        return segment_stats(self._attachment.segment) if self._attachment else {}

    def writers(self) -> list[dict[str, Any]]:
        """The threads that have written: number, pid, tid, process, thread, and whether the process is alive."""
        from .stats import segment_writers

        return segment_writers(self._attachment.segment) if self._attachment else []

    def tracepoint(self, name: str, level: str | int = "info", /, **fields: object) -> Callable[..., bool]:
        """A function that records an event with these fields, by position or by keyword; True if it was recorded.

        A field's type is one of u8, u16, u32, u64, i8, i16, i32, i64, f32, f64, bool, str, bytes, an array of numbers
        ("f64[]", or "u16[3]" of so many), or an enumeration ("u8{red=0,green=1}", or an Enum class).  `level` is one of
        `logging`.  The same definition gives the same event in every process, another one of the same name
        TracepointConflict.  Wrong arguments are refused, counted and warned of once a call site; TypeError or
        OverflowError under SHMTRACE_STRICT=1.

        Raises InvalidName, TypeError and ValueError for a definition that makes no sense.
        """
        from .tracepoint import make

        call: Callable[..., bool] = make(self, "event", name, level, fields).call
        return call

    def span(self, name: str, level: str | int = "info", /, **fields: object) -> Span:
        """A stretch of time with these fields (as of a tracepoint): two records, with which it begins and ends.

        `with load:`, `with load(3):` with its fields; `@load` and `@load(3)` for functions, generators, async functions
        and async generators; `load.begin(3)` and `load.end()`.  An exception ends it and is named.  Spans nest, in each
        thread, asyncio task and greenlet apart.  Errors as of `tracepoint`.
        """
        from .tracepoint import make

        span: Span = make(self, "begin", name, level, fields)
        return span

    def counter(self, name: str, level: str | int = "info", /) -> Callable[[float], bool]:
        """A function that records the value of something that changes, a float.  Errors as of `tracepoint`."""
        from .tracepoint import make

        call: Callable[[float], bool] = make(self, "counter", name, level, {"value": "f64"}).call
        return call

    def iter(self, iterable: Iterable[Item], name: str) -> Iterator[Item]:
        """The items of a loader, for a loop over them.

        Two spans tell how the loop's time is spent: "<name> wait" until the next item is there, "<name> work" until the
        loop wants another one.
        """
        from .decorating import iterate

        return iterate(self, iterable, name)

    def context(self, /, **fields: object) -> UserContext:
        """From here on events of this thread, asyncio task or greenlet have these fields, beside those set before.

        All that is recorded has them: tracepoints, spans, counters, logs and blobs; but not calls of functions that are
        traced.  What a kernel of numba records has those that its thread's last record from Python had.

        As a context manager it takes them back at the end of the block.
        """
        from .log import UserContext

        return UserContext(fields)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (Python's signature)
        """`log` is made when it is first wanted."""
        if name != "log":
            raise AttributeError(f"a channel has no attribute {name!r}")
        from .log import Log

        log = Log(self)
        log.prepare()
        self.events["log", ""] = log
        self.log = log.call
        return self.log

    def tell_context(self) -> None:
        """If the user has set a context that this channel's reader does not know, tell it."""
        # one was set only if that module is there; nothing is imported, as that may fail when the interpreter ends
        tell = getattr(sys.modules.get("shmtrace.log"), "tell_context", None)
        if tell is not None:
            tell(self)

    def enable(self, pattern: str, level: str | int | None = None) -> int:
        """Switch on what matches: "req*" as in a shell.  With `level`: of this level and above.

        For all processes, now and for events that are defined later.  The number of events that there are.  Blobs and
        logs are not switched.  Raises InvalidName for what is no pattern, ValueError, TypeError, ChannelError.
        """
        return self._switch(pattern, "enable", level)

    def disable(self, pattern: str, level: str | int | None = None) -> int:
        """Switch off what matches; it then costs a load and a branch.  With `level`: of this level and below."""
        return self._switch(pattern, "disable", level)

    def _switch(self, pattern: str, rule: str, level: str | int | None) -> int:
        from .classes import switch
        from .tracepoint import check_pattern, level_number

        number = None if level is None else level_number(level)
        check_pattern(pattern)
        if os.path.exists(segment_path(self.name)):  # else it may still come: only an event gives it up
            self.attach_pending()
        return switch(self.segment, pattern, rule, number) if self.segment is not None else 0

    def reserve(self, size: int) -> Reservation:
        """Space in a page: `with channel.reserve(size) as view` gives `size` writable bytes.

        They become a record at the end of the block, with the time of that moment; after an exception nothing is
        recorded, and neither is it when the process is killed in between.  Where nothing is recorded (nobody reads, no
        room, which is counted) the bytes are there all the same.  The block may last as long as it likes.

        Where the user's context is set (`context`) the bytes are copied at the end of the block, as those of `event`;
        the mode block waits then.

        The view ends with the block.  If something still refers to its bytes then, a slice or an array, that is a
        BufferError, and nothing is recorded.  Raises TypeError for what is no integer and ValueError, naming the limit,
        for what does not fit in a page.
        """
        import operator

        from .place import has_context
        from .reservation import Reservation

        size = operator.index(size)
        self.attach_pending()
        limit = self._number(CONTEXT.limit)
        if not 0 <= size <= limit:
            raise ValueError(f"a reservation of {size} bytes: this channel takes 0 to {limit} (the page size decides)")
        pages = self._attachment.pages if self._attachment is not None else None
        return Reservation(self._context, pages, size, self.event, later=has_context())

    def _number(self, field: int) -> int:
        return int.from_bytes(self._context[field : field + 8], "little")

    def snapshot(self, directory: str | os.PathLike[str]) -> int:
        """Write what is in the pages now into `directory` as a CTF trace; the number of records.

        Nobody is stopped or held up.  In the mode overwrite these are the newest records of each lane, in the others
        those that the collector has not sent yet.  Raises ShmtraceError if `directory` is not empty or cannot be
        written, and ChannelError if this channel is disabled.
        """
        from .collector.snapshot import take_snapshot

        if self._attachment is None:
            raise ChannelError("a channel that is closed or disabled has no pages to take a snapshot of")
        return take_snapshot(self._attachment.segment, directory).events

    def snapshot_at(
        self, directory: str | os.PathLike[str], *, exceptions: bool = False, signal: int | None = None
    ) -> None:
        """Take snapshots on occasion, each into a new directory below `directory`, and say so on stderr.

        `exceptions`: at every exception of this process that nobody handles.  `signal`: whenever it gets this signal;
        to be called in the main thread then.  What the program does at these moments by itself, it does afterwards.
        """
        from .triggers import Trigger

        trigger = Trigger(self, directory)
        if exceptions:
            trigger.on_exceptions()
        if signal is not None:
            trigger.on_signal(signal)

    def close(self) -> None:
        """Stop recording from this process through this object.  Never fails; may be called twice."""
        self._use(None, self.name)
        self.is_ambient = False  # a test or a cell that records what there is does not bring it back

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[[str], Channel], tuple[str]]:
        return _reopen, (self.name if self._attachment else "",)

    def __repr__(self) -> str:
        state = "recording" if self.enabled else "off" if self._attachment else "disabled"
        return f"<shmtrace.Channel {self.name!r} {state}>"


def create_channel(
    name: str,
    *,
    page_size: int | None = None,
    pages: int | None = None,
    mode: str = "drop",
    flush_ms: int = 100,
    block_ms: int = 1000,
    _session: tuple[int, int] = (0, 0),
) -> Channel:
    """Make a channel and open it.

    `page_size` is in bytes (a multiple of 4096 up to 524288), `pages` their number (2 to 65534), `flush_ms` how long a
    record may lie in a page that is not full, in ms.  The default sizes take at most half of the shared memory that is
    free; explicit ones fail when there is no room.

    Raises InvalidName, InvalidGeometry, ChannelExists, ChannelForeign, NotEnoughSharedMemory, SharedMemoryUnavailable,
    RuntimeDirectoryError.
    """
    from . import creation
    from .clock import choose_clock, read_clocks

    check_name(name)
    if mode not in layout.MODES:
        raise InvalidGeometry(f"mode {mode!r}: must be one of {', '.join(layout.MODES)}")
    if not 1 <= flush_ms <= 60_000:
        raise InvalidGeometry(f"a flush interval of {flush_ms} ms: must be 1 to 60000")
    if not 1 <= block_ms <= 3_600_000:
        raise InvalidGeometry(f"a limit of {block_ms} ms: must be 1 to 3600000")
    cpus = layout.possible_cpus()
    geometry = Geometry(
        page_size=page_size if page_size is not None else PAGE_SIZE,
        pages=pages if pages is not None else max(PAGES, PAGES_A_CPU * cpus),
        cpus=cpus,
        lanes_per_cpu=LANES_PER_CPU,
        writers=WRITERS,
        classes_bytes=layout.CLASSES_BYTES,
    )
    if mode == "overwrite" and pages is None and geometry.pages < geometry.least_pages_in_rings:
        if page_size is None:  # the same memory in smaller pages
            geometry.page_size = max(
                geometry.page_size * geometry.pages // geometry.least_pages_in_rings // 4096 * 4096, 4096
            )
        geometry.pages = geometry.least_pages_in_rings
    if pages is None and geometry.check() is None:
        _shrink(name, geometry, geometry.least_pages_in_rings if mode == "overwrite" else layout.MIN_PAGES)
    kind = choose_clock()
    inode = creation.create_segment(
        name, geometry, mode=layout.MODES[mode], flush_ms=flush_ms, block_ms=block_ms,
        clock=(kind, *read_clocks(kind)), session=_session,
    )  # fmt: skip
    try:
        return Channel(attach_segment(name), name, is_ambient=_session != (0, 0))
    except SharedMemoryUnavailable:  # no address space left, for one
        with creation.names_locked():
            if os.stat(segment_path(name)).st_ino == inode:
                creation.unlink_objects(name, creation.runtime_directory() / name)
        raise


def _shrink(name: str, geometry: Geometry, least: int) -> None:
    """Take fewer pages than the default when they would fill more than half of the free shared memory, and say so."""
    from .creation import free_memory

    half = free_memory() // 2
    if geometry.segment_bytes <= half:
        return
    wanted = geometry.pages
    geometry.pages = min(wanted, max((half - geometry.pages_at) // geometry.page_size, least))
    say(f"channel {name!r} has {geometry.pages} pages instead of {wanted}: {MEMORY} has {2 * half:,} bytes free")


def open_channel(name: str) -> Channel:
    """Open a channel that exists.

    Raises InvalidName, ChannelNotFound, ChannelForeign, ChannelIncompatible, ChannelRemoved.
    """
    return Channel(attach_segment(name), name)


def attach() -> Channel:
    """The channel named in $SHMTRACE, else a disabled one.  Never raises.

    If the channel is not there yet, the first event tries again; if it is not there then either, or cannot be used, one
    line on stderr says so and the channel stays disabled.  What a process has attached it keeps across a change of
    user: there is no right to open it afterwards.
    """
    channel, caller = _attach(), sys._getframe(1)  # noqa: SLF001
    channel.is_of_module = caller.f_code.co_name == "<module>" and caller.f_globals.get("__name__") != "__main__"
    return channel


def _attach() -> Channel:
    name = os.environ.get("SHMTRACE", "")
    if not name:
        return Channel(None, "", is_ambient=True)
    if is_inside():
        return Channel(None, name, pending=id(_attach_late), is_ambient=True)
    try:
        return Channel(attach_or_kept(name), name, is_ambient=True)
    except ChannelNotFound:
        return Channel(None, name, pending=id(_attach_late), is_ambient=True)
    except Exception as error:  # noqa: BLE001  (tracing never raises into the program)
        _complain(name, error)
        return Channel(None, name, is_ambient=True)


def _attach_late(channel: Channel) -> None:
    """Called by the jitted code at the first event of a channel that was not there when it was attached."""
    if not channel.is_pending or is_inside():  # another thread was faster; or the next event will do
        return
    try:
        if channel._attachment is not None:  # noqa: SLF001  (it follows another one)
            channel._record_into(channel._attachment)  # noqa: SLF001
        else:
            channel._use(None, channel.name)  # noqa: SLF001  (once a process, whatever happens)
            channel._use(attach_or_kept(channel.name), channel.name)  # noqa: SLF001
    except Exception as error:  # noqa: BLE001
        _complain(channel.name, error)


def _reopen(name: str) -> Channel:
    """A channel that comes out of a pickle."""
    if not name:
        return Channel(None, "")
    try:
        return Channel(attach_or_kept(name), name)
    except Exception as error:  # noqa: BLE001
        _complain(name, error)
        return Channel(None, name)


def _complain(name: str, error: Exception) -> None:
    others: list[int] = []
    try:
        if isinstance(error, ChannelNotFound):
            others = channels_elsewhere(name)
    except OSError:
        pass
    why = (
        f"it is the channel of {user_name(others[0])}, and this process runs as {user_name(os.geteuid())}: "
        "attach before the change of user, or run all of it as one user"
        if others
        else str(error)
    )
    say(f"nothing is recorded in {name!r}: {why}")


def remove_channel(name: str, drain: bool = False) -> None:  # noqa: FBT001, FBT002  (the contract's signature)
    """Remove a channel.

    While a reader has it open: ChannelBusy, or, with `drain`, the name is gone at once, recording stops, and the reader
    gets what is left, then the end of file.  Raises InvalidName, ChannelNotFound, ChannelForeign.
    """
    from . import creation

    check_name(name)
    path = segment_path(name)
    try:
        owner = os.lstat(path).st_uid
    except FileNotFoundError:
        raise ChannelNotFound(f"there is no channel {name!r}") from None
    if owner != os.geteuid():
        raise foreign_channel(name, path)
    with creation.names_locked():
        try:
            mapped = open_segment(name)
        except ChannelNotFound:
            raise
        except ChannelError:  # of another boot or version, or damaged: nobody can have it open
            creation.unlink_objects(name, creation.runtime_directory() / name)
            return
        collector, start = mapped.u32(CONTROL.collector_pid), mapped.u64(CONTROL.collector_start)
        collected = collector != 0 and not is_dead(collector, start)
        if collected and mapped.u32(CONTROL.reader) and not drain:
            mapped.unmap()
            raise ChannelBusy(
                f"a reader has the channel {name!r} open: end it first, or remove the channel with drain "
                f"('shmtrace remove {name} --drain'), which gives the reader the rest"
            )
        if not collected:
            mapped.set_u32(CONTROL.recording, 0)
        mapped.set_u32(CONTROL.removed, 2 if drain else 1)
        try:
            full = open_semaphore(name, "full")
        except ShmtraceError:
            pass
        else:
            libc.sem_post(full)  # the collector may be asleep
            libc.sem_close(full)
        creation.unlink_objects(name, mapped.fifo)
        if not collected:
            mapped.release_pages()
        mapped.unmap()


def list_channels() -> list[dict[str, Any]]:
    """This user's channels: name, state (idle, recording, stale), why it is stale, collector, reader, sizes, mode."""
    return [_describe(name) for name in channel_names()]


def _describe(name: str) -> dict[str, Any]:
    description: dict[str, Any] = {
        "name": name, "state": "stale", "why": None, "collector": None, "reader": False,
        "pages": None, "page_size": None, "mode": None,
    }  # fmt: skip
    try:
        mapped = open_segment(name)
    except ShmtraceError as error:
        return {**description, "why": str(error)}
    collector, start = mapped.u32(CONTROL.collector_pid), mapped.u64(CONTROL.collector_start)
    collected = collector != 0 and not is_dead(collector, start)
    session = mapped.u32(CONTROL.session_pid)
    orphaned = session != 0 and is_dead(session, mapped.u64(CONTROL.session_start)) and not collected
    description |= {
        "state": "stale" if orphaned else "recording" if mapped.u32(CONTROL.recording) else "idle",
        "why": f"the program that it was made for (pid {session}) is gone" if orphaned else None,
        "collector": collector if collected else None,
        "reader": bool(collected and mapped.u32(CONTROL.reader)),
        "pages": mapped.geometry.pages,
        "page_size": mapped.geometry.page_size,
        "mode": layout.MODE_NAMES.get(mapped.u32(CONTROL.mode), "unknown"),
    }
    mapped.unmap()
    return description
