"""Events inside numba's kernels: values, threads, wrong arguments, and kernels that come out of numba's cache."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

import commands
import shmtrace
from written import written

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

numba = pytest.importorskip("numba")
np = pytest.importorskip("numpy")

CACHED = """
import os, sys
import numba, shmtrace

channel = shmtrace.attach()
for number in range(int(os.environ["OTHERS"])):
    channel.tracepoint(f"other {number}", text="str")
request = channel.tracepoint("request", status=os.environ["KIND"], path="str")
load = channel.span("load", shard="u32")
event = channel.event


@numba.njit(cache=True)
def kernel(count):
    recorded = 0
    for number in range(count):
        load.begin(number)
        recorded += request(number, "/index")
        load.end()
    return recorded


print(kernel(5), sum(kernel.stats.cache_hits.values()))
"""


@pytest.fixture(autouse=True)
def kept_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba keeps kernels in a directory of the test."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))


def test_values_of_all_types_are_the_same_from_a_kernel_as_from_python(tmp_path: Path) -> None:
    blob = np.arange(5, dtype=np.uint8)
    floats = np.array([0.5, -2.0])
    with written(tmp_path / "trace") as trace:
        numbers = trace.channel.tracepoint(
            "numbers", a="u8", b="u64", c="i8", d="i64", e="f32", f="f64", g="bool", h="u16{low=1,high=9}"
        )
        texts = trace.channel.tracepoint("texts", a="str", b="bytes", c="f64[]", d="f64[2]", e="u16")
        event, depth = trace.channel.event, trace.channel.counter("depth")

        @numba.njit(nogil=True)
        def kernel(text: str) -> int:
            return (
                numbers(255, 2**63 + 1, -128, -(2**62), 1.5, 1e300, True, 9)
                + numbers(a=0, b=0, c=127, d=2**62, e=-2.0, f=0, g=False, h=3)
                + texts("/index", blob, floats, floats, 7)
                + texts(text, blob[1:2], floats[:0], floats, 8)
                + event(blob)
                + depth(17)
            )

        assert kernel("ü\ud800 \0 \U0001f600") == 6
    names = "abcdefgh"
    assert [record.fields for record in trace.named("numbers")] == [
        dict(zip(names, (255, 2**63 + 1, -128, -(2**62), 1.5, 1e300, True, "high"), strict=True)),
        dict(zip(names, (0, 0, 127, 2**62, -2.0, 0.0, False, 3), strict=True)),
    ]
    assert [record.fields for record in trace.named("texts")] == [
        {"a": "/index", "b": bytes(range(5)), "c": [0.5, -2.0], "d": [0.5, -2.0], "e": 7},
        {"a": "ü\ufffd \ufffd \U0001f600", "b": b"\1", "c": [], "d": [0.5, -2.0], "e": 8},
    ]
    assert [record.fields for record in trace.named("blob")] == [{"blob": bytes(range(5))}]
    assert [record.fields for record in trace.named("depth")] == [{"value": 17.0}]


def test_spans_of_kernels_nest_by_thread_inside_those_of_python(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        outer, inner = trace.channel.span("outer"), trace.channel.span("inner", shard="u32")
        request = trace.channel.tracepoint("request", status="u16")

        @numba.njit
        def kernel() -> None:
            inner.begin(3)
            request(200)
            inner.end()

        with outer:
            kernel()
    assert trace.parents() == {"outer": None, "inner": "outer"}
    begin = trace.named("inner")[0]
    assert trace.named("request")[0].span == begin.span
    assert [record.kind for record in trace.named("inner")] == ["begin", "end"]


def test_each_thread_of_a_parallel_kernel_is_a_writer_and_no_event_is_lost(tmp_path: Path) -> None:
    with written(tmp_path / "trace", mode="block") as trace:
        step = trace.channel.tracepoint("step", number="u32")

        @numba.njit(parallel=True)
        def kernel(count: int) -> int:
            recorded = 0
            for number in numba.prange(count):
                recorded += step(number)
            return recorded

        assert kernel(20_000) == 20_000
        stats = trace.channel.stats()
    assert sorted(record.fields["number"] for record in trace.named("step")) == list(range(20_000))  # type: ignore[type-var]  # numbers
    assert len({record.tid for record in trace.named("step")}) >= min(2, numba.get_num_threads())
    assert sum(stats["missed"].values()) == 0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("request(1.5, 'x')", "request: status: must be an integer"),
        ("request(1)", r"path missing"),
        ("request(1, 'x', 2)", "3 values for 2 fields"),
        ("request(1, path='x', other=2)", "has no field 'other'"),
        ("request(1, 2)", "request: path: must be a str"),
    ],
)
def test_wrong_arguments_do_not_compile_and_are_named(source: str, message: str, channel_name: str) -> None:
    channel = shmtrace.create_channel(channel_name, page_size=4096, pages=16)
    namespace: dict[str, Any] = {"request": channel.tracepoint("request", status="u16", path="str")}
    exec(f"def kernel():\n    return {source}", namespace)
    with pytest.raises(numba.core.errors.TypingError, match=message):
        numba.njit(namespace["kernel"])()
    shmtrace.remove_channel(channel_name)


def test_a_number_that_is_too_great_is_refused_and_counted(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        request = trace.channel.tracepoint("request", status="u16")

        @numba.njit
        def kernel(number: int) -> bool:
            return bool(request(number))

        assert [kernel(65535), kernel(65536), kernel(-1)] == [True, False, False]
        assert trace.channel.stats()["missed"]["bad_arguments"] == 2
    assert [record.fields["status"] for record in trace.named("request")] == [65535]


def test_kernels_for_two_channels_do_not_write_into_each_other(tmp_path: Path, channel_name: str) -> None:
    other = shmtrace.create_channel(channel_name, mode="overwrite")
    with written(tmp_path / "trace") as trace:
        ours, theirs = (made.tracepoint("request", status="u16") for made in (trace.channel, other))

        @numba.njit
        def kernel() -> tuple[bool, bool]:
            return ours(1), theirs(2)

        assert kernel() == (True, True)
        other.snapshot(tmp_path / "other")
    assert [record.fields["status"] for record in trace.named("request")] == [1]
    assert [record.fields["status"] for record in shmtrace.read(tmp_path / "other")] == [2]
    shmtrace.remove_channel(channel_name)


def test_a_kernel_out_of_the_cache_never_writes_a_wrong_event(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(CACHED)

    def run(*, others: int, kind: str, trace: str) -> tuple[str, str]:
        environment: dict[str, Any] = {"OTHERS": str(others), "KIND": kind, "SHMTRACE_STRICT": "0"}
        if trace:
            ran = commands.run("run", "-o", tmp_path / trace, program, **environment)
        else:
            ran = commands.run(str(program), command=[sys.executable], **environment)
        return ran.stdout.strip(), ran.stderr

    assert run(others=0, kind="u16", trace="first")[0] == "5 0"
    assert run(others=7, kind="u16", trace="second")[0] == "5 1"  # other ids, another channel
    assert run(others=3, kind="u16", trace="")[0] == "0 1"  # none
    answer, said = run(others=3, kind="u32", trace="fourth")  # another definition of that name
    assert answer.startswith("0 ")
    assert "a kernel that numba compiled elsewhere records nothing" in said
    for directory in ("first", "second"):
        records = [record for record in shmtrace.read(tmp_path / directory) if record.kind != "loss"]
        assert [(record.name, record.kind) for record in records] == [
            ("load", "begin"), ("request", "event"), ("load", "end"),
        ] * 5  # fmt: skip
        assert [record.fields for record in records if record.name == "request"] == [
            {"status": number, "path": "/index"} for number in range(5)
        ]
    assert {record.name for record in shmtrace.read(tmp_path / "fourth")} == {"load"}


def run_cached(tmp_path: Path, setup: str, then: str, **environment: str) -> tuple[str, str]:
    """A program whose kernel numba keeps: what it prints, and what it says; `setup` makes `request`."""
    program = tmp_path / "cached.py"
    kernel = "@numba.njit(cache=True, nogil=True)\ndef kernel():\n    return request(7) + request(8)\n"
    head = f"import os\nimport numba, shmtrace\nexec(os.environ['SETUP'])\n\n{kernel}"
    program.write_text(f"{head}\nexec(os.environ['THEN'])\nprint(sum(kernel.stats.cache_hits.values()))\n")
    variables: dict[str, Any] = {**environment, "SETUP": textwrap.dedent(setup), "THEN": then, "SHMTRACE_STRICT": "0"}
    ran = commands.run(str(program), command=[sys.executable], **variables)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip().replace("\n", " "), ran.stderr


AMBIENT = "channel = shmtrace.attach()\nrequest = channel.tracepoint('request', status='u16')"
NOTHING = (
    "a kernel that numba compiled elsewhere records nothing: this process has none, or several, of: event 'request'"
)


def recorded(directory: Path) -> list[tuple[str, Any]]:
    return [(record.name, record.fields) for record in shmtrace.read(directory) if record.kind != "loss"]


def test_a_kernel_out_of_the_cache_obeys_the_switches_of_the_channel_that_it_finds(
    tmp_path: Path, channel_name: str
) -> None:
    assert run_cached(tmp_path, AMBIENT, "print(kernel())") == ("0 0", "")  # compiled where nothing is recorded
    channel = shmtrace.create_channel(channel_name, mode="overwrite")
    channel.tracepoint("other", status="u16")  # has the id that a request could have had
    channel.disable("request")
    switched = "print(kernel()); channel.enable('request'); print(kernel()); channel.disable('*'); print(kernel())"
    assert run_cached(tmp_path, AMBIENT, switched, SHMTRACE=channel_name) == ("0 2 0 1", "")
    channel.snapshot(tmp_path / "trace")
    shmtrace.remove_channel(channel_name)
    assert recorded(tmp_path / "trace") == [("request", {"status": 7}), ("request", {"status": 8})]


def test_a_kernel_out_of_the_cache_records_nothing_where_its_channel_is_gone(tmp_path: Path, channel_name: str) -> None:
    shmtrace.create_channel(channel_name, mode="overwrite")
    assert run_cached(tmp_path, AMBIENT, "print(kernel())", SHMTRACE=channel_name) == ("2 0", "")
    closed = "print(kernel()); channel.close(); print(kernel())"
    assert run_cached(tmp_path, AMBIENT, closed, SHMTRACE=channel_name) == ("2 0 1", "")
    shmtrace.remove_channel(channel_name)
    printed, said = run_cached(tmp_path, AMBIENT, "print(kernel())", SHMTRACE=channel_name)
    assert printed == "0 1"
    assert said.count("\n") == 1  # that there is no such channel


def test_a_kernel_out_of_the_cache_writes_into_no_channel_of_another_name(
    tmp_path: Path, new_name: Callable[[], str]
) -> None:
    names = [new_name(), new_name()]
    channels = [shmtrace.create_channel(name, mode="overwrite") for name in names]
    opened = "request = shmtrace.open_channel({!r}).tracepoint('request', status='u16')"
    assert run_cached(tmp_path, opened.format(names[0]), "print(kernel())") == ("2 0", "")
    printed, said = run_cached(tmp_path, opened.format(names[1]), "print(kernel())")
    assert printed == "0 1"
    assert NOTHING in said
    for channel, count in zip(channels, (2, 0), strict=True):
        assert channel.snapshot(tmp_path / channel.name) == count
        shmtrace.remove_channel(channel.name)


def test_a_kernel_out_of_the_cache_records_nothing_where_several_could_be_meant(tmp_path: Path) -> None:
    assert run_cached(tmp_path, AMBIENT, "print(kernel())") == ("0 0", "")
    setup = f"""
        import contextlib
        stack = contextlib.ExitStack()
        channels = [stack.enter_context(shmtrace.record({str(tmp_path)!r} + "/" + name)) for name in "ab"]
        others = [channel.tracepoint("other", status="u16") for channel in channels[1:]]
        request, again = (channel.tracepoint("request", status="u16") for channel in channels)
    """
    printed, said = run_cached(tmp_path, setup, "print(kernel()); print(request(9), again(10)); stack.close()")
    assert printed == "0 True True 1"
    assert NOTHING in said
    assert recorded(tmp_path / "a") == [("request", {"status": 9})]
    assert recorded(tmp_path / "b") == [("request", {"status": 10})]


def test_what_threads_of_a_kernel_lose_until_its_channel_is_used_is_counted(tmp_path: Path, channel_name: str) -> None:
    """In a cell or a test, of a channel that was attached ahead of it."""
    assert run_cached(tmp_path, AMBIENT, "print(kernel())") == ("0 0", "")
    then = """
