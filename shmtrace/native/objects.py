"""What jitted code knows of CPython's objects, and the proof of it: nothing else knows where a field of one lies.

             PyObject               what stands behind it
             +-------+---------+    +------------------------------------------------------------------+
             | count | ob_type |    | the first slot of a class without a base                         |
             +-------+---------+    | ob_fval of a float                                               |
                                    | ob_size of a PyVarObject: of bytes, of a tuple, of a type        |
                                    | m_ml, m_self of a builtin; im_func, im_self of a bound method    |
             | wr_object of a weak reference: None when that is gone            |
                                    +------------------------------------------------------------------+

             count                                  first word of an int                  a tuple's items behind
3.11         64 bits                                digits, negative as the int is        ob_size
3.12, 3.13   32 bits, immortal if the highest       digits << 3 | (0, 1: zero, 2: minus)  ob_size
             is set; the other 32 are 0
3.14         32 bits, as before; the other 32       the same, and bit 2 is set in the     ob_size, ob_hash
             are flags and the like                 immortal ones

A build without a GIL has a longer head, which ends with ob_type as well; nobody but the interpreter counts there.

A str that is ASCII and in one piece, as nearly all are, has its length where a PyVarObject has its size, then a hash,
32 bits that say what it is, and its text behind the head; which of the bits say so is looked for.

A Context's variables hang in a tree of at most seven levels, of which each copy of the Context is another owner, and
which shares nodes with those that were made of it.  Five bits of a variable's hash choose the way at each level.

             Context            what it has            node of up to 16           node of 32
             +-----------+      +-----------------+    +-------------------+      +-------------------+
             | PyObject  |   +->| PyObject        | +->| PyVarObject       |   +->| PyObject          |
             | previous  |   |  | root            |-+  | the bits in use   |   |  | 32 nodes, or 0    |
             | variables |---+  +-----------------+    | variable, value   |   |  +-------------------+
             +-----------+                             | or 0, node ...    |---+    tp_itemsize is 0
                                                       +-------------------+

A code object has the address of the words that tools keep with it, their number ahead of them; where, is looked for.

All this is proved on live objects by `prove`, in each process that compiles for us and in no other: object code is that
of one build of Python (native.code_key), and a worker takes it as it is.  What cannot be proved, and what depends on
the version if that is not in KNOWN, is not read: the code asks the interpreter (access.py), which is slower.  Without
what ESSENTIAL proves nothing is compiled, so that nothing is recorded.
"""

from __future__ import annotations

import ctypes
import sys

from ..errors import PythonUnsupported
from .builtin import address_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

HAS_GIL = "t" not in sys.abiflags
COUNT = 0  # ob_refcnt
OBJECT_SLOT = object.__basicsize__
OBJECT_TYPE = OBJECT_SLOT - 8
VAR_SIZE = object.__basicsize__  # ob_size
VAR_BYTES = VAR_SIZE + 8  # of a PyVarObject
BYTES_DATA = bytes.__basicsize__ - 1
TUPLE_ITEMS = tuple.__basicsize__
FLOAT_VALUE = object.__basicsize__
INTEGER_HEAD = object.__basicsize__
INTEGER_DIGIT = INTEGER_HEAD + 8
TYPE_NAME = VAR_BYTES  # tp_name
TEXT_STATE = object.__basicsize__ + 16
TEXT_DATA = str.__sizeof__("") - 1  # of one that is ASCII
METHOD_SELF = object.__basicsize__ + 8
REFERENCE_AT = object.__basicsize__
BUFFER_BYTES, BUFFER_DATA, BUFFER_SIZE = 80, 0, 16  # struct Py_buffer: buf, obj, len, ...
TEXT_BYTES = 8  # at least so many may be read where a str's UTF-8 begins: memory is given out in pieces of 16 bytes

