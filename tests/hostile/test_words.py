"""The collector before a segment in which one word is nonsense: it says so, goes on, and mends what it can."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostile.rig import GEOMETRY, Field, Rig, fields, in_child, set_semaphore
from shmtrace import layout, wire
from shmtrace.layout import CLASS, CONTROL, CPU, LANE, PAGE, TOTALS, WRITER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hostile.rig import Case

pytestmark = pytest.mark.timeout(120)

ENTRIES = (
    (CONTROL, 0), (CPU, 0), (LANE, 0), (TOTALS, 0), (TOTALS, 1), (WRITER, 1), (CLASS, 0), (PAGE, 0),
    (PAGE, 1), (PAGE, 2), (wire.RECORD, 0), (wire.RECORD, 1),
)  # fmt: skip
# Words that are no nonsense whatever they hold: what they say less than before, or twice, nobody can know.
UNKNOWABLE: dict[tuple[type, str], str] = {
    (LANE, "position"): "lost",  # what is behind it does not exist
    (PAGE, "length"): "lost",
    (LANE, "progress"): "twice",
    (LANE, "note"): "twice",
    (wire.RECORD, "size"): "made up",  # a shorter blob is a blob
}


# The same of those that name a page which the lane has in use just then.
OF_AN_OWN_PAGE = {(LANE, "position"): "made up", (LANE, "progress"): "lost"}


def names_own_page(rig: Rig, value: int) -> bool:
    """As a position, the word names a page that is lane 0's, or the one where the lane began."""

    def word(table: type, number: int, name: str) -> int:
        return next(rig.word(field) for field in fields(table, number) if field.name == name)

    page = value >> layout.PAGE_SHIFT & layout.PAGE_MASK
    if page == layout.NO_PAGE:
        page = word(LANE, 0, "first")
    return page < GEOMETRY.pages and word(PAGE, page, "owner") >> layout.SEQUENCE_BITS == 1


def nasty(field: Field, *, everything: bool = False) -> list[int]:
    """Values for a word."""
    top = 1 << (8 * field.width - 1)
    values = {0, 1, 2, 7, 8, 9, 4088, 4096, 4097, 0xFFFF, top - 1, top, top + 1, 2 * top - 2, 2 * top - 1}
    if field.width == 8 and (field.table in {LANE, PAGE} or everything):
        sequences = range(4) if everything else (0, 2)
        pages = (0, 1, GEOMETRY.pages - 1, GEOMETRY.pages, layout.NO_PAGE) if everything else (1, GEOMETRY.pages)
        sizes = (0, 3, 16, 4088, 4096, 4097, layout.COMMITTED_MASK) if everything else (0, 4088, 4097)
        for sequence in (*sequences, layout.SEQUENCE_MASK):
            for page in pages:
                values |= {sequence << layout.SEQUENCE_SHIFT | page << layout.PAGE_SHIFT | size for size in sizes}
        # page owners: this lane's, the other's, nobody's
        values |= {lane << layout.SEQUENCE_BITS | sequence for lane in range(1, 4) for sequence in sequences}
        # lane owners: one that lives, one of another namespace, one that is dead
        values |= {os.getpid() << layout.OWNER_PID_SHIFT | 1, 1, 1 << 62}
    return sorted(value for value in values if value < 2 * top)


def check_word(rig: Rig, field: Field, value: int, *, fresh: bool) -> Iterable[str]:
    """What is wrong with how a collector takes this value."""
    unknowable = {UNKNOWABLE.get((field.table, field.name))}
    if not fresh:
        rig.emit(6)
        rig.pump()
        rig.emit(7)
    before = rig.word(field)
    if field.table is LANE and names_own_page(rig, value):
        unknowable.add(OF_AN_OWN_PAGE.get((field.table, field.name)))
    rig.set_word(field, value)
    rig.emit(3)
    rig.turn()
    rig.emit(3)
    rig.turn()
    blobs = rig.blobs()
    if "made up" not in unknowable and set(blobs) - set(rig.accepted):
        yield "made up"
    if "twice" not in unknowable and len(set(blobs)) != len(blobs):
        yield "twice"
    if "lost" not in unknowable and set(rig.accepted) - set(blobs) and not rig.counted:
        yield "lost, and not counted"
    if field.table is CONTROL or field.name == "owner":  # the collector cannot know what stood there
        rig.set_word(field, before)
    if not rig.flows():
        yield "nothing comes any more"
    rig.change_readers()
    if not rig.flows(3):
        yield "nothing comes for the next reader"


