"""Memory of one process that its jitted code and its Python code share, in tables as those of layout.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..layout import U32, U64, U128


class COLLECTOR:
    """What the collector's code must know beside the CONTEXT: its own memory, and what it has told this reader."""

    context: U64 = 0  # address of the CONTEXT
    me: U64 = 8  # what the collector stores into a lane's owner
    sends: U64 = 16  # address of SENDS_MAX entries of SEND
    iovecs: U64 = 24  # address of 2 * SENDS_MAX struct iovec
    headers: U64 = 32  # address of room for packet headers with the collector's own records
    headers_bytes: U64 = 40
    announced: U64 = 48  # a bit for each (lane, writer)
    announced_stride: U64 = 56  # bytes a lane
    # a byte for each lane: this reader has had a packet of it (BEGUN), perhaps of a predecessor (RESUMED), and then
    # also one of ours (REPEATED)
    begun: U64 = 64
    settled: U64 = 72  # a byte for each lane: taken once since recording went off
    owners: U64 = 80  # a word for each lane: its owner at the last look
    ring: U64 = 88  # address of RING_MAX entries of RING: what was written last
    ring_next: U64 = 96  # entries ever made
    # the batch that is being written
    sends_count: U64 = 104
    sends_done: U64 = 112
    send_left: U64 = 120  # bytes of send `sends_done` that are not written yet
    iovec_next: U64 = 128
    iovec_count: U64 = 136
    headers_used: U64 = 144
    # passes over the lanes
    first_lane: U64 = 152  # where the next pass over full pages begins, so that no lane starves
    flush_lane: U64 = 160  # where the pass over partly filled pages goes on; the number of lanes: none is under way
    known_ids: U64 = 168  # class ids below this are in the metadata that the reader has
    classes_seen: U64 = 176  # CONTROL.classes_count when these metadata were made
    classes_due: U64 = 184  # a record waits for metadata with its class in it
    clock_due: U64 = 192  # the next packet carries a clock record
    # writers that are gone
    doomed: U64 = 200  # a byte for each writer: its number is to be freed
    marks: U64 = 208  # a word for each lane: its position when they were doomed
    # counts, of this collector
    wrote_bytes: U64 = 216
    wrote_packets: U64 = 224
    overwritten: U64 = 232  # snapshot: records of the lane that were overwritten and that the next packet is to tell
    # what was in the control block when this collector began: what it says later is not believed
    uuid: U128 = 240
    clock_cycles: U64 = 256
    census: U64 = 264  # address of a number and an identity for each writer


class SEND:
    """A packet of a batch: what it says, and what is to be done when it has been written."""

    lane: U64 = 0  # number
    progress: U64 = 8  # the lane's progress once this is sent
    packet: U64 = 16  # its number in full
    bytes: U64 = 24  # on the wire; 0: nothing was left in the page, only progress is made
    events: U64 = 32
    damaged: U64 = 40  # stretches of nonsense passed over
    discarded: U64 = 48  # told
    recycle: U64 = 56  # page + 1 that goes back to the pool; 0: none
    stamp: U64 = 64  # the last one sent


class RING:
    """A packet that was written: to know what a departing reader left unread."""

    bytes: U64 = 0
    lane: U64 = 8  # number + 1; 0: metadata
    events: U64 = 16


class PACKING:
    """A packet that is to be made of a page: what is asked for, and what was found."""

    begin: U64 = 0  # of the records, bytes from the page's beginning
    up_to: U64 = 8
    packet: U64 = 16  # its number in full
    discarded: U64 = 24  # to be told
    stamp: U64 = 32  # no record may be older
    end: U64 = 40  # of the records that are good
    content: U64 = 48  # the same, without the last one's padding
    first: U64 = 56  # stamps of the first and the last record; first 0: there was none
    last: U64 = 64
    events: U64 = 72
    extra: U64 = 80  # address behind the packet's header and the collector's own records
    why: U64 = 88  # it ended where it did


