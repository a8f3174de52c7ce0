"""Events inside users' numba kernels.  numba calls `init` (an entry point) before it compiles or loads anything.

A kernel has no address and no id of a process in it, since numba keeps kernels in files.  It finds its cell at run
time: through SYMBOL, the table tables.KERNELS, whose functions native/kernel.py are, by a text that says which object
it was compiled with and what that is.  See docs/kernels.md.
"""

from __future__ import annotations

import ctypes
import os
from types import BuiltinFunctionType, MethodType

from .. import known, layout
from ..channel import Channel
from ..native import code_key, functions, is_compiling, is_ready, tables
from ..native.builtin import address_of
from ..spans import Span
from ..tracepoint import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SYMBOL = "shmtrace_kernels"
table = (ctypes.c_uint64 * (tables.KERNELS_BYTES // 8))()
_mark = os.urandom(16).hex()
_users: list[bool] = []  # True: it is the user who has imported numba, not our compiler
_kept: dict[int, tuple[object, bytes, Any, object]] = {}  # by id: whatever kernels may look for lives for ever


def init() -> None:
    """Make tracepoints known to numba."""
    import llvmlite.binding as llvm
    from numba.extending import typeof_impl

    llvm.add_symbol(SYMBOL, ctypes.addressof(table))
    _users.append(not is_compiling())
    known.listen(_enter)
    setattr(Span, "mutate_with_body", _compile_with)  # noqa: B010  (numba looks for it at what stands behind `with`)
    for kind in (BuiltinFunctionType, MethodType):

        @typeof_impl.register(kind)
        def typeof_callable(value: Any, context: Any) -> Any:
            if isinstance(value.__self__, (Channel, Event)):
                from .typing import type_of

                return type_of(value)
            return typeof_impl.dispatch(object)(value, context)

    @typeof_impl.register(Channel)
    @typeof_impl.register(Span)
    def typeof_object(value: Any, context: Any) -> Any:
        from .typing import type_of

        return type_of(value)


def _compile_with(_span: Span, func_ir: Any, blocks: dict[int, Any], head: int, *_: object) -> object:
    """For numba, which asks what stands behind `with` to change the code of the block."""
    from .withs import compile_with

    return compile_with(func_ir, blocks, head)


def _channel_of(thing: object) -> Channel | None:
    return thing if isinstance(thing, Channel) else thing._channel if isinstance(thing, Event) else None  # noqa: SLF001


def place() -> None:
    """Place the object code and fill in the table."""
    if table[0]:
        return
    code = functions("kernel")
    for name, at in layout.fields_of(tables.KERNELS).items():
        if name != "resolve" and f"kernel_{name}" in code:
            table[at // 8] = code[f"kernel_{name}"]
    table[0] = code["kernel_resolve"]


def _enter(thing: object) -> None:
    """Something was made.  Who does not use numba, or whose channel is off, does not wait for a compiler."""
    channel = _channel_of(thing)
    if channel is not None and not is_compiling() and (is_ready("kernel") or (channel.segment and _users[0])):
        place()
    enter(thing)


def enter_used(thing: object) -> bytes:
    """The same, of what a kernel is compiled with: its threads may come to it without the GIL, and cannot bind it."""
    text = enter(thing)
    _kept[id(thing)][2][tables.KNOWN.used // 8] = 1
    channel = _channel_of(thing)
    if channel is not None and channel.segment is not None:
        channel.attach_pending()
    return text


def may_use(channel: Channel) -> bool:
    """Whether there are kernels that write into this channel: compiled here, or out of a cache and called once."""
    table[tables.KERNELS.attach_asked // 8] = 0  # it may have to be attached once more
    return any(
        entry[tables.KNOWN.used // 8] for thing, _, entry, _ in list(_kept.values()) if _channel_of(thing) is channel
    )


def enter(thing: object) -> bytes:
    """Make an object known to kernels; the text by which it is found."""
    if id(thing) in _kept:
        return _kept[id(thing)][1]
    if isinstance(thing, Channel):
        channel, what, cell = thing, "channel", id(thing)
    else:
        assert isinstance(thing, Event)
        channel, cell = thing._channel, address_of(thing.cell)  # noqa: SLF001
        what = f"{thing._kind} {thing.name!r} ({thing.fields})"  # noqa: SLF001
    # a kernel of another version has another text, so it finds nothing
    version = code_key("kernel")[:16]
    named = f"{what} of channel {channel.name!r}, version {version}"
    ambient = f"{what} of the channel of $SHMTRACE or record(), version {version}"
    text = f"{_mark}{len(_kept):016x}{ambient if channel.is_ambient else named}".encode()
    texts = [ctypes.create_string_buffer(part) for part in (text, named.encode(), ambient.encode())]
    entry = (ctypes.c_uint64 * (tables.KNOWN_BYTES // 8))(
        table[tables.KERNELS.known // 8],
        *(ctypes.addressof(part) for part in texts),
        cell,
        isinstance(thing, Channel),
    )
    if not channel.is_ambient:
        entry[tables.KNOWN.ambient // 8] = 0
    _kept[id(thing)] = (thing, text, entry, texts)
    table[tables.KERNELS.known // 8] = ctypes.addressof(entry)
    table[tables.KERNELS.count // 8] += 1
    return text
