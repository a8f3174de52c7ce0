"""The values of an event's fields as bytes: what types there are, and the careful encoder.

The jitted code (native/typed.py) encodes the common forms of the common types.  What it does not understand comes here:
arrays, members of enumerations, whatever is only like an integer, and every mistake, for which this module has the
words.  Both write the same bytes.
"""

from __future__ import annotations

import codecs
import struct
import sys

from . import wire

TYPE_CHECKING = False  # every producer with a tracepoint imports this
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

CODE_UNSIGNED, CODE_SIGNED, CODE_F32, CODE_F64, CODE_BOOL, CODE_STR, CODE_BYTES, CODE_OTHER = range(8)
WIDTH_SHIFT = 8  # a FIELD's code is one of these, and above it the bytes of a number
LONGEST = 0xFFFF  # bytes or elements of a field whose length is written ahead of it
MOST_FIELDS = 256
REPLACE = "shmtrace.replace"  # what `encode` does with what UTF-8 cannot say

_FORMATS = {
    "u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i8": "b", "i16": "h", "i32": "i", "i64": "q",
    "f32": "f", "f64": "d",
}  # fmt: skip
_PYTHON_TYPES = {int: "i64", float: "f64", bool: "bool", str: "str", bytes: "bytes"}


class WrongArguments(Exception):
    """Arguments that do not fit the fields; `kind` is what is raised where the user wants that."""

    def __init__(self, kind: type[Exception], message: str) -> None:
        super().__init__(message)
        self.kind = kind


def type_text(kind: object) -> str:
    """A field's type as it is written in the segment.  Raises TypeError, ValueError.

    `kind` is such a text, or a Python type, or an Enum class whose values are integers.
    """
    if isinstance(kind, str):
        text = kind.replace(" ", "")
        if not is_type(text):
            raise ValueError(
                f"type {kind!r}: must be one of {', '.join(wire.FIELD_TYPES)}, an array of numbers such as u16[3] or "
                f"f64[], an enumeration such as u8{{red=0,green=1}}, or an Enum class"
            )
        return text
    if isinstance(kind, type):
        if kind in _PYTHON_TYPES:
            return _PYTHON_TYPES[kind]
        members: Mapping[str, Any] | None = getattr(kind, "__members__", None)
        if members:
            return _enum_text(kind, members)
    raise TypeError(f"a type {kind!r}: must be a text such as 'u32', or an Enum class")


def _enum_text(kind: type, members: Mapping[str, Any]) -> str:
    values: dict[int, str] = {}
    for name, member in members.items():
        if not isinstance(member.value, int):
            raise TypeError(f"{kind.__name__}.{name} has the value {member.value!r}: only integers can be recorded")
        if not name.isascii():
            raise ValueError(f"{kind.__name__}.{name}: labels must be of ASCII")
        values.setdefault(int(member.value), name)  # the others are aliases
    low, high = min(values), max(values)
    for base in ("u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64"):
        least, greatest = wire.limits(base)
        if least <= low and high <= greatest:
            return f"{base}{{{','.join(f'{name}={value}' for value, name in values.items())}}}"
    raise ValueError(f"the values of {kind.__name__} do not fit into 64 bits")


def is_type(text: str) -> bool:
    """Whether this is a type of a field.  Raises ValueError for a malformed enumeration."""
    array = wire.parse_array(text)
    if array is not None:
        return array[1] is None or 0 < array[1] <= LONGEST
    return text in wire.FIELD_TYPES or wire.parse_enum(text) is not None


def code_of(kind: str) -> int:
    """The code of a type in a FIELD."""
    enum = wire.parse_enum(kind)
    base = enum[0] if enum else kind
    simple = {
        "f32": CODE_F32 | 4 << WIDTH_SHIFT, "f64": CODE_F64 | 8 << WIDTH_SHIFT, "bool": CODE_BOOL | 1 << WIDTH_SHIFT,
        "str": CODE_STR, "bytes": CODE_BYTES,
    }  # fmt: skip
    if base in simple:
        return simple[base]
    if base in _FORMATS:
        return (CODE_UNSIGNED if base[0] == "u" else CODE_SIGNED) | int(base[1:]) // 8 << WIDTH_SHIFT
    return CODE_OTHER


def encoder_of(kind: str) -> Callable[[Any], bytes]:
    """A function that encodes a value of a type.  Raises TypeError, OverflowError, ValueError."""
    if kind == "str":
        return text_bytes
    if kind == "bytes":
        return _counted_bytes
    if kind == "bool":
        return _bool_byte
    array, enum = wire.parse_array(kind), wire.parse_enum(kind)
    if array is not None:
        return _array_encoder(*array)
    return _number_encoder(enum[0] if enum else kind, enum[1] if enum else None)


def _number_encoder(base: str, labels: Mapping[str, int] | None) -> Callable[[Any], bytes]:
    pack = struct.Struct("<" + _FORMATS[base]).pack
    number = _number_of(base, labels)

    def encode(value: object) -> bytes:
        return pack(number(value))

    return encode


def _number_of(base: str, labels: Mapping[str, int] | None) -> Callable[[Any], int | float]:
    """A function that gives what struct takes, or raises."""
    if base == "f64":
        return _float
    if base == "f32":
        return _float32
    low, high = wire.limits(base)

    def integer(value: Any) -> int:
        if labels is not None:
            if isinstance(value, str):
                if value not in labels:
                    raise ValueError(f"no label of the enumeration, which has {', '.join(labels)}")
                return labels[value]
            if not hasattr(value, "__index__") and hasattr(value, "value"):
                value = value.value  # a member of an Enum
        index = getattr(type(value), "__index__", None)
        if index is None:
            raise TypeError(f"must be an integer, not {type(value).__name__}")
        number = int(index(value))
        if not low <= number <= high:
            raise OverflowError(f"{base} holds {low} to {high}")
        return number

    return integer


