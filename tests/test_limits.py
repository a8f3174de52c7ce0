"""What happens at the limits of the machine: descriptors, memory, sizes of files, disks, /proc, clocks, pids.

Never an exception in a program that only writes events, never a process that hangs; one line that says what is short;
what was recorded before stays valid, and the rest is counted.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import itertools
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import commands
import elsewhere
import shmtrace
from elsewhere import needs_root, objects
from judge import judge
from recording import collected, end, recorded
from shmtrace import process
from shmtrace.layout import CLOCK_MONOTONIC, CONTROL
from shmtrace.reader.clock import Clock
from shmtrace.reader.description import ClockDescription
from shmtrace.segment import open_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECOND = 10**9
SMALL: dict[str, Any] = {"page_size": 4096, "pages": 16}
HEAD = """
    import os, resource, shmtrace, threading
    def limit(kind, value):
        resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))
    def used():
        return len(os.listdir("/proc/self/fd")) - 1
    def attempt(function):
        try:
            return function()
        except Exception as error:
            return type(error).__name__, isinstance(error, shmtrace.ShmtraceError), str(error)
"""


def python(program: str, **environment: str) -> tuple[Any, list[str]]:
    """What a program prints, a literal, and what it says on stderr.  HEAD is ahead of it."""
    text = textwrap.dedent(HEAD) + textwrap.dedent(program)
    result = commands.run("-c", text, command=[sys.executable], cwd=None, **environment)
    assert result.returncode == 0, result.stderr
    return ast.literal_eval(result.stdout), result.stderr.splitlines()


@pytest.fixture
def channel(channel_name: str) -> Iterator[shmtrace.Channel]:
    """A small channel."""
    with shmtrace.create_channel(channel_name, **SMALL, flush_ms=20) as made:
        yield made
    with contextlib.suppress(shmtrace.ChannelNotFound):
        shmtrace.remove_channel(channel_name, drain=True)


# -- descriptors


def test_with_few_descriptors_attach_does_not_raise_and_says_once_what_is_short(channel: shmtrace.Channel) -> None:
    """And advises nobody to remove a channel with which nothing is wrong."""
    states, said = python(
        """
        import shmtrace.channel
        states, free = [], used()
        for extra in range(30):
            limit(resource.RLIMIT_NOFILE, free + extra)
            attached = shmtrace.attach()
            states.append((attached.event(b"x"), "disabled" in repr(attached)))
            if not states[-1][1]:
                break
        print(states)
        """,
        SHMTRACE=channel.name,
    )
    assert len(states) > 1
    assert states == [(False, True)] * (len(states) - 1) + [(False, False)]
    assert len(said) == len(states) - 1
    assert all(line.startswith(f"shmtrace: nothing is recorded in {channel.name!r}: ") for line in said)
    assert not any("remove" in line for line in said)


def test_with_few_descriptors_nothing_is_created_by_halves(channel_name: str) -> None:
    answers, said = python(
        f"""
        import posix_ipc, shmtrace.creation, shmtrace.channel, shmtrace.clock
        answers, free = [], used()
        for extra in range(30):
            limit(resource.RLIMIT_NOFILE, free + extra)
            made = attempt(lambda: shmtrace.create_channel({channel_name!r}, page_size=4096, pages=4).name)
            limit(resource.RLIMIT_NOFILE, free + 40)
            answers.append((made, sum({channel_name!r} in name for name in os.listdir("/dev/shm"))))
            if made == {channel_name!r}:
                break
        print(answers)
        """
    )
    assert said == []
    assert answers.pop() == (channel_name, 3)
    assert answers
    for (kind, ours, message), left in answers:
        assert (ours, left) == (True, 0), kind
        assert channel_name in message or "/dev/shm" in message
        assert "\n" not in message
    shmtrace.remove_channel(channel_name)


WITHOUT_DESCRIPTORS = """
    attached = shmtrace.attach()
    limit(resource.RLIMIT_NOFILE, used())
    results = []
    def work():
        results.append(attempt(lambda: [attached.event(b"x") for _ in range(5)]))
    work()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    limit(resource.RLIMIT_NOFILE, 100)
    print((results, {writer["thread"]: writer["alive"] for writer in attached.writers()}))
