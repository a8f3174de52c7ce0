"""`with` of a span in numba's kernels: the same function writes the same records in Python and when it is compiled."""

from __future__ import annotations

import sys
import textwrap
from random import Random
from typing import TYPE_CHECKING, Any

import numba
import pytest
from numba.core.errors import CompilerError, TypingError

import commands
import shmtrace
from written import written

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from shmtrace.reader import Record
    from written import Trace

NUMBERS = range(5)  # what each function is called with
MARK = 1 << 30  # a step between two calls
FUNCTIONS = {
    "plain": """
        with outer:
            step(n)
        return n
    """,
    "fields": """
        with load(3):
            step(n)
        with load(shard=n):
            pass
        return n
    """,
    "nested": """
        with outer:
            for i in range(n):
                with load(i), inner:
                    step(i)
                    with outer:
                        step(100)
                step(7)
        return n
    """,
    "return": """
        with outer:
            if n > 2:
                return 1
            with load(n):
                if n == 1:
                    return 3
            step(n)
        step(77)
        return 2
    """,
    "break and continue": """
        r = 0
        while True:
            with outer:
                r += 1
                if r == n:
                    continue
                with inner:
                    if r > 3:
                        break
            step(r)
        with load(n):
            return r
    """,
    "on one way": """
        if n > 2:
            with outer:
                step(n)
        elif n == 1:
            step(99)
        else:
            with inner:
                with load(n + 0):
                    step(98)
        step(97)
        return n
    """,
    "endless": """
        with outer:
            while True:
                n += 1
                if n > 10:
                    break
        with outer:
            return n
    """,
    "returns alone": """
        with outer:
            if n > 2:
                return 1
            else:
                return 2
    """,
    "in a loop that returns": """
        for i in range(n):
            with outer, load(i):
                step(i)
                if i == 3:
                    return i
        return 0
    """,
    "another's": """
        with outer, numba.parallel_chunksize(8):
            step(n)
        with numba.parallel_chunksize(4):
            step(1)
        with inner:
            step(2)
        return 0
    """,
    "none": """
        a = None
        b = None
        c = None
        with outer:
            if n == 2:
                a, b, c = None, None, None
                return 7
            d = None
            e = None
            f = None
            step(10)
        step(n)
        return 5
    """,
}


def objects(channel: shmtrace.Channel) -> dict[str, Any]:
    """What the functions use."""
    return {
        "outer": channel.span("outer"),
        "inner": channel.span("inner"),
        "load": channel.span("load", shard="u32"),
        "step": channel.tracepoint("step", number="u32"),
        "numba": numba,
    }


def function_of(body: str, given: dict[str, Any]) -> Any:  # noqa: ANN401  (a function of any kind)
    """A function of `n`."""
    namespace = dict(given)
    exec("def function(n):\n" + textwrap.indent(textwrap.dedent(body), "    "), namespace)
    return namespace["function"]


def called(trace: Trace, bodies: list[str]) -> list[tuple[str, list[Any], list[Any]]]:
    """Each body, with what its calls gave in Python and in a kernel, those that could be compiled."""
    given = objects(trace.channel)
    results, refused = [], []
    for body in bodies:
        plain = function_of(body, given)
        kernel = numba.njit(plain)
        try:
            kernel.compile("int64(int64)")
        except (CompilerError, TypingError, KeyError) as error:
            refused.append(str(error))
            continue
        answers: list[list[Any]] = []
        for function in (plain, kernel):
            answers.append([function(n) for n in NUMBERS])
            given["step"](MARK)
        results.append((body, answers[0], answers[1]))
    assert not [line for line in refused if "shmtrace: a way out" in line]
    return results


def shapes(records: list[Record]) -> Iterator[list[tuple[object, ...]]]:
    """Of the records between two marks: which, how deep, and with what."""
    part: list[tuple[object, ...]] = []
    open_spans: list[int | None] = []
    for record in records:
        if record.fields.get("number") == MARK:
            assert not open_spans
            yield part
            part = []
            continue
        if record.kind == "end":
            assert record.span == open_spans.pop(), "ends in the order of nesting"
        part.append((record.kind, record.name, record.fields, len(open_spans)))
        if record.kind == "begin":
            assert record.parent == (open_spans[-1] if open_spans else None)
            open_spans.append(record.span)
        elif record.kind == "event":
            assert record.span == (open_spans[-1] if open_spans else None)
    assert not part


