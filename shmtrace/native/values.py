"""Arguments of a call, looked at one by one through a table of fields, and written into a record.

First each becomes a number, or the address and length of its bytes (`convert_all`); then, while a lane is taken, these
are written (`put_all`), and no Python object is touched.  What this does not understand (an array, an Enum's member,
any mistake) goes to Python.
"""

from __future__ import annotations

from .. import encoding
from . import intrinsics as do
from . import tables
from .access import (
    BYTES_DATA,
    NO_VALUE,
    TEXT_BYTES,
    VAR_SIZE,
    bytes_type,
    double,
    integer,
    item_of,
    py_false,
    py_true,
    strlen,
    text_of,
    type_of,
)
from .intrinsics import likely, load32, load64, read64, store64
from .lanes import apart, copy_short, inlined
from .places import EVENT

EVENT_BYTES, FIELD_BYTES, FIELDS_MAX = tables.EVENT_BYTES, tables.FIELD_BYTES, tables.FIELDS_MAX
CODE_SIGNED, CODE_F32, CODE_F64 = encoding.CODE_SIGNED, encoding.CODE_F32, encoding.CODE_F64
CODE_BOOL, CODE_STR, CODE_BYTES = encoding.CODE_BOOL, encoding.CODE_STR, encoding.CODE_BYTES
WIDTH_SHIFT, LONGEST = encoding.WIDTH_SHIFT, encoding.LONGEST
VALUE_BYTES = 16  # of a converted value: the number or an address, and a length
EACH_BYTE = 0x0101_0101_0101_0101
KIND_MASK = (1 << WIDTH_SHIFT) - 1
arguments_buffer = do.room(8 * FIELDS_MAX)
values_buffer = do.room(VALUE_BYTES * FIELDS_MAX)


@inlined
def has_nul(text: int, size: int) -> bool:
    """Whether a NUL is among the bytes of a text, which has one behind them."""
    if size > 16 or TEXT_BYTES < 8:
        return strlen(text) != size
    first = do.get64(text)
    last = first
    if size >= 8:
        last = do.get64(text + size - 8)
    else:
        first |= -1 << (8 * size)
        last = first
    found = ((first - EACH_BYTE) & ~first) | ((last - EACH_BYTE) & ~last)
    return found & (EACH_BYTE << 7) != 0


@inlined
def convert(code: int, value: int, out: int) -> int:
    """One value, as a number (or address) and a length at `out`: its bytes in a record, or -1 if Python must do it."""
    kind, width = code & KIND_MASK, code >> WIDTH_SHIFT
    if kind <= CODE_SIGNED:
        number = integer(value)
        rest = number >> min(8 * width - kind, 63)  # of an int64, of which an unsigned one of 64 bits may use 63
        if not likely(rest == 0 or (kind == CODE_SIGNED and rest == -1 and number != NO_VALUE)):
            return -1
        store64(out, number)
        return width
    if CODE_F32 <= kind <= CODE_F64:
        bits = double(value)
        if not likely(bits != NO_VALUE):
            return -1
        if kind == CODE_F64:
            store64(out, bits)
            return 8
        single = do.as_single(bits)
        if single & 0x7F80_0000 == 0x7F80_0000 and (bits >> 52) & 0x7FF != 0x7FF:
            return -1  # it does not fit
        store64(out, single)
        return 4
    if kind == CODE_STR:
        text, size = text_of(value, out)
        if not likely(text != 0 and not has_nul(text, size)):
            return -1
        store64(out, text)
        store64(out + 8, size)
        return size + 1
    if kind == CODE_BOOL:
        is_true = value == py_true()
        if not is_true and value != py_false():
            return -1
        store64(out, is_true)
        return 1
    if kind == CODE_BYTES and type_of(value) == bytes_type():
        size = load64(value + VAR_SIZE)
        store64(out, value + BYTES_DATA)
        store64(out + 8, size)
        return size + 2 if size <= LONGEST else -1
    return -1


@inlined
def convert_all(cell: int, values: int, out: int) -> int:
    """All values; their bytes in a record, or -1 if Python must do it."""
    field = cell + EVENT_BYTES
    last = field + FIELD_BYTES * read64(cell + EVENT.fields_count)
    size = 0
    while field != last:
        more = convert(load32(field), load64(values), out)
        if not likely(more >= 0):
            return -1
        size += more
        field += FIELD_BYTES
        values += 8
        out += VALUE_BYTES
    return size


@inlined
def put_number(at: int, end: int, value: int, width: int) -> int:
    """The low bytes of a number.  What is written behind them is written over by what comes next, or is padding."""
    if likely(at + 8 <= end):
        do.put64(at, load64(value))
    else:
        copy_short(at, value, width)
    return at + width


@inlined
def put_content(at: int, kind: int, content: int, size: int) -> int:
    """A text or bytes; the address behind it."""
    if kind == CODE_BYTES:
        do.store8(at, size)
        do.store8(at + 1, size >> 8)
        at += 2
    copy_short(at, content, size)
    at += size
    if kind == CODE_STR:
        do.store8(at, 0)
        at += 1
    return at


@inlined
def put_all(cell: int, at: int, end: int, values: int) -> None:
    """The values that `convert_all` made, into a record that ends at `end`."""
    field = cell + EVENT_BYTES
    last = field + FIELD_BYTES * read64(cell + EVENT.fields_count)
    while field != last:
        code = load32(field)
        kind = code & KIND_MASK
        if kind < CODE_STR:
            width = code >> WIDTH_SHIFT
            at = put_number(at, end, values, width)
        else:
            at = put_content(at, kind, load64(values), load64(values + 8))
        field += FIELD_BYTES
        values += VALUE_BYTES


@inlined
def put_few(cell: int, values: int, at: int, end: int) -> int:
    """All values at once, into memory of our own; their bytes, or -1 if they do not fit or Python must do it.

    What each is converted to is written where it goes, so there is room for VALUE_BYTES behind the end.
    """
    begin, field = at, cell + EVENT_BYTES
    last = field + FIELD_BYTES * read64(cell + EVENT.fields_count)
    while field != last:
        code = load32(field)
        kind = code & KIND_MASK
        more = convert(code, load64(values), at)
        if not likely(0 <= more <= end - at):
            return -1
        at = put_content(at, kind, load64(at), load64(at + 8)) if kind >= CODE_STR else at + more
        field += FIELD_BYTES
        values += 8
    return at - begin


@apart
def arrange(cell: int, args: int, count: int, names: int, values: int) -> bool:
    """Arguments by position and by keyword, in the order of the fields.  False if Python must look at them."""
    fields = read64(cell + EVENT.fields_count)
    keywords = load64(names + VAR_SIZE)
    if count + keywords != fields:
        return False
    known = cell + EVENT_BYTES + FIELD_BYTES * fields
    for number in range(count):
        store64(values + 8 * number, load64(args + 8 * number))
    for number in range(count, fields):
        store64(values + 8 * number, 0)
    for number in range(keywords):
        name = item_of(names, number)
        field = count + number
        if load64(known + 8 * field) != name:
            field = count
            while field < fields and load64(known + 8 * field) != name:
                field += 1
            if field == fields:
                return False  # unknown, or not interned
        if load64(values + 8 * field) != 0:
            return False
        store64(values + 8 * field, load64(args + 8 * (count + number)))
    return True
