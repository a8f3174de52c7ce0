"""Records of users' classes in streams that lie: what is good is given, and nothing is raised but the named errors."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hostile.streams import check_records
from reader.build import UUID, Trace, describe
from shmtrace import reader, wire
from shmtrace.encoding import Encoder
from shmtrace.reader.description import describe as read_description
from shmtrace.reader.errors import InvalidDescription
from values import FIELDS, plain, said

if TYPE_CHECKING:
    from values import Field

pytestmark = pytest.mark.timeout(120)
many = settings(max_examples=100, deadline=None)
ID = wire.FIRST_ID
MOST_BYTES = 65_535


class Made(NamedTuple):
    """A class, and the body of one of its records."""

    text: str  # its description
    body: bytes
    fields: dict[str, object]  # what a reader must give


@st.composite
def made(draw: st.DrawFn) -> Made:
    fields: list[Field] = draw(st.lists(FIELDS, max_size=6))
    kind = draw(st.sampled_from(["event", "begin", "counter"]))
    values = [draw(field.values) for field in fields]
    text = " ".join(f"f{number}:{field.kind}" for number, field in enumerate(fields))
    head = struct.pack(f"<{len(wire.KINDS[kind])}I", *range(1, 1 + len(wire.KINDS[kind])))
    pairs = zip(fields, values, strict=True)
    shown = {f"f{number}": said(field.kind, value)[0] for number, (field, value) in enumerate(pairs)}
    body = head + Encoder("made", text).encode(values, {})
    assume(len(body) <= MOST_BYTES)
    return Made(wire.event(ID, "made", wire.class_fields(text, kind), 6, kind), body, shown)


def read(trace: Trace) -> tuple[list[reader.Record], list[str]]:
    """The records, and the warnings."""
    lines: list[str] = []
    return list(reader.read(io.BytesIO(trace.stream), warn=lines.append)), lines


def between_good_ones(text: str, *bodies: bytes) -> tuple[list[reader.Record], list[str]]:
    """Records of a class, one ahead of each and one behind all of them that are good: blobs."""
    trace = Trace(describe(text))
    lane = trace.lane().at(1)
    for body in bodies:
        lane.blob(b"good").add(ID, body)
    lane.blob(b"good").packet()
    lane.blob(b"good").packet()
    records, lines = read(trace)
    check_records(records)
    assert sum(record.fields == {"blob": b"good"} for record in records) == len(bodies) + 2
    return [record for record in records if record.name != "blob"], lines


def fields_of(record: reader.Record) -> dict[str, object]:
    return {name: plain(value) for name, value in record.fields.items()}


@many
@given(made(), st.data())
def test_a_record_that_was_cut_or_has_something_behind_it_is_named_and_all_others_are_given(
    one: Made, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(one.body) - 1)) if one.body else 0
    more = data.draw(st.binary(min_size=1, max_size=20))
    wrong = ([one.body[:cut]] if one.body else []) + [one.body + more]
    bodies = [body for body in (one.body, *wrong, one.body) if len(body) <= MOST_BYTES]
    records, lines = between_good_ones(one.text, *bodies)
    assert [fields_of(record) for record in records] == [one.fields] * 2
    assert len(lines) == len(bodies) - 2
    assert all("skipped: a record of 'made' with " in line for line in lines)


@many
@given(made(), st.data())
def test_whatever_is_changed_in_a_body_the_other_records_are_given(one: Made, data: st.DataObject) -> None:
    body = bytearray(one.body)
    for _ in range(data.draw(st.integers(1, 4))):
        if body:
            at = data.draw(st.integers(0, len(body) - 1))
            body[at : at + 2] = data.draw(st.sampled_from([b"\xff\xff", b"\0\0", b"\x80", b"\xff"]))
    records, _ = between_good_ones(one.text, one.body, bytes(body[:MOST_BYTES]), one.body)
    assert [fields_of(record) for record in (records[0], records[-1])] == [one.fields] * 2


@many
@given(made(), st.integers(0, MOST_BYTES))
def test_a_record_whose_header_lies_about_its_size_takes_no_other_packet_with_it(one: Made, size: int) -> None:
    trace = Trace(describe(one.text))
    lane = trace.lane().at(1)
    lane.add(ID, one.body)
    damaged = bytearray(lane.records[0])
    damaged[wire.RECORD.size : wire.RECORD.size + 2] = size.to_bytes(2, "little")
    lane.packet()
    lane.add(ID, one.body)
    lane.records.append(bytes(damaged))
    lane.blob(b"behind").packet()
    lane.add(ID, one.body).packet()
    records, _ = read(trace)
    check_records(records)
    whole = [record for record in records if record.name == "made"]
    assert [fields_of(record) for record in (*whole[:2], whole[-1])] == [one.fields] * 3


@many
@given(made(), st.lists(st.integers(ID + 1, 0xFFFF), min_size=1, max_size=5))
def test_records_of_unknown_classes_are_named_once_a_class(one: Made, ids: list[int]) -> None:
    trace = Trace(describe(one.text))
    lane = trace.lane().at(1)
    for identifier in ids * 2:
        lane.add(ID, one.body).add(identifier, one.body)
    lane.packet()
    records, lines = read(trace)
    assert [fields_of(record) for record in records] == [one.fields] * 2 * len(ids)
    assert sorted(line.partition("event class ")[2] for line in lines) == sorted(
        f"{identifier}, of which there is no description" for identifier in set(ids)
    )


@many
@given(made(), made())
def test_the_last_of_two_definitions_of_an_id_holds(one: Made, other: Made) -> None:
    records, lines = between_good_ones(one.text + other.text, other.body)
    assert ([fields_of(record) for record in records], lines) == ([other.fields], [])


@many
@given(made(), made())
def test_a_description_that_comes_later_holds_for_what_follows(one: Made, other: Made) -> None:
    trace = Trace(describe(one.text))
    trace.lane().at(1).add(ID, one.body).packet()
    trace.define(other.text)
    trace.lane().add(ID, other.body).packet()
    records, lines = read(trace)
    assert ([fields_of(record) for record in records], lines) == ([one.fields, other.fields], [])


@many
@given(made(), st.data())
def test_a_class_whose_definition_is_damaged_is_another_one_or_the_description_is_refused(
    one: Made, data: st.DataObject
) -> None:
    text = one.text
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        piece = st.text(max_size=3) | st.sampled_from(
            ['"', "{", "}", ";", "[", "]", "0", "-1", "99999", "\\", "\n", "_"]
        )
        text = text[:at] + data.draw(piece) + text[at + data.draw(st.integers(0, 4)) :]
    try:
        read_description(describe(text))
    except InvalidDescription:
        trace = Trace(describe(one.text))  # the one that holds goes on to hold
        trace.lane().at(1).add(ID, one.body).packet()
        trace.parts.append(wire.metadata_packet(describe(text), UUID.bytes))
        trace.lane().add(ID, one.body).packet()
        records, lines = read(trace)
        assert [fields_of(record) for record in records] == [one.fields] * 2
        assert len(lines) == 1
    else:
        between_good_ones(text, one.body)