ASKED, SIGNED, TAGGED = 0, 1, 2  # how an int tells its value
COMPACT = 2 << 3  # TAGGED: first words below this are of ints with one digit, or none
SIGN_MASK = 3
# Of a version: the bits of its counts, whether True, False and None are immortal, and how an int tells its value.
KNOWN = {
    (3, 11): (64, False, SIGNED),
    (3, 12): (32, True, TAGGED),
    (3, 13): (32, True, TAGGED),
    (3, 14): (32, True, TAGGED),
}
VERSION = sys.version_info[:2]
STATE_BYTES = 512  # of a thread's state, as far as we look
CONTEXT_VARIABLES = object.__basicsize__ + 8
VARIABLES_ROOT = object.__basicsize__
NODE_BITS = VAR_BYTES
NODE_ITEMS, WIDE_ITEMS = VAR_BYTES + 8, object.__basicsize__
TYPE_ITEM_BYTES = VAR_BYTES + 16  # tp_itemsize
LEVELS, LEVEL_BITS, LEVEL_MASK = 7, 5, 31
MOST_WORDS = 256  # that tools may keep with a code object
TRIES = 3  # to find things in them


def tree_hash(variable: object) -> int:
    """Of a ContextVar: the bits by which the interpreter finds it in a Context."""
    number = hash(variable) & 0xFFFF_FFFF_FFFF_FFFF
    folded = (number & 0xFFFF_FFFF) ^ (number >> 32)
    return folded if folded != 0xFFFF_FFFF else 0xFFFF_FFFE


class _Slotted:
    __slots__ = ("first",)
    first: object


def _word(thing: object, at: int) -> int:
    return ctypes.c_uint64.from_address(id(thing) + at).value


def _has_type() -> bool:
    return all(_word(thing, OBJECT_TYPE) == id(type(thing)) for thing in (object(), b"x", 1, "", (), _Slotted(), int))


def _has_slot() -> bool:
    thing = _Slotted()
    thing.first = mark = object()
    return _word(thing, OBJECT_SLOT) == id(mark)


def _has_size() -> bool:
    return all(_word(thing, VAR_SIZE) == len(thing) for thing in (b"", b"abc", (1, 2)))


def _has_bytes() -> bool:
    thing = bytes(range(1, 40))
    return address_of(thing) == id(thing) + BYTES_DATA and ctypes.string_at(address_of(thing), 40) == thing + b"\0"


