"""Types made from addresses of machine code: `PyType_FromSpecWithBases` does the work.  It copies what it is given."""

from __future__ import annotations

import ctypes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CALL, DEALLOC, DESCRIPTOR_GET, DOC, MEMBERS = 50, 52, 54, 56, 72  # numbers of slots
HAS_VECTORCALL, NO_INSTANTIATION = 1 << 11, 1 << 7
MEMBER_SIZE, READ_ONLY = 19, 1  # T_PYSSIZET


class _Slot(ctypes.Structure):
    """PyType_Slot."""

    _fields_ = (("slot", ctypes.c_int), ("value", ctypes.c_void_p))


class _Spec(ctypes.Structure):
    """PyType_Spec."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("basic_size", ctypes.c_int),
        ("item_size", ctypes.c_int),
        ("flags", ctypes.c_uint),
        ("slots", ctypes.c_void_p),
    )


class _Member(ctypes.Structure):
    """PyMemberDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("offset", ctypes.c_ssize_t),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


def make_type(
    name: str,
    slots: dict[int, int] | None = None,
    *,
    base: type | None = None,
    basic_size: int = 0,
    item_size: int = 0,
    vectorcall_at: int = 0,
    doc: str = "",
) -> Any:
    """A type with the functions at these addresses, by the numbers of their slots.

    Python makes objects of it if it has a base.  With `vectorcall_at` they have the address of their call at that
    offset.
    """
    flags = NO_INSTANTIATION if base is None else 0
    text = ctypes.create_string_buffer(doc.encode())
    slots = {**(slots or {}), DOC: ctypes.addressof(text)}
    members = (_Member * 2)(_Member(b"__vectorcalloffset__", MEMBER_SIZE, vectorcall_at, READ_ONLY))
    if vectorcall_at:
        flags |= HAS_VECTORCALL
        slots[MEMBERS] = ctypes.addressof(members)
        slots[CALL] = ctypes.cast(ctypes.pythonapi.PyVectorcall_Call, ctypes.c_void_p).value or 0
    table = (_Slot * (len(slots) + 1))(*(_Slot(slot, value) for slot, value in sorted(slots.items())))
    spec = _Spec(name.encode(), basic_size, item_size, flags, ctypes.addressof(table))
    make = ctypes.pythonapi.PyType_FromSpecWithBases
    make.restype, make.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.py_object)
    return make(ctypes.addressof(spec), (base or object,))
