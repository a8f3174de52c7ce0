"""Tracepoints: definitions, values, what is refused, and how it is told."""

from __future__ import annotations

import array
import enum
import inspect
import math
import multiprocessing
import pickle
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import commands
import shmtrace
from shmtrace.encoding import Encoder, WrongArguments
from shmtrace.native.tables import EVENT
from written import written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Color(enum.Enum):
    """Its members are no integers."""

    RED = 0
    GREEN = 1


class Text(str):
    """Its objects have their characters elsewhere."""

    __slots__ = ()


class Priority(enum.IntEnum):
    """Its members are."""

    LOW = -1
    HIGH = 300


@pytest.fixture
def channel(channel_name: str) -> Iterator[shmtrace.Channel]:
    made = shmtrace.create_channel(channel_name, page_size=65536, pages=16)
    yield made
    shmtrace.remove_channel(channel_name)


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in production, where a wrong call must not raise."""
    monkeypatch.setenv("SHMTRACE_STRICT", "0")


VALUES: dict[str, list[Any]] = {
    "u8": [0, 255], "u16": [0, 65535], "u32": [0, 2**32 - 1], "u64": [0, 2**63, 2**64 - 1],
    "i8": [-128, 127], "i16": [-(2**15), 2**15 - 1], "i32": [-(2**31), 2**31 - 1], "i64": [-(2**63), 2**63 - 1],
    "f32": [0.0, -0.0, 1.5, math.inf, -math.inf], "f64": [0.0, -0.0, 1e308, 5e-324, math.inf],
    "bool": [True, False], "str": ["", "x", "exactly8", "sixteen letters.", "ü" * 40, "longer " * 300],
    "bytes": [b"", b"\0", bytes(range(256))], "u16[3]": [[1, 2, 3]], "f64[]": [[], [1.5] * 100],
}  # fmt: skip


@pytest.mark.parametrize("kind", VALUES)
def test_a_value_of_each_type_comes_back_as_it_was(kind: str, tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        request = trace.channel.tracepoint("request", value=kind, behind="u16")
        for value in VALUES[kind]:
            assert request(value, 7)
            assert request(behind=7, value=value)
    found = [record.fields for record in trace.named("request")]
    assert found == [{"value": value, "behind": 7} for value in VALUES[kind] for _ in range(2)]
    signs = [math.copysign(1, value) for value in VALUES[kind] if isinstance(value, float)]
    assert [math.copysign(1, fields["value"]) for fields in found[::2] if kind[0] == "f" and kind != "f64[]"] == signs  # type: ignore[arg-type]  # numbers


def test_an_embedded_nul_and_a_lone_surrogate_become_the_replacement_character(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        text = trace.channel.tracepoint("text", value="str")
        for value in ("a\0b", "\0", "a\ud800b", "long enough for another way \0"):
            assert text(value)
    found = [record.fields["value"] for record in trace.named("text")]
    assert found == ["a\ufffdb", "\ufffd", "a\ufffdb", "long enough for another way \ufffd"]


def test_a_text_is_recorded_however_the_interpreter_keeps_it(tmp_path: Path) -> None:
    texts = ["", "plain", "x" * 100, "caf\xe9", "\u0101b", "\U0001f600", Text(""), Text("plain"), Text("caf\xe9")]
    with written(tmp_path / "trace") as trace:
        text = trace.channel.tracepoint("text", value="str")
        assert all(text(value) and trace.channel.log(value, value=value) for value in texts)
    assert [record.fields["value"] for record in trace.named("text")] == texts
    assert [(record.name, record.fields["value"]) for record in trace.of_kind("log")] == [(t, t) for t in texts]


def test_members_of_enumerations_are_recorded_by_their_number_and_shown_by_their_label(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        paint = trace.channel.tracepoint("paint", color=Color, priority=Priority, text="u8{red=0,green=1}")
        assert paint(Color.GREEN, Priority.HIGH, "green")
        assert paint(0, -1, 1)
        assert paint(7, 8, 9)
    assert [record.fields for record in trace.named("paint")] == [
        {"color": "GREEN", "priority": "HIGH", "text": "green"},
        {"color": "RED", "priority": "LOW", "text": "green"},
        {"color": 7, "priority": 8, "text": 9},
    ]


def test_what_is_like_a_number_or_like_bytes_is_taken_for_one(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        odd = trace.channel.tracepoint("odd", a="u16", b="f64", c="bytes", d="i32[]", e="bool", f="f32[2]")
        assert odd(np.uint16(9), np.float32(1.5), bytearray(b"x"), array.array("i", [1, -2]), 1, np.array([1, 2.5]))
        assert odd(True, 3, memoryview(b"yz")[1:], range(3), "", np.array([1, 2], dtype=np.float32))
    assert [record.fields for record in trace.named("odd")] == [
        {"a": 9, "b": 1.5, "c": b"x", "d": [1, -2], "e": True, "f": [1.0, 2.5]},
        {"a": 1, "b": 3.0, "c": b"z", "d": [0, 1, 2], "e": False, "f": [1.0, 2.0]},
    ]


WRONG: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    (("x", 1.0, "y"), {}, TypeError, "request: status='x': must be an integer, not str"),
    ((1.5, 1.0, "y"), {}, TypeError, "request: status=1.5: must be an integer, not float"),
    ((-1, 1.0, "y"), {}, OverflowError, "request: status=-1: u16 holds 0 to 65535"),
    ((2**80, 1.0, "y"), {}, OverflowError, "u16 holds 0 to 65535"),
    ((1, "1.0", "y"), {}, TypeError, "request: latency='1.0': must be a number, not str"),
    ((1, 1.0, b"y"), {}, TypeError, "request: path=b'y': must be a str, not bytes"),
    ((1, 1.0, None), {}, TypeError, "request: path=None: must be a str, not NoneType"),
    ((1, 1.0), {}, TypeError, "request: path missing of (status, latency, path)"),
    ((1, 1.0, "y", 2), {}, TypeError, "request: 4 values for 3 fields (status, latency, path)"),
    ((1, 1.0, "y"), {"stauts": 2}, TypeError, "request: has no field 'stauts', only (status, latency, path)"),
    ((1, 1.0), {"status": 2}, TypeError, "request: status is given twice"),
    ((1, 1.0, "y" * 70000), {}, ValueError, "this channel takes at most"),
]


@pytest.mark.parametrize(("arguments", "keywords", "kind", "message"), WRONG)
def test_wrong_arguments_raise_where_the_user_is_strict_whether_somebody_reads_or_not(
    channel: shmtrace.Channel, arguments: tuple[Any, ...], keywords: dict[str, Any], kind: type[Exception], message: str
) -> None:
    request = channel.tracepoint("request", status="u16", latency="f64", path="str")
    with pytest.raises(kind) as caught:
        request(*arguments, **keywords)
    assert message in str(caught.value)
    assert channel.missed == 0  # nobody reads


@pytest.mark.usefixtures("lenient")
def test_wrong_arguments_are_refused_counted_and_told_once_a_call_site(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with written(tmp_path / "trace") as trace:
        request = trace.channel.tracepoint("request", status="u16", latency="f64", path="str")
        for arguments, keywords, _, _ in WRONG:
            for _ in range(3):
                assert request(*arguments, **keywords) is False
        assert request("x", 1.0, "y") is False
        assert trace.channel.stats()["missed"]["bad_arguments"] == 3 * len(WRONG) + 1
        assert request(1, 1.0, "y") is True
    said = capsys.readouterr().err
    assert said.count("test_tracepoint.py:") == 2  # two places in this function
    assert "not recorded: request: status='x': must be an integer, not str" in said
    assert [record.fields for record in trace.named("request")] == [{"status": 1, "latency": 1.0, "path": "y"}]


@pytest.mark.usefixtures("lenient")
def test_a_wrong_call_of_which_nothing_is_recorded_costs_nothing_and_says_nothing(
    channel: shmtrace.Channel, capsys: pytest.CaptureFixture[str]
) -> None:
    request = channel.tracepoint("request", status="u16")
    assert request("x") is False
    assert channel.missed == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "fields", "kind", "message"),
    [
        ("", {}, ValueError, "'' is no name of an event"),
        ("blob", {}, ValueError, "is a name that shmtrace uses itself"),
        ("a\nb", {}, ValueError, "is no name of an event"),
        ("x", {"a": "u17"}, ValueError, "x: field 'a': type 'u17': must be one of u8, u16"),
        ("x", {"a": "u8{red}"}, ValueError, "an enumeration is written like u8{red=0,green=1}"),
        ("x", {"a": "str[3]"}, ValueError, "must be one of"),
        ("x", {"a": 3}, TypeError, "x: field 'a': a type 3"),
        ("x", {"_a": "u8"}, ValueError, "a name must be an identifier"),
        ("x", {"ä": "u8"}, ValueError, "a name must be an identifier"),
    ],
)
def test_a_definition_that_makes_no_sense(
    channel: shmtrace.Channel, name: str, fields: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message.replace("{", r"\{")):
        channel.tracepoint(name, **fields)
    with pytest.raises(kind, match=message.replace("{", r"\{")):  # also where nothing is traced
        shmtrace.attach().tracepoint(name, **fields)


def test_a_level_that_does_not_exist(channel: shmtrace.Channel) -> None:
    with pytest.raises(ValueError, match="level 'loud': must be one of debug, info, warning, error, critical"):
        channel.tracepoint("x", "loud")


def test_the_same_definition_is_one_class_and_another_one_of_that_name_an_error(channel: shmtrace.Channel) -> None:
    other = shmtrace.open_channel(channel.name)
    request: Any = channel.tracepoint("request", status="u16")
    again: Any = channel.tracepoint("request", status="u16")
    assert again is request
    theirs: Any = other.tracepoint("request", status="u16")
    assert theirs.__self__.read(EVENT.id) == request.__self__.read(EVENT.id)
    with pytest.raises(shmtrace.TracepointConflict, match="'request'"):
        other.tracepoint("request", status="u32")
    with pytest.raises(shmtrace.TracepointConflict, match="'request'"):
        shmtrace.open_channel(channel.name).span("request")


def test_a_tracepoint_is_a_builtin_with_a_signature_that_pickles(channel: shmtrace.Channel) -> None:
    request: Any = channel.tracepoint("request", status="u16", path="str")
    assert str(inspect.signature(request)) == "(status, path)"
    assert "request" in repr(request.__self__)
    again = pickle.loads(pickle.dumps(request))
    assert again.__self__.name == "request"
    assert again(1, "x") is False


def work(request: Callable[..., bool]) -> bool:
    return request(200, "/index")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_tracepoint_goes_to_other_processes(method: str, tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        request = trace.channel.tracepoint("request", status="u16", path="str")
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert all(pool.map(work, [request] * 20))
    assert len(trace.named("request")) == 20


def test_disabled_tracepoints_exist_and_do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHMTRACE_STRICT", "0")
    channel = shmtrace.attach()
    request = channel.tracepoint("request", status="u16")
    assert request(1) is False
    assert request("wrong") is False
    assert channel.counter("depth")(1) is False
    assert channel.log("x", a=1) is False
    with channel.span("load", shard="u32")(3):
        pass
    with channel.span("plain"):
        pass
    assert list(channel.iter([1, 2], "fetch")) == [1, 2]
    assert channel.enable("*") == 0


def test_a_program_that_is_not_traced_imports_little() -> None:
    program = (
        "import sys, shmtrace; channel = shmtrace.attach(); request = channel.tracepoint('request', status='u16');"
        "load = channel.span('load'); request(1)\nwith load: pass\n"
        "print(*sorted({'numba', 'numpy', 'posix_ipc', 'click', 'msgpack'} & set(sys.modules)))"
    )
    ran = commands.run("-c", program, command=[sys.executable])
    assert (ran.stderr, ran.stdout) == ("", "\n")


def test_a_channel_that_comes_later_is_found_by_the_first_call(channel_name: str) -> None:
    program = (
        "import shmtrace\n"
        "channel = shmtrace.attach()\n"
        "request = channel.tracepoint('request', status='u16')\n"
        "load = channel.span('load')\n"
        f"made = shmtrace.create_channel({channel_name!r}, page_size=4096, pages=16)\n"
        "print(request(1), channel.segment is not None)\n"
        "with load: pass\n"
        f"shmtrace.remove_channel({channel_name!r})\n"
    )
    ran = commands.run("-c", program, command=[sys.executable], SHMTRACE=channel_name)
    assert (ran.stderr, ran.stdout) == ("", "False True\n")


def test_counters_record_floats_and_nothing_else(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        depth = trace.channel.counter("queue depth")
        assert depth(17)
        assert depth(-2.5)
        assert depth(2**60)
        with pytest.raises(TypeError, match="queue depth: value='x': must be a number"):
            depth("x")  # type: ignore[arg-type]  # which is the point
        assert depth(0)
        assert depth(-(2**30) + 1)
        assert depth(2**62 + 1)
        assert depth(True)
    found = [record.fields["value"] for record in trace.of_kind("counter")]
    assert found == [17, -2.5, 2.0**60, 0, 1.0 - 2**30, 2.0**62, 1]
    assert all(type(value) is float for value in found)


def test_closing_a_channel_ends_its_tracepoints(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        mine = shmtrace.open_channel(trace.channel.name)
        request, load = mine.tracepoint("request", status="u16"), mine.span("load")
        assert request(1)
        with load:
            mine.close()
        assert request(2) is False
    assert [record.fields for record in trace.named("request")] == [{"status": 1}]


def test_events_of_a_class_are_switched_off_and_on_by_pattern_and_level(tmp_path: Path) -> None:
    with written(tmp_path / "trace") as trace:
        channel = trace.channel
        request = channel.tracepoint("request", status="u16")
        detail = channel.tracepoint("request.detail", "debug", status="u16")
        load = channel.span("load")
        assert channel.disable("req*") == 2
        assert (request(1), detail(1)) == (False, False)
        assert channel.enable("req*", level="info") == 1
        assert (request(2), detail(2)) == (True, False)
        late = channel.tracepoint("request.late", "debug", status="u16")
        assert late(3) is False  # rules hold for what is defined later
        assert commands.run("enable", channel.name, "request.*", "--level", "debug").returncode == 0
        assert (detail(4), late(4)) == (True, True)
        assert commands.run("disable", channel.name, "load").returncode == 0
        with load:
            pass
        assert channel.missed == 0  # off is counted nowhere
    assert [(record.name, record.fields["status"]) for record in trace.of_kind("event")] == [
        ("request", 2),
        ("request.detail", 4),
        ("request.late", 4),
    ]
    assert trace.named("load") == []


def test_the_careful_encoder_names_the_field_of_a_value_whose_methods_raise() -> None:
    class Odd:
        def __index__(self) -> int:
            raise RuntimeError("no")

        def __repr__(self) -> str:
            raise RuntimeError("no")

    with pytest.raises(WrongArguments, match="x: a: RuntimeError: no"):
        Encoder("x", "a:u8").encode((Odd(),), {})


@pytest.mark.usefixtures("lenient")
def test_a_counter_refuses_what_a_tracepoint_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with written(tmp_path / "trace") as trace:
        depth: Any = trace.channel.counter("depth")
        assert depth(value=17) is True
        for arguments, keywords in (((), {}), ((1, 2), {}), ((1,), {"value": 2}), ((), {"other": 1}), (("x",), {})):
            assert depth(*arguments, **keywords) is False
        assert trace.channel.stats()["missed"]["bad_arguments"] == 5
    assert [record.fields for record in trace.named("depth")] == [{"value": 17.0}]
    assert "depth: value missing of (value)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["queue depth", "a:u8 b", "ä", "_a", "", "1st", "a-b"])
@pytest.mark.parametrize("kind", ["tracepoint", "span"])
def test_a_field_that_cannot_be_described_is_refused_where_it_is_defined(
    kind: str, name: str, channel: shmtrace.Channel
) -> None:
    with pytest.raises(ValueError, match="a name must be an identifier"):
        getattr(channel, kind)("request", **{name: "u32"})


def test_ctrl_c_in_the_middle_of_an_argument_comes_out(tmp_path: Path) -> None:
    class Pressed:
        def __init__(self) -> None:
            self.asked = 0

        def __float__(self) -> float:
            self.asked += 1
            if self.asked == 1:
                raise KeyboardInterrupt
            return 1.5

        __index__ = __float__

    with written(tmp_path / "trace") as trace:
        request = trace.channel.tracepoint("request", number="u8", latency="f64")

        def call(*arguments: object) -> None:
            request(*arguments)
            time.sleep(10)  # it may come out a moment later, as the real one

        for arguments in ((1, Pressed()), (Pressed(), 1.0)):
            with pytest.raises(KeyboardInterrupt):
                call(*arguments)


@pytest.mark.parametrize("pattern", ["", "x" * 1001, "a\nb", "\udcff"])
def test_a_pattern_that_matches_nothing_that_there_can_be_is_refused(pattern: str, channel: shmtrace.Channel) -> None:
    for switch in (channel.enable, channel.disable, shmtrace.attach().enable):
        with pytest.raises(shmtrace.InvalidName, match="is no pattern for names"):
            switch(pattern)
    with pytest.raises(TypeError, match="a pattern must be a str, not int"):
        channel.enable(5)  # type: ignore[arg-type]
    if "\n" not in pattern and "\udcff" not in pattern:
        result = commands.run("disable", channel.name, pattern)
        assert result.returncode != 0
        assert result.stderr.count("\n") <= 4
        assert "is no pattern for names" in result.stderr


def test_a_channel_that_comes_late_is_switched_all_the_same(channel_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHMTRACE", channel_name)
    late = shmtrace.attach()
    request = late.tracepoint("request")
    assert late.disable("req*") == 0  # it is not there yet, which only an event takes as an answer
    made = shmtrace.create_channel(channel_name, mode="overwrite")
    assert late.disable("req*") == 1
    assert request() is False
    assert made.enable("req*") == 1
    assert request() is True
    shmtrace.remove_channel(channel_name)
    with pytest.raises(shmtrace.ChannelError, match=f"nothing is switched: the channel {channel_name!r} was removed"):
        late.enable("*")


def test_a_span_of_a_tracepoints_name_is_a_conflict_that_shows_what_was_written(channel: shmtrace.Channel) -> None:
    channel.tracepoint("request", status="u16")
    with pytest.raises(shmtrace.TracepointConflict) as caught:
        channel.span("request", shard="u8")
    assert "is event (status:u16) already, not span (shard:u8): give it another name" in str(caught.value)


@pytest.mark.usefixtures("lenient")
def test_what_is_told_of_a_value_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with written(tmp_path / "trace") as trace:
        assert trace.channel.tracepoint("request", status="u16")(np.zeros((2, 2))) is False
    assert len(capsys.readouterr().err.splitlines()) == 2  # that, and the summary


@pytest.mark.usefixtures("lenient")
def test_a_call_site_is_one_also_when_the_interpreter_has_specialised_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with written(tmp_path / "trace") as trace:
        request: Any = trace.channel.tracepoint("request", status="u8")
        for _ in range(100):
            request("x")
    assert capsys.readouterr().err.count("not recorded") == 1