import threading
from shmtrace.instrument.redirect import redirected
def run():
    thread = threading.Thread(target=kernel)
    thread.start()
    thread.join()
with shmtrace.create_channel(os.environ["NAME"], mode="overwrite") as made:
    with redirected(made, None):
        run()
        missed = made.missed
        run()
        run()
    print(made.snapshot(os.environ["NAME"]), missed, made.missed)
shmtrace.remove_channel(made.name)
"""
    found, said = run_cached(tmp_path, AMBIENT, f"os.chdir({str(tmp_path)!r})\n{then}", NAME=channel_name)
    assert (found, said) == ("4 2 2 1", "")
    assert recorded(tmp_path / channel_name) == 2 * [("request", {"status": 7}), ("request", {"status": 8})]


def test_a_kernel_out_of_the_cache_does_not_take_another_kind_of_that_name(tmp_path: Path, channel_name: str) -> None:
    shmtrace.create_channel(channel_name, mode="overwrite")
    assert run_cached(tmp_path, AMBIENT, "print(kernel())") == ("0 0", "")
    counter = "request = shmtrace.attach().counter('request')"
    printed, said = run_cached(tmp_path, counter, "print(kernel())", SHMTRACE=channel_name)
    assert (printed, NOTHING in said) == ("0 1", True)
    assert shmtrace.open_channel(channel_name).snapshot(tmp_path / "trace") == 0
    shmtrace.remove_channel(channel_name)