class EVENT:
    """What the code of a tracepoint, a counter, or one end of a span must know: its cell, private to a process.

    A cell is bound to one channel in its life: made without one, attached, closed.  `context` is stored last when it is
    bound, and first when it is closed.  Then one FIELD for each field, and the fields' names (PyObject *), in order.
    """

    context: U64 = 0  # address of a CONTEXT; of one that is off
    enabled: U64 = 8  # address of the class' switch; of a word that is 0
    id: U64 = 16
    strict: U64 = 24  # not 0: arguments are looked at also when nothing is recorded
    fields_count: U64 = 32
    owner: U64 = 40  # PyObject *: the channel, which may still be to be attached
    refuse: U64 = 48  # PyObject *: called with the arguments of a call that the code does not understand
    variable: U64 = 56  # PyObject *: the ContextVar with the PLACE
    threads: U64 = 64  # address of THREADS
    open: U64 = 72  # a span's begin: spans that have begun and not ended, about
    other: U64 = 80  # a span's begin: address of the cell of its end; of a hook: of FUNCTIONS
    uses: U64 = 88  # these are of a span's begin: address of USES
    slow: U64 = 96  # PyObject *: called with the arguments of a `span(...)` that the code does not understand
    decorate: U64 = 104  # PyObject *: called with a USE and a function
    tell: U64 = 112  # PyObject *: called with nothing where the reader is to be told the user's context
    long: U64 = 120  # PyObject *: called with a USE whose fields are too long for the channel as it is now
    plain: U64 = 128  # of a hook: not 0: the last call was recorded in the plain way


class USE:
    """What `span(3)` gives, behind the head of a PyVarObject; then the fields, encoded: so many bytes as its size is.

    A use of a decorator is open in many tasks at a time.  A span that was alone while it was open is ended by its
    number, as a generator may go on in another task; among several, the innermost of the task is.
    """

    call: U64 = 0  # address of native/uses.use_call, where the interpreter looks for it
    span: U64 = 8  # PyObject *
    depth: U64 = 16  # spans that have begun and not ended
    number: U64 = 24  # of the one that is open; 0: there are several, USE_NOTHING: it is not recorded


class USES:
    """Of an interpreter: how to make a USE.

    Those that are gone are kept for the next ones, as long as they are few and their fields are few: to ask for memory
    takes longer than all the rest of a span that is off.  Each keeps its reference to its type.
    """

    type: U64 = 0  # PyTypeObject *
    call: U64 = 8  # address of native/uses.use_call
    free: U64 = 16  # the one that went last, whose word `span` has the one before it; 0: there is none
    count: U64 = 24


class FUNCTIONS:
    """What the hooks of function tracing must know beside their cells; see instrument/functions.py."""

    extra: U64 = 0  # index of the words that are ours in code objects: a function's number, 0: it has none yet
    told: U64 = 8  # address of a word for each number: whose reader knows it, as PLACE.told has it; FUNCTION_UNWANTED
    disable: U64 = 16  # PyObject *: sys.monitoring.DISABLE
    returned: U64 = 24  # addresses of cells, for the hook that gets all kinds of events
    unwound: U64 = 32


class KERNELS:
    """What code that numba compiled for users finds behind a symbol, in every process: functions of native/kernel.py.

    `resolve` is the first word for ever, whatever else changes: a kernel of another version asks it, and gets nothing.
    """

    resolve: U64 = 0  # 0: no object code of ours has been placed, so nothing can be recorded
    begin: U64 = 8
    attach: U64 = 16
    refuse: U64 = 24
    text_size: U64 = 32
    put_text: U64 = 40
    attach_pending: U64 = 48
    attach_asked: U64 = 56  # the channel for which the main thread was asked last
    known: U64 = 64  # address of the newest KNOWN
    count: U64 = 72  # of KNOWN


class KNOWN:
    """Something that kernels may look for: by its own text in this process, by one of the others elsewhere."""

    next: U64 = 0
    text: U64 = 8  # these are C strings; the first one begins with a mark, KERNEL_MARK_BYTES long
    named: U64 = 16
    ambient: U64 = 24  # 0: it is not ambient
    cell: U64 = 32  # address of an EVENT; of a Channel
    is_channel: U64 = 40
    used: U64 = 48  # not 0: a kernel has found it


class FIELD:
    """How a value is written; see encoding.py."""

    code: U32 = 0


class THREADS:
    """Of a process: what all its threads' PLACEs have in common; see place.py."""

    changes: U64 = 0  # of a PLACE's ContextVar by Python code
    forks: U64 = 8  # by which this process came from the one that imported us
    hashed: U64 = 16  # where the ContextVar hangs: objects.tree_hash
    spans: U64 = 64  # numbers given out, by atomic addition
    tasks: U64 = 72