"""


def test_a_thread_that_begins_to_write_without_a_descriptor_writes(channel: shmtrace.Channel, tmp_path: Path) -> None:
    with recorded(channel, tmp_path / "trace"):
        (results, _), said = python(WITHOUT_DESCRIPTORS, SHMTRACE=channel.name)
    assert (results, said) == ([[True] * 5] * 2, [])
    assert sum(record.name == "blob" for record in shmtrace.read(tmp_path / "trace")) == 10


def test_a_thread_that_begins_to_write_without_a_descriptor_is_not_taken_for_dead(
    channel: shmtrace.Channel, tmp_path: Path
) -> None:
    with recorded(channel, tmp_path / "trace"):
        (_, alive), _ = python(WITHOUT_DESCRIPTORS, SHMTRACE=channel.name)
    assert set(alive.values()) == {True}


ALL_WITH_FEW = """
    import json, os, re, resource, shmtrace, subprocess, sys, time
    channels = [shmtrace.create_channel(f"c{n}", page_size=4096, pages=4, flush_ms=20) for n in range(5)]
    collector = subprocess.Popen(
        [sys.executable, "-m", "shmtrace", "collect", "--all"], stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    )
    time.sleep(1.5)
    used = max(int(number) for number in os.listdir(f"/proc/{collector.pid}/fd"))
    resource.prlimit(collector.pid, resource.RLIMIT_NOFILE, (used + 3, 64))
    readers = [subprocess.Popen(["cat", channel.fifo], stdout=subprocess.DEVNULL) for channel in channels]
    time.sleep(1)
    before = [channel.event(b"x") for channel in channels]
    resource.prlimit(collector.pid, resource.RLIMIT_NOFILE, (64, 64))
    until = time.monotonic() + 3
    while not all([channel.event(b"x") for channel in channels]) and time.monotonic() < until:
        time.sleep(0.05)
    after = [channel.event(b"x") for channel in channels]
    collector.terminate()
    said = collector.communicate(timeout=20)[1].splitlines()
    for reader in readers:
        reader.kill()
        reader.wait()
    for channel in channels:
        shmtrace.remove_channel(channel.name, drain=True)
    print(json.dumps([before, after, said, collector.returncode]))
