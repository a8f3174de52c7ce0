"""Flight recorders: the newest pages of each lane are kept, nobody reads, nobody collects.

What was accepted is in a snapshot or is counted as overwritten, in total and by cpu.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter, defaultdict
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

import commands
import emit
import shmtrace
import shmtrace.cli
from judge import Event, events, judge
from shmtrace import layout
from shmtrace.channel import LANES_PER_CPU, list_channels
from shmtrace.classes import define
from shmtrace.collector import service
from shmtrace.instrument.logging import Handler
from shmtrace.layout import CONTROL, LANE, PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shmtrace.segment import Segment

SIZES = [12, 31, 32, 33, 100]
pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def make_channel(
    monkeypatch: pytest.MonkeyPatch, new_name: Callable[[], str]
) -> Iterator[Callable[..., shmtrace.Channel]]:
    """Makes flight recorders with a number of cpu slots; what is left of them after the test is removed."""
    made: list[shmtrace.Channel] = []

    def make(cpus: int = 1, **options: Any) -> shmtrace.Channel:  # noqa: ANN401
        monkeypatch.setenv("SHMTRACE_CPUS", str(cpus))
        sizes = {"page_size": 4096, "pages": 32 * cpus, **options}
        made.append(shmtrace.create_channel(new_name(), mode="overwrite", **sizes))
        return made[-1]

    yield make
    for channel in made:
        with suppress(shmtrace.ChannelNotFound):
            shmtrace.remove_channel(channel.name)


@pytest.fixture
def channel(make_channel: Callable[..., shmtrace.Channel]) -> shmtrace.Channel:
    return make_channel()


@pytest.fixture
def snapshot(tmp_path: Path) -> Callable[[shmtrace.Channel], Path]:
    """Takes a snapshot; its directory."""
    numbers = itertools.count()

    def take(channel: shmtrace.Channel) -> Path:
        directory = tmp_path / f"snapshot-{next(numbers)}"
        count = channel.snapshot(directory)
        assert count == sum(record.kind != "loss" for record in shmtrace.read(directory))
        return directory

    return take


def segment_of(channel: shmtrace.Channel) -> Segment:
    """The segment as this process has it mapped."""
    attachment = channel._attachment
    assert attachment is not None
    return attachment.segment


def owners(channel: shmtrace.Channel) -> list[int]:
    """Pids of those that hold lanes."""
    segment = segment_of(channel)
    words = (segment.u64(segment.lane_at(lane) + LANE.owner) for lane in range(segment.geometry.lanes))
    return [word >> layout.OWNER_PID_SHIFT & layout.OWNER_PID_MASK for word in words if word]


def blobs(trace: Path) -> list[Any]:
    return [record.fields["blob"] for record in shmtrace.read(trace) if record.name == "blob"]


@contextmanager
def python(program: str, channel: shmtrace.Channel, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A program beside the block, of which SHMTRACE names the channel; what is left of it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        env={**os.environ, "SHMTRACE": channel.name, "PYTHONPATH": str(Path(__file__).parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


HOLD = """
    import shmtrace, sys
    from contextlib import ExitStack
    channel = shmtrace.attach()
    with ExitStack() as stack:
        for _ in range(int(sys.argv[1])):
            stack.enter_context(channel.reserve(4))
        print(channel.event(b"of the dead"), flush=True)
        sys.stdin.read()
