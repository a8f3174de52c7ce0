"""The fields of rows as JSON, in jitted code: the same text as `json` makes of the same values.

What is not usual (text that is not UTF-8, the least of floats, logs with lists) is left to Python.

Floats: Raffaello Giulietti, "The Schubfach way to render doubles" (2020), with the shape of `repr`.
"""

from __future__ import annotations

from . import primitives as do
from . import rows as shared
from .hashed import find, load_i32
from .msgpack import number_end, text_end
from .primitives import apart, as_double, frozen, get64, high, inlined, load32, load64, store32, store64

SHOWN, MEMBER, MEMBER_BYTES = frozen(shared.SHOWN), frozen(shared.MEMBER), shared.MEMBER_BYTES
M_END, M_SIGNED, M_UNSIGNED, M_FLOAT, M_BOOL = (
    shared.M_END, shared.M_SIGNED, shared.M_UNSIGNED, shared.M_FLOAT, shared.M_BOOL,
)  # fmt: skip
M_TEXT, M_TEXT_OR_NONE, M_BYTES, M_REST, M_LOG, M_ARRAY = (
    shared.M_TEXT, shared.M_TEXT_OR_NONE, shared.M_BYTES, shared.M_REST, shared.M_LOG, shared.M_ARRAY,
)  # fmt: skip
ALL_SHOWN, NO_ROOM, NOT_USUAL, END_WANTED = shared.ALL_SHOWN, shared.NO_ROOM, shared.NOT_USUAL, shared.END_WANTED
LEAST_POWER = shared.LEAST_POWER
LEAST = -(1 << 63)
MASK63 = (1 << 63) - 1
MASK52 = (1 << 52) - 1
TENTH = 115_292_150_460_684_698 << 4  # 2**64 / 10
HIGH_BITS = 0x8080_8080_8080_8080 - (1 << 64)
ONES, SPACES, QUOTES, SLASHES = (byte * 0x0101_0101_0101_0101 for byte in (0x01, 0x20, 0x22, 0x5C))
QUOTE, BACKSLASH, BRACE, CLOSING, COMMA, SPACE, MINUS, POINT, ZERO = b'"\\{}, -.0'
BASE64 = do.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
HEX = do.text("0123456789abcdef")
PAIRS = do.text("".join(f"{number:02}" for number in range(100)))
SHORT = do.text("00000000btn0fr000000000000000000")  # the letter behind a backslash; 0: it has none
CONTROL = int.from_bytes(b"\\u0000\0\0", "little")
WORDS = do.text('truefalsenull"NaN""Infinity""-Infinity"')
TRUE, FALSE, NULL, NAN, INFINITY, MINUS_INFINITY = (0, 4), (4, 5), (9, 4), (13, 5), (18, 10), (28, 11)
MOST_ENTRIES = 16
keys_buffer = do.room(16 * MOST_ENTRIES)


@inlined
def put_word(at: int, word: tuple[int, int]) -> int:
    """One of WORDS."""
    do.copy(at, WORDS() + word[0], word[1])
    return at + word[1]


@inlined
def digits_of(value: int) -> int:
    """How many decimal digits a number has that is not negative."""
    count = 1
    while value >= 100:
        value //= 100
        count += 2
    return count + (value >= 10)


@apart
def put_digits(at: int, value: int) -> int:
    """An unsigned number; the address behind it."""
    if value < 0:  # 2**63 and above: the last digit apart
        rest = ((value >> 1) & MASK63) // 5
        end = put_digits_below(at, rest)
        do.store8(end, ZERO + value - 10 * rest)
        return end + 1
    return put_digits_below(at, value)


@inlined
def put_digits_below(at: int, value: int) -> int:
    """A number that is not negative; the address behind it."""
    count = digits_of(value)
    place, pairs = at + count, PAIRS()
    while value >= 100:
        rest = value // 100
        place -= 2
        do.copy(place, pairs + 2 * (value - 100 * rest), 2)
        value = rest
    if value >= 10:
        do.copy(at, pairs + 2 * value, 2)
    else:
        do.store8(at, ZERO + value)
    return at + count


@apart
def put_number(at: int, value: int) -> int:
    """A signed number; the address behind it."""
    if value < 0:
        do.store8(at, MINUS)
        return put_digits(at + 1, do.minus(0, value))
    return put_digits(at, value)