def _has_buffer() -> bool:
    view = ctypes.create_string_buffer(b"\xff" * 256, 256)
    get, release = ctypes.pythonapi.PyObject_GetBuffer, ctypes.pythonapi.PyBuffer_Release
    if get(ctypes.py_object(b"abc"), view, 0) != 0:
        return False
    words = memoryview(view.raw).cast("Q")
    release(view)
    beyond = words[BUFFER_BYTES // 8 :].tolist()
    found = words[BUFFER_DATA // 8], words[BUFFER_SIZE // 8]
    return found == (id(b"abc") + BYTES_DATA, 3) and set(beyond) == {(1 << 64) - 1}


ESSENTIAL: dict[str, Callable[[], bool]] = {
    "a type": _has_type,
    "a slot": _has_slot,
    "a size": _has_size,
    "bytes": _has_bytes,
    "a buffer": _has_buffer,
}


def _has_count(bits: int) -> bool:
    """A count that is written is the interpreter's, and the other way round."""
    thing = object()
    count = {32: ctypes.c_uint32, 64: ctypes.c_uint64}[bits].from_address(id(thing) + COUNT)
    before = count.value
    held = [thing] * 7
    if count.value != before + len(held):
        return False
    counted = sys.getrefcount(thing)
    count.value += 5
    more = sys.getrefcount(thing) - counted
    count.value -= 5
    held.clear()
    return more == 5 and count.value == before


def _are_immortal() -> bool:
    def heads() -> list[int]:
        return [_word(thing, at) for thing in (True, False, None) for at in range(0, OBJECT_SLOT, 8)]

    before = heads()
    held = [[True, False, None] for _ in range(100)]
    return len(held) == 100 and heads() == before


def _has_integer(how: int) -> bool:
    def value(number: int) -> int | None:
        head = ctypes.c_int64.from_address(id(number) + INTEGER_HEAD).value
        digit = ctypes.c_uint32.from_address(id(number) + INTEGER_DIGIT).value
        if how == SIGNED:
            return digit * head if -1 <= head <= 1 else None
        return digit * (1 - (head & SIGN_MASK)) if head < COMPACT else None

    short = (0, 1, -1, 5, -5, 256, 257, -257, 12345, (1 << 30) - 1, 1 - (1 << 30))
    long = (1 << 30, -1 << 30, 1 << 62, -1 << 63, 1 << 100)
    return all(value(number) == number for number in short) and all(value(number) is None for number in long)


def _has_float() -> bool:
    return all(ctypes.c_double.from_address(id(x) + FLOAT_VALUE).value == x for x in (0.0, 1.5, -1e300))


def _has_items() -> bool:
    things = (object(), object(), object())
    hash(things)  # which 3.14 keeps in it
    return [_word(things, TUPLE_ITEMS + 8 * number) for number in range(3)] == [id(thing) for thing in things]


def _has_name() -> bool:
    made: type = type("Made", (), {})
    name = ctypes.pythonapi.PyUnicode_AsUTF8AndSize
    name.restype, name.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_void_p)
    return _word(made, TYPE_NAME) == name(made.__name__, None)


def _has_self() -> bool:
    owner: list[int] = []
    bound = _has_self.__get__(owner)
    return _word(owner.append, METHOD_SELF) == _word(bound, METHOD_SELF) == id(owner)


def _has_reference() -> bool:
    from contextvars import copy_context
    from weakref import ref

    thing = copy_context()
    reference, before = ref(thing), id(thing)
    is_so = _word(reference, REFERENCE_AT) == before
    del thing
    return is_so and _word(reference, REFERENCE_AT) == id(None)


def _find_ascii() -> int:
    """Bits of a str's state that are all set if, and only if, it is ASCII and in one piece; 0 if that is in doubt."""

    class Text(str):
        __slots__ = ()

    def state(text: str) -> int:
        return ctypes.c_uint32.from_address(id(text) + TEXT_STATE).value

    one = "".join(map(chr, range(1, 100)))  # not interned
    plain = ("", "a", "abc", one, one[:2], one[50:], sys.intern(one[1:]))
    is_so = all(
        _word(text, VAR_SIZE) == len(text)
        and ctypes.string_at(id(text) + TEXT_DATA, len(text) + 1) == text.encode() + b"\0"
        for text in plain
    )
    bits = -1
    for text in plain:
        bits &= state(text)
    others = ("\xe9", one + "\xe9", one + "\u0101", one + "\U0001f600", Text("abc"), Text(one), Text(""))
    return bits if is_so and all(state(text) & bits != bits for text in others) else 0


def _value_in(context: object, variable: object) -> int:
    """Address of a variable's value, found as places.search_tree does; 0: it has none here."""
    left = tree_hash(variable)
    node = ctypes.c_uint64.from_address(_word(context, CONTEXT_VARIABLES) + VARIABLES_ROOT).value
    for _ in range(LEVELS):
        words = ctypes.cast(node, ctypes.POINTER(ctypes.c_uint64))
        if ctypes.c_uint64.from_address(words[OBJECT_TYPE // 8] + TYPE_ITEM_BYTES).value == 0:
            node = words[WIDE_ITEMS // 8 + (left & LEVEL_MASK)]
        else:
            used, bit = words[NODE_BITS // 8] & 0xFFFF_FFFF, 1 << (left & LEVEL_MASK)
            at = NODE_ITEMS // 8 + 2 * (used & (bit - 1)).bit_count()
            if not used & bit:
                return 0
            if words[at]:
                return words[at + 1] if words[at] == id(variable) else 0
            node = words[at + 1]
        if node == 0:
            return 0
        left >>= LEVEL_BITS
    return 0


def _has_variables() -> bool:
    """Each is found where it hangs, in trees of every shape, and a copy of a Context owns the same tree."""
    from contextvars import ContextVar, copy_context

    def holds(count: int) -> bool:
        for variable in variables[:count]:
            variable.set(object())
        context = copy_context()
        tree = ctypes.c_ssize_t.from_address(_word(context, CONTEXT_VARIABLES) + COUNT)
        owners = tree.value
        other = copy_context()
        return (
            tree.value == owners + 1
            and _word(context, CONTEXT_VARIABLES) == _word(other, CONTEXT_VARIABLES)
            and all(_value_in(context, variable) == id(variable.get()) for variable in variables[:count])
            and all(_value_in(context, variable) == 0 for variable in variables[count:])
        )

    variables: list[ContextVar[object]] = [ContextVar(f"shmtrace {number}") for number in range(100)]
    return all(copy_context().run(holds, count) for count in (1, 2, 5, 20, len(variables) - 1))


def _find_context() -> tuple[int, int]:
    """Offsets in a thread's state, or zeros if they cannot be told without doubt.

    Of the current Context; and of a number that changes with it.
    """
    if not _has_reference():  # by which one is told from another that lies where it lay
        return 0, 0
    found = [_look_for_context() for _ in range(TRIES)]
    context, version = (set.intersection(*places) for places in zip(*found, strict=True))
    if len(context) != 1 or len(version) != 1:
        return 0, 0
    return context.pop(), version.pop()


def _look_for_context() -> tuple[set[int], set[int]]:
    """Where it may be, after a look at two Contexts that are known."""
    from contextvars import copy_context

    get = ctypes.pythonapi.PyThreadState_Get
    get.restype = ctypes.c_void_p

    def words() -> list[int]:
        return list((ctypes.c_uint64 * (STATE_BYTES // 8)).from_address(get()))

    one, other = copy_context(), copy_context()
    before = words()
    seen = [context.run(words) for context in (one, other)]
    after = words()
    number = range(len(before))
    current = {8 * at for at in number if (seen[0][at], seen[1][at]) == (id(one), id(other))}
    # it counts each time that code begins or ends to run in a Context
    versions = {8 * at for at in number if [seen[0][at], seen[1][at], after[at]] == [before[at] + n for n in (1, 3, 4)]}
    return current, versions


def _find_words() -> int:
    """Offset in a code object of the address of what tools keep with it: how many words that is, and these; or 0."""
    from .loader import unstable

    request = ctypes.pythonapi[unstable("Eval_RequestCodeExtraIndex")]
    put = ctypes.pythonapi[unstable("Code_SetExtra")]
    request.restype, put.argtypes = ctypes.c_ssize_t, (ctypes.py_object, ctypes.c_ssize_t, ctypes.c_size_t)
    index = request(None)
    if index < 0:  # others have taken all
        return 0
    found = [_look_for_words(compile("0", "", "eval"), put, index, 8 * number) for number in range(1, TRIES)]
    places = set.intersection(*found)
    return places.pop() if len(places) == 1 else 0


def _look_for_words(code: CodeType, put: Callable[..., int], index: int, value: int) -> set[int]:
    """Where it may be, after a look at the code object before and after a word was put there."""
    places = range(0, type(code).__basicsize__ - 7, 8)
    before = [_word(code, at) for at in places]
    put(code, index, value)
    changed = [at for at, word in zip(places, before, strict=True) if word == 0 != _word(code, at)]
    if len(changed) != 1:
        return set()
    words = ctypes.cast(_word(code, changed[0]), ctypes.POINTER(ctypes.c_size_t))
    return set(changed) if index < words[0] <= MOST_WORDS and words[1 + index] == value else set()


def prove() -> dict[str, int]:
    """What object code may read, after a look at live objects; 0 where it has to ask.  Raises PythonUnsupported."""
    wrong = [name for name, is_so in ESSENTIAL.items() if not is_so()]
    if wrong:
        raise PythonUnsupported(
            f"Python {sys.version.split()[0]} keeps {' and '.join(wrong)} elsewhere than shmtrace looks for it, so "
            "nothing is recorded: use CPython 3.11 to 3.14"
        )
    bits, immortal, integers = KNOWN.get(VERSION, (0, False, ASKED))
    if not HAS_GIL or hasattr(sys, "gettotalrefcount"):  # a debug build counts all references, too
        bits = 0
    context, version = _find_context()
    return {
        "count_bits": bits if bits and _has_count(bits) else 0,
        "immortal": immortal and _are_immortal(),
        "integers": integers if integers and _has_integer(integers) else ASKED,
        "float": FLOAT_VALUE if _has_float() else 0,
        "items": TUPLE_ITEMS if _has_items() else 0,
        "type_name": TYPE_NAME if _has_name() else 0,
        "method_self": METHOD_SELF if _has_self() else 0,
        "text": TEXT_BYTES if VERSION in KNOWN else 0,
        "ascii": _find_ascii() if VERSION in KNOWN else 0,
        "words": _find_words() if HAS_GIL else 0,
        "context": context,
        "version": version,
        "variables": CONTEXT_VARIABLES if bits and VERSION in KNOWN and _has_variables() else 0,
    }
