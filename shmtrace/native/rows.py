"""What the fast reader's jitted half (walking.py) and its Python half (reader/walking.py) share.  Without numba.

Each table is a row of 64-bit words: numbers, and addresses of arrays.  A *row* is what a record becomes.
"""

from __future__ import annotations


class ROWS:
    """Rows, a column an array, and the bodies behind each other in `data`."""

    count: int = 0
    used: int = 8  # bytes of data
    at: int = 16  # of a lane: its next row to be merged
    done: int = 24  # of a lane: nothing more comes
    top: int = 32  # the greatest key of the lane so far
    lane: int = 40
    limit: int = 48  # of what rows are merged into: so many rows,
    room: int = 56  # and so many bytes of data
    cycles: int = 64  # u64
    time: int = 72  # i64, ns since 1970; of rows that are in the order of time, as
    monotonic: int = 80  # i64, ns
    keys: int = 88  # i64, by which lanes are merged: see BIAS
    classes: int = 96  # i32
    threads: int = 104  # i32, -1 unknown
    starts: int = 112  # i32, where in data the body begins
    sizes: int = 120  # i32
    cpus: int = 128  # u16
    lanes: int = 136  # u16
    data: int = 144
    spans: int = 152  # i64; these four, too
    parents: int = 160  # i64
    tasks: int = 168  # i64
    contexts: int = 176  # i32, -1 none
    stopped: int = 184  # where in the bytes a walk did,
    scope: int = 192  # number of the file << 32 | lane << 16: what the key of a writer begins with
    packet: int = 200  # where the packet begins in which a walk stopped,
    ended: int = 208  # and where its last record ends


class HASHED:
    """A hash table of 64-bit keys that are not negative: `mask` + 1 places, a key of -1 is none."""

    mask: int = 0
    keys: int = 8  # i64
    values: int = 16  # i32


class EXPECTED:
    """What the next packet of a lane is compared to."""

    magic: int = 0  # the first three words of a packet: u32 magic, 16 bytes of uuid, u32 stream id
    uuid: int = 8
    stream: int = 16
    lane: int = 24
    number: int = 32  # of the packet that came last
    discarded: int = 40


class TABLES:
    """What a walk needs to know of the description and of the writers."""

    sizes: int = 0  # i32 by id: bytes of the body, or one of the below
    classes: int = 8  # i32 by id
    programs: int = 16  # i32 by id: where in `operations` those of a class begin
    operations: int = 24  # i32
    writers: int = 32  # address of HASHED: ROWS.scope | number, to thread


class LINE:
    """A piece of the clock: a straight line."""

    low: int = 0  # the first and the last cycles that it is good for, as keys
    high: int = 8
    cycles: int = 16  # a point on it
    monotonic: int = 24
    offset: int = 32  # of the wall clock
    rise: int = 40  # over a run
    run: int = 48
    drift: int = 56  # of the offset, over a run


class SPANS:
    """The spans that are open, and what else is known by the order of time."""

    count: int = 0  # of entries that were ever used
    limit: int = 8
    free: int = 16  # first of the entries that are free again, -1 none
    oldest: int = 24
    newest: int = 32
    nameless: int = 40  # the next number of a span without one
    entries: int = 48
    buckets: int = 56  # i32
    buckets_mask: int = 64
    tails: int = 72  # i32 by thread's identity: its innermost span
    processes: int = 80  # i32 by thread
    identities: int = 88  # i32 by thread: threads of one identity differ in names only
    own: int = 96  # u8 by class: how many numbers of the kind stand ahead of the fields
    kinds: int = 104  # u8 by class
    contexts: int = 112  # address of HASHED: process << 32 | number
    at: int = 120  # the row that is looked at
    number: int = 128  # of the context or function that it defines or names
    named: int = 136  # i64 by context: when it was named last
    before: int = 144  # rows that came before these
    functions: int = 152  # address of HASHED: process << 32 | number, to an index of the next two
    called: int = 160  # i64: when the function was called last
    begins: int = 168  # i32: class of its begin; the next one is of its end
    steps: int = 176  # so many rows were calls or their ends