@inlined
def product(g1: int, g0: int, number: int) -> int:
    """`g * number` above 2**127, with a last bit that says whether something was left."""
    z = do.plus((do.times(g1, number) >> 1) & MASK63, high(g0, number))
    w = high(g1, number) + ((z >> 63) & 1)
    return w | ((z & MASK63) != 0)


@inlined
def shortest(biased: int, fraction: int, powers: int) -> tuple[int, int]:
    """The shortest digits that only this double has, and their exponent; a whole number's are all of its digits."""
    q, c = biased - 1075, fraction | 1 << 52
    whole = c >> -q if -53 < q < 0 else 0
    if -53 < q < 0 and whole << -q == c:
        return whole, 0
    out = c & 1
    cb = c << 2
    if fraction != 0:
        cbl, k = cb - 2, q * 661_971_961_083 >> 41
    else:
        cbl, k = cb - 1, (q * 661_971_961_083 - 274_743_187_321) >> 41
    h = q + (-k * 913_124_641_741 >> 38) + 2
    place = powers + 16 * (k - LEAST_POWER)
    g1, g0 = load64(place), load64(place + 8)
    vb, vbl, vbr = product(g1, g0, cb << h), product(g1, g0, cbl << h), product(g1, g0, cb + 2 << h)
    s = vb >> 2
    sp10 = 10 * high(s, TENTH)
    tp10 = sp10 + 10
    upin, wpin = vbl + out <= sp10 << 2, (tp10 << 2) + out <= vbr
    if s >= 100 and upin != wpin:
        return (sp10 if upin else tp10), k
    t = s + 1
    uin, win = vbl + out <= s << 2, (t << 2) + out <= vbr
    if uin != win:
        return (s if uin else t), k
    half = vb - (s + t << 1)
    return (s if half < 0 or (half == 0 and s & 1 == 0) else t), k


@apart
def put_decimal(at: int, digits: int, exponent: int) -> int:
    """`digits * 10**exponent` in the shape of `repr`; the address behind it."""
    while digits % 100_000_000 == 0:
        digits //= 100_000_000
        exponent += 8
    if digits % 10_000 == 0:
        digits //= 10_000
        exponent += 4
    if digits % 100 == 0:
        digits //= 100
        exponent += 2
    if digits % 10 == 0:
        digits //= 10
        exponent += 1
    count = digits_of(digits)
    point = count + exponent
    if 0 < point <= 16:
        if point >= count:
            at = put_digits(at, digits)
            for _ in range(point - count):
                do.store8(at, ZERO)
                at += 1
            do.store8(at, POINT)
            do.store8(at + 1, ZERO)
            return at + 2
        end = put_digits(at + 1, digits)
        for place in range(at, at + point):
            do.store8(place, do.load8(place + 1))
        do.store8(at + point, POINT)
        return end
    if -4 < point <= 0:
        do.store8(at, ZERO)
        do.store8(at + 1, POINT)
        at += 2
        for _ in range(-point):
            do.store8(at, ZERO)
            at += 1
        return put_digits(at, digits)
    end = put_digits(at + 1, digits)
    do.store8(at, do.load8(at + 1))
    if count == 1:
        end = at + 1
    else:
        do.store8(at + 1, POINT)
    do.store8(end, 0x65)
    point -= 1
    do.store8(end + 1, MINUS if point < 0 else 0x2B)
    point = abs(point)
    if point < 10:
        do.store8(end + 2, ZERO)
        end += 1
    return put_digits(end + 2, point)


@apart
def put_float(at: int, bits: int, powers: int) -> int:
    """A double; the address behind it, 0 if it is one of the least."""
    biased, fraction = (bits >> 52) & 0x7FF, bits & MASK52
    if biased == 0x7FF:
        if fraction != 0:
            return put_word(at, NAN)
        return put_word(at, MINUS_INFINITY) if bits < 0 else put_word(at, INFINITY)
    if bits < 0:
        do.store8(at, MINUS)
        at += 1
    if biased == 0:
        if fraction != 0:
            return 0
        do.store8(at, ZERO)
        do.store8(at + 1, POINT)
        do.store8(at + 2, ZERO)
        return at + 3
    digits, exponent = shortest(biased, fraction, powers)
    return put_decimal(at, digits, exponent)


