"""Batches of columns where there is no numba: the same, by the same code, as plain Python."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings

import commands
from hostile.streams import rich_trace
from reader.build import small_trace
from reader.test_columns import build, steps

if TYPE_CHECKING:
    from pathlib import Path

    from reader.test_columns import Step

pytestmark = pytest.mark.timeout(100)
WITHOUT = """
import importlib.abc, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in {"numba", "llvmlite"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""
PROGRAM = """
import itertools, sys
from shmtrace.export.text import encode, plain_fields
from shmtrace.reader import columns, read
from shmtrace.reader.shown import shown_fields

for path in sys.argv[1:]:
    records = iter(read(path, warn=lambda line: None))
    for batch in columns.read(path, warn=lambda line: None, rows=50):
        texts, offsets = shown_fields(batch)
        for made, (begin, end) in zip(batch.records(), itertools.pairwise(offsets.tolist()), strict=True):
            assert repr(made) == repr(next(records))
            assert texts[begin:end].tobytes().decode() == encode(plain_fields(made.fields))
        for class_id in batch.class_ids():
            batch.fields(class_id)
    assert next(records, None) is None
print("numba" in sys.modules)
"""


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_without_numba_the_records_are_the_same(tmp_path: Path, made: list[Step]) -> None:
    place = tmp_path / str(sum(1 for _ in tmp_path.iterdir()))
    place.mkdir()
    (place / "without.py").write_text(WITHOUT + PROGRAM)
    traces = [
        trace.save_directory(place / f"{number}")
        for number, trace in enumerate((small_trace(), rich_trace(), build(made)))
    ]
    traces += [build(made).save(place / "file")]
    done = commands.run(place / "without.py", *traces, command=[sys.executable], SHMTRACE_CACHE=str(place / "cache"))
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "False\n")
