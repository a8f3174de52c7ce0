"""What was emitted is in the trace or is counted: nothing else happens to an event.

accepted = delivered + lost, refused = missed, in total and by cpu; and babeltrace2 counts the same, process by process.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import pytest

import commands
import emit
import shmtrace
from judge import Event, events, judge
from recording import collected, leave, reading, recorded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIZES = [0, 1, 7, 8, 9, 12, 31, 32, 33, 100]


def assert_accounted(channel: shmtrace.Channel, tallies: list[emit.Tally]) -> None:
    """Recording was on from the first event to the last."""
    stats = channel.stats()
    assert sum(tally.accepted for tally in tallies) == stats["delivered"] + sum(stats["lost"].values())
    assert sum(tally.refused for tally in tallies) == sum(stats["missed"].values()) == channel.missed
    assert stats["lost"]["damaged"] == stats["damaged_words"] == 0
    assert stats["delivered"] == sum(counts["delivered"] for counts in stats["cpus"])
    for total in ("lost", "missed"):
        for reason, count in stats[total].items():
            assert count == sum(counts[total][reason] for counts in stats["cpus"])


def assert_accounted_by_cpu(channel: shmtrace.Channel, tallies: list[emit.Tally], cpus: list[int]) -> None:
    """Producer n has told each of its events to be on the cpu cpus[n]."""
    accepted, refused = Counter[int](), Counter[int]()
    for tally in tallies:
        accepted[cpus[tally.producer]] += tally.accepted
        refused[cpus[tally.producer]] += tally.refused
    for counts in channel.stats()["cpus"]:
        assert accepted[counts["cpu"]] == counts["delivered"] + sum(counts["lost"].values())
        assert refused[counts["cpu"]] == sum(counts["missed"].values())


# -- babeltrace2 counts what the workers emitted


@pytest.mark.peers
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pool(method: str, channel_name: str, tmp_path: Path, peer: Callable[[str], str]) -> None:
    babeltrace2, channel = peer("babeltrace2"), shmtrace.create_channel(channel_name, page_size=8192, pages=256)
    with recorded(channel, tmp_path / "trace"):
        tallies = emit.run(channel.name, "pool", method=method, workers=3, events=2000, sizes=SIZES)
    assert_accounted(channel, tallies)
    assert len(emit.by_pid(tallies)) == 4
    assert judge(babeltrace2, tmp_path / "trace") == (emit.by_pid(tallies), channel.missed)


@pytest.mark.peers
def test_threads(channel_name: str, tmp_path: Path, peer: Callable[[str], str]) -> None:
    babeltrace2, channel = peer("babeltrace2"), shmtrace.create_channel(channel_name, page_size=8192, pages=256)
    with recorded(channel, tmp_path / "trace"):
        tallies = emit.run(channel.name, "threads", count=8, events=2000, sizes=SIZES)
    assert_accounted(channel, tallies)
    assert judge(babeltrace2, tmp_path / "trace") == (emit.by_pid(tallies), channel.missed)
    by_thread = Counter(record.tid for record in shmtrace.read(tmp_path / "trace") if record.name == "blob")
    assert by_thread == {tally.tid: tally.accepted for tally in tallies}


@pytest.mark.peers
@pytest.mark.parametrize("count", [1, 2, 4, 16])
def test_processes(count: int, channel_name: str, tmp_path: Path, peer: Callable[[str], str]) -> None:
    babeltrace2, channel = peer("babeltrace2"), shmtrace.create_channel(channel_name, page_size=8192, pages=256)
    with recorded(channel, tmp_path / "trace"):
        tallies = emit.run(channel.name, "processes", count=count, events=32_000 // count, sizes=SIZES)
    assert_accounted(channel, tallies)
    assert len(emit.by_pid(tallies)) == count
    assert judge(babeltrace2, tmp_path / "trace") == (emit.by_pid(tallies), channel.missed)


@pytest.mark.peers
@pytest.mark.parametrize(("page_size", "limit"), [(4096, 4080), (65_536, 65_520), (131_072, 65_535)])
def test_sizes_up_to_the_limit(
    page_size: int,
    limit: int,
    channel_name: str,
    tmp_path: Path,
    peer: Callable[[str], str],
) -> None:
    babeltrace2, channel = peer("babeltrace2"), shmtrace.create_channel(channel_name, page_size=page_size, pages=64)
    sizes = [0, 1, 7, 8, 9, limit // 2, limit - 8, limit - 7, limit - 1, limit]
    with recorded(channel, tmp_path / "trace"):
        with pytest.raises(ValueError, match=str(limit)):
            channel.event(bytes(limit + 1))
        tallies = emit.run(channel.name, "processes", count=1, events=2 * len(sizes), sizes=sizes)
    assert_accounted(channel, tallies)
    assert tallies[0].refused == 0
    expected = [emit.payload(0, number, size) for number, size in enumerate(2 * sizes)]
    assert [event.blob for event in events(babeltrace2, tmp_path / "trace") if isinstance(event, Event)] == expected
    assert [record.fields["blob"] for record in shmtrace.read(tmp_path / "trace")] == expected


@pytest.mark.peers
def test_a_slow_reader_forces_misses(channel_name: str, tmp_path: Path, peer: Callable[[str], str]) -> None:
    babeltrace2, channel = peer("babeltrace2"), shmtrace.create_channel(channel_name, page_size=4096, pages=16)
    with recorded(channel, tmp_path / "trace") as recording:
        with recording.slow_reader():
            tallies = emit.run(channel.name, "processes", count=4, events=20_000, sizes=SIZES)
        commands.until(lambda: channel.stats()["pages_waiting"])
        tallies += emit.run(channel.name, "processes", count=4, events=5, sizes=SIZES)
    assert_accounted(channel, tallies)
    assert channel.missed > 0
    assert judge(babeltrace2, tmp_path / "trace") == (emit.by_pid(tallies), channel.missed)
    counted = f"{channel.stats()['delivered']:,} events, "
    assert recording.summary.startswith(f"shmtrace: {counted}")
    assert f" {channel.missed:,} missed, 0 lost" in recording.summary


@pytest.mark.peers
def test_misses_are_counted_by_cpu(
    monkeypatch: pytest.MonkeyPatch,
    channel_name: str,
    tmp_path: Path,
    peer: Callable[[str], str],
) -> None:
    babeltrace2 = peer("babeltrace2")
    monkeypatch.setenv("SHMTRACE_CPUS", "4")
    channel = shmtrace.create_channel(channel_name, page_size=4096, pages=16)
    cpus = [0, 1, 1, 3]
    with recorded(channel, tmp_path / "trace") as recording, recording.slow_reader():
        tallies = emit.run(channel.name, "processes", count=4, events=20_000, sizes=SIZES, cpus=cpus)
    assert_accounted(channel, tallies)
    assert_accounted_by_cpu(channel, tallies, cpus)
    assert all(tally.refused for tally in tallies)
    assert judge(babeltrace2, tmp_path / "trace") == (emit.by_pid(tallies), channel.missed)


# -- nobody reads


def test_without_a_collector_nothing_is_counted(channel_name: str) -> None:
    channel = shmtrace.create_channel(channel_name, page_size=4096, pages=16)
    tallies = emit.run(channel.name, "processes", count=2, events=5000, sizes=SIZES)
    assert [tally.accepted for tally in tallies] == [0, 0]
    stats = channel.stats()
    assert (channel.missed, stats["delivered"], stats["lost"]) == (0, 0, {"unread": 0, "damaged": 0})


def test_with_recording_off_nothing_is_counted(channel_name: str, tmp_path: Path) -> None:
    channel = shmtrace.create_channel(channel_name, page_size=4096, pages=16)
    with collected(channel):
        with reading(channel, "cat", tmp_path / "stream") as cat:
            before = emit.run(channel.name, "processes", count=2, events=500, sizes=SIZES)
            leave(channel, cat, signal.SIGKILL)
        missed = channel.missed
        after = emit.run(channel.name, "processes", count=2, events=5000, sizes=SIZES)
        assert [tally.accepted for tally in after] == [0, 0]
        assert channel.missed == missed
    assert_accounted(channel, before)


# -- readers come and go


def has_begun(output: Path) -> bool:
    """The reader has saved something."""
    return (output / "metadata").exists() or (output.is_file() and output.stat().st_size > 0)


def has_delivered(channel: shmtrace.Channel, count: int) -> bool:
    delivered: int = channel.stats()["delivered"]
    return delivered > count


def blobs(trace: Path) -> int:
    """Events in a trace or a saved stream, the end of which may have been cut off."""
    return sum(record.name == "blob" for record in shmtrace.read(trace, warn=lambda _: None))


READERS = [("cat", signal.SIGKILL), ("record", signal.SIGTERM), ("head", 0), ("record", signal.SIGKILL)]


@pytest.mark.peers
def test_readers_come_and_go_while_producers_run(
    monkeypatch: pytest.MonkeyPatch,
    channel_name: str,
    tmp_path: Path,
    peer: Callable[[str], str],
) -> None:
    """What a reader got whole is what is counted as delivered while it was there; the rest is lost, unread."""
    babeltrace2 = peer("babeltrace2")
    monkeypatch.setenv("SHMTRACE_CPUS", "4")
    channel = shmtrace.create_channel(channel_name, page_size=4096, pages=64, flush_ms=20)
    cpus = [0, 1, 1, 3]
    stop = tmp_path / "stop"
    options = {"count": 4, "stop": str(stop), "sizes": SIZES, "cpus": cpus}
    with collected(channel), emit.started(channel.name, "processes", **options) as finish:
        for turn, (reader, signal_number) in enumerate(2 * READERS):
            before = channel.stats()["delivered"]
            output = tmp_path / f"{turn}-{reader}"
            with reading(channel, reader, output, size=100_003 * (turn + 1)) as process:
                commands.until(partial(has_begun, output))
                commands.until(partial(has_delivered, channel, before + 5000))
                leave(channel, process, signal_number)
            delivered = channel.stats()["delivered"] - before
            if signal_number == signal.SIGKILL:  # it may have read what it had no time to write, or to write whole
                assert blobs(output) <= delivered
                continue
            assert blobs(output) == delivered > 0
            if reader == "record":
                assert sum(judge(babeltrace2, output).by_pid.values()) == blobs(output)
        stop.touch()
        tallies = finish()
    stats = channel.stats()
    accepted = sum(tally.accepted for tally in tallies)
    assert accepted == stats["delivered"] + stats["lost"]["unread"]
    assert stats["lost"]["unread"] > 0
    assert stats["lost"]["damaged"] == stats["damaged_words"] == 0
    assert channel.missed <= sum(tally.refused for tally in tallies)
    for cpu in range(4):
        counts = stats["cpus"][cpu]
        assert counts["delivered"] + counts["lost"]["unread"] == sum(
            tally.accepted for tally in tallies if cpus[tally.producer] == cpu
        )


def test_a_reader_that_leaves_without_reading_loses_what_was_accepted(channel_name: str) -> None:
    channel = shmtrace.create_channel(channel_name, page_size=4096, pages=16)
    with collected(channel):
        tallies: list[emit.Tally] = []
        for _ in range(3):
            reader = os.open(channel.fifo, os.O_RDONLY | os.O_NONBLOCK)
            commands.until(lambda: channel.enabled)
            tallies += emit.run(channel.name, "processes", count=2, events=20_000, sizes=SIZES)
            os.close(reader)
            commands.until(lambda: not channel.stats()["reader"] and not channel.enabled)
    assert_accounted(channel, tallies)
    stats = channel.stats()
    assert (stats["delivered"], channel.missed > 0) == (0, True)


def test_two_readers_share_the_stream_and_the_last_to_leave_counts(channel_name: str, tmp_path: Path) -> None:
    channel = shmtrace.create_channel(channel_name, page_size=4096, pages=256)
    with collected(channel), reading(channel, "cat", tmp_path / "a") as first:
        with reading(channel, "cat", tmp_path / "b") as second:
            tallies = emit.run(channel.name, "processes", count=2, events=2000, sizes=SIZES)
            commands.until(lambda: channel.stats()["delivered"] == sum(tally.accepted for tally in tallies))
            second.kill()
            second.wait(commands.LIMIT_S)
            tallies += emit.run(channel.name, "processes", count=2, events=2000, sizes=SIZES)
            assert channel.enabled
            commands.until(lambda: channel.stats()["delivered"] == sum(tally.accepted for tally in tallies))
        leave(channel, first, signal.SIGKILL)
    assert_accounted(channel, tallies)