@inlined
def continues(at: int, low: int, top: int) -> bool:
    """Whether a byte is in the range."""
    return low <= do.load8(at) <= top


@apart
def character_bytes(at: int, end: int) -> int:
    """Bytes of a character of UTF-8 that is none of ASCII; 0: it is none."""
    first = do.load8(at)
    if 0xC2 <= first <= 0xDF:
        return 2 if at + 2 <= end and continues(at + 1, 0x80, 0xBF) else 0
    if 0xE0 <= first <= 0xEF:
        low, top = 0xA0 if first == 0xE0 else 0x80, 0x9F if first == 0xED else 0xBF
        return 3 if at + 3 <= end and continues(at + 1, low, top) and continues(at + 2, 0x80, 0xBF) else 0
    if 0xF0 <= first <= 0xF4:
        low, top = 0x90 if first == 0xF0 else 0x80, 0x8F if first == 0xF4 else 0xBF
        if at + 4 > end or not continues(at + 1, low, top):
            return 0
        return 4 if continues(at + 2, 0x80, 0xBF) and continues(at + 3, 0x80, 0xBF) else 0
    return 0


@inlined
def has_zero(word: int) -> bool:
    """Whether a byte of it is 0, if none has its high bit."""
    return do.minus(word, ONES) & ~word & HIGH_BITS != 0


@apart
def put_text(at: int, source: int, size: int) -> int:
    """A text in quotes; the address behind it, 0 if it is no UTF-8."""
    end = source + size
    do.store8(at, QUOTE)
    at += 1
    tried = source
    while source < end:
        if tried <= source <= end - 8:
            tried = source + 8
            word = get64(source)
            usual = word & HIGH_BITS == 0 and do.minus(word, SPACES) & HIGH_BITS == 0
            if usual and not has_zero(word ^ QUOTES) and not has_zero(word ^ SLASHES):
                do.put64(at, word)
                source += 8
                at += 8
                continue
        byte = do.load8(source)
        if byte >= 0x80:
            count = character_bytes(source, end)
            if count == 0:
                return 0
            for _ in range(count):
                do.store8(at, do.load8(source))
                at += 1
                source += 1
            continue
        source += 1
        if byte >= 0x20 and byte not in (QUOTE, BACKSLASH):
            do.store8(at, byte)
            at += 1
            continue
        if byte >= 0x20:
            do.store8(at, BACKSLASH)
            do.store8(at + 1, byte)
            at += 2
            continue
        short = do.load8(SHORT() + byte)
        if short != ZERO:
            do.store8(at, BACKSLASH)
            do.store8(at + 1, short)
            at += 2
        else:
            do.put64(at, CONTROL + (byte >> 4 << 32) + (do.load8(HEX() + (byte & 15)) - ZERO << 40))
            at += 6
    do.store8(at, QUOTE)
    return at + 1


@apart
def put_base64(at: int, source: int, size: int) -> int:
    """Bytes as base64 in quotes; the address behind it."""
    letters = BASE64()
    do.store8(at, QUOTE)
    at += 1
    left = size
    while left > 0:
        three = do.load8(source) << 16
        if left > 1:
            three |= do.load8(source + 1) << 8
        if left > 2:
            three |= do.load8(source + 2)
        do.store8(at, do.load8(letters + (three >> 18)))
        do.store8(at + 1, do.load8(letters + ((three >> 12) & 63)))
        do.store8(at + 2, do.load8(letters + ((three >> 6) & 63)) if left > 1 else 0x3D)
        do.store8(at + 3, do.load8(letters + (three & 63)) if left > 2 else 0x3D)
        at += 4
        source += 3
        left -= 3
    do.store8(at, QUOTE)
    return at + 1


@inlined
def element(at: int, size: int, signed: bool) -> int:
    """A whole number of so many bytes.  There are 8 bytes more behind it."""
    word = get64(at)
    if size < 8:
        word &= (1 << 8 * size) - 1
        if signed:
            sign = 1 << 8 * size - 1
            word = (word ^ sign) - sign
    return word


@apart
def put_element(at: int, source: int, kind: int, size: int, powers: int) -> int:
    """A number; the address behind it, 0 if it is not usual."""
    if kind == M_SIGNED:
        return put_number(at, element(source, size, True))
    if kind == M_UNSIGNED:
        return put_digits(at, element(source, size, False))
    if kind == M_FLOAT:
        return put_float(at, get64(source) if size == 8 else as_double(element(source, 4, False)), powers)
    return put_word(at, TRUE) if do.load8(source) != 0 else put_word(at, FALSE)


