"""A process' side of a segment: its mapping, its context, and what its threads keep; made once, kept for ever."""

from __future__ import annotations

import _thread
import ctypes
import os
import sys

from . import layout
from .context import make_context, segment_context
from .errors import ChannelError, ChannelNotFound, ChannelRemoved
from .layout import CONTROL, WRITER
from .native import functions
from .native.builtin import address_of
from .native.loader import libc, map_memory, whole_pages
from .section import CHANNEL, Section
from .segment import open_segment

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    from .reservation import Pages
    from .segment import Segment

MADV_WIPEONFORK = 18
DESCRIPTOR_BYTES = 1536  # of a thread in glibc (struct pthread), as far as we look; it is longer

_nothing = (ctypes.c_uint64 * 1)()  # the recording switch of channels that are off for good
_OFF = {"recording": ctypes.addressof(_nothing), "limit": layout.LONGEST_BLOB, "bare": layout.LONGEST_BLOB}
_lasting: list[object] = [_nothing]  # whatever jitted code may still look at lives as long as the process
_attachments: dict[tuple[int, int], Attachment] = {}
_locks = [_thread.allocate_lock()]


def _renew_lock() -> None:
    _locks[0] = _thread.allocate_lock()


os.register_at_fork(after_in_child=_renew_lock)  # a thread that is not in the child may have held it


def lasting_context(**values: int) -> bytes:
    """A CONTEXT that lives as long as the process, because a call may be under way when its channel is closed."""
    context = make_context(**_OFF | values)
    lasting(context)
    return context


def lasting(what: object) -> None:
    """Keep it for as long as the process lives."""
    _lasting.append(what)


def wiped_memory(size: int) -> int:
    """Address of memory that holds zeros, and zeros again in a forked child, whoever forked it."""
    address = map_memory(size)
    libc.madvise(address, whole_pages(size), MADV_WIPEONFORK)
    return address


class _Threads:
    """What the threads of this process keep: one pthread key and one piece of memory for all its channels."""

    def __init__(self) -> None:
        self.blocks = wiped_memory(layout.BLOCKS * layout.BLOCK_BYTES)
        key = ctypes.c_uint()
        ended = ctypes.c_void_p(functions("producer")["thread_ended"])
        if libc.pthread_key_create(ctypes.byref(key), ended) != 0:
            raise ChannelError("no channel can be attached: the process has no thread key left")
        self.key = key.value
        self.block_at = _find_value(key)
        self._slots = iter(range(layout.BLOCK_HEAD_BYTES, layout.BLOCK_BYTES, layout.SLOT_BYTES))

    def take_slot(self) -> int:
        """Where a channel's slot lies in each thread's block.  Not given back: a late call may still look there."""
        slot = next(self._slots, None)
        if slot is None:
            raise ChannelError("this process has attached as many channels as one can in its life: start another one")
        return slot


def _find_value(key: ctypes.c_uint) -> int:
    """Where libc keeps this thread's value of a key: offset from the thread pointer, 0 if that cannot be known.

    glibc keeps the values of the first 32 keys in the thread's descriptor, at the same place in each thread, from where
    it is one load.  It is found by giving the key two values.
    """
    if os.uname().machine != "x86_64" or not hasattr(libc, "gnu_get_libc_version"):
        return 0  # elsewhere the thread pointer is not the descriptor's address
    libc.pthread_self.restype = ctypes.c_size_t
    mine = libc.pthread_self()
    values = (mine, id(key))  # both are addresses, so that nobody is surprised
    found = []
    for value in values:
        libc.pthread_setspecific(key, ctypes.c_void_p(value))
        found.append(memoryview(ctypes.string_at(mine, DESCRIPTOR_BYTES)).cast("Q").tolist())
    libc.pthread_setspecific(key, None)
    places = [8 * number for number, both in enumerate(zip(*found, strict=True)) if both == values]
    return places[0] if len(places) == 1 else 0


_threads: list[_Threads] = []  # one, once there is a channel


