"""The stream, in one table: CTF 1.8 as it stands, so that babeltrace2 and Trace Compass read it.

What leaves the FIFO is a sequence of packets of two kinds, each with its length in its header:

    +----------+--------------------------------------------+
    | METADATA | text: the CTF description of all the rest   |   first of all, and again when a class was defined
    +----------+--------------------------------------------+
    | PACKET   | RECORD body | RECORD body | ...             |   from one lane, oldest first
    +----------+--------------------------------------------+

A record in a page of the shared segment and a record in the stream are the same bytes, so the collector copies none:

    0               8     10    12     14     16
    +---------------+-----+-----+------+------+--------------------+---------+
    | cycles u64    | id  | cpu | writer| size | body: size bytes   | padding |   the next one begins at a multiple of 8
    +---------------+-----+-----+------+------+--------------------+---------+
      event header        event context

`content_size` of a packet ends with the last byte of the last body; `packet_size` is that, rounded up to 8 bytes.
A CTF data stream is a lane.  Time never runs backwards in one; `packet_seq_num` counts its packets without a gap;
`events_discarded` counts what was refused since recording began for this reader.

Ids up to 15 are reserved (ID_BLOB to ID_PLACED).  The collector makes the records of ids 1, 2 and 4, ahead of the
producers' own in the same packet, stamped like the first of these.  A writer record says who stands behind a number in
this lane from here on.

All integers are little-endian.  `metadata()` generates the description from these tables.
"""

from __future__ import annotations

from .layout import CLOCK_MONOTONIC, CLOCK_TSC, fields_of

METADATA_MAGIC = 0x75D1_1D57
PACKET_MAGIC = 0xC1FC_1FC1
STREAM_ID = 0

U8 = int
U16 = int
U32 = int
U64 = int
Uuid = int  # 16 bytes
Stamp = int  # cycles of the channel's clock
_TSDL = {
    "U8": "uint8_t", "U16": "uint16_t", "U32": "uint32_t", "U64": "uint64_t", "Uuid": "uint8_t", "Stamp": "stamp_t",
}  # fmt: skip
WIDTHS = {"U8": 1, "U16": 2, "U32": 4, "U64": 8, "Uuid": 16, "Stamp": 8}


class METADATA:
    """Header of a packet of metadata; the text follows."""

    magic: U32 = 0
    uuid: Uuid = 4
    checksum: U32 = 20
    content_size: U32 = 24  # bits
    packet_size: U32 = 28  # bits
    compression: U8 = 32
    encryption: U8 = 33
    checksum_scheme: U8 = 34
    major: U8 = 35
    minor: U8 = 36


class PACKET:
    """Header of a packet of records: `packet.header` up to PACKET_CONTEXT_AT, then `packet.context`."""

    magic: U32 = 0
    uuid: Uuid = 4
    stream_id: U32 = 20
    timestamp_begin: Stamp = 24
    timestamp_end: Stamp = 32
    content_size: U64 = 40  # bits
    packet_size: U64 = 48  # bits
    packet_seq_num: U64 = 56
    events_discarded: U64 = 64
    cpu_id: U32 = 72
    lane: U32 = 76


class RECORD:
    """Header of a record: `event.header` up to RECORD_CONTEXT_AT, then `event.context`."""

    cycles: Stamp = 0
    id: U16 = 8
    cpu: U16 = 10
    writer: U16 = 12
    size: U16 = 14


METADATA_BYTES = 37
PACKET_BYTES = 80
PACKET_CONTEXT_AT = PACKET.timestamp_begin
RECORD_BYTES = 16
RECORD_CONTEXT_AT = RECORD.cpu
RECORD_ALIGNMENT = 8
LIMIT_BYTES = 64 << 20  # of a packet or a description: far above a page with a writer record for each of its records
LIMIT_NUMBERS = 1 << 16  # of lanes and cpus

ID_BLOB, ID_WRITER, ID_LOSS, ID_PADDING, ID_CLOCK, ID_LOG, ID_PLACED = range(7)
FIRST_ID = 16  # of the classes that users define
RESERVED_NAMES = {"blob", "writer", "loss", "padding", "clock", "log"}


