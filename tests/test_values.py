"""What was passed is what readers give: all types, extremes, texts and sizes, to our reader and to babeltrace2.

babeltrace2 is asked through its Python module, which does not round.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import hypothesis
import hypothesis.strategies as st
import msgpack
import numba
import numpy as np
import pytest

import judge
from shmtrace import wire
from shmtrace.native.tables import USE_ROOM
from values import ARRAY_CODES, BYTES, FIELDS, TEXTS, bits, integers, numbers, plain, said
from written import written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shmtrace.reader.rows import Array
    from values import Field
    from written import Trace

BT2_EVENTS = Path(__file__).with_name("bt2_events.py")
SYSTEM_PYTHON = "/usr/bin/python3"
MOST_BYTES = 60_000  # of the texts of a record; see the test of limits

pytestmark = pytest.mark.peers
settings = hypothesis.settings(max_examples=100, deadline=None, database=None)


class Event(NamedTuple):
    """As bt2_events.py prints it."""

    name: str
    kind: str
    fields: dict[str, Any]


def bt2_events(directory: Path) -> Iterator[Event]:
    """What babeltrace2 gives; of fields that are not the user's only the values."""
    ran = subprocess.run([SYSTEM_PYTHON, BT2_EVENTS, directory], capture_output=True, text=True, timeout=judge.LIMIT_S)
    assert ran.stderr == ""
    assert ran.returncode == 0
    for line in ran.stdout.splitlines():
        name, uri, level, fields = json.loads(line)
        if level is not None or name == "blob":
            own = {field: value for field, value in fields.items() if field[0] != "_"}
            yield Event(name, "event" if uri is None else uri.removeprefix("shmtrace:"), own)
        elif name == "log":
            yield Event(name, "log", fields)


@pytest.fixture
def ask_bt2(peer: Callable[[str], str]) -> Callable[[Path], list[Event]]:
    """Asks babeltrace2's Python module, if it is there."""

    def ask(directory: Path) -> list[Event]:
        python = peer(SYSTEM_PYTHON)
        if subprocess.run([python, "-c", "import bt2"], capture_output=True).returncode:
            peer("python3-bt2")
        return list(bt2_events(directory))

    return ask


class Wanted:
    """What readers must say, record by record."""

    def __init__(self) -> None:
        self.ours: list[Event] = []
        self.theirs: list[Event] = []

    def add(self, name: str, kind: str, fields: dict[str, tuple[str, Any]]) -> None:
        """A record; of each field the type, as it is written, and the value that was passed."""
        pairs = {field: said(*value) for field, value in fields.items()}
        self.ours.append(Event(name, kind, {field: ours for field, (ours, _) in pairs.items()}))
        self.theirs.append(Event(name, kind, {field: theirs for field, (_, theirs) in pairs.items()}))

    def check(self, trace: Trace, ask_bt2: Callable[[Path], list[Event]]) -> None:
        """Ask both."""
        assert trace.warnings == []
        kinds = {event.kind for event in self.ours}
        found = [
            Event(record.name, record.kind, {name: plain(value) for name, value in record.fields.items()})
            for record in trace.records
            if record.kind in kinds
        ]
        _compare(found, self.ours)
        _compare([event for event in ask_bt2(trace.directory) if event.kind in kinds], self.theirs)


def _compare(found: list[Event], wanted: list[Event]) -> None:
    """One by one: pytest takes minutes for the difference of long lists."""
    for one, other in zip(found, wanted, strict=False):
        assert one == other
    assert len(found) == len(wanted)


# -- from Python


class Shape(NamedTuple):
    """A definition, and some rows of values for it."""

    kind: str
    fields: dict[str, Field]
    rows: list[list[Any]]


NAMES = st.sampled_from(["event", "fields", "length", "span", "context", "a_length"]) | st.from_regex(
    r"[A-Za-z][A-Za-z0-9_]{0,30}", fullmatch=True
)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    count = draw(st.integers(0, 9) | st.sampled_from([64, 65, 90]))
    if count > 9:  # many, but not of many kinds
        some = draw(st.lists(FIELDS, min_size=1, max_size=3))
        fields = {f"f{number}": some[number % len(some)] for number in range(count)}
    else:
        fields = draw(st.dictionaries(NAMES, FIELDS, max_size=count))
    row = st.tuples(*(field.values for field in fields.values())).map(list).filter(_is_short)
    return Shape(draw(st.sampled_from(["event", "begin"])), fields, draw(st.lists(row, min_size=1, max_size=3)))


