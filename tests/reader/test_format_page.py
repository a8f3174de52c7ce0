"""docs/format.md says what the wire's tables say."""

from __future__ import annotations

import io
import json
import re
import struct
from pathlib import Path

import pytest

from reader.build import Trace, describe
from shmtrace import reader, wire
from shmtrace.encoding import Encoder
from shmtrace.export.text import json_line
from shmtrace.layout import fields_of
from shmtrace.reader.log import LEVELS

PAGE = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
ROW = re.compile(r"^\| (\d+) \| `(\w+)` \| (u\d+)(\[16\])? \|", re.MULTILINE)
TABLES = [
    [(int(offset), name, "Uuid" if array else kind.upper()) for offset, name, kind, array in ROW.findall(part)]
    for part in PAGE.split("| offset | field | type | |\n")[1:]
]


WIRE = (wire.METADATA, wire.PACKET, wire.RECORD, wire.WRITER_BODY, wire.LOSS_BODY, wire.CLOCK_BODY)


@pytest.mark.parametrize("number", range(len(WIRE)), ids=lambda number: WIRE[number].__name__)
def test_the_page_has_every_field_with_offset_and_type(number: int) -> None:
    table = WIRE[number]
    kinds = table.__annotations__
    expected = [(at, name, "U64" if kinds[name] == "Stamp" else kinds[name]) for name, at in fields_of(table).items()]
    assert TABLES[number] == expected


def test_the_page_names_the_reserved_events() -> None:
    for number, name, _ in wire.RESERVED_EVENTS:
        assert f"| {number} | `{name}` |" in PAGE


def test_the_page_has_the_magic_numbers() -> None:
    for magic in (wire.METADATA_MAGIC, wire.PACKET_MAGIC):
        assert f"0x{magic:08X}" in PAGE


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, in which nothing is quoted as code."""
    lines = PAGE.partition(heading)[2].splitlines()[2:]
    table = lines[: next(number for number, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in table]


def test_the_page_has_every_type_of_a_field_as_the_description_has_it() -> None:
    found = {kind: text for kind, text, _ in rows("| type | description of a field `x` | body |")}
    assert found == {kind: wire.field("x", kind) for kind in found}
    assert {*wire.FIELD_TYPES, "u16[]", "u16[3]"} <= set(found)


def test_the_page_has_the_fields_of_each_kind() -> None:
    found = {kind: tuple(re.findall(r"\w+", own)) for kind, own, _ in rows("| kind | fields of the kind |")}
    assert found == wire.KINDS
    assert f"0x{wire.BY_THREAD:X}" in PAGE


def test_the_page_has_the_levels() -> None:
    found = [(int(level), int(theirs), name) for level, theirs, name in rows("| level from | `loglevel` |")]
    assert found == [(level, theirs, LEVELS[theirs]) for level, theirs in wire.LEVELS]


def test_the_page_has_the_keys_of_a_log() -> None:
    keys = [wire.LOG_NAME, wire.LOG_SPAN, wire.LOG_CONTEXT, wire.LOG_LEVEL, wire.LOG_DEFINES]
    found = rows("| key | value | |")
    assert [int(key) for key, _, _ in found] == keys
    assert [re.findall(r"name|span|context|level", what)[0] for _, _, what in found] == [
        "name", "span", "context", "level", "context",
    ]  # fmt: skip


def test_the_lines_of_classes_on_the_page_are_those_of_a_description() -> None:
    assert wire.event(16, "request", wire.class_fields("status:u16 path:str"), 6) in PAGE
    assert wire.event(17, "load", wire.class_fields("exception:str", "end"), 6, "end") in PAGE


def test_a_body_is_what_the_page_says() -> None:
    fields = "a:u8 b:i16 c:f64 d:bool e:str f:bytes g:u16[] h:u16[3] i:u8{red=0,green=1}"
    body = Encoder("x", fields).encode((1, -2, -0.0, True, "\u00fc\0", b"xyz", [4, 5], [6, 7, 8], "green"), {})
    assert body == (
        b"\x01" + b"\xfe\xff" + struct.pack("<d", -0.0) + b"\1" + b"\xc3\xbc\xef\xbf\xbd\0" + b"\3\0xyz"
        + b"\2\0" + b"\4\0\5\0" + b"\6\0\7\0\x08\0" + b"\1"
    )  # fmt: skip


def test_the_page_has_the_keys_of_a_json_line() -> None:
    trace = Trace(describe(wire.event(16, "load", wire.class_fields("", "begin"), 3, "begin")))
    trace.lane().add(16, struct.pack("<4I", 2, 0, 1, 1)).packet()
    (record,) = reader.read(io.BytesIO(trace.stream))
    found = [key for keys, _ in rows("| key | |") for key in keys.split(", ")]
    assert set(found) == set(json.loads(json_line(record._replace(host="one", channel="app"))))
