"""The description: what `wire` writes is read back."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reader.build import BOOT_NS, FREQUENCY, UUID, describe
from shmtrace import wire
from shmtrace.layout import CLOCK_MONOTONIC, CLOCK_TSC
from shmtrace.reader import InvalidDescription
from shmtrace.reader import description as reader

pytestmark = pytest.mark.timeout(60)


def _class(kind: str = "event", level: int | None = None, /, **fields: str) -> str:
    text = " ".join(wire.FIELD_TYPES[value].format(name) for name, value in fields.items())
    return wire.event(16, "request", text, level, kind)


def test_the_description_says_what_the_wire_was_told() -> None:
    known = reader.describe(describe(channel='quo"ted'))
    assert known.uuid == UUID.bytes
    assert known.boot_id == bytes(15) + b"\5"
    assert (known.hostname, known.channel) == ("host", 'quo"ted')
    assert known.clock == reader.ClockDescription(CLOCK_TSC, FREQUENCY, BOOT_NS // 10**9, 0)


def test_the_monotonic_clock_is_known_from_the_counter() -> None:
    assert reader.describe(describe(clock_kind=CLOCK_MONOTONIC, frequency=10**9)).clock.kind == CLOCK_MONOTONIC


def test_reserved_events_are_no_classes_but_a_blob_with_a_context() -> None:
    blob = reader.EventClass(wire.ID_PLACED, "blob", "event", None, 2, (("blob", "bytes"),))
    assert reader.describe(describe()).classes == {wire.ID_PLACED: blob}


@pytest.mark.parametrize("kind", ["event", "begin", "end", "counter"])
@pytest.mark.parametrize("level", [None, 6])
def test_a_class_has_name_kind_level_and_fields(kind: str, level: int | None) -> None:
    known = reader.describe(describe(_class(kind, level, status="u16", path="str")))
    assert known.classes[16] == reader.EventClass(
        16, "request", kind, None if level is None else "info", 0, (("status", "u16"), ("path", "str"))
    )


def test_a_class_may_have_all_types_in_any_order() -> None:
    fields = {f"f_{kind}": kind for kind in wire.FIELD_TYPES}
    for order in (dict(fields), dict(reversed(fields.items()))):
        known = reader.describe(describe(_class(**order))).classes[16]
        assert dict(known.fields) == order


def test_fields_of_bytes_and_of_their_length_are_told_apart() -> None:
    known = reader.describe(describe(_class(x="u16", y="bytes", y_length="u16", z="u8"))).classes[16]
    assert known.fields == (("x", "u16"), ("y", "bytes"), ("y_length", "u16"), ("z", "u8"))


@pytest.mark.parametrize("kind", wire.KINDS)
def test_the_fields_of_a_kind_are_told_apart_from_the_users(kind: str) -> None:
    text = "span:u32 y:bytes y_length:u16 z:f32[] c:i8{low=-1,high=1} d:u64[3]"
    known = reader.describe(describe(wire.event(16, "x", wire.class_fields(text, kind), 6, kind))).classes[16]
    assert known.own == len(wire.KINDS[kind])
    assert " ".join(f"{name}:{type_}" for name, type_ in known.fields) == text


def test_arrays_and_labels_are_decoded_behind_the_fields_of_the_kind() -> None:
    fields = wire.class_fields("a:u16[] b:i8{low=-1,high=1} c:f64[2] e:i8{low=-1,high=1}", "event")
    known = reader.describe(describe(wire.event(16, "x", fields))).classes[16]
    body = struct.pack("<IIHHHbddb", 5, 6, 2, 1, 65535, -1, 0.5, 2.0, 7)
    assert known.decode(memoryview(body)) == ((5, 6), {"a": [1, 65535], "b": "low", "c": [0.5, 2.0], "e": 7})


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1))
def test_any_name_comes_back_as_it_was_written(name: str) -> None:
    known = reader.describe(describe(wire.event(16, name, "uint8_t _x;")))
    assert known.classes[16].name == "".join(c if c.isprintable() else " " for c in name)


def test_fixed_fields_are_packed_without_gaps() -> None:
    known = reader.describe(describe(_class(a="u8", b="f64", c="i16", d="bool"))).classes[16]
    body = struct.pack("<Bdhb", 200, 0.5, -3, 1)
    assert known.decode(memoryview(body))[1] == {"a": 200, "b": 0.5, "c": -3, "d": True}


def test_fields_behind_text_and_bytes_are_found() -> None:
    known = reader.describe(describe(_class(a="str", b="u32", c="bytes", d="str", e="i64"))).classes[16]
    body = "ü".encode() + b"\0" + struct.pack("<IH", 7, 3) + b"\0\1\2" + b"\0" + struct.pack("<q", -1)
    assert known.decode(memoryview(body))[1] == {"a": "ü", "b": 7, "c": b"\0\1\2", "d": "", "e": -1}


@pytest.mark.parametrize("fields", [{"a": "u32"}, {"a": "str"}, {"a": "bytes"}, {"a": "str", "b": "u8"}])
def test_a_body_that_is_too_short_is_an_error_that_says_so(fields: dict[str, str]) -> None:
    known = reader.describe(describe(_class(**fields))).classes[16]
    for body in (b"", b"\xff", b"\xff\xff"):
        with pytest.raises(ValueError, match=r"beyond|without an end|instead of"):
            known.decode(memoryview(body))


@pytest.mark.parametrize("text", ["", "/* CTF 1.8 */", "trace {\n\tmajor = 1; };"])
def test_what_is_no_description_is_refused(text: str) -> None:
    with pytest.raises(InvalidDescription, match="block"):
        reader.describe(text)


def test_a_description_with_a_field_of_unknown_type_is_refused() -> None:
    with pytest.raises(InvalidDescription, match="an unknown field: complex_t"):
        reader.describe(describe(wire.event(16, "x", "complex_t _x;")))


def test_a_clock_that_stands_still_is_refused() -> None:
    with pytest.raises(InvalidDescription, match="0 Hz"):
        reader.describe(describe(frequency=0))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_description_is_read_or_refused(data: st.DataObject) -> None:
    text = describe(_class(a="u8", b="str"))
    at = data.draw(st.integers(0, len(text) - 1))
    with contextlib.suppress(InvalidDescription):
        reader.describe(text[:at] + data.draw(st.text(max_size=3)) + text[at + 1 :])
