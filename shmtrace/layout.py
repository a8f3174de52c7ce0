"""The shared segment, in one table.

One segment a channel.  Everything that two processes both look at is in it; nothing but this module knows where.

    +------------------+  0
    | control          |  4,096 bytes: what the channel is, who collects it, whether it records
    +------------------+
    | cpus             |  a cache line for each cpu slot: what was refused without a lane
    +------------------+
    | lanes            |  lanes_per_cpu for each cpu slot, four cache lines a lane
    +------------------+
    | writers          |  the threads that write; number n is entry n, entry 0 stays empty
    +------------------+
    | classes          |  event classes, append only
    +------------------+
    | descriptors      |  16 bytes for each page
    +------------------+  (next multiple of 4,096)
    | pages            |  pages x page_size bytes of records (their format: wire.py)
    +------------------+

A *lane* is a chain of pages that one thread writes at a time.  Its state is a handful of 64-bit words, each changed by
one store, so that a process can be killed between any two instructions and what is left is still true:

    owner      63        38 37          16 15         0      who writes; 0: nobody
               +-----------+--------------+------------+
               | start 26  | pid 22       | writer 16  |      pid 0: of another pid or time namespace, never judged
               +-----------+--------------+------------+

    position   63        36 35          20 19         0      what is in the lane: the only thing that says so
               +-----------+--------------+------------+
               | seq 28    | page 16      | committed 20      page 0xFFFF: the lane has no page
               +-----------+--------------+------------+

    progress   63        36 35          20 19         0      how far the collector has sent
               +-----------+--------------+------------+
               | packet 28 | page 16      | sent 20    |      page 0xFFFF: nothing is left to send
               +-----------+--------------+------------+

    note       as progress: up to where the packet goes that is being written

    page owner 63        44 43          28 27         0      whose the page is; 0: waiting, anybody may take it
               +-----------+--------------+------------+
               | 0         | lane + 1  16 | seq 28     |      the page has, or will have, this sequence in that lane
               +-----------+--------------+------------+

The lane's pages are a chain: from the page in `progress`, each descriptor names the next one, up to the page in
`position`.  A lane that never had a page, or was sealed, has page 0xFFFF, and its `first` takes the part of the
descriptor. Sequences and packet numbers wrap and are compared modulo; the whole packet number is in `totals`, of which
there are two slots: the low bit of the packet number in `progress` says which one is valid.

A table is a class of offsets: `LANE.owner` is an offset in bytes, in Python and (frozen) in jitted code.  The width of
each field is its annotation; `tests/test_layout.py` asserts that the fields are aligned, in order and do not overlap.

The tables from CONTEXT on are private to a process: it is how state reaches the jitted code.  So are those of
native/tables.py, which are apart because a process that begins to trace needs none of them.
"""

from __future__ import annotations

import os

U16 = int
U32 = int
U64 = int
U128 = int
Name48 = int
Totals2 = int
Path1024 = int
Here40 = int
Desks512 = int
WIDTHS = {
    "U16": 2,
    "U32": 4,
    "U64": 8,
    "U128": 16,
    "Name48": 48,
    "Totals2": 128,
    "Path1024": 1024,
    "Here40": 40,
    "Desks512": 512,
}  # bytes

MAGIC = 0x4543_4152_544D_4853  # "SHMTRACE" in memory
VERSION = 3  # of everything in this file and of the record header

MODE_DROP, MODE_OVERWRITE, MODE_BLOCK = 0, 1, 2
MODES = {"drop": MODE_DROP, "overwrite": MODE_OVERWRITE, "block": MODE_BLOCK}
MODE_NAMES = {number: name for name, number in MODES.items()}
CLOCK_TSC, CLOCK_MONOTONIC = 0, 1
CPU_RSEQ, CPU_SYSCALL, CPU_FIXED = 0, 1, 2

LONGEST_BLOB = 0xFFFF  # bytes: a record's size has 16 bits
LINE_BYTES = 64
CONTROL_BYTES = 4096
LANE_BYTES = 4 * LINE_BYTES
WRITER_BYTES = 128
CLASS_BYTES = 20
PAGE_BYTES = 16
PAGE_ALIGNMENT = 4096
CLASSES_BYTES = 256 * 1024
TOTALS_BYTES = LINE_BYTES

MIN_PAGE_SIZE, MAX_PAGE_SIZE = 4096, 524_288
MIN_PAGES, MAX_PAGES = 2, 65_534
MAX_LANES = 65_534
MAX_WRITERS = 65_534