class WRITER_BODY:
    """Body of a writer record; then the names of process and thread, each ended by NUL."""

    start: U64 = 0  # of the process, clock ticks since boot
    thread_start: U64 = 8
    pid: U32 = 16
    tid: U32 = 20
    number: U16 = 24


class LOSS_BODY:
    """Body of a loss record: records that are not there any more, and when they were written."""

    begin: U64 = 0  # cycles; 0: not known
    end: U64 = 8
    count: U64 = 16  # 0: not known
    reason: U8 = 24


class CLOCK_BODY:
    """Body of a clock record: the three clocks, read together."""

    cycles: U64 = 0
    monotonic: U64 = 8
    realtime: U64 = 16


WRITER_BODY_BYTES = 26
LOSS_BODY_BYTES = 25
CLOCK_BODY_BYTES = 24
LOSS_REASONS = {0: "unread", 1: "damaged", 2: "overwritten"}
LOSS_UNREAD, LOSS_DAMAGED, LOSS_OVERWRITTEN = 0, 1, 2

# Types of a class' fields, and how CTF says them.  `{}` is the name, which gets a `_` ahead of it that readers drop
# again.  What is not the user's gets three: with two, babeltrace2 takes a user's field of that name for the same.  Of
# the numbers there are also arrays, "u16[3]" and "u16[]", and of the integers enumerations,
# "u8{red=0,green=1}".
NUMBER_TYPES = {
    "u8": "uint8_t", "u16": "uint16_t", "u32": "uint32_t", "u64": "uint64_t",
    "i8": "int8_t", "i16": "int16_t", "i32": "int32_t", "i64": "int64_t",
    "f32": "float32_t", "f64": "float64_t",
}  # fmt: skip
FIELD_TYPES = {
    **{kind: f"{theirs} _{{0}};" for kind, theirs in NUMBER_TYPES.items()},
    "bool": "bool_t _{0};",
    "str": "string _{0};",
    "bytes": "uint16_t ___{0}_length; uint8_t _{0}[___{0}_length];",
}  # fmt: skip
# Fields that all classes of a kind have ahead of their own: each an u32, whose name gets three `_`.
KINDS = {
    "event": ("span", "context"),
    "begin": ("span", "context", "parent", "task"),
    "end": ("span", "context"),
    "counter": ("span", "context"),
    "function": (),  # defines a function of a process, for the next three
    "call": (),
    "return": (),
    "unwind": (),
}
# The fields that classes of the last four have, of which there is one each.
FUNCTION_FIELDS = {
    "function": "function:u32 line:u32 module:str name:str file:str",
    "call": "function:u32",
    "return": "function:u32",
    "unwind": "function:u32 exception:str",
}
KIND_BYTES = {kind: 4 * len(names) for kind, names in KINDS.items()}
BY_THREAD = 0xFFFF_FFFF  # in the place of such a number: the thread tells
PLACED_FIELDS = "blob:bytes"  # of the class of ID_PLACED, an event
PLACED_BYTES = KIND_BYTES["event"] + 2  # ahead of its blob

LOG_NAME, LOG_SPAN, LOG_CONTEXT, LOG_LEVEL, LOG_DEFINES = range(5)  # keys of a log record's map that are ours


LEVELS = ((50, 2), (40, 3), (30, 4), (20, 6), (0, 14))  # from these levels of `logging` on, that level of CTF


def log_level(level: int) -> int:
    """A level of `logging` as CTF's readers know it: 2 is critical, 14 is debug."""
    return next(theirs for ours, theirs in LEVELS if level >= ours or ours == 0)


def parse_enum(kind: str) -> tuple[str, dict[str, int]] | None:
    """Integer type and labels of an enumeration's type; None: it is no enumeration.  Raises ValueError."""
    base, brace, text = kind.partition("{")
    if not brace or base not in NUMBER_TYPES or base[0] == "f" or not text.endswith("}"):
        return None
    labels: dict[str, int] = {}
    for pair in text[:-1].split(","):
        label, _, number = pair.partition("=")
        if not (label.isidentifier() and label.isascii() and number.removeprefix("-").isdecimal() and number.isascii()):
            raise ValueError(f"type {kind!r}: an enumeration is written like u8{{red=0,green=1}}")
        labels[label] = int(number)
    if len(labels) != text.count(",") + 1 or len(set(labels.values())) != len(labels):
        raise ValueError(f"type {kind!r}: a label or a value stands there twice")
    low, high = limits(base)
    if not all(low <= value <= high for value in labels.values()):
        raise ValueError(f"type {kind!r}: {base} cannot hold all of its values")
    return base, labels


