"""What a call costs that records nothing, against one of a builtin of the same shape that does nothing at all.

The empty builtins are made as ours are, of jitted functions; so is the type of an object that is called and entered.
`off` is a channel of a process without $SHMTRACE,
`unread` a channel that nobody reads, `disabled` one that is read, whose class is switched off (a blob and a log have no
such switch).
"""

from __future__ import annotations

import ctypes
import time
import timeit
from typing import TYPE_CHECKING, Any

import shmtrace
from shmtrace.native.builtin import METH_FASTCALL, METH_KEYWORDS, METH_NOARGS, METH_O, make_builtin
from shmtrace.native.types import make_type

from .costs import spread
from .peers.shmtrace_event import channel, collected

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 25
DOC = "empty($self, /)\n--\n\nDoes nothing."
SHAPES = {
    "event": "call(blob)",
    "counter": "call(17)",
    "tracepoint": "call(200, 0.013, '/index')",
    "tracepoint by keyword": "call(200, latency=0.013, path='/index')",
    "log": "call('cache miss', key='a1', tried=3)",
    "span by hand": "begin(3); end()",
    "with span": "with span: pass",
    "with span(3)": "with call(3): pass",
}


class Empty:
    """What the empty builtins belong to; `with` finds two of them in its class."""

    __slots__ = ()
    __enter__: Callable[..., Any]
    __exit__: Callable[..., Any]


def floor() -> dict[str, dict[str, Any]]:
    """For each shape the names in its statement, as empty builtins."""
    from shmtrace.native.access import Py_IncRef, boolean
    from shmtrace.native.compiler import compile_object
    from shmtrace.native.loader import load

    def nothing_with_one(_self: int, _argument: int) -> int:
        return boolean(False)

    def nothing_with_names(_self: int, _arguments: int, _count: int, _names: int) -> int:
        return boolean(False)

    def itself(self: int, _argument: int) -> int:
        Py_IncRef(self)
        return self

    def itself_with_names(self: int, _arguments: int, _count: int, _names: int) -> int:
        Py_IncRef(self)
        return self

    code = load(compile_object([nothing_with_one, nothing_with_names, itself, itself_with_names]))
    owner = Empty()
    size = object.__basicsize__
    called = make_type("bench.Called", base=Empty, basic_size=size + 8, vectorcall_at=size)()
    ctypes.c_uint64.from_address(id(called) + size).value = code["itself_with_names"]

    def made(entry: str, flags: int) -> Callable[..., Any]:
        return make_builtin(code[entry], owner, entry, flags, DOC)

    one, named = made("nothing_with_one", METH_O), made("nothing_with_names", METH_FASTCALL | METH_KEYWORDS)
    Empty.__enter__, Empty.__exit__ = made("itself", METH_NOARGS), named
    return {
        "event": {"call": one}, "counter": {"call": named}, "tracepoint": {"call": named},
        "tracepoint by keyword": {"call": named}, "log": {"call": named},
        "span by hand": {"begin": named, "end": named},
        "with span": {"span": owner}, "with span(3)": {"call": called},
    }  # fmt: skip


def objects(made: shmtrace.Channel) -> dict[str, dict[str, Any]]:
    """For each shape the same names, as a channel's objects."""
    request = made.tracepoint("request", status="u16", latency="f64", path="str")
    load = made.span("load", shard="u32")
    return {
        "event": {"call": made.event}, "counter": {"call": made.counter("depth")}, "tracepoint": {"call": request},
        "tracepoint by keyword": {"call": request}, "log": {"call": made.log},
        "span by hand": {"begin": load.begin, "end": load.end}, "with span": {"span": made.span("plain")},
        "with span(3)": {"call": load},
    }  # fmt: skip


def measure(seconds: float) -> list[dict[str, Any]]:
    """Nanoseconds a call, of each shape and state, and of the empty builtin; about `seconds` for each, in turn."""
    with channel() as unread, channel() as disabled, collected(disabled):
        states = {"off": objects(shmtrace.attach()), "unread": objects(unread), "disabled": objects(disabled)}
        disabled.disable("*")
        for shape in ("event", "log"):
            del states["disabled"][shape]
        columns = {"empty": floor(), **states}
        rows = [row for shape in SHAPES for row in _measure(shape, columns, seconds)]
        assert unread.stats()["delivered"] == disabled.stats()["delivered"] == 0
    return rows


def _measure(shape: str, columns: dict[str, dict[str, dict[str, Any]]], seconds: float) -> list[dict[str, Any]]:
    timers = {
        state: timeit.Timer(SHAPES[shape], timer=time.thread_time, globals={**found[shape], "blob": bytes(32)})
        for state, found in columns.items()
        if shape in found
    }
    count = max(round(seconds / ROUNDS / (timers["empty"].timeit(1000) / 1000)), 100)
    samples: dict[str, list[float]] = {state: [] for state in timers}
    for _ in range(ROUNDS):
        for state, timer in timers.items():
            samples[state].append(timer.timeit(count) / count * 1e9)
    return [{"shape": shape, "state": state, "ns": spread(values)} for state, values in samples.items()]
