"""How jitted code handles Python's objects: by what `objects` has proved, else by calls of the interpreter."""

from __future__ import annotations

from . import intrinsics as do
from . import objects
from .intrinsics import likely, load32, load64, store32, store64
from .lanes import apart, inlined
from .loader import CODE_EXTRA
from .objects import ASKED, COMPACT, SIGN_MASK, TAGGED

HAS_GIL, COUNT = objects.HAS_GIL, objects.COUNT
OBJECT_SLOT, OBJECT_TYPE, BYTES_DATA = objects.OBJECT_SLOT, objects.OBJECT_TYPE, objects.BYTES_DATA
VAR_SIZE, VAR_BYTES = objects.VAR_SIZE, objects.VAR_BYTES
INTEGER_HEAD, INTEGER_DIGIT = objects.INTEGER_HEAD, objects.INTEGER_DIGIT
TEXT_STATE, TEXT_DATA = objects.TEXT_STATE, objects.TEXT_DATA
PROVED = objects.prove()
COUNT_BITS, IMMORTAL, INTEGERS = PROVED["count_bits"], PROVED["immortal"] != 0, PROVED["integers"]
FLOAT_VALUE, TUPLE_ITEMS, TYPE_NAME = PROVED["float"], PROVED["items"], PROVED["type_name"]
METHOD_SELF, TEXT_BYTES, ASCII_BITS = PROVED["method_self"], PROVED["text"], PROVED["ascii"]
CODE_WORDS = PROVED["words"]
CONTEXT_AT, VERSION_AT, CONTEXT_VARIABLES = PROVED["context"], PROVED["version"], PROVED["variables"]
REFERENCE_AT, VARIABLES_ROOT, TYPE_ITEM_BYTES = objects.REFERENCE_AT, objects.VARIABLES_ROOT, objects.TYPE_ITEM_BYTES
NODE_BITS, NODE_ITEMS, WIDE_ITEMS = objects.NODE_BITS, objects.NODE_ITEMS, objects.WIDE_ITEMS
LEVELS, LEVEL_BITS, LEVEL_MASK = objects.LEVELS, objects.LEVEL_BITS, objects.LEVEL_MASK
IMMORTAL_COUNT = 1 << 31  # and above, of 32 bits
NO_VALUE = -1 << 63
IS_EXCEPTION, IS_TYPE = 1 << 30, 1 << 31  # Py_TPFLAGS_..._SUBCLASS

pointer_out = do.scratch(8)
bytes_type = do.address_of("PyBytes_Type")
integer_type = do.address_of("PyLong_Type")
float_type = do.address_of("PyFloat_Type")
text_type = do.address_of("PyUnicode_Type")
py_true = do.address_of("_Py_TrueStruct")
py_false = do.address_of("_Py_FalseStruct")
py_none = do.address_of("_Py_NoneStruct")
keyboard_interrupt = do.address_of("PyExc_KeyboardInterrupt")
Py_IncRef = do.external("Py_IncRef", 1)
Py_DecRef = do.external("Py_DecRef", 1)
PyCode_GetExtra = do.external(CODE_EXTRA, 3, result_bits=32)
PyErr_Clear = do.external("PyErr_Clear", 0)
PyErr_Occurred = do.external("PyErr_Occurred", 0)
PyErr_GivenExceptionMatches = do.external("PyErr_GivenExceptionMatches", 2, result_bits=32)
PyErr_SetInterrupt = do.external("PyErr_SetInterrupt", 0)
PyFloat_AsDouble = do.external_double("PyFloat_AsDouble")
PyLong_AsLongLong = do.external("PyLong_AsLongLong", 1)
PyTuple_GetItem = do.external("PyTuple_GetItem", 2)
PyType_GetFlags = do.external("PyType_GetFlags", 1)
PyType_GetName = do.external("PyType_GetName", 1)
PyUnicode_AsUTF8AndSize = do.external("PyUnicode_AsUTF8AndSize", 2)
strlen = do.external("strlen", 1)


@inlined
def count_of(address: int) -> int:
    """References to an object; there are COUNT_BITS."""
    return load32(address + COUNT) if COUNT_BITS == 32 else load64(address + COUNT)


@inlined
def set_count(address: int, count: int) -> None:
    """So many references to an object."""
    if COUNT_BITS == 32:
        store32(address + COUNT, count)
    else:
        store64(address + COUNT, count)


@inlined
def new_reference(address: int) -> int:
    """An object is given to Python, or kept.  Without a call: it would be the only one, often."""
    if COUNT_BITS != 0:
        count = count_of(address)
        if COUNT_BITS == 64 or likely(count < IMMORTAL_COUNT):
            set_count(address, count + 1)
    else:
        Py_IncRef(address)
    return address


@inlined
def drop_reference(address: int) -> None:
    """A reference less, which is seldom the last one."""
    if COUNT_BITS != 0:
        count = count_of(address)
        if likely(1 < count < IMMORTAL_COUNT):
            set_count(address, count - 1)
            return
    Py_DecRef(address)


