"""Broken packets, one rule each: what is given, what is said, and that nothing else is."""

from __future__ import annotations

import io
import re

import pytest

from hostile.packets import OUTCOMES, broken_packets, hex_of, path_of, stream
from reader.build import parse, whole
from shmtrace import reader

pytestmark = pytest.mark.timeout(30)


def test_each_file_is_what_the_script_makes_and_has_an_outcome() -> None:
    made = {name: hex_of(data) for name, data in broken_packets().items()}
    files = {path.stem: path.read_text() for path in path_of("").parent.iterdir()}
    assert files == made
    assert OUTCOMES.keys() == made.keys()


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_broken_packet_costs_what_the_table_says(name: str) -> None:
    data, names = stream(bytes.fromhex(path_of(name).read_text()))
    assert "".join(names.get(packet, "?") for packet in whole(parse(data))) == OUTCOMES[name].given


@pytest.mark.parametrize("name", OUTCOMES)
def test_what_is_wrong_with_a_broken_packet_is_said_once(name: str) -> None:
    lines: list[str] = []
    data, _ = stream(bytes.fromhex(path_of(name).read_text()))
    assert list(reader.read(io.BytesIO(data), warn=lines.append))
    expected = [OUTCOMES[name].says] if OUTCOMES[name].says else []
    assert len(lines) == len(expected), lines
    assert all(map(re.search, expected, lines)), lines


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_broken_packet_comes_out_the_same_a_byte_at_a_time(name: str) -> None:
    data, _ = stream(bytes.fromhex(path_of(name).read_text()))
    assert parse(data, 1) == parse(data)
