"""The parser's memory: used again, but never while somebody looks at it."""

from __future__ import annotations

import pytest

from shmtrace.reader.buffer import Buffer
from shmtrace.reader.rows import Blocks

pytestmark = pytest.mark.timeout(60)
CHUNK = 1 << 16


def put(buffer: Buffer, data: bytes) -> None:
    with buffer.room(len(data)) as room:
        room[:] = data
    buffer.add(len(data))


def test_memory_that_nobody_looks_at_is_used_again() -> None:
    buffer = Buffer()
    put(buffer, bytes(CHUNK))
    first = buffer.data
    for number in range(20):
        buffer.start = buffer.end - 100
        put(buffer, bytes([number]) * CHUNK)
        assert buffer.data is first


def test_what_somebody_looks_at_stays_as_it_is() -> None:
    buffer = Buffer()
    views = []
    for number in range(6):
        put(buffer, bytes([number]) * CHUNK)
        views.append(memoryview(buffer.data)[buffer.end - CHUNK : buffer.end])
        buffer.start = buffer.end
    assert [bytes(view) for view in views] == [bytes([number]) * CHUNK for number in range(6)]


def test_what_is_held_moves_with_its_offset() -> None:
    buffer, stream = Buffer(), bytes(range(256)) * 400
    for at in range(0, len(stream), 1000):
        put(buffer, stream[at : at + 1000])
        buffer.start += buffer.held // 2
        held = bytes(buffer.data[buffer.start : buffer.end])
        assert stream[buffer.offset + buffer.start :].startswith(held)


def test_a_key_is_found_where_it_is_whole() -> None:
    buffer = Buffer()
    assert buffer.find(b"key", 0) == buffer.end == 0
    put(buffer, b"..key..key..ke")
    assert [buffer.find(b"key", at) for at in (0, 2, 3, 8)] == [2, 2, 7, 14]


def test_a_block_is_used_again_when_the_last_view_of_it_is_gone() -> None:
    blocks = Blocks()
    first = blocks.take(CHUNK)
    places = {first.__array_interface__["data"][0]}
    view = first[100:200].view("u4")[3:7]
    view[:] = 17
    del first
    for _ in range(20):
        other = blocks.take(CHUNK)
        other.fill(0)
        places.add(other.__array_interface__["data"][0])
    assert len(places) == 3  # the view's, the one at hand and the one ahead of it
    assert view.tolist() == [17] * 4
    del view
    assert len({blocks.take(CHUNK).__array_interface__["data"][0] for _ in range(20)} - places) == 0


def test_a_block_that_is_too_small_is_not_used_again() -> None:
    blocks = Blocks()
    assert [len(blocks.take(size)) for size in (10, 20, 15, 40, 40)] == [10, 20, 20, 40, 40]


def test_more_blocks_than_are_looked_after_may_be_in_use() -> None:
    blocks = Blocks()
    kept = [blocks.take(100) for _ in range(40)]
    for number, block in enumerate(kept):
        block.fill(number)
    assert [set(block.tolist()) for block in kept] == [{number} for number in range(40)]