class Attachment:
    """This process' side of a segment: made once, kept for ever."""

    def __init__(self, mapped: Segment) -> None:
        self.segment = mapped
        context = segment_context(mapped)
        if mapped.u32(CONTROL.removed):  # and perhaps made anew: the semaphores may be the new one's
            raise ChannelRemoved(f"the channel {mapped.name!r} was removed just now")
        if not _threads:
            _threads.append(_Threads())
        cpu_kind, cpu_word = cpu_source()
        slot, block_at = _threads[0].take_slot(), _threads[0].block_at
        self._naming = self._name_writer
        self._rescuing = self._rescue
        self._pages: Pages | None = None
        self._fields: dict[str, int] = dict(
            **context,
            blocks=_threads[0].blocks,
            key=_threads[0].key,
            block_at=block_at,
            mapped=wiped_memory(mapped.geometry.pages),
            slot=slot,
            reader=slot << 32,
            plain=block_at if cpu_kind == layout.CPU_RSEQ and mapped.clock_kind == layout.CLOCK_TSC else 0,
            desk=layout.BLOCK.desks + slot // layout.SLOT_BYTES % layout.DESKS * layout.DESK_STRIDE,
            cpu_word=cpu_word,
            cpu_kind=cpu_kind,
            naming=id(self._naming),
            rescue=id(self._rescuing),
        )
        self.context = lasting_context(**self._fields)
        self._off: bytes | None = None
        _disown(self.context)
        if not mapped.is_streamed:
            self._rescue()

    def context_off(self, pending: int = 0) -> bytes:
        """The CONTEXT of a channel that was attached here and is not any more: nothing is recorded.

        A call may be under way that has looked at the switch of the other one, and goes on with this.
        """
        if pending:
            return lasting_context(**self._fields | _OFF, pending=pending)
        if self._off is None:
            self._off = lasting_context(**self._fields | _OFF)
        return self._off

    @property
    def pages(self) -> Pages:
        """For reservations."""
        if self._pages is None:
            from .reservation import Pages

            self._pages = Pages(self.segment)
        return self._pages

    def _rescue(self, _cpu: int = 0) -> None:
        """Mode overwrite: no lane of this cpu was free, or no number of a writer; perhaps the dead hold some."""
        try:
            from .rescue import rescue

            rescue(self.segment)
        except Exception:  # noqa: BLE001, S110  (the channel may have been removed, /proc may be closed to us)
            pass

    def _name_writer(self, number: int) -> None:
        """Put the names that Python knows into the entry of a writer that has just registered: this thread's."""
        try:  # noqa: SIM105
            self._write_names(number)
        except Exception:  # noqa: BLE001, S110  (the kernel's names stand there already)
            pass

    def _write_names(self, number: int) -> None:
        at = self.segment.geometry.writers_at + number * layout.WRITER_BYTES
        for field, name in (("process", _process_name()), ("thread", _thread_name())):
            if name:
                width = layout.width_of(WRITER, field)
                encoded = name.encode(errors="replace")[: width - 1]
                # a name that is cut in the middle of a character loses the character
                encoded = encoded.decode(errors="ignore").encode()
                self.segment.write(at + layout.fields_of(WRITER)[field], encoded.ljust(width, b"\0"))


def _disown(context: bytes) -> None:
    """Let go of what this process held as the program that it was before exec.  Before its first event."""
    if _is_main_interpreter():  # a sub-interpreter's process holds what its main interpreter does
        call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(functions("producer")["disown"])
        call(address_of(context))


def _is_main_interpreter() -> bool:
    api = ctypes.pythonapi
    api.PyInterpreterState_Get.restype = api.PyInterpreterState_Main.restype = ctypes.c_void_p
    return bool(api.PyInterpreterState_Get() == api.PyInterpreterState_Main())


def _process_name() -> str:
    """The name of a multiprocessing worker (or one of billiard, celery's copy of it), else of the program."""
    for module in ("multiprocessing.process", "billiard.process"):
        current = getattr(sys.modules.get(module), "_current_process", None)
        if current is not None and current._parent_pid is not None:  # noqa: SLF001
            return str(current.name)
    argv = getattr(sys, "argv", None)
    return os.path.basename(argv[0]) if argv else ""


def _thread_name() -> str:
    """The name of the Python thread, without making a Thread object for one that Python does not know."""
    threading = sys.modules.get("threading")
    if threading is None:
        return "MainThread"  # as it would call it
    thread = getattr(threading, "_active", {}).get(_thread.get_ident())
    return str(thread.name) if thread is not None else ""


def cpu_source() -> tuple[int, int]:
    """How this process learns the cpu: kind and word of the CONTEXT.  $SHMTRACE_CPU fixes it (for tests)."""
    fixed = os.environ.get("SHMTRACE_CPU")
    if fixed:
        word = ctypes.c_uint32(int(fixed))
        lasting(word)
        return layout.CPU_FIXED, ctypes.addressof(word)
    try:
        offset = ctypes.c_ssize_t.in_dll(libc, "__rseq_offset").value
        size = ctypes.c_uint.in_dll(libc, "__rseq_size").value
    except ValueError:  # glibc before 2.35, or another libc
        return layout.CPU_SYSCALL, 0
    return (layout.CPU_RSEQ, offset + 4) if size else (layout.CPU_SYSCALL, 0)


def attach_segment(name: str) -> Attachment:
    """The one attachment of a channel in this process, made if there is none yet.

    Errors as of `open_segment`, and ChannelError as of a Section.
    """
    mapped = open_segment(name)
    with Section(CHANNEL), _locks[0]:
        known = _attachments.get(mapped.identity)
        if known is not None:
            mapped.unmap()
            return known
        attachment = Attachment(mapped)
        _attachments[mapped.identity] = attachment
        mapped.close()
        return attachment


def attach_or_kept(name: str) -> Attachment:
    """As `attach_segment`; after a change of user, what was attached before and can be opened no more."""
    try:
        return attach_segment(name)
    except ChannelNotFound:
        with Section(CHANNEL), _locks[0]:
            known = list(_attachments.values())
        for attachment in known:
            segment = attachment.segment
            if segment.name == name and segment.uid != os.geteuid() and not segment.u32(CONTROL.removed):
                return attachment
        raise