"""


def kill_holder(channel: shmtrace.Channel, lanes: int) -> None:
    """Leave lanes that are held by a process that was killed."""
    with python(HOLD, channel, str(lanes)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        process.kill()
        process.wait(30)
    assert len(owners(channel)) == lanes


# -- there is no stream


def test_it_records_from_its_creation_on_without_a_reader(channel: shmtrace.Channel) -> None:
    assert channel.enabled
    assert channel.event(b"at once")
    stats = channel.stats()
    assert (stats["mode"], stats["recording"], stats["reader"], stats["collector"]) == ("overwrite", True, False, None)


def test_there_is_no_fifo(channel: shmtrace.Channel) -> None:
    assert not channel.fifo.exists()


def test_it_is_listed_as_recording_and_goes_when_it_is_removed(channel: shmtrace.Channel) -> None:
    (found,) = (entry for entry in list_channels() if entry["name"] == channel.name)
    assert (found["state"], found["mode"]) == ("recording", "overwrite")
    shmtrace.remove_channel(channel.name)
    assert not channel.event(b"gone")


@pytest.mark.parametrize("command", ["collect", "record", "tail", "path"])
def test_what_wants_the_stream_refuses_in_one_line_that_names_snapshot(
    channel: shmtrace.Channel, tmp_path: Path, command: str
) -> None:
    options = ["-o", str(tmp_path / "trace")] if command == "record" else []
    result = CliRunner().invoke(shmtrace.cli.main, [command, channel.name, *options])
    (line,) = result.output.splitlines()
    assert result.exit_code == 1
    assert f"shmtrace snapshot {channel.name} -o DIR" in line


def test_collect_all_passes_over_it_and_says_nothing(
    channel: shmtrace.Channel, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(service, "channel_names", lambda: [channel.name])  # those of others are none of our business
    crew = service._Crew()
    for _ in range(3):
        crew.look()
    assert (len(crew), capfd.readouterr()) == (0, ("", ""))


# -- geometry


def test_the_default_sizes_are_right_on_a_machine_with_many_cpus(
    monkeypatch: pytest.MonkeyPatch, new_name: Callable[[], str]
) -> None:
    monkeypatch.setenv("SHMTRACE_CPUS", "256")
    name = new_name()
    with shmtrace.create_channel(name, mode="overwrite") as channel:
        stats = channel.stats()
        assert stats["lanes"] == 256 * LANES_PER_CPU
        assert stats["pages"] >= 2 * stats["lanes"]
        assert stats["pages"] * stats["page_size"] <= 1 << 26
        assert channel.event(b"recorded")
    shmtrace.remove_channel(name)


def test_too_few_pages_is_one_line_that_says_how_many_are_needed(
    monkeypatch: pytest.MonkeyPatch, new_name: Callable[[], str]
) -> None:
    monkeypatch.setenv("SHMTRACE_CPUS", "4")
    least = 4 * LANES_PER_CPU * 2
    with pytest.raises(shmtrace.InvalidGeometry, match=f"{least - 1} pages.* at least {least} ") as caught:
        shmtrace.create_channel(new_name(), mode="overwrite", page_size=4096, pages=least - 1)
    assert "\n" not in str(caught.value)
    name = new_name()
    shmtrace.create_channel(name, mode="overwrite", page_size=4096, pages=least).close()
    shmtrace.remove_channel(name)


@pytest.mark.parametrize("pages", [48, 61, 200])
def test_each_lane_goes_round_in_the_pages_that_its_geometry_says(
    make_channel: Callable[..., shmtrace.Channel], monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    channels = []
    first = make_channel(cpus=3, pages=pages)
    for cpu in range(3):  # a process knows one cpu: so a process for each
        monkeypatch.setenv("SHMTRACE_CPU", str(cpu))
        child = os.fork()
        if child == 0:
            from shmtrace import attachment

            attachment._attachments.clear()
            mine = shmtrace.open_channel(first.name)
            for _ in range(pages + 2):  # in each of these every lane gets a page
                with ExitStack() as stack:
                    for _ in range(LANES_PER_CPU - 1):
                        stack.enter_context(mine.reserve(4000))
                    mine.event(bytes(4000))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        channels.append(cpu)
    segment = segment_of(first)
    geometry = segment.geometry
    used: dict[int, set[int]] = defaultdict(set)
    for lane in range(geometry.lanes):
        position = segment.u64(segment.lane_at(lane) + LANE.position)
        used[lane].add(position >> layout.PAGE_SHIFT & layout.PAGE_MASK)
    for page in range(geometry.pages):
        owner = segment.u64(geometry.descriptors_at + page * layout.PAGE_BYTES + PAGE.owner)
        if owner:
            used[(owner >> layout.SEQUENCE_BITS) - 1].add(page)
    assert used == {lane: set(geometry.ring(lane)) for lane in range(geometry.lanes)}
    assert sum(map(len, used.values())) == len(set().union(*used.values())), "no page is in two rings"


# -- what is kept, and what is counted


def test_the_newest_events_of_a_producer_are_kept_without_a_gap(
    channel: shmtrace.Channel, snapshot: Callable[[shmtrace.Channel], Path]
) -> None:
    total = 20_000
    assert all(channel.event(b"%d" % number) for number in range(total))
    kept = [int(blob) for blob in blobs(snapshot(channel))]
    ring = segment_of(channel).geometry.ring(0)
    assert kept == list(range(total - len(kept), total))
    assert len(kept) >= (len(ring) - 1) * (4096 // 24)
    assert channel.stats()["overwritten"] == total - len(kept)


def test_while_nothing_was_overwritten_everything_is_there(
    channel: shmtrace.Channel, snapshot: Callable[[shmtrace.Channel], Path]
) -> None:
    assert all(channel.event(b"%d" % number) for number in range(500))
    assert blobs(snapshot(channel)) == [b"%d" % number for number in range(500)]
    assert channel.stats()["overwritten"] == 0


def test_what_was_overwritten_is_told_in_the_snapshot(
    channel: shmtrace.Channel, snapshot: Callable[[shmtrace.Channel], Path]
) -> None:
    for number in range(20_000):
        channel.event(b"%d" % number)
    trace = snapshot(channel)
    told = [record.fields for record in shmtrace.read(trace) if record.kind == "loss"]
    assert told == [{"reason": "overwritten", "count": 20_000 - len(blobs(trace))}]


@pytest.mark.peers
def test_what_is_kept_and_what_is_overwritten_is_what_was_accepted_by_cpu_too(
    make_channel: Callable[..., shmtrace.Channel],
    snapshot: Callable[[shmtrace.Channel], Path],
    peer: Callable[[str], str],
) -> None:
    babeltrace2, channel = peer("babeltrace2"), make_channel(cpus=4)
    cpus = [0, 1, 1, 3, 3, 3]
    tallies = emit.run(channel.name, "processes", count=6, events=5000, sizes=SIZES, cpus=cpus)
    trace = snapshot(channel)
    kept = Counter(event.cpu for event in events(babeltrace2, trace) if isinstance(event, Event))
    stats = channel.stats()
    assert sum(kept.values()) + stats["overwritten"] == sum(tally.accepted for tally in tallies)
    for counts in stats["cpus"]:
        accepted = sum(tally.accepted for tally in tallies if cpus[tally.producer] == counts["cpu"])
        assert kept[counts["cpu"]] + counts["overwritten"] == accepted
    assert sum(tally.refused for tally in tallies) == channel.missed == 0
    told = sum(record.fields["count"] for record in shmtrace.read(trace) if record.kind == "loss")  # type: ignore[misc]
    assert told == stats["overwritten"]


def test_the_events_of_each_lane_are_a_suffix_of_what_was_written_into_it(
    make_channel: Callable[..., shmtrace.Channel], snapshot: Callable[[shmtrace.Channel], Path]
) -> None:
    channel = make_channel(cpus=2)
    tallies = emit.run(channel.name, "processes", count=4, events=4000, sizes=SIZES, cpus=[0, 0, 1, 1])
    newest: dict[tuple[int, int], list[int]] = defaultdict(list)
    for record in shmtrace.read(snapshot(channel)):
        if record.name == "blob":
            producer, number = emit.read_payload(record.fields["blob"])  # type: ignore[arg-type]
            newest[producer, record.lane].append(number)
    assert {producer for producer, _ in newest} <= {tally.producer for tally in tallies}
    assert all(numbers == sorted(set(numbers)) for numbers in newest.values())


@pytest.mark.peers
def test_snapshots_while_producers_run_at_full_speed_are_whole_and_in_order(
    make_channel: Callable[..., shmtrace.Channel], tmp_path: Path, peer: Callable[[str], str]
) -> None:
    babeltrace2, channel = peer("babeltrace2"), make_channel(cpus=2, pages=64)
    program = """
    import emit, itertools, sys
    event, producer = emit.channel().event, int(sys.argv[1])
    for start in itertools.count(step=2000):
        payloads = [emit.payload(producer, number, 20 + number % 50) for number in range(start, start + 2000)]
        list(map(event, payloads))
    """
    torn = found = 0
    with ExitStack() as stack:
        for number in range(3):
            stack.enter_context(python(program, channel, str(number)))
        commands.until(lambda: channel.stats()["overwritten"] > 5000)
        for round_number in range(6):
            trace = tmp_path / str(round_number)
            channel.snapshot(trace)
            assert sum(judge(babeltrace2, trace).by_pid.values()) == len(blobs(trace)) > 0
            last: dict[tuple[int, int], int] = {}
            for record in shmtrace.read(trace):
                torn += record.kind == "loss" and record.fields["reason"] != "overwritten"
                if record.name == "blob":
                    producer, number = emit.read_payload(record.fields["blob"])  # type: ignore[arg-type]
                    assert number > last.get((producer, record.lane), -1)
                    last[producer, record.lane] = number
                    found += 1
    assert (torn, channel.stats()["damaged_words"]) == (0, 0)
    assert found > 1000


@pytest.mark.peers
def test_the_sequence_of_a_lane_wraps(
    channel: shmtrace.Channel, snapshot: Callable[[shmtrace.Channel], Path], peer: Callable[[str], str]
) -> None:
    segment = segment_of(channel)
    near_the_end = (layout.SEQUENCE_MASK - 30) << layout.SEQUENCE_SHIFT | layout.NO_PAGE_POSITION
    segment.set_u64(segment.lane_at(0) + LANE.position, near_the_end)
    total = 0
    for _ in range(12):
        assert all(channel.event(b"%d" % number) for number in range(total, total + 800))
        total += 800
        trace = snapshot(channel)
        kept = [int(blob) for blob in blobs(trace)]
        assert kept == list(range(total - len(kept), total))
        assert len(kept) + channel.stats()["overwritten"] == total
        assert judge(peer("babeltrace2"), trace).discarded == 0
    sequence = segment.u64(segment.lane_at(0) + LANE.position) >> layout.SEQUENCE_SHIFT
    assert sequence < 100, "it has wrapped"


@pytest.mark.peers
def test_a_class_that_is_defined_while_it_records_is_described(
    channel: shmtrace.Channel, snapshot: Callable[[shmtrace.Channel], Path], peer: Callable[[str], str]
) -> None:
    for number in range(3):
        define(segment_of(channel), f"class {number}", fields="status:u16")
        channel.event(b"event")
        trace = snapshot(channel)
        text = (trace / "metadata").read_text()
        assert all(f"class {known}" in text for known in range(number + 1))
        assert sum(judge(peer("babeltrace2"), trace).by_pid.values()) == number + 1


# -- dead processes


@pytest.mark.parametrize("kind", ["event", "counter", "blob", "span", "use", "log", "bridge"])
def test_a_context_is_told_again_before_it_is_overwritten(kind: str, channel: shmtrace.Channel, tmp_path: Path) -> None:
    step, load = channel.tracepoint("step", number="u32"), channel.span("load", number="u32")
    depth, handler = channel.counter("depth"), Handler(channel=channel)

    def record(number: int) -> None:
        match kind:
            case "event":
                step(number)
            case "counter":
                depth(number)
            case "blob":
                channel.event(bytes(number % 10))
            case "span":
                load.begin(number)
                load.end()
            case "use":
                with load(number):
                    pass
            case "log":
                channel.log("step", number=number)
            case "bridge":
                handler.handle(logging.LogRecord("of a test", logging.WARNING, __file__, 1, "step %d", (number,), None))

    with channel.context(request_id="r-17"):
        for number in range(5000):
            record(number)
    assert channel.stats()["overwritten"] > 2000
    channel.snapshot(tmp_path / "trace")
    records = [record for record in shmtrace.read(tmp_path / "trace") if record.kind != "loss"]
    assert len(records) > 50
    without = [record for record in records if record.fields.get("request_id") != "r-17"]
    assert len(without) <= 1, "the one that turned the oldest page"


@pytest.mark.peers
def test_what_was_recorded_by_processes_that_are_all_dead_is_there(
    channel: shmtrace.Channel, tmp_path: Path, peer: Callable[[str], str]
) -> None:
    program = """
    import itertools, shmtrace
    event = shmtrace.attach().event
    for number in itertools.count():
        event(b"%d" % number)
    """
    random.seed(3)
    with ExitStack() as stack:
        processes = [stack.enter_context(python(program, channel)) for _ in range(3)]
        commands.until(lambda: channel.stats()["writers"] == 3 and channel.stats()["overwritten"])
        time.sleep(random.uniform(0, 0.05))
        for process in processes:
            process.kill()
            process.wait(30)
    channel.snapshot(tmp_path / "trace")
    numbers: dict[int | None, list[int]] = defaultdict(list)
    for record in shmtrace.read(tmp_path / "trace"):
        if record.name == "blob":
            numbers[record.pid].append(int(str(record.fields["blob"], "ascii")))  # type: ignore[call-overload]
    assert set(numbers) <= {process.pid for process in processes}
    assert all(ascending == sorted(set(ascending)) for ascending in numbers.values())
    counted = judge(peer("babeltrace2"), tmp_path / "trace").by_pid
    assert counted == {pid: len(ascending) for pid, ascending in numbers.items()}
    assert owners(channel) == []


def test_a_lane_of_a_dead_process_is_given_back_by_who_attaches(channel: shmtrace.Channel) -> None:
    kill_holder(channel, 3)
    with python("import shmtrace; shmtrace.attach()", channel) as process:
        assert process.wait(30) == 0
    assert owners(channel) == []


def test_a_lane_of_a_dead_process_is_given_back_by_a_snapshot(
    channel: shmtrace.Channel, snapshot: Callable[[shmtrace.Channel], Path]
) -> None:
    kill_holder(channel, 3)
    assert blobs(snapshot(channel)) == [b"of the dead"]
    assert owners(channel) == []


def test_a_lane_of_a_living_process_is_left_alone(
    channel: shmtrace.Channel, snapshot: Callable[[shmtrace.Channel], Path]
) -> None:
    with python(HOLD, channel, "3") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        os.kill(process.pid, signal.SIGSTOP)
        snapshot(channel)
        with python("import shmtrace; shmtrace.attach()", channel) as other:
            assert other.wait(30) == 0
        assert owners(channel) == [process.pid] * 3
        os.kill(process.pid, signal.SIGCONT)
        process.communicate(timeout=30)
    assert owners(channel) == []


def test_a_producer_that_finds_no_lane_free_gives_those_of_the_dead_back(channel: shmtrace.Channel) -> None:
    segment = segment_of(channel)
    kill_holder(channel, LANES_PER_CPU - 1)
    dead = segment.u64(segment.lane_at(0) + LANE.owner)
    for lane in range(segment.geometry.lanes):  # a reservation leaves the last one free
        segment.set_u64(segment.lane_at(lane) + LANE.owner, dead)
    began = time.monotonic()
    refused = 0
    while not channel.event(b"at last"):
        refused += 1
        time.sleep(0.01)
    assert time.monotonic() - began < 10
    assert channel.stats()["missed"]["no_lane"] == refused
    assert refused >= 1, "the one that found out was refused"
    assert owners(channel) == []


def test_a_producer_looks_for_the_dead_once_a_second(
    channel: shmtrace.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = segment_of(channel)
    looks: list[float] = []
    monkeypatch.setattr("shmtrace.rescue.rescue", lambda _segment: looks.append(time.monotonic()))
    mine = (
        int.from_bytes(os.urandom(3), "little") << layout.OWNER_START_SHIFT | os.getpid() << layout.OWNER_PID_SHIFT | 1
    )
    for lane in range(segment.geometry.lanes):
        segment.set_u64(segment.lane_at(lane) + LANE.owner, mine)
    until = time.monotonic() + 1.3
    while time.monotonic() < until:
        assert not channel.event(b"no lane")
    for lane in range(segment.geometry.lanes):
        segment.set_u64(segment.lane_at(lane) + LANE.owner, 0)
    assert len(looks) == 2
    assert 0.99 < looks[1] - looks[0] < 1.3


# -- writer numbers

FEW = 8


@pytest.fixture
def small_table(make_channel: Callable[..., shmtrace.Channel], monkeypatch: pytest.MonkeyPatch) -> shmtrace.Channel:
    """A channel for 7 writers."""
    monkeypatch.setattr("shmtrace.channel.WRITERS", FEW)
    return make_channel()


def emit_in_child(channel: shmtrace.Channel, blobs: list[bytes]) -> int:
    """Emit in a process that ends; its pid."""
    child = os.fork()
    if child == 0:
        os._exit(0 if all(map(channel.event, blobs)) else 1)
    assert os.waitpid(child, 0)[1] == 0
    return child


def test_numbers_that_no_page_names_are_given_out_again_and_each_event_keeps_its_process(
    small_table: shmtrace.Channel, snapshot: Callable[[shmtrace.Channel], Path]
) -> None:
    channel = small_table
    segment = segment_of(channel)
    emitted: dict[bytes, int] = {}
    for number in range(60):
        segment.set_u64(CONTROL.rescued_ns, 0)  # as if a second had passed
        tag = b"%03d" % number
        emitted[tag] = emit_in_child(channel, [tag + bytes(1000)] * 20)
    kept = [record for record in shmtrace.read(snapshot(channel)) if record.name == "blob"]
    assert len(kept) > 30
    for record in kept:
        assert record.pid == emitted[record.fields["blob"][:3]]  # type: ignore[index]


def test_a_number_that_a_page_names_is_not_given_out(
    small_table: shmtrace.Channel, snapshot: Callable[[shmtrace.Channel], Path]
) -> None:
    channel = small_table
    emitted = {b"%d" % number: emit_in_child(channel, [b"%d" % number]) for number in range(FEW + 3)}
    found = {record.fields["blob"]: record.pid for record in shmtrace.read(snapshot(channel))}
    known = {blob: pid for blob, pid in found.items() if pid is not None}
    assert len(found) == FEW + 3
    assert known == {blob: emitted[blob] for blob in known}  # type: ignore[index]
    assert len(known) == FEW - 1


def test_with_a_full_table_events_are_recorded_and_the_threads_are_counted(
    small_table: shmtrace.Channel, snapshot: Callable[[shmtrace.Channel], Path]
) -> None:
    channel = small_table
    for number in range(FEW - 1 + 5):
        emit_in_child(channel, [b"%d" % number])
    assert channel.stats()["unnumbered"] == 5
    assert len(blobs(snapshot(channel))) == FEW - 1 + 5


def test_in_a_stream_too_the_threads_without_a_number_are_counted(
    new_name: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shmtrace.channel.WRITERS", FEW)
    name = new_name()
    with shmtrace.create_channel(name, page_size=4096, pages=64) as channel:
        segment_of(channel).set_u32(CONTROL.recording, 1)
        for number in range(FEW - 1 + 5):
            emit_in_child(channel, [b"%d" % number])
        assert channel.stats()["unnumbered"] == 5
    shmtrace.remove_channel(name)


def test_who_looks_for_numbers_does_not_wait_for_another_who_does(small_table: shmtrace.Channel) -> None:
    """The other one may be stopped in the middle of it."""
    channel = small_table
    for number in range(FEW):
        emit_in_child(channel, [b"%d" % number])
    lock = segment_of(channel).open_lock()
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with python("import shmtrace; print(shmtrace.attach().event(b'recorded'))", channel) as process:
            assert process.communicate(timeout=10)[0] == "True\n"
    finally:
        os.close(lock)


def test_the_statistics_as_json_say_what_was_overwritten(channel: shmtrace.Channel) -> None:
    for number in range(20_000):
        channel.event(b"%d" % number)
    result = CliRunner().invoke(shmtrace.cli.main, ["stat", channel.name, "--json"])
    assert json.loads(result.output)["overwritten"] == channel.stats()["overwritten"] > 0


def test_a_channel_that_was_removed_has_no_snapshot(channel: shmtrace.Channel, tmp_path: Path) -> None:
    assert channel.event(b"event")
    shmtrace.remove_channel(channel.name)
    with pytest.raises(shmtrace.ChannelRemoved, match="was removed, and what was in its pages with it"):
        channel.snapshot(tmp_path / "trace")
    assert not (tmp_path / "trace").exists()


# -- where the dead cannot be told from the living


def test_from_another_pid_namespace_no_lane_of_the_living_is_given_back(
    channel: shmtrace.Channel, snapshot: Callable[[shmtrace.Channel], Path], tmp_path: Path
) -> None:
    elsewhere = ["unshare", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*elsewhere, "true"], capture_output=True).returncode:
        pytest.skip("needs leave to make namespaces")
    program = "import shmtrace, sys; shmtrace.open_channel(sys.argv[1]).snapshot(sys.argv[2])"
    with channel.reserve(4) as view:
        before = owners(channel)
        done = subprocess.run(
            [*elsewhere, sys.executable, "-c", program, channel.name, str(tmp_path / "from elsewhere")],
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert before == owners(channel)
        assert len(before) == 1
        view[:] = b"mine"
    assert blobs(snapshot(channel)) == [b"mine"]


def test_a_page_that_nonsense_makes_an_orphan_does_no_harm_to_who_gives_a_lane_back(
    channel: shmtrace.Channel, tmp_path: Path
) -> None:
    channel.event(b"first")
    kill_holder(channel, 1)
    segment = segment_of(channel)
    lane = next(at for at in map(segment.lane_at, range(segment.geometry.lanes)) if segment.u64(at + LANE.owner))
    number = (lane - segment.geometry.lanes_at) // layout.LANE_BYTES
    sequence = (segment.u64(lane + LANE.position) >> layout.SEQUENCE_SHIFT) + 1
    spare = segment.geometry.descriptors_at + (segment.geometry.pages - 1) * layout.PAGE_BYTES
    segment.set_u64(spare + PAGE.owner, (number + 1) << layout.SEQUENCE_BITS | sequence)
    result = commands.run("snapshot", channel.name, "-o", tmp_path / "trace")
    assert result.returncode == 0, result.stderr
    assert owners(channel) == []