SEQUENCE_BITS, PAGE_BITS, COMMITTED_BITS = 28, 16, 20
SEQUENCE_MASK = (1 << SEQUENCE_BITS) - 1
PAGE_MASK = (1 << PAGE_BITS) - 1
COMMITTED_MASK = (1 << COMMITTED_BITS) - 1
PAGE_SHIFT = COMMITTED_BITS
SEQUENCE_SHIFT = COMMITTED_BITS + PAGE_BITS
NO_PAGE = PAGE_MASK
NO_PAGE_POSITION = NO_PAGE << PAGE_SHIFT  # sequence 0, no page: a lane at creation; of progress and note, too

OWNER_WRITER_BITS, OWNER_PID_BITS, OWNER_START_BITS = 16, 22, 26
OWNER_PID_SHIFT = OWNER_WRITER_BITS
OWNER_START_SHIFT = OWNER_WRITER_BITS + OWNER_PID_BITS
OWNER_PID_MASK = (1 << OWNER_PID_BITS) - 1
OWNER_START_MASK = (1 << OWNER_START_BITS) - 1
UNKNOWN_WRITER = 0xFFFF

IDENTITY_PID_BITS, IDENTITY_START_BITS = 22, 41
IDENTITY_ENDED = 1 << (IDENTITY_PID_BITS + IDENTITY_START_BITS)


class CONTROL:
    """The control block: written once at creation, but for the lines from `recording` on."""

    magic: U64 = 0
    version: U32 = 8
    mode: U32 = 12
    page_size: U32 = 16
    pages: U32 = 20
    cpus: U32 = 24  # cpu slots
    lanes_per_cpu: U32 = 28
    writers: U32 = 32  # entries of the writer table, number 0 included
    classes_bytes: U32 = 36
    flush_ms: U32 = 40
    block_ms: U32 = 44
    segment_bytes: U64 = 48
    uuid: U128 = 56
    boot_id: U128 = 72
    pid_namespace: U64 = 88  # inode numbers
    time_namespace: U64 = 96
    uid: U32 = 104
    clock_kind: U32 = 108
    clock_cycles: U64 = 112  # one reading of the three clocks together, at creation
    clock_monotonic_ns: U64 = 120
    clock_realtime_ns: U64 = 128
    session_pid: U32 = 136  # of the `run` or `record()` that the channel lives for; 0: none
    session_start: U64 = 144
    # read by every producer at every event, written when a reader comes or goes
    recording: U32 = 256
    removed: U32 = 260  # 1: the name is gone; 2: and what is left is to be drained
    # read by producers once a page
    asleep: U32 = 320  # the collector sleeps on the semaphore `full`
    # looked at by a producer for which there was no room
    impatient: U32 = 324  # mode block: one has waited in vain, and no page has come since; nobody waits now
    rescued_ns: U64 = 328  # mode overwrite: when one last looked for lanes of the dead, CLOCK_MONOTONIC
    # the collector's
    collector_pid: U32 = 384
    reader: U32 = 388  # a reader has the FIFO open
    collector_start: U64 = 392
    goodbyes: U32 = 400  # collectors that ended in order; a reader sees it change
    period: U32 = 404  # readers' periods begun
    damaged: U64 = 408  # words of the segment found to be nonsense
    unnumbered: U64 = 416  # threads that found the table of writers full, and write as the unknown one
    classes_count: U32 = 448  # stored last
    classes_used: U32 = 452  # bytes; both under the lock of the class table
    fifo: Path1024 = 1024  # path, UTF-8 as the file system has it, ended by NUL


class CPU:
    """A cpu slot: events refused while no lane was held.  Counted by atomic additions."""

    missed_no_lane: U64 = 0
    missed_bad_arguments: U64 = 8
    missed_timeout: U64 = 16


class LANE:
    """A lane.  First line: the producers', written under the owner.  The others: the collector's."""

    owner: U64 = 0
    position: U64 = 8
    last_stamp: U64 = 16
    first: U16 = 24  # the lane's own descriptor: the successor of "no page"
    cursor: U16 = 26  # where to look for a waiting page next: a hint
    missed_no_page: U64 = 32
    taken: U64 = 40  # pages ever taken; not 0: the lane was used
    progress: U64 = 64
    note: U64 = 72
    discarded_before: U64 = 80  # missed until recording was enabled for this reader
    totals: Totals2 = 128


class TOTALS:
    """One of a lane's two slots of totals; counts are of records."""

    packet: U64 = 0  # the next packet's number in full
    delivered: U64 = 8
    unread: U64 = 16  # lost: the reader left before it read them
    damaged: U64 = 24  # lost: the segment held nonsense
    discarded: U64 = 32  # told in the last packet
    stamp: U64 = 40  # the last one sent
    overwritten: U64 = 48  # mode overwrite, the producers': the slot by the low bit of the position's sequence is valid