def check_field(case: Case, field: Field, names: Callable[[], str], *, everything: bool) -> list[str]:
    wrong = []
    for value in nasty(field, everything=everything):
        for fresh in (False, True) if everything or field.table in {LANE, TOTALS} else (False,):
            case(f"{field.label} = {value:#x}, {'fresh' if fresh else 'running'}")
            rig = Rig(names())
            try:
                wrong += [f"{case.text}: {what}" for what in check_word(rig, field, value, fresh=fresh)]
            except AssertionError as error:
                wrong.append(f"{case.text}: {error}")
            finally:
                rig.close()
    return wrong


def check(words: Iterable[Field], names: Callable[[], str], *, everything: bool = False) -> list[str]:
    """Each word in a process of its own, as a process attaches a limited number of channels in its life."""
    return [
        line
        for field in words
        for line in in_child(functools.partial(check_field, field=field, names=names, everything=everything), 20)
    ]


@pytest.mark.parametrize(("table", "number"), ENTRIES, ids=lambda value: getattr(value, "__name__", value))
def test_any_value_of_any_word_is_survived_counted_and_mended(
    table: type, number: int, new_name: Callable[[], str]
) -> None:
    assert check(fields(table, number), new_name) == []


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("table", "number"), [*ENTRIES, (LANE, 1)], ids=lambda value: getattr(value, "__name__", value)
)
def test_many_values_of_any_word_are_survived_counted_and_mended(
    table: type, number: int, new_name: Callable[[], str]
) -> None:
    assert check(fields(table, number), new_name, everything=True) == []


def test_no_byte_behind_the_mapping_is_read(channel_name: str) -> None:
    def read_the_last_page(case: Case) -> list[str]:
        rig = Rig(channel_name)
        for _ in range(GEOMETRY.pages):
            rig.emit(4)
            rig.emit(1, size=8)
        lane = rig.segment.lane_at(0)
        position = rig.segment.u64(lane + LANE.position)
        case(f"position = {position:#x} + 8, the length of the page")
        assert position & layout.COMMITTED_MASK == GEOMETRY.page_size - 8
        rig.segment.set_u64(lane + LANE.position, position + 8)
        rig.turn()
        return [] if rig.counted else ["not counted"]

    assert in_child(read_the_last_page) == []


# -- many words, one after the other

WORDS = [
    field
    for table, number in ((CONTROL, 0), (CPU, 0), (LANE, 0), (LANE, 1), (TOTALS, 0), (TOTALS, 1), (WRITER, 1),
                          *((PAGE, page) for page in range(GEOMETRY.pages)),
                          *((wire.RECORD, page) for page in range(GEOMETRY.pages)))
    for field in fields(table, number)
]  # fmt: skip
STEPS = st.one_of(
    st.tuples(st.just("emit"), st.integers(1, 8), st.sampled_from((0, 8, 100, 1000, 4080))),
    st.tuples(st.just("set"), st.sampled_from(WORDS), st.integers(0, 40)),
    st.tuples(
        st.just("semaphore"), st.sampled_from(("waiting", "full")), st.sampled_from((0, 3, 1 << 31, (1 << 32) - 1))
    ),
    st.tuples(st.sampled_from(("pump", "turn", "change_readers"))),
)


def take(rig: Rig, step: tuple[object, ...]) -> None:
    """One step of a history."""
    match step:
        case "emit", int(count), int(size):
            rig.emit(count, size)
        case "set", Field() as field, int(which):
            values = nasty(field, everything=True)
            rig.set_word(field, values[which * 7 % len(values)])
        case "semaphore", str(which), int(value):
            set_semaphore(rig.segment, which, value)
        case (str(method),):
            getattr(rig, method)()


def check_histories(case: Case, names: Callable[[], str], examples: int) -> list[str]:
    @settings(max_examples=examples, deadline=None, database=None)
    @given(st.lists(STEPS, max_size=30))
    def check_history(steps: list[tuple[object, ...]]) -> None:
        case(repr(steps))
        rig = Rig(names())
        try:
            for step in steps:
                take(rig, step)
            rig.blobs()
            rig.repair()
            assert rig.flows(), "nothing comes any more"
        finally:
            rig.close()

    check_history()
    return []


@pytest.mark.parametrize("examples", [150, pytest.param(3000, marks=pytest.mark.heavy)])
def test_a_channel_whose_damage_was_repaired_is_as_good_as_before(new_name: Callable[[], str], examples: int) -> None:
    assert in_child(functools.partial(check_histories, names=new_name, examples=examples), 100) == []