def check(trace: Trace, results: list[tuple[str, list[Any], list[Any]]]) -> None:
    """Both ways gave the same and wrote the same."""
    parts = shapes(trace.records)
    for body, in_python, in_kernel in results:
        assert in_python == in_kernel, body
        assert next(parts) == next(parts), body
    assert next(parts, None) is None
    assert trace.warnings == []


def test_a_block_is_the_same_span_in_a_kernel_as_in_python(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        results = called(trace, list(FUNCTIONS.values()))
    assert len(results) == len(FUNCTIONS)
    check(trace, results)


def some_statements(random: Random, depth: int, *, in_loop: bool) -> list[str]:
    """Lines of a function, at random."""
    lines: list[str] = []
    for _ in range(random.randint(1, 3)):
        block = [f"    {line}" for line in some_statements(random, depth + 1, in_loop=in_loop)] if depth < 4 else []
        kind = random.choice(["step", "with", "with", "if", "for", "leave"])
        match kind:
            case "with" if block:
                lines += [
                    f"with {random.choice(['outer', 'inner', 'load(n)', f'load({random.randint(0, 9)})'])}:",
                    *block,
                ]
            case "if" if block:
                lines += [f"if n {random.choice(['>', '==', '<'])} {random.randint(0, 4)}:", *block]
                if random.random() < 0.3:
                    lines += ["else:", "    step(3)"]
            case "for" if block:
                inside = [f"    {line}" for line in some_statements(random, depth + 1, in_loop=True)]
                lines += [f"for i{depth} in range({random.randint(1, 3)}):", *inside]
            case "leave":
                leave = random.choice(["break", "continue", "return n"] if in_loop else ["return n"])
                lines += [f"if n == {random.randint(0, 4)}:", f"    {leave}"]
            case _:
                lines.append(f"step({random.randint(10, 99)})")
    return lines


@pytest.mark.parametrize("seed", range(3))
def test_blocks_in_any_code_are_the_same_spans(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    bodies = ["\n".join([*some_statements(random, 0, in_loop=False), "return 0"]) for _ in range(12)]
    bodies = [body for body in bodies if "with" in body]
    with written(tmp_path / "trace") as trace:
        results = called(trace, bodies)
    assert 2 * len(results) > len(bodies)
    check(trace, results)


def test_in_a_parallel_kernel_each_thread_has_its_own(tmp_path: Path) -> None:
    with written(tmp_path / "trace", mode="block") as trace:
        given = objects(trace.channel)
        load, step = given["load"], given["step"]

        @numba.njit(parallel=True, nogil=True)
        def kernel(count: int) -> None:
            for number in numba.prange(count):
                with load(number):
                    step(number)

        kernel(1000)
    begun = {record.span: record.fields["shard"] for record in trace.of_kind("begin")}
    assert sorted(begun.values()) == list(range(1000))  # type: ignore[type-var]  # numbers
    assert {record.fields["number"]: begun[record.span] for record in trace.named("step")} == {
        number: number for number in range(1000)
    }
    assert len(trace.of_kind("end")) == 1000


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("use = load(n)\nwith use:\n    pass", "a use of a span in a variable cannot be compiled: write `with load"),
        ("with load(n, 3):\n    pass", "2 values for 1 fields"),
        ("with load('x'):\n    pass", "shard: must be an integer"),
        ("with outer:\n    if n:\n        raise ValueError\n", "raise"),
        ("with outer:\n    yield n", "`yield` in `with outer` cannot be compiled"),
    ],
)
def test_what_cannot_be_compiled_is_said(body: str, message: str, channel_name: str) -> None:
    channel = shmtrace.create_channel(channel_name, page_size=4096, pages=16)
    kernel = numba.njit(function_of(body, objects(channel)))
    with pytest.raises((CompilerError, TypingError), match=message):
        kernel(1)
    shmtrace.remove_channel(channel_name)


def test_a_kernel_with_a_block_is_cached(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import numba, shmtrace
            load = shmtrace.attach().span("load", shard="u32")

            @numba.njit(cache=True)
            def kernel(n):
                with load(n):
                    return n + 1

            assert kernel(3) == 4
            print(*kernel.stats.cache_hits.values())
        """)
    )
    hits = [commands.run("run", "-o", tmp_path / name, program).stdout.split() for name in ("first", "second")]
    assert hits == [[], ["1"]]
    for name in ("first", "second"):
        kinds = [(record.kind, record.fields) for record in shmtrace.read(tmp_path / name)]
        assert kinds == [("begin", {"shard": 3}), ("end", {})]
    plain = commands.run(str(program), command=[sys.executable])
    assert (plain.returncode, plain.stdout.split()) == (0, ["1"])