def _float(value: Any) -> float:
    if isinstance(value, (str, bytes)) or not (hasattr(value, "__float__") or hasattr(value, "__index__")):
        raise TypeError(f"must be a number, not {type(value).__name__}")
    return float(value)


def _float32(value: Any) -> float:
    number = _float(value)
    try:
        struct.pack("<f", number)
    except OverflowError:
        raise OverflowError("f32 holds about -3.4e38 to 3.4e38") from None
    return number


def _bool_byte(value: object) -> bytes:
    return b"\1" if value else b"\0"


def _replace(error: UnicodeError) -> tuple[bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "\ufffd".encode() * (error.end - error.start), error.end


codecs.register_error(REPLACE, _replace)


def text_bytes(value: object) -> bytes:
    """A text as CTF wants it: UTF-8, no NUL in it but at its end; what UTF-8 cannot say becomes U+FFFD."""
    if not isinstance(value, str):
        raise TypeError(f"must be a str, not {type(value).__name__}")
    return value.replace("\0", "\ufffd").encode(errors=REPLACE) + b"\0"


def _counted_bytes(value: Any) -> bytes:
    if isinstance(value, str):
        raise TypeError("must be bytes, not str")
    try:
        data = memoryview(value).tobytes()
    except TypeError:
        raise TypeError(f"must be bytes-like, not {type(value).__name__}") from None
    if len(data) > LONGEST:
        raise ValueError(f"{len(data)} bytes, at most {LONGEST} can be recorded")
    return len(data).to_bytes(2, "little") + data


def _array_encoder(base: str, length: int | None) -> Callable[[Any], bytes]:
    number = _number_of(base, None)
    form = _FORMATS[base]

    def encode(value: Any) -> bytes:
        if isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
            raise TypeError(f"must be a sequence of numbers, not {type(value).__name__}")
        count = len(value)
        if count > LONGEST or (length is not None and count != length):
            raise ValueError(f"{count} elements, must be {length if length is not None else f'at most {LONGEST}'}")
        head = count.to_bytes(2, "little") if length is None else b""
        return head + (_same_layout(value, form) or struct.pack(f"<{count}{form}", *map(number, value)))

    return encode


def _same_layout(value: object, form: str) -> bytes | None:
    """The bytes of an array that has these very numbers in it (array.array, numpy): they need no conversion."""
    try:
        view = memoryview(value)  # type: ignore[arg-type]  # this is how to find out
    except (TypeError, ValueError, BufferError):
        return None
    same = view.ndim == 1 and sys.byteorder == "little" and view.itemsize == struct.calcsize(form)
    kinds = {"B": "BHILQ", "b": "bhilq", "f": "f", "d": "d"}
    group = next((letters for letters in kinds.values() if form in letters), "")
    return view.tobytes() if same and view.format in set(group) else None


class Encoder:
    """The fields of one class, and values for them as bytes."""

    def __init__(self, name: str, fields: str) -> None:
        pairs = wire.split_fields(fields)
        self._name = name
        self.names = [field for field, _ in pairs]
        self.codes = [code_of(kind) for _, kind in pairs]
        self._kinds = [kind for _, kind in pairs]
        self._encoders: list[Callable[[Any], bytes]] | None = None

    def encode(self, arguments: Sequence[object], keywords: Mapping[str, object]) -> bytes:
        """The body of a record.  Raises WrongArguments, which names the class and the field."""
        if self._encoders is None:
            self._encoders = [encoder_of(kind) for kind in self._kinds]
        values = self._arrange(arguments, keywords)
        parts = []
        for field, encode, value in zip(self.names, self._encoders, values, strict=True):
            try:
                parts.append(encode(value))
            except (TypeError, OverflowError, ValueError) as error:
                kind = type(error) if type(error) in {TypeError, OverflowError} else ValueError
                raise WrongArguments(kind, f"{self._name}: {field}={_shown(value)}: {error}") from None
            except Exception as error:  # noqa: BLE001  (of the value's own methods)
                raise WrongArguments(TypeError, f"{self._name}: {field}: {type(error).__name__}: {error}") from None
        return b"".join(parts)

    def _arrange(self, arguments: Sequence[object], keywords: Mapping[str, object]) -> list[object]:
        """The values in the order of the fields."""
        if len(arguments) > len(self.names):
            raise WrongArguments(
                TypeError, f"{self._name}: {len(arguments)} values for {len(self.names)} fields {self._fields()}"
            )
        values: dict[str, object] = dict(zip(self.names, arguments, strict=False))
        for field, value in keywords.items():
            if field not in self.names:
                raise WrongArguments(TypeError, f"{self._name}: has no field {field!r}, only {self._fields()}")
            if field in values:
                raise WrongArguments(TypeError, f"{self._name}: {field} is given twice")
            values[field] = value
        missing = [field for field in self.names if field not in values]
        if missing:
            raise WrongArguments(TypeError, f"{self._name}: {', '.join(missing)} missing of {self._fields()}")
        return [values[field] for field in self.names]

    def _fields(self) -> str:
        return "(" + ", ".join(self.names) + ")"


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  (a repr of the user's own)
        return f"<{type(value).__name__}>"
    return text if len(text) <= 60 else text[:57] + "..."