@apart
def put_key(at: int, key: int, size: int, first: bool) -> int:
    """What stands ahead of a value."""
    if first:
        do.store8(at, BRACE)
        at += 1
    else:
        do.store8(at, COMMA)
        do.store8(at + 1, SPACE)
        at += 2
    do.copy(at, key, size)
    return at + size


@apart
def put_label(at: int, member: int, value: int) -> int:
    """The label of an enumeration's number; the address behind it, `at` if it has none."""
    labels = load64(member + MEMBER.labels)
    for number in range(load64(member + MEMBER.count)):
        if load64(labels + 24 * number) == value:
            size = load64(labels + 24 * number + 16)
            do.copy(at, load64(labels + 24 * number + 8), size)
            return at + size
    return at


@apart
def put_log(at: int, source: int, end: int, powers: int) -> int:
    """The fields of a usual log's map, up to the brace at its end; the address behind it, 0 if Python must look."""
    if do.load8(source) & 0xF0 != 0x80:
        return 0
    entries = do.load8(source) & 15
    source += 1
    known, keys = keys_buffer(), 0
    for _ in range(entries):
        if do.load8(source) < 0x80:  # ours
            source += 1
            after = number_end(source)
            source = after if after != 0 else text_end(source, end)
            if source == 0:
                return 0
            continue
        behind = text_end(source, end)
        if behind == 0:
            return 0
        size = behind - source
        for other in range(keys):  # of two that are the same the last one counts, which is for Python
            if load64(known + 16 * other + 8) == size:
                place, same = load64(known + 16 * other), 0
                while same < size and do.load8(place + same) == do.load8(source + same):
                    same += 1
                if same == size:
                    return 0
        store64(known + 16 * keys, source)
        store64(known + 16 * keys + 8, size)
        keys += 1
        do.store8(at, BRACE if keys == 1 else COMMA)
        at += 1
        if keys > 1:
            do.store8(at, SPACE)
            at += 1
        at = put_msgpack(at, source, end, powers)
        if at == 0:
            return 0
        do.store8(at, 0x3A)
        do.store8(at + 1, SPACE)
        source = behind
        at = put_msgpack(at + 2, source, end, powers)
        if at == 0:
            return 0
        after = number_end(source)
        after = after if after != 0 else text_end(source, end)
        source = after if after != 0 else source + 1
    if keys == 0:
        do.store8(at, BRACE)
        at += 1
    return at


@apart
def put_msgpack(at: int, source: int, end: int, powers: int) -> int:
    """A text, number, truth or nothing of msgpack; the address behind it, 0 if it is not usual."""
    first = do.load8(source)
    behind = text_end(source, end)
    if behind != 0:
        head = 1 if first < 0xC0 else 2 if first == 0xD9 else 3
        return put_text(at, source + head, behind - source - head)
    if first < 0x80:
        return put_digits(at, first)
    if first >= 0xE0:
        return put_number(at, first - 256)
    if first == 0xC0:
        return put_word(at, NULL)
    if first == 0xC2:
        return put_word(at, FALSE)
    if first == 0xC3:
        return put_word(at, TRUE)
    if not 0xCA <= first <= 0xD3:
        return 0
    word = do.swapped(get64(source + 1))
    if first == 0xCA:
        return put_float(at, as_double((word >> 32) & 0xFFFF_FFFF), powers)
    if first == 0xCB:
        return put_float(at, word, powers)
    size = 1 << (first & 3)  # 0xCC to 0xCF and 0xD0 to 0xD3
    if size < 8:
        word = (word >> 64 - 8 * size) & ((1 << 8 * size) - 1)
        if first >= 0xD0:
            sign = 1 << 8 * size - 1
            word = (word ^ sign) - sign
    return put_number(at, word) if first >= 0xD0 else put_digits(at, word)