class OPEN:
    """An open span."""

    process: int = 0
    number: int = 8
    identity: int = 16
    context: int = 24  # its number; of a call: the function's
    next: int = 32  # in its bucket, or of the free ones
    before: int = 40  # of the same thread
    behind: int = 48
    older: int = 56
    newer: int = 64


OPEN_BYTES = 72
BIAS = -(1 << 63)  # cycles are unsigned: cycles ^ BIAS is in order as a signed number
# in TABLES.sizes, in the place of a size
ANY, VARIABLE, SKIPPED, SPECIAL, UNKNOWN, MAP = -1, -2, -3, -4, -5, -6
# of a class' program: n > 0 is n bytes, -3 - n is an array of elements of n bytes
END, TEXT, COUNTED = 0, -2, -3
# why a walk stopped
WALKED, DAMAGED, HERE_SPECIAL, HERE_BAD = range(4)
# in SPANS.kinds
KIND_EVENT, KIND_BEGIN, KIND_END, KIND_COUNTER, KIND_LOG, KIND_LOSS, KIND_CONTEXT = range(7)
KIND_FUNCTION, KIND_CALL, KIND_RETURN, KIND_UNWIND = range(7, 11)  # nothing is above these
NOBODY = 0  # the process of writers that are not known
MOST_PASSED = 1 << 10  # calls without an end that are looked through for the one that ends
WIDE = 16  # bytes that are copied at a time; what they are copied to has so much room behind it
LOG_HEAD_BYTES = 9  # ahead of a log's map: span u32, context u32, level u8
LEVEL_STEPS = (50, 40, 30, 20)  # a level is 0 from the first on, 1 from the second on, ... as wire.LEVELS has them
FULL, ALL_DONE = -2, -1  # why merging stopped; else: the lane that has nothing more


class SHOWN:
    """Rows whose fields become JSON."""

    at: int = 0  # the next row
    count: int = 8
    classes: int = 16  # i32
    starts: int = 24  # i32
    sizes: int = 32  # i32
    contexts: int = 40  # i32
    data: int = 48
    programs: int = 56  # i64 by class: the address of an array of MEMBER, 0 none
    out: int = 64
    used: int = 72
    room: int = 80
    offsets: int = 88  # i32: where each text begins, and where the last ends
    ends: int = 96  # address of HASHED: class << 33 | with exception << 32 | context, to a number of an end
    end_places: int = 104  # i64, two an end: address and size of what ends an object with these
    powers: int = 112  # i64, two a power of 10 from LEAST_POWER on
    wanted: int = 120  # the key of an end that is not known


class MEMBER:
    """A field of a class, as JSON shows it.  The first one is of the class: `size` bytes ahead of the fields."""

    kind: int = 0
    key: int = 8  # address of `"name": `
    key_bytes: int = 16
    size: int = 24  # of an element; of the class: the numbers of its kind
    count: int = 32  # of an array: elements, -1 any number.  Of an enumeration: labels.  Of the class: bytes at most
    labels: int = 40  # of an enumeration: i64, three a label: number, address and size of its text
    other_key: int = 48  # of bytes: of `"name_base64": `
    other_key_bytes: int = 56


MEMBER_BYTES = 64
# in MEMBER.kind
M_END, M_SIGNED, M_UNSIGNED, M_FLOAT, M_BOOL, M_TEXT, M_TEXT_OR_NONE, M_BYTES, M_REST, M_LOG, M_CLASS = range(11)
M_ARRAY = 16  # added to that of its elements
NUMBER_BYTES = 26  # at most, with what separates it
# why showing stopped
ALL_SHOWN, NO_ROOM, NOT_USUAL, END_WANTED = range(4)
LEAST_POWER, GREATEST_POWER = -324, 292
