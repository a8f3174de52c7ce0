"""What is known of the interpreter's objects: that it is proved, that a wrong proof fails, and what happens then."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import commands
import shmtrace
from shmtrace import native
from shmtrace.native import objects

if TYPE_CHECKING:
    from collections.abc import Callable

has_counts = objects.HAS_GIL and not hasattr(sys, "gettotalrefcount")

# As on a version that came after this shmtrace, and where nothing is found that is looked for.
ASKS = """
import sys
real, sys.version_info = sys.version_info, (3, 99)
from shmtrace.native import objects
sys.version_info = real
objects._has_float = objects._has_items = objects._has_name = objects._has_self = lambda: False
objects._find_context = lambda: (0, 0)
"""
LACKS = """
from shmtrace.native import objects
objects.ESSENTIAL["a slot"] = lambda: False
import shmtrace
"""
RECORDS = """
import contextvars
import shmtrace
from shmtrace.native import access
assert access.COUNT_BITS == access.INTEGERS == access.FLOAT_VALUE == access.TUPLE_ITEMS == 0
assert access.ASCII_BITS == access.CONTEXT_AT == access.CONTEXT_VARIABLES == 0
with shmtrace.record("trace") as channel:
    request = channel.tracepoint("request", status="i64", latency="f64", path="str", raw="bytes", ok="bool")
    load = channel.span("load", shard="u32")
    for number in (0, 1, -1, 300, -300, 2**30, -2**62):
        assert request(number, number / 2, path="/index", raw=b"ab", ok=number > 0)
    for _ in range(100):  # the counts of spans and their uses go up and down
        with load(3):
            channel.event(b"inside")
    try:
        with load(4):
            contextvars.copy_context().run(lambda: channel.counter("depth")(17))
            raise OverflowError
    except OverflowError:
        pass
    assert channel.log("cache miss", key="a1", tried=3, share=0.5, none=None, yes=True)