class DESK:
    """Where a thread wrote last into a channel, in its block: no need to work it out again while it stays on the cpu.

    The position of that cpu's first lane is then compared with `begin`: if it lies in the same page, it was checked.
    """

    key: U64 = 0  # CONTEXT.reader + number of the cpu + 1; 0: nowhere
    owner: U64 = 8  # what the thread stores into a lane's owner
    lane: U64 = 16  # address of the cpu's first lane
    words: U64 = 24  # cpu and writer, as they stand in a record's header
    begin: U64 = 32  # position of the page's first byte, in that lane
    page: U64 = 40  # address of the page


class HERE:
    """The PLACE that a thread found last, in its block: true as long as nothing of this has changed."""

    place: U64 = 0  # address of the PLACE; 0: there was none
    state: U64 = 8  # address of the thread's state
    version: U64 = 16
    changes: U64 = 24
    identity: U64 = 32  # of the state, whose address may have been another one's


class PLACE:
    """Where a task is: the payload of a `bytes`, in the ContextVar's value; changed in place by its task only.

    Behind it the spans that are open around the current one, outermost first, 8 bytes each.
    """

    current: U64 = 0  # number of the current span 32 | id of its class 32; 0: none
    context: U32 = 8  # number of the user's context
    task: U32 = 12
    whose: U64 = 16  # address of a weak reference to the Context that it belongs to, in the ContextVar's value; 0: none
    next: U32 = 24  # numbers of spans that this task may use: from here on
    end: U32 = 28  # and below this
    depth: U64 = 32  # spans behind this head
    told: U64 = 40  # to whom the user's context was told, and of which process: period 32 | CONTEXT.slot 16 | forks 16
    value: U64 = 48  # address of the ContextVar's value, if it was found at the root of the Context's variables, else 0
    size: U32 = 56  # of that root
    at: U32 = 60  # offset in it of the value
    page: U64 = 64  # in which the user's context was told (calls.py, `page_here`): a flight recorder forgets pages


class RESERVATION:
    """A lane that is held for a block of code."""

    lane: U64 = 0  # address; 0: none is held
    position: U64 = 8
    cpu: U64 = 16
    bytes: U64 = 24  # address of the body


class COPY:
    """A page that a snapshot has copied."""

    at: U64 = 0  # address of the copy
    tag: U64 = 8  # owner word that says which page of the lane it is
    page: U64 = 16
    begin: U64 = 24  # of what was not sent yet
    length: U64 = 32


COLLECTOR_BYTES = 272
SEND_BYTES = 72
RING_BYTES = 24
PACKING_BYTES = 96
COPY_BYTES = 40
RESERVATION_BYTES = 32
EVENT_BYTES = 136
USE_BYTES = 32
USE_ROOM = 80  # bytes of fields that there is room for in each USE
USES_BYTES = 32
USES_MOST = 64  # that are kept
USE_NOTHING = 1 << 32
KERNELS_BYTES, KNOWN_BYTES = 80, 56
FUNCTIONS_BYTES = 40
FUNCTIONS_MAX = 1 << 20  # numbers of functions in a process
FUNCTION_UNWANTED = (1 << 64) - 1  # nothing is recorded of it
KERNEL_MARK_BYTES = 48  # hexadecimal: 32 of the process, 16 of the object
FIELD_BYTES = 8
THREADS_BYTES = 128
HERE_BYTES = 40
DESK_BYTES = 48
PLACE_BYTES = 72
PLACE_SPANS = 30  # that a new one has room for
SPANS_AT_ONCE = 256  # numbers that a task takes from the process'
FIELDS_MAX = 64  # that the code handles
IOVEC_BYTES = 16
SENDS_MAX = 256
BEGUN, RESUMED, REPEATED = 1, 2, 3
# What `reserve` answers beside "nothing is recorded": at the end of the block, because the lane would have been the
# cpu's last free one; or a RESERVATION.
RESERVE_LATER, RESERVED = 1, 2
# What `copy_lane` answers beside a number of pages: others were faster; or the lane's words are nonsense.
COPY_AGAIN, COPY_DAMAGED = -1, -2
# What the collector's jitted half answers: all is sent; the FIFO is full; metadata is due; there is more; or -errno.
PUMP_IDLE, PUMP_FULL, PUMP_CLASSES, PUMP_MORE = range(4)
RING_MAX = 16_384  # packets in a pipe of 1 MiB: the shortest has 80 bytes
