"""Python functions: each call, and how it ended, of all threads.

From Python 3.12 on these are hooks of `sys.monitoring`, before it is the C-level profile hook.  The hooks are builtins
made of jitted code (native/hooks.py).  They write a function's number, which stands in its code object for as long
as that lives; what the number means is written once by each process, and again when another reader comes.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import itertools
import os
import sys
from fnmatch import fnmatchcase
from importlib.util import find_spec

from .. import channel as channels
from ..attachment import lasting, wiped_memory
from ..context import reader_of
from ..errors import ShmtraceError
from ..log import is_recording
from ..native import functions as native
from ..native import tables
from ..native.builtin import METH_O, address_of
from ..native.loader import unstable
from ..native.tables import EVENT, FUNCTIONS
from ..native.types import make_type
from ..notes import say
from ..tracepoint import LEVELS, Event
from ..wire import FUNCTION_FIELDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType, FrameType
    from typing import Any

    from ..channel import Channel

__all__ = ["VARIABLE", "Functions", "install", "start"]

VARIABLE = "SHMTRACE_FUNCTIONS"
MONITORS = sys.version_info >= (3, 12)
NAME_LIMIT = 400  # characters of a module, a function or a file
# Modules that are never recorded; those of import are so many calls that nobody would find his own.
OWN = ("shmtrace", "importlib._bootstrap", "importlib._bootstrap_external")

_numbers = itertools.count(1)
_extra: list[int] = []  # the index of our words in code objects, once there is one
_told_missing: list[bool] = []
_installed: list[Functions] = []


def _python(name: str, *types: object, result: object = ctypes.c_int) -> Any:
    """A function of the interpreter."""
    function = getattr(ctypes.pythonapi, name)
    function.argtypes, function.restype = types, result
    return function


def _extra_index() -> int:
    if not _extra:
        index = _python(unstable("Eval_RequestCodeExtraIndex"), ctypes.c_void_p, result=ctypes.c_ssize_t)(None)
        if index < 0:
            raise ShmtraceError("functions cannot be traced: code objects have no room for another tool's word")
        _extra.append(index)
    return _extra[0]


def _number_of(code: CodeType) -> int:
    """The function's number in this process; 0: there are too many."""
    index, found = _extra_index(), ctypes.c_void_p()
    get = _python(unstable("Code_GetExtra"), ctypes.py_object, ctypes.c_ssize_t, ctypes.c_void_p)
    get(code, index, ctypes.addressof(found))
    if found.value:
        return found.value
    number = next(_numbers)
    if number >= tables.FUNCTIONS_MAX:
        if number == tables.FUNCTIONS_MAX:
            say(f"{number - 1} functions were called: others are not recorded")
        return 0
    _python(unstable("Code_SetExtra"), ctypes.py_object, ctypes.c_ssize_t, ctypes.c_void_p)(code, index, number)
    return number


def _path_of(code: CodeType) -> str:
    """The file of a function; as it is called where there is none, or the working directory is gone."""
    try:
        return code.co_filename if code.co_filename.startswith("<") else os.path.abspath(code.co_filename)
    except OSError:
        return code.co_filename


class Patterns:
    """Which modules are wanted: names or patterns, each with those inside; those behind a `-` are not."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._wanted = [pattern for pattern in patterns if not pattern.startswith("-")] or ["*"]
        self._unwanted = [pattern[1:] for pattern in patterns if pattern.startswith("-")]

    def match(self, module: str) -> bool:
        return not _is_one_of(module, OWN) and (
            _is_one_of(module, self._wanted) and not _is_one_of(module, self._unwanted)
        )


def _is_one_of(module: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(module, pattern) or fnmatchcase(module, f"{pattern}.*") for pattern in patterns)


class _Hook:
    """What the interpreter calls, without a builtin's detour.  Behind it is the address of its call."""

    __slots__ = ("cell", "step")  # the cell is the first thing in it, where the code looks for it
    cell: bytes
    step: _Step