class WRITER:
    """An entry of the writer table, claimed by one CAS of `identity` from 0, and freed by one store."""

    identity: U64 = 0  # ended 1: the thread said goodbye | start ticks 41 | pid 22
    thread_start: U64 = 8  # ticks
    tid: U32 = 16
    process: Name48 = 32  # names: UTF-8, ended by NUL
    thread: Name48 = 80


class CLASS:
    """Head of an entry of the class table; then name, kind and fields, as UTF-8, and padding to 8 bytes.

    Entries follow each other and never change, but for `enabled`.  The first has id wire.FIRST_ID, and so on.
    """

    length: U32 = 0  # of the entry, with head and padding
    level: U32 = 4  # as in `logging`
    enabled: U32 = 8
    name_bytes: U16 = 12
    kind_bytes: U16 = 14
    fields_bytes: U32 = 16


class PAGE:
    """A page descriptor."""

    owner: U64 = 0  # mode overwrite: what the page was when it was last left; 0: never used
    next: U16 = 8  # valid, like length, only when the lane's position names a later page
    length: U32 = 12


class CONTEXT:
    """What one process' code must know of one channel: addresses in this process, and the geometry.

    Constant once made, but for `bare`, and kept as the payload of a `bytes` that lives as long as the process: the code
    finds it through the first slot of the object whose method is called.
    """

    recording: U64 = 0  # address of the switch; of a word that stays 0 when the channel is disabled or closed
    control: U64 = 8
    cpus: U64 = 16
    lanes: U64 = 24
    writers: U64 = 32
    descriptors: U64 = 40
    pages: U64 = 48
    waiting: U64 = 56  # sem_t *
    full: U64 = 64  # sem_t *
    blocks: U64 = 72  # of threads: private memory that is zero after a fork
    key: U64 = 80  # pthread key, whose value is the thread's block; one for all channels of the process
    cpu_word: U64 = 88  # address of the cpu id, or its offset from the thread pointer (CPU_RSEQ)
    cpu_kind: U64 = 96
    clock_kind: U64 = 104
    clock_limit: U64 = 112  # cycles that a last stamp may be ahead of now before it counts as damage
    cpu_slots: U64 = 120
    lanes_per_cpu: U64 = 128
    lanes_count: U64 = 136
    writers_count: U64 = 144
    page_size: U64 = 152
    pages_count: U64 = 160
    limit: U64 = 168  # bytes of the longest blob
    foreign: U64 = 176  # not 0: of another pid or time namespace, cannot be judged
    naming: U64 = 184  # PyObject *: called with a new writer's number, where there is an interpreter to call
    pending: U64 = 192  # PyObject *: called with the channel at the first event, to attach it; 0: it is attached
    slot: U64 = 200  # where this channel's SLOT lies in a thread's block
    mode: U64 = 208
    block_ns: U64 = 216  # mode block: so long does an event wait for a page
    slice_ns: U64 = 224  # and so long at most without looking whether there is any sense in it
    rescue: U64 = 232  # PyObject *: called with a cpu none of whose lanes was free, in the mode overwrite
    block_at: U64 = 240  # offset from the thread pointer of the word where libc keeps the key's value; 0: not known
    mapped: U64 = 248  # address of a byte for each page, private, zero after a fork: 1: the kernel has mapped it here
    reader: U64 = 256  # `slot` << 32: with CONTROL.period, the reader of this channel, as who was told something
    plain: U64 = 264  # as `block_at`, where the clock is the counter and the thread's memory tells the cpu; else 0
    desk: U64 = 272  # where this channel's DESK lies in a thread's block
    bare: U64 = 280  # bytes of the longest blob that is written as it is; -1, later, once the user has set a context


class BLOCK:
    """A thread's own: in private memory that the kernel wipes on fork, so that the child is another writer.

    Behind this head come the SLOTs of the channels that the process has attached.
    """

    tid: U64 = 0  # the thread whose it is; 0: free
    end: U64 = 8  # of the slots that were ever used
    here: Here40 = 16
    desks: Desks512 = 64  # a channel has one of them, which it may share with others


class SLOT:
    """What a thread has of one channel."""

    owner: U64 = 0  # what the thread stores into a lane's owner; 0: not registered
    entry: U64 = 8  # address of its WRITER, 0: none


SLOT_BYTES = 16
DESKS, DESK_STRIDE = 8, 64
BLOCK_HEAD_BYTES = BLOCK.desks + DESKS * DESK_STRIDE
BLOCK_BYTES = 65_536  # 4,060 channels in the life of a process; what is not touched is not there
BLOCKS = 2048  # threads of a process at a time
CONTEXT_BYTES = 288
RING_PAGES = 2  # mode overwrite: of a lane that is not its cpu's first, which has the rest of the cpu's share
NO_RECORDS = 1  # in a note, with NO_PAGE: the packet of this number carries none


def width_of(table: type, field: str) -> int:
    """Width of a field in bytes."""
    return WIDTHS[table.__annotations__[field]]


