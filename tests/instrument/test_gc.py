"""Spans of garbage collections, with the real collector of garbage."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from shmtrace.instrument import gc as bridge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from instrument.recorded import Recorded


@pytest.fixture
def installed(recorded: Recorded) -> Iterator[bridge.Collections]:
    gc.collect()
    gc.disable()
    collections = bridge.install(recorded.channel)
    yield collections
    collections.uninstall()
    gc.enable()


def test_a_collection_is_a_span_with_its_generation_and_what_it_collected(
    installed: bridge.Collections, recorded: Recorded
) -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    del cycle
    gc.collect(1)
    begin, end = recorded.seen()
    assert (begin.kind, begin.name, begin.fields) == ("begin", "gc", {"generation": 1})
    assert (end.kind, end.name) == ("end", "gc")
    assert end.fields == {"collected": 1, "uncollectable": 0}
    assert begin.own["span"] == end.own["span"] != 0


def test_a_collection_inside_a_span_names_it(installed: bridge.Collections, recorded: Recorded) -> None:
    with recorded.channel.span("load"):
        gc.collect()
    load, begin, _, _ = recorded.seen()
    assert begin.own["parent"] == load.own["span"]


def test_once_uninstalled_nothing_is_recorded(installed: bridge.Collections, recorded: Recorded) -> None:
    installed.uninstall()
    installed.uninstall()
    gc.collect()
    assert recorded.seen() == []


def test_a_channel_that_is_closed_does_not_disturb_collections(
    installed: bridge.Collections, recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    gc.collect()
    recorded.channel.close()
    gc.collect()
    assert capsys.readouterr().err == ""