@functools.cache
def _hook_type() -> Any:
    at = _Hook.__basicsize__
    return make_type(f"{__name__}.Hook", base=_Hook, basic_size=at + 8, vectorcall_at=at)


class _Step(Event):
    """A class of records with a function's number; and the hooks that write it."""

    __slots__ = ("_functions",)

    def __init__(self, functions: Functions, kind: str) -> None:
        super().__init__(functions.channel, kind, f"python:{kind}", LEVELS["info"], FUNCTION_FIELDS[kind])
        self._functions = functions
        self._set(EVENT.other, functions.table_address)
        self.prepare()
        self._channel.events["functions", kind] = self  # the channel binds it anew when it is attached or closed

    def _refuse(self, *arguments: object, **_: object) -> None:
        """Called by a hook that meets a function which the reader does not know."""
        code: Any = arguments[0]
        try:
            self._functions.tell(code, sys._getframe(1))  # noqa: SLF001
        except Exception:  # noqa: BLE001  (the program goes on)
            self._count()

    def stop(self) -> None:
        """Record no more, for good."""
        self._channel.events.pop(("functions", self._kind), None)
        self.bind(None, self._channel.context_off())

    def hook(self, entry: str) -> Callable[..., object]:
        hook = _hook_type()()
        hook.cell, hook.step = self.cell, self
        ctypes.c_uint64.from_address(id(hook) + _Hook.__basicsize__).value = native("hooks")[entry]
        made: Callable[..., object] = hook
        return made