@inlined
def boolean(value: bool) -> int:
    """A new reference to True or False."""
    address = py_true() if value else py_false()
    return address if IMMORTAL else new_reference(address)


@inlined
def none() -> int:
    """A new reference to None."""
    return py_none() if IMMORTAL else new_reference(py_none())


@inlined
def type_of(address: int) -> int:
    """The type of an object."""
    return load64(address + OBJECT_TYPE)


@inlined
def item_of(address: int, number: int) -> int:
    """An item of a tuple that has so many."""
    if TUPLE_ITEMS != 0:
        return load64(address + TUPLE_ITEMS + 8 * number)
    return PyTuple_GetItem(address, number)


@inlined
def word_of_code(code: int, index: int) -> int:
    """What a tool keeps with a code object; 0: nothing."""
    if CODE_WORDS != 0:
        words = load64(code + CODE_WORDS)
        return load64(words + 8 + 8 * index) if likely(words != 0) and likely(index < load64(words)) else 0
    out = pointer_out()
    do.put64(out, 0)
    PyCode_GetExtra(code, index, out)
    return load64(out)


@inlined
def held_by(address: int) -> int:
    """Address of the payload of the `bytes` in an object's first slot: a CONTEXT, or the cell of a tracepoint."""
    return load64(address + OBJECT_SLOT) + BYTES_DATA


@apart
def no_value() -> int:
    """NO_VALUE, in the place of the exception that is set.  Ctrl-C comes out of the next Python code instead."""
    do.cold()
    is_interrupt = PyErr_GivenExceptionMatches(PyErr_Occurred(), load64(keyboard_interrupt())) != 0
    PyErr_Clear()
    if is_interrupt:
        PyErr_SetInterrupt()
    return NO_VALUE


@apart
def any_integer(value: int) -> int:
    """An object that is like an integer; NO_VALUE if it is not, or too great."""
    number = PyLong_AsLongLong(value)
    return number if number != -1 or PyErr_Occurred() == 0 else no_value()


@inlined
def short_integer(value: int) -> int:
    """The number of an int of one digit; NO_VALUE if it has more."""
    head = load64(value + INTEGER_HEAD)
    if INTEGERS == TAGGED:
        if likely(head < COMPACT):
            return load32(value + INTEGER_DIGIT) * (1 - (head & SIGN_MASK))
    elif likely(-1 <= head <= 1):
        return load32(value + INTEGER_DIGIT) * head if head != 0 else 0
    return NO_VALUE


@inlined
def integer(value: int) -> int:
    """The number of an object; NO_VALUE if the code cannot tell."""
    if INTEGERS != ASKED and likely(type_of(value) == integer_type()):
        number = short_integer(value)
        if likely(number != NO_VALUE):
            return number
    return any_integer(value)


@apart
def any_double(value: int) -> int:
    """The bits of an object that is like a number; NO_VALUE (which is -0.0) if it is not."""
    bits = PyFloat_AsDouble(value)
    return bits if PyErr_Occurred() == 0 else no_value()


@inlined
def double(value: int) -> int:
    """The same, without a call where it is a float or a short int."""
    if FLOAT_VALUE != 0 and likely(type_of(value) == float_type()):
        return load64(value + FLOAT_VALUE)
    if INTEGERS != ASKED and likely(type_of(value) == integer_type()):
        number = short_integer(value)
        if likely(number != NO_VALUE):
            return do.double_of(number)
    return any_double(value)


@inlined
def text_of(value: int, out: int) -> tuple[int, int]:
    """Address and length of a str's UTF-8; 0 and 0 if it has none.  `out` is a word to be used."""
    if ASCII_BITS != 0 and likely(
        type_of(value) == text_type() and load32(value + TEXT_STATE) & ASCII_BITS == ASCII_BITS
    ):
        return value + TEXT_DATA, load64(value + VAR_SIZE)
    text = PyUnicode_AsUTF8AndSize(value, out)
    if not likely(text != 0):
        PyErr_Clear()
        return 0, 0
    return text, load64(out)


@apart
def exception_type(thing: int) -> int:
    """Of an exception, or of a type of exceptions; 0: it is neither."""
    do.cold()
    flags = PyType_GetFlags(type_of(thing))
    if flags & IS_TYPE != 0:
        return thing if PyType_GetFlags(thing) & IS_EXCEPTION != 0 else 0
    return type_of(thing) if flags & IS_EXCEPTION != 0 else 0


@inlined
def copy_name(target: int, kind: int, most: int) -> int:
    """So many bytes, at most, of the name of a type; how many there are."""
    if TYPE_NAME != 0:
        name = load64(kind + TYPE_NAME)
        length = min(strlen(name), most)
        do.copy(target, name, length)
        return length
    text = PyType_GetName(kind)
    name = PyUnicode_AsUTF8AndSize(text, 0) if text != 0 else 0
    length = 0
    if name != 0:
        length = min(strlen(name), most)
        do.copy(target, name, length)
    else:
        PyErr_Clear()
    if text != 0:
        Py_DecRef(text)
    return length
