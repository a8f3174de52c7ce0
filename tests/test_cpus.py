"""Simulated cpus: $SHMTRACE_CPUS cpu slots for a new channel, and a producer on the cpu $SHMTRACE_CPU."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

import emit
import shmtrace
from commands import run
from judge import Event, events
from recording import recorded
from shmtrace import layout
from shmtrace.channel import LANES_PER_CPU
from shmtrace.layout import LANE
from shmtrace.process import start_ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

CPUS = 256
SIZES = [12, 40, 100]


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch, channel_name: str) -> shmtrace.Channel:
    """A channel with 256 cpu slots."""
    monkeypatch.setenv("SHMTRACE_CPUS", str(CPUS))
    return shmtrace.create_channel(channel_name, page_size=4096, pages=1024)


def delivered_by_cpu(channel: shmtrace.Channel) -> dict[int, int]:
    return {counts["cpu"]: counts["delivered"] for counts in channel.stats()["cpus"] if counts["delivered"]}


@pytest.mark.peers
def test_256_cpus(channel: shmtrace.Channel, tmp_path: Path, peer: Callable[[str], str]) -> None:
    """A producer on each: its events are in a stream of its cpu, in a lane of its cpu, and counted there."""
    babeltrace2 = peer("babeltrace2")
    with recorded(channel, tmp_path / "trace"):
        tallies = emit.run(channel.name, "processes", count=CPUS, events=50, sizes=SIZES, cpus=list(range(CPUS)))
    assert channel.missed == 0
    assert delivered_by_cpu(channel) == dict.fromkeys(range(CPUS), 50)
    assert channel.stats()["lanes_used"] == CPUS
    assert {path.name for path in (tmp_path / "trace").glob("stream_*")} == {
        f"stream_{cpu}_{cpu * LANES_PER_CPU}" for cpu in range(CPUS)
    }
    pids = {tally.pid: tally.producer for tally in tallies}
    found = Counter[int]()
    for event in events(babeltrace2, tmp_path / "trace"):
        assert isinstance(event, Event)
        assert event.stream_cpu == event.cpu == pids[event.pid]
        found[event.cpu] += 1
    assert found == dict.fromkeys(range(CPUS), 50)


def test_ids_beyond_the_slots_share_slots_and_keep_their_id(channel: shmtrace.Channel, tmp_path: Path) -> None:
    cpus = [3, CPUS, CPUS + 3, 10 * CPUS + 255]
    with recorded(channel, tmp_path / "trace"):
        tallies = emit.run(channel.name, "processes", count=len(cpus), events=500, sizes=SIZES, cpus=cpus)
    assert channel.missed == 0
    assert delivered_by_cpu(channel) == {0: 500, 3: 1000, 255: 500}
    pids = {tally.pid: cpus[tally.producer] for tally in tallies}
    records = list(shmtrace.read(tmp_path / "trace"))
    assert {(record.pid, record.cpu) for record in records} == set(pids.items())
    assert all(record.lane // LANES_PER_CPU == record.cpu % CPUS for record in records)


def test_many_producers_on_one_cpu_use_lanes_of_that_cpu(channel: shmtrace.Channel, tmp_path: Path) -> None:
    with recorded(channel, tmp_path / "trace"):
        tallies = emit.run(channel.name, "processes", count=6, events=20_000, sizes=SIZES, cpus=[200] * 6)
    delivered = delivered_by_cpu(channel)
    assert set(delivered) == {200}
    assert delivered[200] == sum(tally.accepted for tally in tallies)
    missed = {counts["cpu"]: sum(counts["missed"].values()) for counts in channel.stats()["cpus"]}
    assert +Counter(missed) == +Counter({200: sum(tally.refused for tally in tallies)})


@contextmanager
def taken(channel: shmtrace.Channel, cpus: Sequence[int]) -> Iterator[None]:
    """All lanes of these cpus are taken by a producer that does not go on, this process, while the block runs."""
    assert channel._attachment is not None
    segment = channel._attachment.segment
    owner = (
        ((start_ticks() or 0) & layout.OWNER_START_MASK) << layout.OWNER_START_SHIFT
        | os.getpid() << layout.OWNER_PID_SHIFT
        | layout.UNKNOWN_WRITER
    )
    count = LANES_PER_CPU
    owners = [segment.lane_at(cpu * count + lane) + LANE.owner for cpu in cpus for lane in range(count)]
    for at in owners:
        assert segment.u64(at) == 0
        segment.set_u64(at, owner)
    try:
        yield
    finally:
        assert [segment.u64(at) for at in owners] == [owner] * len(owners), "given back by somebody else"
        for at in owners:
            segment.set_u64(at, 0)


def test_with_all_lanes_of_a_cpu_taken_the_next_cpus_are_used(channel: shmtrace.Channel, tmp_path: Path) -> None:
    """And beyond the last cpu comes the first."""
    cpus = [7, CPUS - 1]
    with recorded(channel, tmp_path / "trace"), taken(channel, cpus):
        tallies = emit.run(channel.name, "processes", count=2, events=500, sizes=SIZES, cpus=cpus)
    assert [tally.accepted for tally in tallies] == [500, 500]
    assert delivered_by_cpu(channel) == {8: 500, 0: 500}
    assert {(record.cpu, record.lane // LANES_PER_CPU) for record in shmtrace.read(tmp_path / "trace")} == {
        (7, 8),
        (CPUS - 1, 0),
    }


@pytest.mark.peers
def test_with_the_next_cpus_lanes_taken_too_an_event_is_missed_by_its_own_cpu(
    channel: shmtrace.Channel, tmp_path: Path, peer: Callable[[str], str]
) -> None:
    babeltrace2 = peer("babeltrace2")
    with recorded(channel, tmp_path / "trace"), taken(channel, [7, 8]):
        tallies = emit.run(channel.name, "processes", count=2, events=500, sizes=SIZES, cpus=[7, 9])
    assert [tally.refused for tally in tallies] == [500, 0]
    assert channel.stats()["missed"] == {"no_page": 0, "timeout": 0, "no_lane": 500, "bad_arguments": 0}
    assert channel.stats()["cpus"][7]["missed"]["no_lane"] == 500
    said = list(events(babeltrace2, tmp_path / "trace"))
    assert sum(event for event in said if isinstance(event, int)) == 500
    assert Counter(event.cpu for event in said if isinstance(event, Event)) == {9: 500}


def test_without_rseq_the_cpu_is_asked_for(tmp_path: Path) -> None:
    """Glibc can be told not to register the area in which the kernel keeps the number of the cpu."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, shmtrace\n"
        "from shmtrace.attachment import cpu_source\n"
        "from shmtrace.layout import CPU_SYSCALL\n"
        "assert cpu_source()[0] == CPU_SYSCALL\n"
        "channel = shmtrace.attach()\n"
        "for cpu in os.sched_getaffinity(0):\n"
        "    os.sched_setaffinity(0, [cpu])\n"
        "    assert channel.event(b'%d' % cpu)\n"
    )
    trace = tmp_path / "trace"
    result = run("run", "-o", trace, program, GLIBC_TUNABLES="glibc.pthread.rseq=0")
    assert result.returncode == 0, result.stderr
    emitted = [(record.cpu, record.fields["blob"]) for record in shmtrace.read(trace)]
    assert emitted == [(cpu, b"%d" % cpu) for cpu in sorted(os.sched_getaffinity(0))]