class Functions:
    """Records the functions of this process, and of those that are forked from it, until `uninstall`."""

    def __init__(self, channel: Channel, modules: Sequence[str] = ()) -> None:
        self.channel = channel
        self._patterns = Patterns(modules)
        self._told = wiped_memory(8 * tables.FUNCTIONS_MAX)
        self._table = (ctypes.c_uint64 * (tables.FUNCTIONS_BYTES // 8))()
        lasting(self._table)
        self._definition = _Step(self, "function")
        self._write = self._definition._make("body_write", METH_O, "write")
        self._call, self._return = _Step(self, "call"), _Step(self, "return")
        self._unwind = _Step(self, "unwind")
        for at, value in (
            (FUNCTIONS.extra, _extra_index()),
            (FUNCTIONS.told, self._told),
            (FUNCTIONS.returned, address_of(self._return.cell)),
            (FUNCTIONS.unwound, address_of(self._unwind.cell)),
        ):
            self._table[at // 8] = value
        self._tool = 0

    @property
    def table_address(self) -> int:
        """The tables.FUNCTIONS, which lives as long as the process."""
        return ctypes.addressof(self._table)

    def tell(self, code: CodeType, frame: FrameType) -> None:
        """Write what the function's number means.  The table then says that it is told, or that it is not wanted."""
        number = _number_of(code)
        if not number:
            return
        told = ctypes.c_uint64.from_address(self._told + 8 * number)
        module = frame.f_globals.get("__name__")
        if not isinstance(module, str):
            module = "?"
        if not self._patterns.match(module):
            told.value = tables.FUNCTION_UNWANTED
            return
        segment = self.channel.segment
        if segment is None:
            return
        reader = reader_of(self.channel._context, segment)  # noqa: SLF001
        names = (text[:NAME_LIMIT] for text in (module, code.co_qualname, _path_of(code)))
        body = self._definition._encode((number, code.co_firstlineno, *names), {}, 0)  # noqa: SLF001
        if self._write(body):
            told.value = reader

    def install(self) -> None:
        """Begin.  Raises ShmtraceError where another tool holds the place."""
        native("hooks")  # before the first call that would be seen
        _installed.append(self)
        if MONITORS:
            self._monitor()
        else:
            self.profile()

    def uninstall(self) -> None:
        """Record no more.  May be called twice."""
        if self not in _installed:
            return
        _installed.remove(self)
        for step in (self._call, self._return, self._unwind):
            step.stop()  # threads may still have the hook
        if MONITORS:
            monitoring: Any = getattr(sys, "monitoring")  # noqa: B009  (mypy looks at 3.11)
            monitoring.set_events(self._tool, 0)
            for event in self._hooks():
                monitoring.register_callback(self._tool, event, None)
            monitoring.free_tool_id(self._tool)
        elif _installed:
            _installed[-1].profile()
        else:
            import threading

            threading.setprofile(None)
            _python("PyEval_SetProfile", ctypes.c_void_p, ctypes.c_void_p, result=None)(None, None)

    def _hooks(self) -> dict[int, Callable[..., object]]:
        events: Any = getattr(sys, "monitoring").events  # noqa: B009
        call, back = self._call.hook("function_step"), self._return.hook("function_step")
        return {
            events.PY_START: call,
            events.PY_RESUME: call,
            events.PY_THROW: self._call.hook("function_throw"),
            events.PY_RETURN: back,
            events.PY_YIELD: back,
            events.PY_UNWIND: self._unwind.hook("function_unwind"),
        }

    def _monitor(self) -> None:
        monitoring: Any = getattr(sys, "monitoring")  # noqa: B009
        self._table[FUNCTIONS.disable // 8] = id(monitoring.DISABLE)
        free = [tool for tool in (3, 4, 2, 5, 1, 0) if monitoring.get_tool(tool) is None]  # 2 is cProfile's
        if not free:
            _installed.remove(self)
            raise ShmtraceError("functions cannot be traced: other tools have taken all places of sys.monitoring")
        self._tool = free[0]
        monitoring.use_tool_id(self._tool, "shmtrace")
        hooks = self._hooks()
        for event, hook in hooks.items():
            monitoring.register_callback(self._tool, event, hook)
        monitoring.set_events(self._tool, sum(hooks))
        monitoring.restart_events()

    def profile(self) -> None:
        """Up to 3.11: this thread, and those that `threading` starts from now on."""
        import threading

        threading.setprofile(self._profile_thread)
        self._profile_this()

    def _profile_this(self) -> None:
        hook = native("hooks")["function_profile"]
        _python("PyEval_SetProfile", ctypes.c_void_p, ctypes.py_object, result=None)(hook, self._call)

    def _profile_thread(self, *_: object) -> None:
        """A thread's first hook, which puts the real one in its place."""
        self._profile_this()


def install(channel: Channel | None = None, modules: Sequence[str] = ()) -> Functions:
    """Record each call of a Python function from now on.

    Args:
        channel: where to, else what `attach()` gives.
        modules: names or patterns of the modules whose functions are wanted (each with the modules inside), or with a
            `-` ahead are not; all, if none is named.  A text is one of them.

    Raises ShmtraceError where that is not possible.
    """
    wanted = [modules] if isinstance(modules, str) else modules
    functions = Functions(channel if channel is not None else channels.attach(), wanted)
    is_recording(functions.channel)
    functions.install()
    return functions


def _tell_missing() -> None:
    if not _installed:
        say(
            "functions were not recorded: where Python looks while it starts there is no numba "
            "(a venv that takes it from elsewhere must have its own)"
        )


def start() -> None:
    """What the file shmtrace.pth calls in each process that starts where $SHMTRACE_FUNCTIONS is set."""
    if _installed or not os.environ.get("SHMTRACE"):
        return
    if find_spec("llvmlite") is None:  # it may be found later on, but then nobody calls this any more
        if not _told_missing:
            _told_missing.append(True)
            atexit.register(_tell_missing)
        return
    try:
        install(modules=[pattern for pattern in os.environ[VARIABLE].split(",") if pattern])
    except Exception as error:  # noqa: BLE001  (the program must run)
        say(f"functions are not recorded: {error}")