"""


def program(*parts: str) -> str:
    return textwrap.dedent("".join(parts))


def test_all_that_is_known_of_this_version_is_so() -> None:
    assert objects.VERSION in objects.KNOWN
    bits, immortal, integers = objects.KNOWN[objects.VERSION]
    proved = objects.prove()
    assert (proved["count_bits"], proved["immortal"], proved["integers"]) == (
        bits if has_counts else 0,
        immortal,
        integers,
    )
    depend = {"count_bits": has_counts, "immortal": immortal, "variables": has_counts}
    assert {name for name, found in proved.items() if not found} == {
        name for name, is_so in depend.items() if not is_so
    }


@pytest.mark.parametrize(
    ("proof", "constant", "wrong"),
    [
        (objects._has_type, "OBJECT_TYPE", 0),
        (objects._has_slot, "OBJECT_SLOT", objects.OBJECT_TYPE),
        (objects._has_size, "VAR_SIZE", objects.OBJECT_TYPE),
        (objects._has_bytes, "BYTES_DATA", objects.BYTES_DATA - 8),
        (objects._has_buffer, "BUFFER_SIZE", 8),
        (objects._has_buffer, "BUFFER_BYTES", 64),
        (objects._has_float, "FLOAT_VALUE", objects.OBJECT_TYPE),
        (objects._has_items, "TUPLE_ITEMS", objects.VAR_SIZE),
        (objects._has_name, "TYPE_NAME", objects.VAR_SIZE),
        (objects._has_self, "METHOD_SELF", objects.OBJECT_TYPE),
        (objects._has_reference, "REFERENCE_AT", objects.OBJECT_TYPE),
        (objects._has_variables, "CONTEXT_VARIABLES", objects.OBJECT_TYPE),
        (objects._has_variables, "LEVEL_BITS", 4),
    ],
)
def test_a_field_that_lies_elsewhere_is_noticed(
    proof: Callable[[], bool], constant: str, wrong: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert proof()
    monkeypatch.setattr(objects, constant, wrong)
    assert not proof()


@pytest.mark.parametrize(
    ("constant", "wrong"), [("TEXT_STATE", objects.VAR_SIZE), ("TEXT_DATA", objects.TEXT_DATA - 8)]
)
def test_a_text_that_is_kept_otherwise_is_noticed(constant: str, wrong: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert objects._find_ascii()
    monkeypatch.setattr(objects, constant, wrong)
    assert not objects._find_ascii()


def test_integers_of_another_version_are_noticed() -> None:
    (other,) = {objects.SIGNED, objects.TAGGED} - {objects.KNOWN[objects.VERSION][2]}
    assert not objects._has_integer(other)


@pytest.mark.skipif(not has_counts, reason="this build counts elsewhere")
def test_a_count_that_lies_elsewhere_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    bits = objects.KNOWN[objects.VERSION][0]
    assert objects._has_count(bits)
    monkeypatch.setattr(objects, "COUNT", 4)
    assert not objects._has_count(32)


@pytest.mark.heavy  # it compiles
@pytest.mark.timeout(600)
def test_where_nothing_is_known_the_interpreter_is_asked(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    warm = native.warmup()
    assert warm is not None
    for unit in ("collector", "reader", "json"):  # of which nothing is looked at here
        shutil.copy(Path(warm) / f"{unit}-{native.code_key(unit)}.o", cache)
    for unit in ("producer", "typed"):
        compiles = program(ASKS, f"from shmtrace.native import functions\nfunctions({unit!r})")
        compiled = subprocess.run(
            [sys.executable, "-c", compiles], env={**os.environ, "SHMTRACE_CACHE": str(cache)},
            check=True, capture_output=True, text=True, timeout=250,
        )  # fmt: skip
        assert ("does not know this version of Python: it asks" in compiled.stderr) == (unit == "producer")
    done = commands.run("-c", program(ASKS, RECORDS), cwd=tmp_path, command=[sys.executable], SHMTRACE_CACHE=str(cache))
    assert done.returncode == 0, done.stderr
    records = list(shmtrace.read(tmp_path / "trace"))
    assert [record.fields for record in records if record.name == "request"] == [
        {"status": number, "latency": number / 2, "path": "/index", "raw": b"ab", "ok": number > 0}
        for number in (0, 1, -1, 300, -300, 2**30, -(2**62))
    ]
    assert sum(record.kind == "begin" for record in records) == 101
    ends = [record.fields.get("exception") for record in records if record.kind == "end"]
    assert ends == [None] * 100 + ["OverflowError"]
    (log,) = (record for record in records if record.kind == "log")
    assert log.fields == {"key": "a1", "tried": 3, "share": 0.5, "none": None, "yes": True}


def test_an_interpreter_that_is_not_understood_is_refused_in_one_line(
    tmp_path: Path, new_name: Callable[[], str]
) -> None:
    tmp_path.chmod(0o700)
    channel = shmtrace.create_channel(new_name())
    attaches = "channel = shmtrace.attach()\nprint(channel.event(b'x'), channel.tracepoint('t', n='u8')(1))"
    done = commands.run(
        "-c", program(LACKS, attaches), command=[sys.executable], SHMTRACE_CACHE=str(tmp_path), SHMTRACE=channel.name
    )
    shmtrace.remove_channel(channel.name)
    assert (done.returncode, done.stdout) == (0, "False False\n"), done.stderr
    (line,) = done.stderr.splitlines()
    assert "keeps a slot elsewhere than shmtrace looks for it" in line


def test_nor_is_a_channel_made(tmp_path: Path, new_name: Callable[[], str]) -> None:
    tmp_path.chmod(0o700)
    creates = f"""
try:
    shmtrace.create_channel({new_name()!r})
except shmtrace.PythonUnsupported as error:
    print(error)
"""
    done = commands.run("-c", program(LACKS, creates), command=[sys.executable], SHMTRACE_CACHE=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing is recorded: use CPython" in done.stdout
