"""The benchmarks of many and of long run, briefly, and the consumer that judges them sees what is wrong."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

import shmtrace
from bench import audit, channels, loaded, numbered, slots, soak, writers
from commands import running, until
from recording import collected
from shmtrace import wire
from shmtrace.reader.stream import Metadata, Packet, Parser

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = 3000
LANES = 64


@pytest.mark.parametrize(("mode", "kernel"), [("drop", False), ("block", True)])
def test_a_soak_accounts_for_each_event(mode: str, *, kernel: bool) -> None:
    figures = soak.soak(2_000_000, 2, mode, kernel=kernel, period_s=0.05)
    assert figures["emitted"] == figures["delivered"] + figures["missed"] == 2_000_000
    assert figures["lost"] == 0
    assert mode == "drop" or figures["missed"] == 0


def test_many_channels_account_for_each_event() -> None:
    size = channels.Size(channels=20, readers=8, producers=2, events=50, gap_s=0.001, seconds=0.1, later_s=0)
    figures = channels.measure(size)
    assert figures["emitted"] == figures["delivered"] + figures["missed"] == 2 * 50 * 8


def test_many_writers_are_known_by_their_threads() -> None:
    figures = writers.measure(writers.Size(writers=30, processes=3, waves=2, events=20, loop=1000))
    assert figures["numbered"] == 31
    assert figures["delivered"] + figures["missed"] == 2 * 30 * 20 + 2 * writers.ROUNDS * 1000


def test_without_an_idle_cpu_each_event_is_accounted_for() -> None:
    figures = loaded.measure(("--nice", "5"), loops=3, seconds=0.2)
    assert figures["emitted"] > 0
    assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["most_ms"]


def test_each_of_many_cpus_delivers_what_was_emitted_on_it() -> None:
    figures = slots.spread(32, events=50, at_once=8)
    assert figures["emitted"] == figures["delivered"] + figures["missed"] == 32 * 50


def test_many_cpus_are_compared_with_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "ROUNDS", 1)
    monkeypatch.setattr(slots, "IDLE_S", 0.1)
    assert slots.compare(64, events=2000)["event_ratio"] > 0


@pytest.fixture
def parts(channel_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytearray]:
    """A stream of numbered events of one lane, its description and its packets."""
    monkeypatch.setenv("SHMTRACE_CPU", "0")
    channel = shmtrace.create_channel(channel_name, page_size=4096, pages=1024)
    path = tmp_path / "stream"
    with running(command=["sh", "-c", f'exec cat "$0" > {path}', str(channel.fifo)]) as cat:
        with collected(channel):
            until(lambda: channel.enabled)
            *_, tally = numbered.emitting(channel, 0, EVENTS)
        assert cat.wait(20) == 0
    shmtrace.remove_channel(channel_name)
    assert tally.accepted == EVENTS
    parser = Parser()
    found = [*parser.feed(path.read_bytes()), *parser.end()]
    return [
        bytearray(path.read_bytes()[: found[1].offset] if isinstance(item, Metadata) else item.data)
        for item in found
        if isinstance(item, Metadata | Packet)
    ]


def judged(parts: list[bytearray], directory: Path) -> audit.Audit:
    """The judge, when it has read that."""
    path = directory / "judged"
    path.write_bytes(b"".join(parts))
    judge = audit.Audit(LANES, LANES, 1)
    file = os.open(path, os.O_RDONLY)
    try:
        while judge.read(file):
            pass
    finally:
        os.close(file)
    judge.end()
    return judge


def first_event(packet: bytearray) -> memoryview:
    """Its body, as words."""
    at = wire.PACKET_BYTES
    while True:
        identifier, size = (
            int.from_bytes(packet[at + field :][:2], "little") for field in (wire.RECORD.id, wire.RECORD.size)
        )
        body = at + wire.RECORD_BYTES
        if identifier == wire.ID_BLOB:
            return memoryview(packet)[body : body + size].cast("q")
        at = body + wire.padded(size)


def test_the_judge_counts_what_came(parts: list[bytearray], tmp_path: Path) -> None:
    report = judged(parts, tmp_path).report()
    (source,) = report["sources"]
    assert (source["delivered"], source["pid"]) == (EVENTS, os.getpid())
    numbers = range(EVENTS)
    assert source["bytes"] == sum((numbered.HEAD_WORDS + number % numbered.SIZES) * 8 for number in numbers)
    assert source["digest"] % 2**64 == sum(_digest(number) for number in numbers) % 2**64
    assert report["received_bytes"] == sum(map(len, parts))
    assert sum(report["delivered_by_cpu"]) == EVENTS


def _digest(number: int) -> int:
    """In words of 64 bits with a sign, in plain Python."""

    def signed(value: int) -> int:
        return (value + 2**63) % 2**64 - 2**63

    scattered = signed((number + 1) * numbered.FACTOR)
    scattered ^= scattered >> numbered.SHIFT
    return signed(scattered * numbered.FACTOR)


def test_the_judge_sees_a_packet_that_is_missing(parts: list[bytearray], tmp_path: Path) -> None:
    with pytest.raises(audit.Damaged, match="number does not follow"):
        judged([*parts[:2], *parts[3:]], tmp_path)


def test_the_judge_sees_a_packet_that_came_twice(parts: list[bytearray], tmp_path: Path) -> None:
    with pytest.raises(audit.Damaged, match="number does not follow"):
        judged([*parts[:3], parts[2], *parts[3:]], tmp_path)


def test_the_judge_sees_an_event_that_came_twice(parts: list[bytearray], tmp_path: Path) -> None:
    event = first_event(parts[3])
    event[1:] = memoryview((event[1] - numbered.SIZES).to_bytes(8, "little") * (len(event) - 1)).cast("q")
    with pytest.raises(audit.Damaged, match="came twice"):
        judged(parts, tmp_path)


def test_the_judge_sees_a_word_that_is_wrong(parts: list[bytearray], tmp_path: Path) -> None:
    event = next(event for event in map(first_event, parts[1:]) if len(event) > numbered.HEAD_WORDS)
    event[-1] += 1
    with pytest.raises(audit.Damaged, match="words are wrong"):
        judged(parts, tmp_path)


def test_the_judge_sees_an_event_that_is_another(parts: list[bytearray], tmp_path: Path) -> None:
    """The last one has a number that was never given: only the digest tells."""
    event = first_event(parts[-1])
    before = judged(parts, tmp_path).report()["sources"][0]["digest"]
    event[1:] = memoryview((event[1] + 8).to_bytes(8, "little") * (len(event) - 1)).cast("q")
    try:
        after = judged(parts, tmp_path).report()["sources"][0]["digest"]
    except audit.Damaged:  # the next event has that number
        return
    assert after != before


def test_the_judge_sees_a_torn_end(parts: list[bytearray], tmp_path: Path) -> None:
    parts[-1] = parts[-1][:-8]
    with pytest.raises(audit.Damaged, match="at the end are no packet"):
        judged(parts, tmp_path)


def test_growth_is_seen() -> None:
    kept = [soak.Sample(1000, 5), soak.Sample(3000, 6), soak.Sample(2000, 6), soak.Sample(2000, 7), None]
    assert soak.growth(kept) == (2000, 1)
    now_and_then = [soak.Sample(1000, 5), soak.Sample(1000, 7), soak.Sample(1000, 7), soak.Sample(1000, 5)]
    assert soak.growth(now_and_then) == (0, 0)
