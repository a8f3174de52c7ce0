"""docs/format.md says what the wire's tables say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shmtrace import wire
from shmtrace.layout import fields_of

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
