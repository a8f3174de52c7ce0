"""Places relocatable object code in this process, with ctypes alone: no compiler is imported.

The object is an ELF file as `compiler` makes it: code and constants, and relocations that are 64-bit absolute
addresses. Anything else in it, and any symbol that is not in SYMBOLS, is refused.  The mapping is never writable and
executable at once, and is never unmapped, because a builtin made from it may be called until the process is gone.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

# the state of this thread if it holds the GIL, else 0
THREAD_STATE = "PyThreadState_GetUnchecked" if sys.version_info >= (3, 13) else "_PyThreadState_UncheckedGet"


def unstable(name: str) -> str:
    """What a function is called that the interpreter gives to tools: it has another name from 3.12 on."""
    return ("PyUnstable_" if sys.version_info >= (3, 12) else "_Py") + name


CODE_EXTRA = unstable("Code_GetExtra")
UNPROVED = ("PyTuple_GetItem", "PyType_GetName", CODE_EXTRA)  # asked by code that cannot look (objects.py)
SYMBOLS = frozenset((
    "PyBuffer_Release", "PyBytes_FromStringAndSize", "PyBytes_Type", "PyContextVar_Get", "PyContextVar_Set",
    "PyErr_CheckSignals", "PyErr_Clear", "PyErr_Format", "PyErr_GivenExceptionMatches", "PyErr_Occurred",
    "PyErr_SetInterrupt", "PyEval_RestoreThread", "PyEval_SaveThread", "PyExc_BaseException", "PyExc_KeyboardInterrupt",
    "PyExc_RecursionError", "PyExc_ValueError", "PyFloat_AsDouble", "PyFloat_Type", "PyFrame_GetCode",
    "PyGILState_GetThisThreadState", "PyLong_AsLongLong", "PyLong_FromLong", "PyLong_Type", "PyObject_CallOneArg",
    "PyObject_Free", "PyObject_GetBuffer", "PyObject_Vectorcall", "PyThreadState_Get", "PyThreadState_GetID",
    "PyTuple_Pack", "PyType_GetFlags", "PyUnicode_AsUTF8AndSize", "PyUnicode_Type", "PyWeakref_NewRef",
    "Py_AddPendingCall", "Py_DecRef", "Py_IncRef", "_PyObject_NewVar", "_Py_FalseStruct", "_Py_NoneStruct",
    "_Py_TrueStruct", "__errno_location", "clock_gettime", "close", "dprintf", "getpid", "gettid", "kill", "madvise",
    "memcpy", "memset", "open", "pthread_getspecific", "pthread_setspecific", "read", "sched_getcpu", "sem_clockwait",
    "sem_getvalue", "sem_post", "sem_trywait", "strcmp", "strlen", "writev", THREAD_STATE, *UNPROVED,
))  # fmt: skip
SYMTAB, RELA = 2, 4  # section types
ALLOC = 2  # section flag
UNDEFINED = 0
ABSOLUTE_64 = 1  # R_X86_64_64
MACHINE_X86_64 = 62
# Linux has the same numbers on all machines that we look at; Python's mmap would have to be loaded for them.
MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE = 0x01, 0x02, 0x20, 0x4000
READ, WRITE, EXECUTE = 1, 2, 4
MEMORY_PAGE_BYTES = os.sysconf("SC_PAGESIZE")


hooks: dict[str, int] = {}  # symbols that tests add, and their addresses


class ObjectCodeError(Exception):
    """Object code that this loader does not place."""


libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
MAP_FAILED = ctypes.c_void_p(-1).value


def map_memory(size: int, file: int = -1, protection: int = READ | WRITE) -> int:
    """Map a file shared, or private zero pages, at an address of the kernel's choice; raises OSError.

    Python's own mmap object would unmap the memory when it is collected, at exit under the feet of daemon threads.
    """
    flags = MAP_SHARED if file >= 0 else MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
    address: int = libc.mmap(None, size, protection, flags, file, 0)
    if address == MAP_FAILED:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot map {size} bytes")
    return address


def whole_pages(size: int) -> int:
    """So many bytes, rounded up to pages of memory."""
    return -(-size // MEMORY_PAGE_BYTES) * MEMORY_PAGE_BYTES


def address_of(symbol: str) -> int:
    """Address of a symbol of libc or the interpreter."""
    return ctypes.addressof(ctypes.c_char.in_dll(libc, symbol))


class _Section:
    __slots__ = ("address", "flags", "info", "kind", "link", "offset", "size")

    def __init__(self, code: bytes, at: int) -> None:
        _, self.kind, self.flags, _, self.offset, self.size, self.link, self.info, align, _ = struct.unpack_from(
            "<IIQQQQIIQQ", code, at
        )
        self.address = align  # until it is placed

    def data(self, code: bytes) -> bytes:
        if self.offset + self.size > len(code):
            raise ObjectCodeError("a section lies outside the file")
        return code[self.offset : self.offset + self.size]


def load(code: bytes) -> dict[str, int]:
    """Place an object; the addresses of the functions in it, by name.  Raises ObjectCodeError, OSError."""
    try:
        return _load(code)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ObjectCodeError(f"not a well-formed object: {error}") from None


def _load(code: bytes) -> dict[str, int]:
    if code[:7] != b"\x7fELF\x02\x01\x01" or struct.unpack_from("<HH", code, 16) != (1, MACHINE_X86_64):
        raise ObjectCodeError("not a relocatable object for x86-64")
    table, entry_size, count = struct.unpack_from("<Q10xHH", code, 40)
    sections = [_Section(code, table + i * entry_size) for i in range(count)]
    # `.eh_frame` is all that relocates otherwise; nothing unwinds through this code
    placed = [s for s in sections if s.flags & ALLOC and s.size and s.kind == 1]
    end = 0
    for section in placed:
        align = max(section.address, 16)
        end = -(-end // align) * align
        section.address, end = end, end + section.size
    size = whole_pages(end)
    base = map_memory(size)
    try:
        for section in placed:
            section.address += base
            ctypes.memmove(section.address, section.data(code), section.size)
        functions = _link(code, sections, placed)
        if libc.mprotect(base, size, READ | EXECUTE) != 0:
            raise OSError(ctypes.get_errno(), "code cannot be made executable")  # noqa: TRY301
    except BaseException:
        libc.munmap(base, size)
        raise
    return functions


def _link(code: bytes, sections: list[_Section], placed: list[_Section]) -> dict[str, int]:
    """Fill in the addresses; those of the functions, by name."""
    functions: dict[str, int] = {}
    for section in sections:
        if section.kind == SYMTAB:
            addresses = _symbols(code, section, sections, placed, functions)
            for relocations in sections:
                if relocations.kind == RELA and sections[relocations.info] in placed:
                    _relocate(code, relocations, sections[relocations.info], addresses)
    return functions


def _symbols(
    code: bytes, section: _Section, sections: list[_Section], placed: list[_Section], functions: dict[str, int]
) -> list[int]:
    """Addresses of all symbols, in order; global functions also go into `functions`."""
    strings = sections[section.link].data(code)
    addresses = []
    for name_at, info, _, index, value, _ in struct.iter_unpack("<IBBHQQ", section.data(code)):
        name = strings[name_at : strings.index(b"\0", name_at)].decode()
        if index == UNDEFINED and name:
            if name not in SYMBOLS and name not in hooks:
                raise ObjectCodeError(f"the code wants {name!r}, which is not on the list")
            address = hooks.get(name) or address_of(name)
        elif index < len(sections) and sections[index] in placed:
            address = sections[index].address + value
            if info >> 4 == 1:
                functions[name] = address
        else:
            address = 0  # of a section that is not placed, or the file's name
        addresses.append(address)
    return addresses


def _relocate(code: bytes, section: _Section, target: _Section, addresses: list[int]) -> None:
    for at, info, addend in struct.iter_unpack("<QQq", section.data(code)):
        if info & 0xFFFF_FFFF != ABSOLUTE_64:
            raise ObjectCodeError(f"a relocation of type {info & 0xFFFF_FFFF}")
        if not 0 <= at <= target.size - 8:
            raise ObjectCodeError("a relocation outside its section")
        ctypes.c_uint64.from_address(target.address + at).value = addresses[info >> 32] + addend