"""


def test_a_collector_with_few_descriptors_serves_what_it_can_and_the_rest_when_there_are_more(tmp_path: Path) -> None:
    result = elsewhere.confined(ALL_WITH_FEW, SHMTRACE_DIR=str(tmp_path / "fifos"))
    assert result.returncode == 0, result.stderr
    before, after, said, status = ast.literal_eval(result.stdout.replace("true", "True").replace("false", "False"))
    assert 0 < sum(before) < 5
    assert after == [True] * 5
    assert status == 0
    assert not any("remove it" in line for line in said)
    assert any("Too many open files" in line for line in said)


# -- sizes of files, full disks


@pytest.mark.parametrize("limit", [0, 4096, 500_000])
def test_a_limit_on_the_size_of_files_is_named_when_a_channel_does_not_fit(channel_name: str, limit: int) -> None:
    (kind, ours, message), said = python(
        f"""
        limit(resource.RLIMIT_FSIZE, {limit})
        print(attempt(lambda: shmtrace.create_channel({channel_name!r}, page_size=4096, pages=4)))
        """
    )
    assert (kind, ours, said) == ("NotEnoughSharedMemory", True, [])
    assert f"at most {limit:,} ('ulimit -f')" in message
    assert not objects(channel_name)


def write_until_full(channel: shmtrace.Channel, recorder: subprocess.Popen[str]) -> tuple[int, str]:
    """Write until the recorder gives up; how many events were accepted, and what it said."""
    accepted = 0
    commands.until(lambda: channel.enabled)
    while recorder.poll() is None:
        accepted += sum(channel.event(bytes(1000)) for _ in range(10))
        time.sleep(0.001)
    _, said = recorder.communicate(timeout=30)
    assert recorder.returncode == 1, said
    commands.until(lambda: not channel.stats()["reader"])
    return accepted, said


def assert_valid_and_accounted(channel: shmtrace.Channel, accepted: int, said: str, recorded_events: int) -> None:
    """What the recorder said agrees with what babeltrace2 found, and with that everything is accounted for."""
    summary, failure = said.splitlines()
    assert re.fullmatch(r"shmtrace: recording ended: \S+ cannot be written: [\w ]+; what is there is valid", failure)
    counts = re.fullmatch(r"shmtrace: ([\d,]+) events, .* ([\d,]+) lost -> .*", summary)
    assert counts is not None, summary
    events, unwritten = (int(count.replace(",", "")) for count in counts.groups())
    assert events == recorded_events > 0
    assert events + unwritten + sum(channel.stats()["lost"].values()) == accepted


@pytest.mark.peers
def test_a_recorder_at_the_limit_of_file_sizes_leaves_a_valid_trace_and_counts_the_rest(
    channel: shmtrace.Channel, tmp_path: Path, peer: Callable[[str], str]
) -> None:
    """SIGXFSZ, which would end it, is ignored."""
    trace, babeltrace = tmp_path / "trace", peer("babeltrace2")
    line = [*commands.SHMTRACE, "record", channel.name, "-o", str(trace)]
    limited = ["sh", "-c", 'ulimit -f 200 && exec "$@"', "sh", *line]  # blocks of 512 bytes
    with collected(channel), commands.running(command=limited) as recorder:
        accepted, said = write_until_full(channel, recorder)
    assert "File too large" in said
    assert_valid_and_accounted(channel, accepted, said, sum(judge(babeltrace, trace).by_pid.values()))


@needs_root
@pytest.mark.peers
def test_a_recorder_on_a_full_disk_leaves_a_valid_trace_and_counts_the_rest(
    channel: shmtrace.Channel, tmp_path: Path, peer: Callable[[str], str]
) -> None:
    disk, trace, babeltrace = tmp_path / "disk", tmp_path / "trace", peer("babeltrace2")
    disk.mkdir()
    script = f'mount -t tmpfs -o size=200k tmpfs "$0" && {{ "$@"; status=$?; cp -r "$0/trace" {trace}; exit $status; }}'
    line = [*commands.SHMTRACE, "record", channel.name, "-o", str(disk / "trace")]
    unshared = ["unshare", "--mount", "sh", "-c", script, str(disk), *line]
    with collected(channel), commands.running(command=unshared) as recorder:
        accepted, said = write_until_full(channel, recorder)
    assert "No space left on device" in said
    assert_valid_and_accounted(channel, accepted, said, sum(judge(babeltrace, trace).by_pid.values()))


@pytest.mark.parametrize(
    "line", [("list",), ("stat", "NAME"), ("stat", "NAME", "--json"), ("path", "NAME")], ids=" ".join
)
def test_output_that_cannot_be_written_is_one_line(channel: shmtrace.Channel, line: tuple[str, ...]) -> None:
    arguments = [channel.name if word == "NAME" else word for word in line]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [*commands.SHMTRACE, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=commands.LIMIT_S
        )
    assert (result.returncode, result.stderr) == (1, "shmtrace: No space left on device\n")


# -- memory


@pytest.mark.parametrize("spare_mb", [0, 4, 64])
def test_without_address_space_attach_does_not_raise(channel: shmtrace.Channel, spare_mb: int) -> None:
    state, said = python(
        f"""
        import shmtrace.channel
        size = int(open("/proc/self/statm").read().split()[0]) * 4096
        limit(resource.RLIMIT_AS, size + {spare_mb} * 2**20)
        attached = shmtrace.attach()
        print((attached.event(b"x"), attached.enabled))
        """,
        SHMTRACE=channel.name,
    )
    assert state == (False, False)
    assert len(said) == 1
    assert said[0].startswith(f"shmtrace: nothing is recorded in {channel.name!r}: ")


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group whose memory can be limited."""
    for root in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")):
        group = root / f"shmtrace-test-{os.getpid()}"
        limit = group / ("memory.limit_in_bytes" if root.name == "memory" else "memory.max")
        try:
            group.mkdir()
        except OSError:
            continue
        if limit.exists():
            yield limit
            group.rmdir()
            return
        group.rmdir()
    pytest.skip("needs leave to make a control group with a memory controller")


@needs_root
def test_a_creator_that_its_control_group_kills_leaves_nothing(channel_name: str, memory_group: Path) -> None:
    """The pages are allocated at creation: it is the creator who has no memory, not a program in the middle."""
    memory_group.write_text(str(96 << 20))

    def create() -> None:
        (memory_group.parent / "cgroup.procs").write_text(str(os.getpid()))
        shmtrace.create_channel(channel_name, page_size=65_536, pages=4096)

    child = os.fork()
    if child == 0:
        with contextlib.suppress(Exception):
            create()
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert not objects(channel_name)
    commands.until(lambda: (memory_group.parent / "cgroup.procs").read_text() == "")
    with shmtrace.create_channel(channel_name, **SMALL):
        shmtrace.remove_channel(channel_name)


# -- /proc, pids


@pytest.fixture
def without_proc(channel: shmtrace.Channel) -> Callable[[str], tuple[Any, list[str]]]:
    """Runs a program that has no /proc."""

    def run(program: str) -> tuple[Any, list[str]]:
        text = textwrap.dedent(HEAD) + textwrap.dedent(program)
        command = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /proc && exec "$@"', "sh", sys.executable]
        result = commands.run("-c", text, cwd=None, command=command, SHMTRACE=channel.name)
        if "unshare" in result.stderr:
            pytest.skip("needs leave to make a mount namespace")
        assert result.returncode == 0, result.stderr
        return ast.literal_eval(result.stdout), result.stderr.splitlines()

    return run