def limits(base: str) -> tuple[int, int]:
    """The least and the greatest value of an integer type."""
    bits = int(base[1:])
    return (0, (1 << bits) - 1) if base[0] == "u" else (-1 << bits - 1, (1 << bits - 1) - 1)


def parse_array(kind: str) -> tuple[str, int | None] | None:
    """Type and number of elements of an array's type, None: any number; None: it is no array."""
    base, bracket, text = kind.partition("[")
    if not bracket or base not in NUMBER_TYPES or not text.endswith("]"):
        return None
    digits = text[:-1]
    if not digits:
        return base, None
    return (base, int(digits)) if digits.isdecimal() and digits.isascii() and len(digits) <= 5 else None


def field(name: str, kind: str) -> str:
    """A field of a user's class in CTF's language.  Raises KeyError, ValueError."""
    array, enum = parse_array(kind), parse_enum(kind)
    if array is not None:
        theirs, length = NUMBER_TYPES[array[0]], array[1]
        if length is None:
            return f"uint16_t ___{name}_length; {theirs} _{name}[___{name}_length];"
        return f"{theirs} _{name}[{length}];"
    if enum is not None:
        labels = ", ".join(f'"{label}" = {value}' for label, value in enum[1].items())
        return f"enum : {NUMBER_TYPES[enum[0]]} {{ {labels} }} _{name};"
    return FIELD_TYPES[kind].format(name)


def split_fields(fields: str) -> list[tuple[str, str]]:
    """Names and types of the fields of a class, "name:type name:type ...".  Raises ValueError."""
    pairs = [(name, kind) for name, _, kind in (text.partition(":") for text in fields.split())]
    for name, _ in pairs:
        check_field_name(name)
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError(f"fields {fields!r}: each must have a name of its own")
    return pairs


def check_field_name(name: str) -> None:
    """Raise ValueError for what no field can be called."""
    if not (name.isidentifier() and name.isascii() and name[0] != "_"):
        raise ValueError("a name must be an identifier, in ASCII, that does not begin with '_'")


def class_fields(fields: str, kind: str = "event") -> str:
    """The fields of a user's class in CTF's language, with those of its kind.  Raises KeyError, ValueError."""
    own = (f"uint32_t ___{name};" for name in KINDS.get(kind, ()))
    return " ".join((*own, *(field(name, type_) for name, type_ in split_fields(fields))))


def tsdl_struct(table: type, begin: int = 0, end: int = 1 << 30) -> str:
    """The fields of a table whose offsets are in [begin, end), in CTF's language."""
    fields = [(field, table.__annotations__[field]) for field, at in fields_of(table).items() if begin <= at < end]
    return " ".join(f"{_TSDL[kind]} {field}{'[16]' if kind == 'Uuid' else ''};" for field, kind in fields)


def _body(table: type, rest: str = "") -> str:
    fields = (f"{_TSDL[kind]} _{field};" for field, kind in table.__annotations__.items())
    return " ".join((*fields, rest)).strip()


_BLOB = "uint8_t _{}[stream.event.context.size];"
_REASONS = " ".join(f'"{name}" = {number},' for number, name in LOSS_REASONS.items()).rstrip(",")
RESERVED_EVENTS = (
    (ID_BLOB, "blob", _BLOB.format("blob")),
    (ID_WRITER, "writer", _body(WRITER_BODY, "string _process; string _thread;")),
    (ID_LOSS, "loss", _body(LOSS_BODY).replace("uint8_t _reason;", f"enum : uint8_t {{ {_REASONS} }} _reason;")),
    (ID_PADDING, "padding", _BLOB.format("padding")),
    (ID_CLOCK, "clock", _body(CLOCK_BODY)),
    (ID_LOG, "log", _BLOB.format("msgpack")),
    (ID_PLACED, "blob", class_fields(PLACED_FIELDS)),
)


def quote(text: str) -> str:
    """A string literal of CTF's language."""
    escaped = (f"\\{c}" if c in '"\\' else c if c.isprintable() else " " for c in text)
    return '"' + "".join(escaped) + '"'


