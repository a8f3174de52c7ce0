"""Builtin functions made from addresses of machine code: `PyCFunction_NewEx` does the work.

The method's `self` is the object that the user sees, so that the builtin pickles with it and its `__self__` and repr
make sense.  Definitions and their strings live as long as the process, like the code.
"""

from __future__ import annotations

import ctypes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

METH_KEYWORDS, METH_NOARGS, METH_O, METH_FASTCALL = 0x02, 0x04, 0x08, 0x80


class _MethodDef(ctypes.Structure):
    """PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("method", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_definitions: dict[tuple[int, str, int, str], _MethodDef] = {}
_new = ctypes.pythonapi.PyCFunction_NewEx
_new.restype = ctypes.py_object
_new.argtypes = (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)


def make_builtin(address: int, owner: object, name: str, flags: int, doc: str) -> Callable[..., Any]:
    """A builtin method of `owner` that runs the code at `address`.

    `doc` begins with the signature, "name($self, argument, /)", a line of two dashes and an empty line, for `inspect`.
    """
    key = address, name, flags, doc
    definition = _definitions.get(key)
    if definition is None:
        definition = _MethodDef(name.encode(), address, flags, doc.encode())
        _definitions[key] = definition
    builtin: Callable[..., Any] = _new(ctypes.addressof(definition), owner, None)
    return builtin


def address_of(holder: bytes) -> int:
    """Of the payload of a `bytes` that jitted code reads and writes, as the one in `self`; it must be kept."""
    return id(holder) + bytes.__basicsize__ - 1