@apart
def put_fields(at: int, member: int, source: int, end: int, powers: int) -> int:
    """The fields of a class, up to the brace at the end; twice the address behind them, and 1 if there is an exception.

    0 if Python must look.
    """
    first, raised = True, 0
    while True:
        member += MEMBER_BYTES
        kind, size = load64(member + MEMBER.kind), load64(member + MEMBER.size)
        if kind == M_END:
            break
        if kind == M_LOG:
            at = put_log(at, source, end, powers)
            return 2 * at
        if kind == M_TEXT_OR_NONE:
            if do.load8(source) == 0:
                source += 1
                continue
            raised = 1
            kind = M_TEXT
        begin = at
        at = put_key(at, load64(member + MEMBER.key), load64(member + MEMBER.key_bytes), first)
        if kind < M_TEXT:
            count = load64(member + MEMBER.count)
            labelled = at
            if count > 0:
                labelled = put_label(at, member, element(source, size, kind == M_SIGNED))
            at = labelled if labelled != at else put_element(at, source, kind, size, powers)
            source += size
        elif kind == M_TEXT:
            length = 0
            while do.load8(source + length) != 0:
                length += 1
            at = put_text(at, source, length)
            source += length + 1
        elif kind in (M_BYTES, M_REST):
            length = end - source
            if kind == M_BYTES:
                length = do.load8(source) | do.load8(source + 1) << 8
                source += 2
            after = put_text(at, source, length)
            if after == 0:
                at = put_key(begin, load64(member + MEMBER.other_key), load64(member + MEMBER.other_key_bytes), first)
                after = put_base64(at, source, length)
            at = after
            source += length
        else:
            count = load64(member + MEMBER.count)
            if count < 0:
                count = do.load8(source) | do.load8(source + 1) << 8
                source += 2
            do.store8(at, 0x5B)
            at += 1
            for number in range(count):
                if number > 0:
                    do.store8(at, COMMA)
                    do.store8(at + 1, SPACE)
                    at += 2
                at = put_element(at, source, kind - M_ARRAY, size, powers)
                if at == 0:
                    return 0
                source += size
            do.store8(at, 0x5D)
            at += 1
        if at == 0:
            return 0
        first = False
    if first:
        do.store8(at, BRACE)
        at += 1
    return 2 * at + raised


def show(shown: int) -> int:
    """JSON of the rows from `SHOWN.at` on; why it stopped in front of a row."""
    at, count = load64(shown + SHOWN.at), load64(shown + SHOWN.count)
    classes, starts, sizes = load64(shown + SHOWN.classes), load64(shown + SHOWN.starts), load64(shown + SHOWN.sizes)
    contexts, data, programs = (
        load64(shown + SHOWN.contexts),
        load64(shown + SHOWN.data),
        load64(shown + SHOWN.programs),
    )
    out, used, room = load64(shown + SHOWN.out), load64(shown + SHOWN.used), load64(shown + SHOWN.room)
    offsets, powers = load64(shown + SHOWN.offsets), load64(shown + SHOWN.powers)
    why = ALL_SHOWN
    while at < count:
        made, context = load32(classes + 4 * at), load_i32(contexts + 4 * at)
        program = load64(programs + 8 * made)
        size = load32(sizes + 4 * at)
        if program == 0:
            why = NOT_USUAL
            break
        if used + load64(program + MEMBER.count) + 16 * size + 16 > room:  # a byte becomes 6 at most, a number more
            why = NO_ROOM
            break
        start = data + load32(starts + 4 * at)
        result = put_fields(out + used, program, start + load64(program + MEMBER.size), start + size, powers)
        end = result >> 1
        if result <= 1 or (context >= 0 and load64(program + MEMBER_BYTES + MEMBER.kind) == M_LOG):
            why = NOT_USUAL
            break
        if context >= 0:
            key = made << 33 | (result & 1) << 32 | context
            number = find(load64(shown + SHOWN.ends), key)
            if number < 0:
                store64(shown + SHOWN.wanted, key)
                why = END_WANTED
                break
            place = load64(shown + SHOWN.end_places) + 16 * number
            length = load64(place + 8)
            if end - out + length > room:
                why = NO_ROOM
                break
            do.copy(end, load64(place), length)
            end += length
        else:
            do.store8(end, CLOSING)
            end += 1
        store32(offsets + 4 * at, used)
        used = end - out
        at += 1
    store32(offsets + 4 * at, used)
    store64(shown + SHOWN.at, at)
    store64(shown + SHOWN.used, used)
    return why


JSON_ENTRIES = [show]
