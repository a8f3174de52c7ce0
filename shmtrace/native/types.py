"""Types made from addresses of machine code: `PyType_FromSpec` does the work.  They live as long as the process."""

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


_kept: list[object] = []


def make_type(
    name: str, slots: dict[int, int], *, basic_size: int = 0, item_size: int = 0, vectorcall_at: int = 0, doc: str = ""
) -> Any:
    """A type with the functions at these addresses, by the numbers of their slots.

    Python does not make objects of it.  With `vectorcall_at` objects have the address of their call at that offset.
    """
    flags = NO_INSTANTIATION
    text = ctypes.create_string_buffer(doc.encode())
    slots = {**slots, DOC: ctypes.addressof(text)}
    if vectorcall_at:
        flags |= HAS_VECTORCALL
        members = (_Member * 2)(_Member(b"__vectorcalloffset__", MEMBER_SIZE, vectorcall_at, READ_ONLY))
        slots[MEMBERS] = ctypes.addressof(members)
        slots[CALL] = ctypes.cast(ctypes.pythonapi.PyVectorcall_Call, ctypes.c_void_p).value or 0
        _kept.append(members)
    table = (_Slot * (len(slots) + 1))(*(_Slot(slot, value) for slot, value in sorted(slots.items())))
    spec = _Spec(name.encode(), basic_size, item_size, flags, ctypes.addressof(table))
    make = ctypes.pythonapi.PyType_FromSpec
    make.restype, make.argtypes = ctypes.py_object, (ctypes.c_void_p,)
    made = make(ctypes.addressof(spec))
    _kept.extend((text, table, spec, made))
    return made
