"""What the fast reader's jitted half (walking.py) and its Python half (reader/walking.py) share.  Without numba.

Each table is a row of 64-bit words: numbers, and addresses of arrays.  A *row* is what a record becomes.
"""

from __future__ import annotations


class ROWS:
    """Rows in the order of time, a column an array, and the bodies behind each other in `data`."""

    count: int = 0
    used: int = 8  # bytes of data
    limit: int = 16  # no walk makes more rows than that,
    room: int = 24  # or more bytes of data
    cycles: int = 32  # u64
    time: int = 40  # i64, ns since 1970
    monotonic: int = 48  # i64, ns
    classes: int = 56  # i32
    threads: int = 64  # i32, -1 unknown
    starts: int = 72  # i32, where in data the body begins
    sizes: int = 80  # i32
    cpus: int = 88  # u16
    lanes: int = 96  # u16
    data: int = 104
    spans: int = 112  # i64; these four are known when rows are finished
    parents: int = 120  # i64
    tasks: int = 128  # i64
    contexts: int = 136  # i32, -1 none


class CURSOR:
    """How far the packets of a lane have been walked, which lie behind each other."""

    base: int = 0  # address of the first one; the next four are counted from there
    at: int = 8  # the next record, or the next packet if `end` is not ahead
    end: int = 16  # where the records of the packet end
    stop: int = 24  # where the packets end
    packet: int = 32  # where the packet begins
    lane: int = 40
    scope: int = 48  # number of the file << 32 | lane << 16: what the key of a writer begins with
    top: int = 56  # the greatest key so far, see BIAS
    key: int = 64  # of the next row, by which lanes are merged: no less than `top`
    why: int = 72  # it stopped
    ahead: int = 80  # 1: something is to be told ahead of the packets, as of a row with the cycles
    begin: int = 88
    done: int = 96  # 1: nothing more comes
    writer: int = 104  # of the row before, -1 none,
    thread: int = 112  # and who that is,
    changes: int = 120  # as long as the writers have HASHED.changes


class HASHED:
    """A hash table of 64-bit keys that are not negative: `mask` + 1 places, a key of -1 is none."""

    mask: int = 0
    keys: int = 8  # i64
    values: int = 16  # i32
    changes: int = 24  # how often something else has been put into it


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
    operations: int = 16  # i32
    writers: int = 24  # address of HASHED: CURSOR.scope | number, to thread


class LANES:
    """Lanes that are merged."""

    count: int = 0
    cursors: int = 8  # i64, addresses of CURSOR
    heap: int = 16  # i64, numbers of the lanes that have more, in a heap by their keys
    size: int = 24  # of the heap, -1: there is none yet


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
    names: int = 184  # i32 by class: the same for the begin and the end of a span
    latest: int = 192  # u32 by thread's identity: the context that its last record named


class OPEN:
    """An open span."""

    process: int = 0
    number: int = 8
    identity: int = 16
    name: int = 24  # as SPANS.names has it; of a call: the function's number
    next: int = 32  # in its bucket, or of the free ones
    before: int = 40  # of the same thread
    behind: int = 48
    older: int = 56
    newer: int = 64


OPEN_BYTES = 72
BIAS = -(1 << 63)  # cycles are unsigned: cycles ^ BIAS is in order as a signed number
# in TABLES.sizes, in the place of a size
ANY, SKIPPED, SPECIAL, UNKNOWN, MAP, AT_ONCE = range(-1, -7, -1)  # AT_ONCE is special, at whatever time
PROGRAMS = -16  # PROGRAMS - n: the program that begins at operation n
# of a class' program: n > 0 is n bytes, -3 - n is an array of elements of n bytes
END, TEXT, COUNTED = 0, -2, -3
# why a walk stopped: nothing is left; the packet is damaged; it is at a record that jitted code makes no row of; or at
# one that makes no sense; something is to be told first; the rows are full; another lane is to go first
WALKED, DAMAGED, HERE_SPECIAL, HERE_BAD, HERE_AHEAD, HERE_FULL, LATER = range(7)
FIRST_KEY, LAST_KEY = BIAS, ~BIAS
# in SPANS.kinds
KIND_EVENT, KIND_BEGIN, KIND_END, KIND_COUNTER, KIND_LOG, KIND_LOSS, KIND_CONTEXT = range(7)
KIND_FUNCTION, KIND_CALL, KIND_RETURN, KIND_UNWIND = range(7, 11)  # nothing is above these
NOBODY = 0  # the process of writers that are not known
FIRST_NAMELESS = 1 << 32  # spans without a number of their own get one from here on, above all that are in a record
MOST_PASSED = 1 << 10  # calls or spans without an end that are looked through for the one that ends
WIDE = 32  # bytes that are copied at a time; what they are copied to has so much room behind it
LOG_HEAD_BYTES = 9  # ahead of a log's map: span u32, context u32, level u8
LEVEL_STEPS = (50, 40, 30, 20)  # a level is 0 from the first on, 1 from the second on, ... as wire.LEVELS has them
FULL, ALL_DONE = -2, -1  # why merging stopped; else: the lane whose walk did


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
