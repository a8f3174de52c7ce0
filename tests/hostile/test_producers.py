"""A producer before a hostile segment: it writes nowhere but into pages and the words that are its own."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostile.rig import GEOMETRY, Field, Rig, fields, in_child, set_semaphore
from hostile.test_words import nasty
from shmtrace import layout
from shmtrace.layout import CONTROL, CPU, LANE, PAGE, WRITER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hostile.rig import Case

pytestmark = pytest.mark.timeout(60)

WORDS = [
    field
    for table, number in ((CONTROL, 0), (CPU, 0), (LANE, 0), (LANE, 1), (WRITER, 1),
                          *((PAGE, page) for page in range(GEOMETRY.pages)))
    for field in fields(table, number)
]  # fmt: skip
SIZES = (0, 1, 8, 1000, 4079, 4080)


def _others() -> Iterator[slice]:
    """The stretches ahead of the pages that no producer writes."""
    size = GEOMETRY
    lanes = (size.lanes_at + lane * layout.LANE_BYTES for lane in range(size.lanes))
    own = [
        *((at, layout.width_of(CONTROL, field)) for field, at in layout.fields_of(CONTROL).items() if field in OWN),
        (size.cpus_at, size.cpus * layout.LINE_BYTES),
        *((lane, layout.LINE_BYTES) for lane in lanes),
        (size.writers_at + layout.WRITER_BYTES, (size.writers - 1) * layout.WRITER_BYTES),
        (size.descriptors_at, size.pages * layout.PAGE_BYTES),
    ]
    end = 0
    for at, width in own:
        yield slice(end, at)
        end = at + width
    yield slice(end, size.pages_at)


OWN = {"impatient", "rescued_ns", "damaged", "unnumbered"}  # of the control block
OTHERS = list(_others())
PAGES = [
    slice(GEOMETRY.pages_at + page * GEOMETRY.page_size, GEOMETRY.pages_at + (page + 1) * GEOMETRY.page_size)
    for page in range(GEOMETRY.pages)
]


def emit_and_look(rig: Rig, size: int) -> list[str]:
    """Write an event; what was written with it that must not be: words of others, and more than one page."""
    before = rig.segment.read(0, GEOMETRY.segment_bytes)
    rig.emit(1, size)
    after = rig.segment.read(0, GEOMETRY.segment_bytes)
    wrong = [f"bytes {part.start} to {part.stop}" for part in OTHERS if before[part] != after[part]]
    pages = [number for number, page in enumerate(PAGES) if before[page] != after[page]]
    return wrong + ([f"pages {pages}"] if len(pages) > 1 else [])


def check_field(case: Case, field: Field, names: Callable[[], str], *, everything: bool) -> list[str]:
    wrong = []
    for value in nasty(field, everything=everything):
        case(f"{field.label} = {value:#x}")
        rig = Rig(names())
        rig.emit(2)
        for size in SIZES:
            rig.set_word(field, value)
            wrong += [f"{case.text}: {what} with {size} bytes" for what in emit_and_look(rig, size)]
        rig.repair()
        if not rig.emit(1):
            wrong.append(f"{case.text}: nothing is accepted any more")
        rig.close()
    return wrong


@pytest.mark.parametrize("everything", [False, pytest.param(True, marks=pytest.mark.heavy)])
@pytest.mark.parametrize("table", [CONTROL, CPU, LANE, WRITER, PAGE], ids=lambda table: table.__name__)
def test_any_value_of_a_word_makes_no_producer_write_elsewhere(
    table: type, new_name: Callable[[], str], *, everything: bool
) -> None:
    words = [field for field in WORDS if field.table is table and field.number <= (everything or table is PAGE)]
    if table is CONTROL and not everything:
        words = [field for field in words if field.at >= CONTROL.recording]  # what stands before is read at attach
    check = functools.partial(check_field, names=new_name, everything=everything)
    assert [line for field in words for line in in_child(functools.partial(check, field=field))] == []


STEPS = st.one_of(
    st.tuples(st.sampled_from(WORDS), st.integers(0, 200)),
    st.tuples(st.just("waiting"), st.sampled_from((0, 1, 8, 100, (1 << 31) - 1, 1 << 31))),
    st.tuples(st.just("emit"), st.sampled_from(SIZES)),
)


def check_histories(case: Case, names: Callable[[], str], examples: int) -> list[str]:
    @settings(max_examples=examples, deadline=None, database=None)
    @given(st.lists(STEPS, max_size=40))
    def check_history(steps: list[tuple[Field, int] | tuple[str, int]]) -> None:
        case(repr(steps))
        rig = Rig(names())
        try:
            for step in steps:
                match step:
                    case "emit", int(size):
                        assert emit_and_look(rig, size) == []
                    case "waiting", int(value):
                        set_semaphore(rig.segment, "waiting", value)
                    case Field() as field, int(which):
                        values = nasty(field, everything=True)
                        rig.set_word(field, values[which % len(values)])
            rig.repair()
            assert rig.emit(1)
        finally:
            rig.close()

    check_history()
    return []


@pytest.mark.parametrize("examples", [100, pytest.param(3000, marks=pytest.mark.heavy)])
def test_a_producer_that_was_led_astray_has_written_into_pages_only(new_name: Callable[[], str], examples: int) -> None:
    assert in_child(functools.partial(check_histories, names=new_name, examples=examples), 50) == []
