"""Fields of all types and values for them, and what readers must say of these values."""

from __future__ import annotations

import array
import enum
import math
import struct
from typing import Any, NamedTuple

import hypothesis.strategies as st

from shmtrace import wire
from shmtrace.encoding import type_text

INTEGERS = [kind for kind in wire.NUMBER_TYPES if kind[0] != "f"]
ARRAY_CODES = {
    "u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i8": "b", "i16": "h", "i32": "i", "i64": "q",
    "f32": "f", "f64": "d",
}  # fmt: skip
GREATEST_F32 = struct.unpack(">f", bytes.fromhex("7f7fffff"))[0]
LONGEST_TEXT = 30_000  # of a value among others; see the test of limits


class Like:
    """Neither an integer nor a float, but like one."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __index__(self) -> int:
        return self.number

    def __repr__(self) -> str:
        return f"Like({self.number})"


def real(bits: int) -> float:
    """The number of 64 bits."""
    number: float = struct.unpack(">d", bits.to_bytes(8, "big"))[0]
    return number


def bits(number: float) -> str:
    """All that a real number is: NaN is unlike NaN, and 0.0 like -0.0."""
    return struct.pack(">d", number).hex()


def as_single(number: float) -> float:
    """What f32 holds of a number."""
    if math.isnan(number):  # its sign, that it is quiet, and the upper 22 bits of the rest
        return real(int(bits(number), 16) >> 29 << 29 | 1 << 51)
    return float(struct.unpack(">f", struct.pack(">f", number))[0])


# -- what readers must say


def clean(text: str) -> str:
    """A text as it can be recorded."""
    return "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)


def number_of(kind: str, value: Any) -> Any:  # noqa: ANN401
    """What a number is in a trace."""
    if kind == "f32":
        return bits(as_single(float(value)))
    return bits(float(value)) if kind == "f64" else value.__index__()


def said(kind: str, value: Any) -> tuple[object, object]:  # noqa: ANN401
    """What our reader and babeltrace2 must say of a value, in the words of `plain` and of bt2_events.py."""
    array_, enum_ = wire.parse_array(kind), wire.parse_enum(kind)
    same: object
    if enum_ is not None:
        labels = enum_[1]
        number = labels[value] if isinstance(value, str) else getattr(value, "value", value)
        names = [label for label, labelled in labels.items() if labelled == number]
        return (names[0] if names else number), [number, names]
    if kind == "bool":
        return bool(value), [int(bool(value)), [str(bool(value)).lower()]]
    if kind == "str":
        same = clean(value)
    elif kind == "bytes":
        same = list(bytes(value))
    elif array_ is not None:
        same = [number_of(array_[0], number) for number in value]
    else:
        same = number_of(kind, value)
    return same, same


def plain(value: object) -> object:
    """What our reader gave, so that it can be compared."""
    if isinstance(value, float):
        return bits(value)
    return [plain(item) for item in value] if isinstance(value, (list, bytes)) else value


# -- values


def extremes(kind: str) -> list[int]:
    """Integers of a type at which something ends."""
    low, high = wire.limits(kind)
    powers = [1 << power for power in (7, 8, 15, 16, 30, 31, 32, 60, 62, 63)]
    near = [sign * power + more for power in powers for sign in (1, -1) for more in (-1, 0, 1)]
    return sorted(
        {number for number in (low, low + 1, -1, 0, 1, high - 1, high, *near) if low <= number <= high}, key=abs
    )


ODD_REALS = [real(int(text, 16)) for text in (
    "0000000000000000", "8000000000000000", "0000000000000001", "800fffffffffffff", "0010000000000000",
    "7fefffffffffffff", "7ff0000000000000", "fff0000000000000", "7ff8000000000000", "fff8000000000000",
    "7ff8dead0000beef", "fffc00000badcafe", "3ff0000000000001", "4340000000000001", "36a0000000000000",
    "380fffffe0000000", "3810000000000000", "3e7fffffffffffff",
)]  # fmt: skip
ANY_BITS = st.integers(0, (1 << 64) - 1).map(real)


def _fits_f32(number: float) -> bool:
    return not math.isfinite(number) or abs(number) <= GREATEST_F32


def integers(kind: str) -> st.SearchStrategy[int]:
    return st.sampled_from(extremes(kind)) | st.integers(*wire.limits(kind))


def reals(kind: str) -> st.SearchStrategy[float]:
    """Numbers with any bits; but of f32 no signalling NaN, which no processor converts as it is."""
    numbers = st.sampled_from(ODD_REALS) | ANY_BITS | st.floats()
    if kind == "f64":
        return numbers
    narrow = st.integers(0, (1 << 32) - 1).map(lambda number: struct.unpack(">f", number.to_bytes(4, "big"))[0])
    return (numbers.filter(_fits_f32) | narrow).map(lambda number: as_single(number) if math.isnan(number) else number)


def numbers(kind: str) -> st.SearchStrategy[Any]:
    return reals(kind) if kind[0] == "f" else integers(kind)


CHARACTERS = (
    st.sampled_from("ab\0\x7f\x80\xff\u07ff\u0800\ud800\udbff\udc80\udfff\uffff\U00010000\U0010ffff") | st.characters()
)
TEXTS = st.text(CHARACTERS) | st.builds(
    lambda text, times: (text * times)[:LONGEST_TEXT], st.text(CHARACTERS, min_size=1), st.sampled_from([2, 9, 1000])
).filter(lambda text: len(text.encode(errors="surrogatepass")) <= LONGEST_TEXT)
BYTES = st.binary() | st.builds(
    lambda data, times: (data * times)[:LONGEST_TEXT], st.binary(min_size=1), st.integers(2, 3000)
)
WORDS = st.sampled_from(["true", "event", "enum", "uint8_t", "_", "a1", "Z"]) | st.from_regex(
    r"[A-Za-z_]\w{0,20}", fullmatch=True
).filter(str.isascii)


class Field(NamedTuple):
    """A type, as it is given in a definition and as it is written, and what can be passed for it."""

    given: object
    kind: str
    values: st.SearchStrategy[Any]


def _number_field(kind: str) -> Field:
    values = numbers(kind)
    if kind[0] != "f":
        return Field(kind, kind, values | values.map(Like))
    whole = st.integers(-(1 << 53), 1 << 53)
    return Field(kind, kind, values | whole | whole.map(Like))


def _sequence(kind: str, values: list[Any], form: int) -> Any:  # noqa: ANN401
    if form == 0:
        return values
    return tuple(values) if form == 1 else array.array(ARRAY_CODES[kind], values)


@st.composite
def array_fields(draw: st.DrawFn) -> Field:
    base = draw(st.sampled_from(sorted(wire.NUMBER_TYPES)))
    length = draw(st.none() | st.integers(1, 9) | st.sampled_from([255, 256, 300]))
    size = (0, 40) if length is None else (length, length)
    items = st.lists(numbers(base), min_size=size[0], max_size=size[1])
    if size[1] > 40:
        items = st.lists(numbers(base), min_size=1, max_size=9).map(lambda some: (some * 300)[: size[1]])
    kind = f"{base}[{'' if length is None else length}]"
    return Field(kind, kind, st.builds(_sequence, st.just(base), items, st.integers(0, 2)))


@st.composite
def enumeration_fields(draw: st.DrawFn) -> Field:
    base = draw(st.sampled_from(INTEGERS))
    labels = dict(
        draw(
            st.lists(
                st.tuples(WORDS, integers(base)),
                min_size=1,
                max_size=5,
                unique_by=(lambda pair: pair[0], lambda pair: pair[1]),
            )
        )
    )
    if draw(st.booleans()):
        kind = f"{base}{{{','.join(f'{label}={number}' for label, number in labels.items())}}}"
        return Field(kind, kind, st.sampled_from([*labels, *labels.values()]) | integers(base))
    members = [(f"m{label}", number) for label, number in labels.items()]
    made: Any = enum.Enum("Made", members)  # type: ignore[misc]  # they are not known to mypy
    return Field(made, type_text(made), st.sampled_from([*made, *(member.value for member in made)]))


def _view(data: bytes) -> memoryview:
    return memoryview(data)


PLAIN_FIELDS = [
    *map(_number_field, wire.NUMBER_TYPES),
    Field("bool", "bool", st.booleans() | st.sampled_from([0, 1, 2, "", "x", None])),
    Field("str", "str", TEXTS),
    Field("bytes", "bytes", BYTES | BYTES.map(bytearray) | BYTES.map(_view)),
]
FIELDS = st.sampled_from(PLAIN_FIELDS) | array_fields() | enumeration_fields()
