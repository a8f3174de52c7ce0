"""Who writes: each thread of a process has an entry of its own in the channel's table of writers (V1, V2 of lanes.py).

What a thread stores into a lane's owner is kept in its block, in a slot for each channel that the process has attached.
"""

from __future__ import annotations

from .. import layout
from . import intrinsics as do
from .intrinsics import STEP, likely, load64, read64, step, store32, store64
from .lanes import (
    BLOCK,
    BLOCK_BYTES,
    BLOCKS,
    CONTEXT,
    CONTROL,
    OWNER_PID_MASK,
    OWNER_PID_SHIFT,
    SLOT,
    SLOT_BYTES,
    UNKNOWN_WRITER,
    WRITER,
    WRITER_BYTES,
    apart,
    inlined,
)

IDENTITY_PID_BITS = layout.IDENTITY_PID_BITS
OWNER_START_SHIFT, OWNER_START_MASK = layout.OWNER_START_SHIFT, layout.OWNER_START_MASK
FILE_BYTES = 1024
O_CLOEXEC = 0o2000000
NAME_BYTES = layout.WIDTHS["Name48"]

pthread_getspecific = do.external("pthread_getspecific", 1)
pthread_setspecific = do.external("pthread_setspecific", 2, result_bits=32)
c_open = do.external("open", 2, result_bits=32)
c_read = do.external("read", 3)
c_close = do.external("close", 1, result_bits=32)
getpid = do.external("getpid", 0, result_bits=32)
gettid = do.external("gettid", 0, result_bits=32)
file_buffer = do.scratch(FILE_BYTES)
process_stat = do.text("/proc/self/stat")
process_comm = do.text("/proc/self/comm")
thread_stat = do.text("/proc/thread-self/stat")
thread_comm = do.text("/proc/thread-self/comm")


@apart
def read_file(path: int, buffer: int) -> int:
    """The beginning of a file; its length, 0 if it cannot be read."""
    file = c_open(path, O_CLOEXEC)
    if file < 0:
        return 0
    size = c_read(file, buffer, FILE_BYTES - 1)
    c_close(file)
    return max(size, 0)


@apart
def start_ticks(path: int) -> int:
    """Start time of a process or thread, in clock ticks since boot: the 22nd word of its `stat`, 0 if unknown.

    The second word is a name in parentheses and may hold anything, so count from the last ")".
    """
    buffer = file_buffer()
    size = read_file(path, buffer)
    at = size - 1
    while at > 0 and do.load8(buffer + at) != 41:
        at -= 1
    spaces = 0
    while at < size and spaces < 20:
        if do.load8(buffer + at) == 32:
            spaces += 1
        at += 1
    ticks = 0
    while at < size and 48 <= do.load8(buffer + at) <= 57:
        ticks = ticks * 10 + do.load8(buffer + at) - 48
        at += 1
    return ticks


@apart
def read_name(path: int, target: int) -> None:
    """The kernel's name of a process or thread into a writer's entry."""
    buffer = file_buffer()
    size = min(read_file(path, buffer), NAME_BYTES - 1)
    for i in range(size):
        character = do.load8(buffer + i)
        do.store8(target + i, 0 if character == 10 else character)
    do.store8(target + size, 0)


@apart
def block_of(context: int, tid: int) -> int:
    """This thread's block: the one it has (which after a fork may be another thread's), or a free one; 0: none."""
    key = read64(context + CONTEXT.key)
    block = pthread_getspecific(key)
    if block != 0 and load64(block + BLOCK.tid) == tid:
        return block
    for i in range(BLOCKS):
        block = read64(context + CONTEXT.blocks) + (tid + i) % BLOCKS * BLOCK_BYTES
        if load64(block + BLOCK.tid) == 0 and do.swap_acquire(block + BLOCK.tid, 0, tid):
            return block if pthread_setspecific(key, block) == 0 else 0
    pthread_setspecific(key, 0)  # a block that it had before a fork may be another thread's now
    return 0


@apart
def identity_word(context: int) -> int:
    """This process, as it stands in the writer table: start time and pid, or pid 0 where nobody could judge it."""
    ticks = start_ticks(process_stat())  # 0: no descriptor left, or no /proc
    unknown = ticks == 0 or read64(context + CONTEXT.foreign) != 0
    return (max(ticks, 1) << IDENTITY_PID_BITS) | (0 if unknown else getpid())  # an identity is never 0


@inlined
def owner_word(identity: int, writer: int) -> int:
    """A writer of the process of this identity, as it stands in a lane's owner."""
    start, pid = identity >> IDENTITY_PID_BITS, identity & OWNER_PID_MASK
    return ((start & OWNER_START_MASK) << OWNER_START_SHIFT) | (pid << OWNER_PID_SHIFT) | writer


@apart
def register(context: int) -> int:
    """Claim an entry of the writer table for this thread, and keep in its slot what it stores into a lane's owner.

    A table that is full gives the unknown writer: the events are recorded all the same.  So does a process with more
    threads than blocks.
    """
    do.cold()
    identity = identity_word(context)
    count = read64(context + CONTEXT.writers_count)
    writers = read64(context + CONTEXT.writers)
    tid = gettid()
    block = block_of(context, tid)
    number, entry = 0, 0
    for i in range(count - 1 if block != 0 else 0):
        candidate = 1 + (tid + i) % (count - 1)
        # acquire: what the collector cleared when it freed the entry comes before what is written into it now
        word = writers + candidate * WRITER_BYTES + WRITER.identity
        step(STEP.V1)
        if load64(word) == 0 and do.swap_acquire(word, 0, identity):
            number, entry = candidate, word
            break
    if entry != 0:
        step(STEP.V2)
        store32(entry + WRITER.tid, tid)
        store64(entry + WRITER.thread_start, start_ticks(thread_stat()))
        read_name(process_comm(), entry + WRITER.process)
        read_name(thread_comm(), entry + WRITER.thread)
    if number == 0:
        do.add64(read64(context + CONTEXT.control) + CONTROL.unnumbered, 1)
    me = owner_word(identity, number if number != 0 else UNKNOWN_WRITER)
    if block != 0:
        slot = read64(context + CONTEXT.slot)
        store64(block + slot + SLOT.entry, entry)
        store64(block + slot + SLOT.owner, me)
        store64(block + BLOCK.end, max(load64(block + BLOCK.end), slot + SLOT_BYTES))
    return me


@apart
def ask_for_block(context: int) -> int:
    """As libc tells it."""
    do.cold()
    return pthread_getspecific(read64(context + CONTEXT.key))


@inlined
def block_here(context: int) -> int:
    """This thread's block; 0: it has none."""
    at = read64(context + CONTEXT.block_at)
    return do.thread_load64(at) if likely(at != 0) else ask_for_block(context)


@inlined
def registered(context: int) -> int:
    """What this thread stores into a lane's owner, 0 if it has not registered (or is a fork of one that has)."""
    block = block_here(context)
    return load64(block + read64(context + CONTEXT.slot) + SLOT.owner) if likely(block != 0) else 0
