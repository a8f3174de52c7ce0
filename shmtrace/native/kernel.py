"""What code that numba compiled for users calls, rarely: the cold half of an event, and the way to its cell.

The fast path (kernels/records.py) is compiled into the user's function; this is placed once a process, like all our
object code, and is reached through the table tables.KERNELS.  Nothing here needs the GIL or an interpreter, and nothing
waits for it: a thread of a `prange` may call while the main thread holds the GIL and waits for that thread.
"""

from __future__ import annotations

from . import intrinsics as do
from . import tables
from .access import Py_DecRef, PyErr_Clear, PyErr_SetInterrupt, held_by
from .calls import count_refused
from .desk import begin_at_length
from .entry import PyEval_RestoreThread, PyEval_SaveThread, PyObject_CallOneArg
from .intrinsics import frozen, load32, load64, read64, store64
from .lanes import (
    CONTEXT,
    CONTROL,
    CPU,
    FULL,
    LINE_BYTES,
    MONOTONIC,
    REFUSED,
    apart,
    current_cpu,
    inlined,
    monotonic,
    slot_of,
)
from .loader import THREAD_STATE
from .waiting import count_timeout, may_wait, wait_for_page
from .writers import register, registered

EVENT, KERNELS, KNOWN = frozen(tables.EVENT), frozen(tables.KERNELS), frozen(tables.KNOWN)
STDERR = 2
KEY_BYTES = tables.KERNEL_MARK_BYTES  # of a text, ahead of what is the same in every process
UNSURE = -1

strcmp = do.external("strcmp", 2, result_bits=32)
dprintf = do.external("dprintf", 3, variadic=True, result_bits=32)
Py_AddPendingCall = do.external("Py_AddPendingCall", 2, result_bits=32)
PyGILState_GetThisThreadState = do.external("PyGILState_GetThisThreadState", 0)
current_state = do.external(THREAD_STATE, 0)
nothing_known = do.text(
    "shmtrace: a kernel that numba compiled elsewhere records nothing: this process has none, or several, of: %s\n"
)


@inlined
def has_gil() -> bool:
    """This thread holds the GIL (where there is none: it is attached to the interpreter)."""
    state = current_state()
    return state != 0 and state == PyGILState_GetThisThreadState()


# -- which cell


@inlined
def context_of_cell(cell: int, is_channel: int) -> int:
    """Address of the CONTEXT as it is now."""
    return held_by(cell) if is_channel != 0 else load64(cell + EVENT.context)


@inlined
def is_alike(text: int, known: int) -> bool:
    """What a kernel of another process looks for, and something of this one."""
    if strcmp(text + KEY_BYTES, load64(known + KNOWN.named)) == 0:
        return True
    ambient = load64(known + KNOWN.ambient)
    return ambient != 0 and strcmp(text + KEY_BYTES, ambient) == 0


@apart
def find_alike(text: int, table: int) -> int:
    """A definition that is the same; 0 if there is none, UNSURE if there are several in several channels.

    Those of channels that are closed, or off for good, count only where there is no other.
    """
    found, channel, off = 0, 0, 0
    known = do.load64_acquire(table + KERNELS.known)
    while known != 0:
        if is_alike(text, known):
            cell = load64(known + KNOWN.cell)
            context = context_of_cell(cell, load64(known + KNOWN.is_channel))
            control = load64(context + CONTEXT.control)
            pending = load64(context + CONTEXT.pending)
            if pending == 0 and load64(context + CONTEXT.recording) != control + CONTROL.recording:
                control = 0  # it was attached once
            if control == 0 and pending == 0:
                off = known
            elif found == 0:
                found, channel = known, control
            elif control != channel:
                return UNSURE
        known = load64(known + KNOWN.next)
    return found if found != 0 else off


def kernel_resolve(text: int, word: int, table: int) -> int:
    """The cell that a kernel means, kept in its `word`; 0 if there is none.

    `text` says which object it was compiled with: in this process that very one is found.  In another process, where it
    comes out of a cache, it is the one of the same definition.  That is looked for again when something was defined.
    """
    known = do.load64_acquire(table + KERNELS.known)  # acquire: matched by the order in which Python fills an entry
    count = load64(table + KERNELS.count)
    before = load64(word)
    if before == 2 * count + 1:
        return 0
    while known != 0:
        if strcmp(text, load64(known + KNOWN.text)) == 0:
            break
        known = load64(known + KNOWN.next)
    if known == 0:
        known = find_alike(text, table)
    if known <= 0:
        if before == 0:
            dprintf(STDERR, nothing_known(), text + KEY_BYTES)
        store64(word, 2 * count + 1)
        return 0
    store64(known + KNOWN.used, 1)
    store64(word, load64(known + KNOWN.cell))
    return load64(known + KNOWN.cell)