def event(identifier: int, name: str, fields: str, level: int | None = None, kind: str = "event") -> str:
    """The description of one event class."""
    extra = "" if level is None else f" loglevel = {level};"
    extra += "" if kind == "event" else f' model.emf.uri = "shmtrace:{kind}";'
    return (
        f"event {{ id = {identifier}; name = {quote(name)}; stream_id = {STREAM_ID};{extra}"
        f" fields := struct {{ {fields} }}; }};\n"
    )


def metadata(
    *, uuid: str, boot_id: str, channel: str, hostname: str,
    clock_kind: int, frequency: int, offset_s: int, offset: int, classes: str = "",
) -> str:  # fmt: skip
    """The description of the stream.

    The wall-clock time of a record is ``offset_s + (offset + cycles) / frequency`` seconds since 1970; `frequency` is
    in Hz and `offset` in cycles.  `classes` is the text of the users' own event classes, as `event` makes them.
    """
    clock = {
        CLOCK_TSC: "time stamp counter of the cpu",
        CLOCK_MONOTONIC: "CLOCK_MONOTONIC, for want of an invariant time stamp counter",
    }[clock_kind]
    reserved = "".join(event(identifier, name, fields) for identifier, name, fields in RESERVED_EVENTS)
    return f"""/* CTF 1.8 */
typealias integer {{ size = 8; align = 8; signed = false; }} := uint8_t;
typealias integer {{ size = 16; align = 8; signed = false; }} := uint16_t;
typealias integer {{ size = 32; align = 8; signed = false; }} := uint32_t;
typealias integer {{ size = 64; align = 8; signed = false; }} := uint64_t;
typealias integer {{ size = 8; align = 8; signed = true; }} := int8_t;
typealias integer {{ size = 16; align = 8; signed = true; }} := int16_t;
typealias integer {{ size = 32; align = 8; signed = true; }} := int32_t;
typealias integer {{ size = 64; align = 8; signed = true; }} := int64_t;
typealias floating_point {{ exp_dig = 8; mant_dig = 24; align = 8; }} := float32_t;
typealias floating_point {{ exp_dig = 11; mant_dig = 53; align = 8; }} := float64_t;
typealias enum : uint8_t {{ "false" = 0, "true" = 1 }} := bool_t;
trace {{
	major = 1; minor = 8; uuid = "{uuid}"; byte_order = le;
	packet.header := struct {{ {tsdl_struct(PACKET, end=PACKET_CONTEXT_AT)} }};
}};
env {{
	tracer_name = "shmtrace"; tracer_major = 1; tracer_minor = 0;
	hostname = {quote(hostname)}; channel = {quote(channel)};
}};
clock {{
	name = tsc; uuid = "{boot_id}"; description = "{clock}";
	freq = {frequency}; offset_s = {offset_s}; offset = {offset}; absolute = TRUE;
}};
typealias integer {{ size = 64; align = 8; signed = false; map = clock.tsc.value; }} := stamp_t;
stream {{
	id = {STREAM_ID};
	packet.context := struct {{ {tsdl_struct(PACKET, begin=PACKET_CONTEXT_AT)} }};
	event.header := struct {{ {tsdl_struct(RECORD, end=RECORD_CONTEXT_AT)} }} align(64);
	event.context := struct {{ {tsdl_struct(RECORD, begin=RECORD_CONTEXT_AT)} }};
}};
{reserved}{classes}"""


def metadata_packet(text: str, uuid: bytes) -> bytes:
    """`text` as one packet of metadata."""
    content = text.encode()
    bits = 8 * (METADATA_BYTES + len(content))
    numbers = {"magic": METADATA_MAGIC, "content_size": bits, "packet_size": bits, "major": 1, "minor": 8}
    header = bytearray(METADATA_BYTES)
    for field, number in numbers.items():
        at = fields_of(METADATA)[field]
        width = WIDTHS[METADATA.__annotations__[field]]
        header[at : at + width] = number.to_bytes(width, "little")
    header[METADATA.uuid : METADATA.uuid + 16] = uuid
    return bytes(header) + content


def padded(size: int) -> int:
    """Bytes of a record or packet of `size` bytes with the padding behind it."""
    return (size + RECORD_ALIGNMENT - 1) & -RECORD_ALIGNMENT