def _is_short(values: list[Any]) -> bool:
    """Whether a record can hold them."""
    sizes = (
        4 * len(value) if isinstance(value, str) else 8 * len(value) for value in values if hasattr(value, "__len__")
    )
    return sum(sizes) + 8 * len(values) < MOST_BYTES


PRINTABLE = st.text(st.characters().filter(str.isprintable), max_size=20)


def test_any_values_of_any_fields_from_python(tmp_path: Path, ask_bt2: Callable[[Path], list[Event]]) -> None:
    wanted, numbers = Wanted(), itertools.count()
    with written(tmp_path / "trace", mode="block") as trace:

        @settings
        @hypothesis.given(PRINTABLE, shapes())
        def emit(prefix: str, shape: Shape) -> None:
            name = f"{prefix} {next(numbers)}"  # which no other prefix makes, whatever digits it ends with
            given: dict[str, Any] = {field: its.given for field, its in shape.fields.items()}
            made: Any = (trace.channel.tracepoint if shape.kind == "event" else trace.channel.span)(name, **given)
            record = made if shape.kind == "event" else made.begin
            for number, row in enumerate(shape.rows):
                named = dict(zip(shape.fields, row, strict=True))
                positional = [named.pop(field) for field in list(shape.fields)[: len(row) // (1 + number)]]
                assert record(*positional, **named)
                if shape.kind == "begin":
                    made.end()
                kinds = {
                    field: (its.kind, value) for (field, its), value in zip(shape.fields.items(), row, strict=True)
                }
                wanted.add(name, shape.kind, kinds)

        emit()
    wanted.check(trace, ask_bt2)


def test_a_counter_holds_any_number(tmp_path: Path, ask_bt2: Callable[[Path], list[Event]]) -> None:
    wanted = Wanted()
    with written(tmp_path / "trace", mode="block") as trace:
        depth = trace.channel.counter("depth")

        @settings
        @hypothesis.given(numbers("f64") | st.integers(-(1 << 53), 1 << 53) | numbers("f64").map(np.float64))
        def emit(value: float) -> None:
            assert depth(value)
            wanted.add("depth", "counter", {"value": ("f64", value)})

        emit()
    wanted.check(trace, ask_bt2)


def test_any_blob_as_it_is_and_with_a_context(tmp_path: Path, ask_bt2: Callable[[Path], list[Event]]) -> None:
    wanted = Wanted()
    with written(tmp_path / "trace", mode="block") as trace:
        event = trace.channel.event

        @numba.njit
        def kernel(blob: Array) -> bool:
            return bool(event(blob))

        @settings
        @hypothesis.given(BYTES, st.booleans(), st.booleans())
        def emit(blob: bytes, is_inside: bool, is_kernels: bool) -> None:  # noqa: FBT001  (drawn)
            with trace.channel.context() if is_inside else nullcontext():
                assert kernel(np.array(list(blob), np.uint8)) if is_kernels else event(blob)
            wanted.add("blob", "event", {"blob": ("bytes", blob)})

        emit()
    wanted.check(trace, ask_bt2)


def test_a_nul_or_a_lone_surrogate_is_found_wherever_it_stands(
    tmp_path: Path, ask_bt2: Callable[[Path], list[Event]]
) -> None:
    wanted = Wanted()
    with written(tmp_path / "trace", mode="block") as trace:
        text = trace.channel.tracepoint("text", value="str")
        for letter, odd in itertools.product("aüあ\U0001f600", "\0\ud800\udfff"):
            for at, behind in itertools.product(range(20), range(20)):
                value = letter * at + odd + letter * behind
                assert text(value)
                wanted.add("text", "event", {"value": ("str", value)})
    wanted.check(trace, ask_bt2)


@pytest.mark.parametrize("page_size", [4096, 131072])
def test_the_longest_values_that_a_record_holds(
    page_size: int, tmp_path: Path, ask_bt2: Callable[[Path], list[Event]]
) -> None:
    wanted = Wanted()
    with written(tmp_path / "trace", mode="block", page_size=page_size, pages=64) as trace:
        limit = min(65535, page_size - 16) - wire.KIND_BYTES["event"]
        longest: dict[str, Any] = {
            "str": "x" * (limit - 1), "bytes": b"x" * (limit - 2), "u8[]": [7] * (limit - 2),
            "f64[]": [0.1] * ((limit - 2) // 8), f"u16[{limit // 2}]": [513] * (limit // 2),
        }  # fmt: skip
        for kind, value in longest.items():
            record = trace.channel.tracepoint(kind, value=kind)
            assert record(value)
            wanted.add(kind, "event", {"value": (kind, value)})
            with pytest.raises(ValueError, match=r"at most|must be"):
                record(value + value[:1])
        assert trace.channel.tracepoint("wide", value="str")("ü" * ((limit - 1) // 2))
        wanted.add("wide", "event", {"value": ("str", "ü" * ((limit - 1) // 2))})
        assert trace.channel.stats()["missed"]["bad_arguments"] == len(longest)
    wanted.check(trace, ask_bt2)


# -- logs


PACKABLE = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | numbers("f64") | TEXTS | BYTES,
    lambda values: (
        st.lists(values, max_size=4) | st.dictionaries(TEXTS.filter(lambda text: len(text) < 99), values, max_size=4)
    ),
    max_leaves=8,
)


def cleaned(value: Any) -> Any:  # noqa: ANN401
    """Texts as they can be recorded, and numbers as their bits."""
    if isinstance(value, str):
        return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in value)
    if isinstance(value, float):
        return ("f64", bits(value))
    if isinstance(value, list):
        return [cleaned(item) for item in value]
    return {cleaned(key): cleaned(item) for key, item in value.items()} if isinstance(value, dict) else value


def test_any_values_in_a_log(tmp_path: Path, ask_bt2: Callable[[Path], list[Event]]) -> None:
    wanted: list[tuple[str, Any]] = []
    with written(tmp_path / "trace", mode="block") as trace:

        @settings
        @hypothesis.given(TEXTS, st.dictionaries(NAMES | TEXTS, PACKABLE, max_size=20))
        def emit(name: str, fields: dict[str, Any]) -> None:
            hypothesis.assume(sum(map(len, map(str, fields.items()))) < MOST_BYTES // 4)
            assert trace.channel.log(name, **fields)
            wanted.append((cleaned(name), cleaned(fields)))

        emit()
    assert trace.warnings == []
    found = [(record.name, cleaned(record.fields)) for record in trace.of_kind("log")]
    for one, other in zip(found, wanted, strict=True):
        assert one == other
    packed = (
        msgpack.unpackb(bytes(event.fields["msgpack"]), strict_map_key=False) for event in ask_bt2(trace.directory)
    )
    theirs = [(fields.pop(wire.LOG_NAME), cleaned(fields)) for fields in packed]
    for one, other in zip(theirs, wanted, strict=True):
        assert one == other


# -- from kernels

DTYPES = {kind: np.dtype(ARRAY_CODES[kind]) for kind in wire.NUMBER_TYPES}
ROWS = st.lists(st.tuples(*map(numbers, wire.NUMBER_TYPES), st.booleans(), integers("i16")), min_size=1, max_size=9)


def test_any_numbers_from_a_kernel(tmp_path: Path, ask_bt2: Callable[[Path], list[Event]]) -> None:
    wanted = Wanted()
    kinds = [*wire.NUMBER_TYPES, "bool", "i16{low=-32768,none=0,high=32767}"]
    fields = {f"f{number}": kind for number, kind in enumerate(kinds)}
    with written(tmp_path / "trace", mode="block") as trace:
        same = trace.channel.tracepoint("same", **fields)
        wide = trace.channel.tracepoint("wide", **fields)
        load, depth = trace.channel.span("load", a="i8", b="f32"), trace.channel.counter("depth")

        @numba.njit(nogil=True)
        def kernel(a, b, c, d, e, f, g, h, i, j, k, m):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, PLR0917
            recorded = 0
            for n in range(len(a)):
                recorded += same(a[n], b[n], c[n], d[n], e[n], f[n], g[n], h[n], i[n], j[n], k[n], m[n])
                recorded += wide(
                    np.int64(a[n]), np.uint64(b[n]), np.int64(c[n]), d[n], np.int64(e[n]), np.int32(f[n]),
                    np.int64(g[n]), h[n], np.float64(i[n]), f11=np.int64(m[n]), f10=np.uint8(k[n]), f9=j[n],
                )  # fmt: skip
                recorded += load.begin(e[n], i[n]) + load.end() + depth(j[n]) + depth(c[n])
            return recorded

        @settings
        @hypothesis.given(ROWS)
        def emit(rows: list[tuple[Any, ...]]) -> None:
            columns = list(zip(*rows, strict=True))
            dtypes = [*DTYPES.values(), np.dtype(bool), np.dtype("i2")]
            arrays = [np.array(column, dtype) for column, dtype in zip(columns, dtypes, strict=True)]
            assert kernel(*arrays) == 6 * len(rows)
            for row in rows:
                values = dict(zip(fields, zip(kinds, row, strict=True), strict=True))
                wanted.add("same", "event", values)
                wanted.add("wide", "event", values)
                wanted.add("load", "begin", {"a": ("i8", row[4]), "b": ("f32", row[8])})
                wanted.add("depth", "counter", {"value": ("f64", row[9])})
                wanted.add("depth", "counter", {"value": ("f64", row[2])})

        emit()
    wanted.check(trace, ask_bt2)


def test_fields_of_a_span_of_any_length_around_the_room_that_there_is(
    tmp_path: Path, ask_bt2: Callable[[Path], list[Event]]
) -> None:
    wanted = Wanted()
    with written(tmp_path / "trace", mode="block") as trace:
        load = trace.channel.span("load", text="str", data="bytes", last="u16")
        for size in range(2 * USE_ROOM):
            text, data = "x" * (size // 2), bytes(range(size - size // 2))
            with load(text, data, size):
                pass
            wanted.add("load", "begin", {"text": ("str", text), "data": ("bytes", data), "last": ("u16", size)})
    wanted.check(trace, ask_bt2)


def test_any_texts_and_bytes_from_a_kernel(tmp_path: Path, ask_bt2: Callable[[Path], list[Event]]) -> None:
    wanted = Wanted()
    with written(tmp_path / "trace", mode="block") as trace:
        record = trace.channel.tracepoint("record", a="str", b="bytes", c="str", d="bytes")
        load = trace.channel.span("load", text="str")

        @numba.njit
        def kernel(text, data, array_):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return record(text, data, "of the kernel", array_) + load.begin(text) + load.end()

        @settings
        @hypothesis.given(TEXTS, BYTES, BYTES)
        def emit(text: str, data: bytes, other: bytes) -> None:
            hypothesis.assume(_is_short([text, data]))
            other = other[:9000]
            assert kernel(text, data, np.frombuffer(other, np.uint8)) == 3
            values = {"a": ("str", text), "b": ("bytes", data), "c": ("str", "of the kernel"), "d": ("bytes", other)}
            wanted.add("record", "event", values)
            wanted.add("load", "begin", {"text": ("str", text)})

        emit()
    wanted.check(trace, ask_bt2)


def test_any_arrays_from_a_kernel(tmp_path: Path, ask_bt2: Callable[[Path], list[Event]]) -> None:
    wanted = Wanted()
    kinds = [f"{kind}{length}" for kind in wire.NUMBER_TYPES for length in ("[]", "[3]")]
    arrays = st.tuples(*(st.lists(numbers(kind), min_size=3, max_size=40) for kind in wire.NUMBER_TYPES))
    with written(tmp_path / "trace", mode="block") as trace:
        record = trace.channel.tracepoint("record", **{f"f{number}": kind for number, kind in enumerate(kinds)})

        @numba.njit
        def kernel(a, b, c, d, e, f, g, h, i, j):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, PLR0917
            return record(
                a[3:], a[:3], b[3:], b[:3], c[3:], c[:3], d[3:], d[:3], e[3:], e[:3],
                f[3:], f[:3], g[3:], g[:3], h[3:], h[:3], i[3:], i[:3], j[3:], j[:3],
            )  # fmt: skip

        @settings
        @hypothesis.given(arrays)
        def emit(row: tuple[list[Any], ...]) -> None:
            assert kernel(*(np.array(part, dtype) for part, dtype in zip(row, DTYPES.values(), strict=True)))
            parts = [part for whole in row for part in (whole[3:], whole[:3])]
            wanted.add(
                "record",
                "event",
                {f"f{number}": value for number, value in enumerate(zip(kinds, parts, strict=True))},
            )

        emit()
    wanted.check(trace, ask_bt2)


def test_the_longest_values_of_a_kernel(tmp_path: Path, ask_bt2: Callable[[Path], list[Event]]) -> None:
    wanted = Wanted()
    with written(tmp_path / "trace", mode="block", page_size=131072, pages=64) as trace:
        limit = 65535 - wire.KIND_BYTES["event"]
        text, data, floats = (
            trace.channel.tracepoint(name, value=kind) for name, kind in (("t", "str"), ("b", "bytes"), ("f", "f64[]"))
        )

        @numba.njit
        def kernel(one, two, three):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return text(one), data(two), floats(three)

        longest = "ü" * ((limit - 1) // 2), b"x" * (limit - 2), np.full((limit - 2) // 8, 0.1)
        assert kernel(*longest) == (True, True, True)
        assert kernel(longest[0] + "ü", longest[1] + b"x", np.full(len(longest[2]) + 1, 0.1)) == (False, False, False)
        assert trace.channel.stats()["missed"]["bad_arguments"] == 3
        for name, kind, value in zip("tbf", ("str", "bytes", "f64[]"), longest, strict=True):
            wanted.add(name, "event", {"value": (kind, value)})
    wanted.check(trace, ask_bt2)