def fields_of(table: type) -> dict[str, int]:
    """Names and offsets of a table's fields, in order."""
    return {field: getattr(table, field) for field in table.__annotations__}


class Geometry:
    """Sizes of a channel, and the offsets that follow from them.  Offsets and sizes in bytes."""

    __slots__ = ("classes_bytes", "cpus", "lanes_per_cpu", "page_size", "pages", "writers")

    def __init__(
        self, *, page_size: int, pages: int, cpus: int, lanes_per_cpu: int, writers: int, classes_bytes: int
    ) -> None:
        self.page_size = page_size
        self.pages = pages
        self.cpus = cpus
        self.lanes_per_cpu = lanes_per_cpu
        self.writers = writers
        self.classes_bytes = classes_bytes

    @property
    def lanes(self) -> int:
        return self.cpus * self.lanes_per_cpu

    @property
    def cpus_at(self) -> int:
        return CONTROL_BYTES

    @property
    def lanes_at(self) -> int:
        return self.cpus_at + self.cpus * LINE_BYTES

    @property
    def writers_at(self) -> int:
        return self.lanes_at + self.lanes * LANE_BYTES

    @property
    def classes_at(self) -> int:
        return self.writers_at + self.writers * WRITER_BYTES

    @property
    def descriptors_at(self) -> int:
        return self.classes_at + self.classes_bytes

    @property
    def pages_at(self) -> int:
        end = self.descriptors_at + self.pages * PAGE_BYTES
        return -(-end // PAGE_ALIGNMENT) * PAGE_ALIGNMENT

    @property
    def segment_bytes(self) -> int:
        return self.pages_at + self.pages * self.page_size

    @property
    def limit(self) -> int:
        """Bytes of the longest blob: the record's size is 16 bits wide, and a record lies in one page."""
        return min(LONGEST_BLOB, self.page_size - 16)

    def ring(self, lane: int) -> range:
        """The pages of a lane in the mode overwrite, where there is no pool: each cpu slot has an equal share."""
        share = self.pages // self.cpus
        cpu, number = divmod(lane, self.lanes_per_cpu)
        first = share - RING_PAGES * (self.lanes_per_cpu - 1)
        if number == 0:
            return range(cpu * share, cpu * share + first)
        begin = cpu * share + first + RING_PAGES * (number - 1)
        return range(begin, begin + RING_PAGES)

    @property
    def least_pages_in_rings(self) -> int:
        """Pages that a channel in the mode overwrite has at least."""
        return RING_PAGES * self.lanes

    def check(self) -> str | None:
        """What is wrong with these sizes, in words, or None."""
        if self.page_size % PAGE_ALIGNMENT or not MIN_PAGE_SIZE <= self.page_size <= MAX_PAGE_SIZE:
            return (
                f"page size {self.page_size}: must be a multiple of {PAGE_ALIGNMENT} "
                f"from {MIN_PAGE_SIZE} to {MAX_PAGE_SIZE} bytes"
            )
        if not MIN_PAGES <= self.pages <= MAX_PAGES:
            return f"{self.pages} pages: must be {MIN_PAGES} to {MAX_PAGES}"
        if self.cpus < 1 or self.lanes_per_cpu < 2 or self.lanes > MAX_LANES:
            return f"{self.cpus} cpus with {self.lanes_per_cpu} lanes each: at most {MAX_LANES} lanes, at least 2 a cpu"
        if not 2 <= self.writers <= MAX_WRITERS + 1:
            return f"{self.writers} writers: must be 2 to {MAX_WRITERS + 1}"
        if self.classes_bytes % LINE_BYTES or not 0 <= self.classes_bytes <= 1 << 26:
            return f"class table of {self.classes_bytes} bytes: must be a multiple of {LINE_BYTES} up to {1 << 26}"
        return None

    def check_mode(self, mode: int) -> str | None:
        """What is wrong with these sizes in a mode, in words, or None."""
        if mode not in MODE_NAMES:
            return f"mode {mode}: there is none"
        if mode == MODE_OVERWRITE and self.pages < self.least_pages_in_rings:
            return (
                f"{self.pages} pages: the mode overwrite needs at least {self.least_pages_in_rings} on this machine, "
                f"as each of {self.lanes} lanes has a ring of its own"
            )
        return None


def possible_cpus() -> int:
    """Cpu slots of a new channel: the cpus that this machine may ever have, or $SHMTRACE_CPUS (for tests)."""
    override = os.environ.get("SHMTRACE_CPUS")
    if override:
        return int(override)
    try:
        with open("/sys/devices/system/cpu/possible") as file:
            return int(file.read().strip().replace(",", "-").split("-")[-1]) + 1
    except (OSError, ValueError):
        return os.cpu_count() or 1