def test_without_proc_attach_does_not_raise_and_says_why_nothing_is_recorded(
    channel: shmtrace.Channel, without_proc: Callable[[str], tuple[Any, list[str]]]
) -> None:
    recorded_, said = without_proc("print(shmtrace.attach().event(b'x'))")
    assert recorded_ is False
    assert len(said) == 1
    assert "/proc" in said[0]
    assert "remove" not in said[0]


def test_without_proc_nothing_is_created_or_removed_and_that_is_said(
    channel: shmtrace.Channel, new_name: Callable[[], str], without_proc: Callable[[str], tuple[Any, list[str]]]
) -> None:
    other = new_name()
    answers, _ = without_proc(
        f"""
        print([
            attempt(lambda: shmtrace.create_channel({other!r}, page_size=4096, pages=4)),
            attempt(lambda: shmtrace.remove_channel({channel.name!r})),
        ])
        """
    )
    assert [ours for _, ours, _ in answers] == [True, True]
    assert all("/proc" in message for _, _, message in answers)
    assert not objects(other)
    assert len(objects(channel.name)) == 3


def test_without_proc_the_living_are_not_taken_for_dead(
    without_proc: Callable[[str], tuple[Any, list[str]]],
) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait(30)
    start = process.start_ticks()
    assert without_proc(
        f"""
        from shmtrace.process import is_dead
        print((is_dead({os.getpid()}, {start}), is_dead({gone.pid}, {start})))
        """
    )[0] == (False, True)


IN_OWN_PIDS = ("--pid", "--fork", "--mount-proc")


@needs_root
@pytest.mark.parametrize("kernel", ["with pidfd", "without pidfd"])
def test_a_process_that_proc_hides_is_not_taken_for_dead(kernel: str) -> None:
    """With hidepid=2 a process that cannot be dumped is hidden from its own user."""
    result = elsewhere.confined(
        """
        import ctypes, os, signal, time
        from elsewhere import NOBODY, become, in_child
        from shmtrace.process import is_dead, start_ticks
        PR_SET_DUMPABLE = 4
        if os.environ["KERNEL"] == "without pidfd":
            def refused(pid):
                raise OSError(38, "Function not implemented")
            os.pidfd_open = refused
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            become(NOBODY)
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0)
            os.write(write, b"!")
            time.sleep(30)
        os.read(read, 1)
        start = start_ticks(child)
        print(in_child(lambda: (os.path.exists(f"/proc/{child}"), is_dead(child, start)), uid=NOBODY))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        """,
        before="mount -o remount,hidepid=2 /proc",
        namespaces=IN_OWN_PIDS,
        KERNEL=kernel,
    )
    assert (result.returncode, result.stdout) == (0, "(False, False)\n"), result.stderr


def refused(_pid: int) -> int:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


@pytest.mark.parametrize("kernel", ["with pidfd", "without pidfd"])
def test_a_process_whose_threads_cannot_be_looked_at_is_not_taken_for_dead(
    monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    """Its leader has ended, others run, and there is no descriptor left with which to see them."""
    program = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""
    with commands.running("-c", program, command=[sys.executable]) as running:
        commands.until(lambda: (process._stat(running.pid) or ["?"])[0] == "Z", 20)
        start = process.start_ticks(running.pid)
        assert start is not None
        assert not process.is_dead(running.pid, start)
        if kernel == "without pidfd":
            monkeypatch.setattr(os, "pidfd_open", refused)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        listdir = os.listdir  # the last step

        def without_descriptors(path: str) -> list[str]:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
            return listdir(path)

        monkeypatch.setattr(os, "listdir", without_descriptors)
        try:
            assert not process.is_dead(running.pid, start)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)


