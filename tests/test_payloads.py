"""Every payload that was accepted comes out byte for byte, once, in order.

The producers are pinned to one cpu, so that one is preempted, now and then, with a lane in its hand.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pytest

import emit
import shmtrace
from judge import judge
from recording import recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


BURST = 20  # events between two pauses: whoever wakes from one preempts somebody else


class Load(NamedTuple):
    """What is emitted, and the pages that there are for it."""

    producers: int
    events: int  # of all producers together
    pages: int = 1024


class Recorded(NamedTuple):
    """A trace, and what its producers say that must be in it."""

    trace: Path
    sizes: list[int]
    tallies: list[emit.Tally]
    missed: int


LOADS = [
    Load(1, 100_000),
    Load(4, 100_000),
    Load(64, 128_000),
    pytest.param(Load(64, 128_000, pages=12), id="64-and-few-pages"),
    pytest.param(Load(1, 1_000_000), marks=pytest.mark.heavy),
    pytest.param(Load(4, 2_000_000), marks=pytest.mark.heavy),
    pytest.param(Load(64, 3_200_000), marks=[pytest.mark.heavy, pytest.mark.timeout(600)]),
]


@pytest.fixture(scope="module", params=LOADS, ids=lambda load: f"{load.producers}-{load.events}")
def pinned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """A recorded trace of producers that are all pinned to one cpu."""
    load: Load = request.param
    trace = tmp_path_factory.mktemp("payloads") / "trace"
    noise = random.Random(load.producers)
    sizes = [emit.HEADER.size + min(int(noise.expovariate(1 / 60)), 4000) for _ in range(997)] + [4000]
    name = f"t{os.getpid()}-payloads"
    # flushed as often as can be: a record that was committed too early is sent as it is then
    channel = shmtrace.create_channel(name, page_size=16_384, pages=load.pages, flush_ms=1)
    try:
        with recorded(channel, trace):
            tallies = emit.run(
                channel.name, "processes", count=load.producers, events=load.events // load.producers, sizes=sizes,
                burst=BURST, pin=max(os.sched_getaffinity(0)),
            )  # fmt: skip
        stats = channel.stats()
        capture = request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print(f"\n{load.producers} producers on one cpu: {stats['lanes_used']} lanes were ever in use")
        yield Recorded(trace, sizes, tallies, channel.missed)
    finally:
        shmtrace.remove_channel(channel.name, drain=True)


def test_every_payload_survives_in_order_and_once(pinned: Recorded) -> None:
    numbers: dict[int, list[int]] = {tally.producer: [] for tally in pinned.tallies}
    newest = Counter[tuple[int, int]]()
    pids = {tally.producer: tally.pid for tally in pinned.tallies}
    missed = 0
    for record in shmtrace.read(pinned.trace):
        if record.name == "loss":
            assert record.fields["reason"] == "missed"
            count = record.fields["count"]
            assert isinstance(count, int)
            missed += count
            continue
        blob = record.fields["blob"]
        assert isinstance(blob, bytes)
        producer, number = emit.read_payload(blob)
        assert record.pid == pids[producer]
        assert len(blob) == pinned.sizes[number % len(pinned.sizes)]
        assert newest[record.lane, producer] <= number, "order within a lane"
        newest[record.lane, producer] = number + 1
        numbers[producer].append(number)
    for tally in pinned.tallies:
        assert sorted(numbers[tally.producer]) == tally.accepted_numbers
    assert missed == pinned.missed == sum(tally.refused for tally in pinned.tallies)


@pytest.mark.peers
def test_babeltrace2_counts_the_same(pinned: Recorded, peer: Callable[[str], str]) -> None:
    assert judge(peer("babeltrace2"), pinned.trace) == (emit.by_pid(pinned.tallies), pinned.missed)