# -- a channel that is still to be attached


@apart
def count_waiting(context: int) -> None:
    """A channel that follows another one (Channel.follow), which records: this record goes into no lane of that."""
    control = read64(context + CONTEXT.control)
    if control != 0 and load32(control + CONTROL.recording) != 0:
        slot = slot_of(context, current_cpu(context))
        do.add64(read64(context + CONTEXT.cpus) + slot * LINE_BYTES + CPU.missed_no_lane, 1)


def kernel_attach(context: int, channel: int, table: int) -> int:
    """Nothing is recorded.  A channel that is still to be attached is attached: 1, now; 0, later or never.

    That is Python's work, so a thread that does not hold the GIL asks the main thread to do it.
    """
    pending = load64(context + CONTEXT.pending)
    if pending == 0:
        return 0
    if has_gil():
        result = PyObject_CallOneArg(pending, channel)
        if result == 0:
            PyErr_Clear()
            PyErr_SetInterrupt()  # only Ctrl-C comes out of it; it is to come out of the next Python code
            return 0
        Py_DecRef(result)
        return 1
    count_waiting(context)
    asked = load64(table + KERNELS.attach_asked)
    if asked != channel and do.swap_acquire(table + KERNELS.attach_asked, asked, channel) != 0:
        Py_AddPendingCall(load64(table + KERNELS.attach_pending), channel)
    return 0


def kernel_attach_pending(channel: int) -> int:
    """Called by the main thread's interpreter."""
    pending = load64(held_by(channel) + CONTEXT.pending)
    if pending == 0:
        return 0
    result = PyObject_CallOneArg(pending, channel)
    if result == 0:
        return -1
    Py_DecRef(result)
    return 0


# -- the cold half of a record


@apart
def wait(context: int, until: int) -> bool:
    """Mode block: wait for a page, without the GIL.  False: given up, which is counted."""
    if not may_wait(context, until):
        count_timeout(context)
        return False
    thread = PyEval_SaveThread() if has_gil() else 0
    wait_for_page(context, until)
    if thread != 0:
        PyEval_RestoreThread(thread)
    return True


def kernel_begin(context: int, identifier: int, size: int, out: int) -> int:
    """As `begin_at_length`, of a thread that may still have to register (its names are the kernel's); never FULL."""
    me = registered(context)
    if me == 0:
        me = register(context)
    until = 0
    lane = begin_at_length(context, me, identifier, size, out)
    while lane == FULL:
        if until == 0:
            until = monotonic(MONOTONIC) + read64(context + CONTEXT.block_ns)
        lane = begin_at_length(context, me, identifier, size, out) if wait(context, until) else REFUSED
    return lane


def kernel_refuse(context: int) -> int:
    """The arguments cannot be recorded: an integer that is too great for its field, or too many bytes.  Counted."""
    if load32(load64(context + CONTEXT.recording)) != 0:
        count_refused(context)
    return 0


# -- text

SURROGATES, SURROGATES_END, REPLACEMENT = 0xD800, 0xE000, 0xFFFD


@inlined
def character(data: int, index: int, kind: int) -> int:
    """A character of a text of `kind` bytes a character, as it is recorded: U+FFFD for what cannot be."""
    if kind == 1:
        code = do.load8(data + index)
    elif kind == 2:
        code = do.load16(data + 2 * index)
    else:
        code = load32(data + 4 * index)
    return REPLACEMENT if code == 0 or SURROGATES <= code < SURROGATES_END else code


@inlined
def bytes_of(code: int) -> int:
    """Bytes of a character in UTF-8."""
    if code < 0x80:
        return 1
    if code < 0x800:
        return 2
    return 3 if code < 0x10000 else 4


def kernel_text_size(data: int, length: int, kind: int) -> int:
    """Bytes of a text in UTF-8, with the NUL at its end."""
    size = 1
    for index in range(length):
        size += bytes_of(character(data, index, kind))
    return size


def kernel_put_text(target: int, data: int, length: int, kind: int) -> int:
    """Write a text; the address behind its NUL."""
    for index in range(length):
        code = character(data, index, kind)
        size = bytes_of(code)
        if size == 1:
            do.store8(target, code)
        else:
            for number in range(size - 1, 0, -1):
                do.store8(target + number, 0x80 | (code & 0x3F))
                code >>= 6
            do.store8(target, code | (0xC0 if size == 2 else 0xE0 if size == 3 else 0xF0))
        target += size
    do.store8(target, 0)
    return target + 1


KERNEL_ENTRIES = (
    kernel_resolve, kernel_begin, kernel_attach, kernel_refuse, kernel_text_size, kernel_put_text,
    kernel_attach_pending,
)  # fmt: skip