@needs_root
def test_a_process_whose_pid_was_given_out_again_is_dead(tmp_path: Path) -> None:
    """The pids have gone round: the lane of the first owner is reclaimed although its pid lives."""
    result = elsewhere.confined(
        """
        import os, signal, subprocess, sys, time
        import shmtrace
        from shmtrace import layout
        from shmtrace.process import is_dead, start_ticks
        from shmtrace.segment import open_segment

        def start():
            "A child, which has the segment mapped as this process has."
            child = os.fork()
            if child == 0:
                time.sleep(30)
                os._exit(0)
            return child, start_ticks(child)

        def end(child):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

        channel = shmtrace.create_channel("again", page_size=4096, pages=8, flush_ms=20)
        first, began = start()
        segment = open_segment("again")
        owner = segment.lane_at(0) + layout.LANE.owner
        taken = (began & layout.OWNER_START_MASK) << layout.OWNER_START_SHIFT | first << layout.OWNER_PID_SHIFT | 1
        segment.set_u64(owner, taken)
        collector = subprocess.Popen([sys.executable, "-m", "shmtrace", "collect", "again"])
        cat = subprocess.Popen(["cat", channel.fifo], stdout=subprocess.DEVNULL)
        while not channel.enabled:
            time.sleep(0.01)
        time.sleep(0.3)
        held = segment.u64(owner) == taken
        end(first)
        time.sleep(0.05)  # start times are counted in hundredths of a second
        for _ in range(20):
            with open("/proc/sys/kernel/ns_last_pid", "w") as file:
                file.write(str(first - 1))
            second, later = start()
            if second == first:
                break
            end(second)
        until = time.monotonic() + 10
        while segment.u64(owner) == taken and time.monotonic() < until:
            time.sleep(0.02)
        print((held, second == first, is_dead(first, began), is_dead(second, later), segment.u64(owner) != taken))
        end(second)
        collector.terminate()
        collector.wait(20)
        cat.wait(20)
        shmtrace.remove_channel("again")
        """,
        namespaces=IN_OWN_PIDS,
        SHMTRACE_DIR=str(tmp_path / "fifos"),
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "(True, True, True, False, True)\n"


# -- the FIFO


def test_a_fifo_that_is_replaced_under_a_reader_is_read_to_the_end_and_the_other_one_not_served_without_a_reader(
    channel: shmtrace.Channel, tmp_path: Path
) -> None:
    with commands.running("collect", channel.name) as collector:
        cat = ["sh", "-c", 'exec cat < "$0" > "$1"', str(channel.fifo), str(tmp_path / "stream")]
        with commands.running(command=cat) as reader:
            commands.until(lambda: channel.enabled)
            channel.fifo.unlink()
            os.mkfifo(channel.fifo, 0o600)
            assert channel.event(b"to the first reader")
            commands.until(lambda: channel.stats()["delivered"] == 1)
            commands.until(lambda: b"to the first reader" in (tmp_path / "stream").read_bytes())
            reader.kill()
            reader.communicate(timeout=30)
        commands.until(lambda: not channel.enabled)
        cat[-1] = str(tmp_path / "second")
        with commands.running(command=cat):
            commands.until(lambda: channel.enabled)
            assert channel.event(b"to the second reader")
            second = tmp_path / "second"  # made by the shell once somebody writes
            commands.until(lambda: second.exists() and b"to the second reader" in second.read_bytes())
            end(collector, signal_number=signal.SIGTERM)


# -- what a channel does not need


def test_a_producer_needs_no_runtime_directory_home_or_writable_place(channel: shmtrace.Channel) -> None:
    """What it needs is the segment and the semaphores."""
    opened = open_segment(channel.name)
    opened.set_u32(CONTROL.recording, 1)
    state, said = python(
        "print(shmtrace.attach().event(b'x'))",
        SHMTRACE=channel.name, SHMTRACE_DIR="/nonexistent/place", XDG_RUNTIME_DIR="/nonexistent", TMPDIR="/nonexistent",
    )  # fmt: skip
    opened.set_u32(CONTROL.recording, 0)
    opened.unmap()
    assert (state, said) == (True, [])


# -- clocks


@given(
    steps=st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=8),
    times=st.lists(st.integers(0, 10 * SECOND), min_size=2, max_size=30),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_wall_clock_that_is_set_again_and_again_leaves_the_order_of_events_alone(
    steps: list[int], times: list[int]
) -> None:
    """The monotonic times are exact whatever is done to the wall clock, whose times jump only where it was set."""
    clock = Clock(ClockDescription(CLOCK_MONOTONIC, SECOND, 0, 0))
    offsets = [10**18, *itertools.accumulate(steps, initial=10**18)]
    for second, offset in enumerate(offsets):
        clock.add(second * SECOND, second * SECOND, second * SECOND + offset)
    for cycles in times:
        wall, monotonic = clock.convert(cycles)
        assert monotonic == cycles
        before = min(cycles // SECOND, len(offsets) - 1)
        after = min(before + 1, len(offsets) - 1)
        low, high = sorted((offsets[before], offsets[after]))
        assert low <= wall - monotonic <= high
