"""Who is dead: pid and start time, as the kernel tells them, with pidfd and without."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import commands
import shmtrace
from shmtrace import layout
from shmtrace.process import has_left, is_dead, is_owner_dead, is_writer_gone, start_ticks
from shmtrace.segment import segment_path

if TYPE_CHECKING:
    from collections.abc import Iterator

SYS_EXIT = {"x86_64": 60, "aarch64": 93}  # ends the thread alone
TICK_S = 0.03  # longer than a clock tick
pytestmark = pytest.mark.timeout(60)


@pytest.fixture(params=["pidfd", "no pidfd"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With pidfd, and as on a kernel, or in a sandbox, that has none."""

    def refuse(_pid: int) -> int:
        raise OSError(errno.ENOSYS, "no such call")

    if request.param == "no pidfd":
        monkeypatch.setattr(os, "pidfd_open", refuse)


@contextmanager
def child() -> Iterator[tuple[int, int]]:
    """A process that sleeps, beside the block: pid and start time."""
    with subprocess.Popen(["sleep", "60"]) as process:
        start = start_ticks(process.pid)
        assert start is not None
        try:
            yield process.pid, start
        finally:
            process.kill()


def end(pid: int) -> None:
    """Kill, without asking for the status: a zombie is left."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def own() -> tuple[int, int]:
    start = start_ticks()
    assert start is not None
    return os.getpid(), start


# -- is_dead


@pytest.mark.usefixtures("kernel")
def test_this_process_lives() -> None:
    assert not is_dead(*own())


@pytest.mark.usefixtures("kernel")
def test_a_child_lives_until_it_is_killed_and_is_dead_as_a_zombie_and_afterwards() -> None:
    with child() as (pid, start):
        assert not is_dead(pid, start)
        end(pid)
        assert is_dead(pid, start)
    assert is_dead(pid, start)


@pytest.mark.usefixtures("kernel")
def test_a_stopped_process_lives() -> None:
    with child() as (pid, start):
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED)
        assert not is_dead(pid, start)


@pytest.mark.usefixtures("kernel")
@pytest.mark.skipif(platform.machine() not in SYS_EXIT, reason="the number of a system call is needed")
def test_a_leader_that_ended_while_its_threads_run_lives() -> None:
    program = f"""
    import ctypes, sys, threading
    threading.Thread(target=sys.stdin.read).start()
    print("ready", flush=True)
    ctypes.CDLL(None).syscall({SYS_EXIT.get(platform.machine())}, 0)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            start = start_ticks(process.pid)
            assert start is not None
            commands.until(lambda: state_of(process.pid) == "Z")
            assert not is_dead(process.pid, start)
        finally:
            process.kill()
        process.wait(30)
        assert is_dead(process.pid, start)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.usefixtures("kernel")
def test_a_number_that_another_process_has_now_is_a_dead_processs() -> None:
    pid, start = own()
    assert is_dead(pid, start - 1)
    assert is_dead(pid, start + 1)


@pytest.mark.usefixtures("kernel")
def test_start_times_are_compared_as_far_as_they_are_known() -> None:
    pid, start = own()
    assert not is_dead(pid, start & 0xFF, 0xFF)
    assert is_dead(pid, (start & 0xFF) ^ 1, 0xFF)


@pytest.mark.usefixtures("kernel")
def test_a_number_that_a_thread_has_now_is_a_dead_processs() -> None:
    time.sleep(TICK_S)
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    assert thread.native_id is not None
    try:
        assert is_dead(thread.native_id, own()[1])
    finally:
        ended.set()
        thread.join()


@pytest.mark.usefixtures("kernel")
def test_of_process_0_which_is_in_another_namespace_nobody_can_say() -> None:
    assert not is_dead(0, 1)


@pytest.mark.usefixtures("kernel")
def test_a_number_that_no_process_can_have_is_a_dead_processs() -> None:
    assert is_dead((1 << layout.OWNER_PID_BITS) - 1, 1)


def test_to_ask_costs_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a path would open one more
    for _ in range(100):
        is_dead(*own())
        is_dead(own()[0], 1)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_with_no_descriptor_left_the_living_live(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    pid, start = own()
    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert not is_dead(pid, start)


# -- words of the segment


def owner_word(pid: int, start: int, writer: int = 7) -> int:
    return (start & layout.OWNER_START_MASK) << layout.OWNER_START_SHIFT | pid << layout.OWNER_PID_SHIFT | writer


def test_an_owner_word_names_its_process() -> None:
    pid, start = own()
    assert not is_owner_dead(owner_word(pid, start))
    assert is_owner_dead(owner_word(pid, start + 1))
    assert not is_owner_dead(owner_word(0, start))


def test_start_times_beyond_the_owner_words_bits_are_the_same_process() -> None:
    pid, start = own()
    assert not is_owner_dead(owner_word(pid, start + (1 << layout.OWNER_START_BITS)))


def test_a_writer_is_gone_when_it_said_so_or_its_process_is_dead() -> None:
    pid, start = own()
    identity = start << layout.IDENTITY_PID_BITS | pid
    assert not is_writer_gone(identity)
    assert is_writer_gone(identity | layout.IDENTITY_ENDED)
    assert is_writer_gone((start + 1) << layout.IDENTITY_PID_BITS | pid)
    assert not is_writer_gone(0), "an entry that is free"


# -- has_left


@pytest.fixture
def mapped(channel_name: str) -> Iterator[tuple[int, int]]:
    """Device and inode of a segment that this process maps."""
    channel = shmtrace.create_channel(channel_name, page_size=4096, pages=16)
    status = Path(segment_path(channel.name)).stat()
    yield status.st_dev, status.st_ino
    with suppress(shmtrace.ChannelNotFound):
        shmtrace.remove_channel(channel.name)


def test_who_maps_the_segment_has_not_left(mapped: tuple[int, int]) -> None:
    assert not has_left(os.getpid(), *mapped)


def test_a_removed_segment_is_mapped_all_the_same(mapped: tuple[int, int], channel_name: str) -> None:
    shmtrace.remove_channel(channel_name)
    assert not has_left(os.getpid(), *mapped)


def test_another_program_has_left(mapped: tuple[int, int]) -> None:
    with child() as (pid, _):
        commands.until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
        assert has_left(pid, *mapped)


def test_of_who_cannot_be_looked_at_nothing_is_said(mapped: tuple[int, int]) -> None:
    with child() as (pid, _):
        end(pid)
        assert not has_left(pid, *mapped), "a zombie has no mappings"
    assert not has_left(pid, *mapped)


def test_a_living_process_is_never_judged_to_have_left_whatever_it_maps_meanwhile(
    mapped: tuple[int, int], channel_name: str
) -> None:
    program = """
    import mmap, shmtrace
    channel = shmtrace.attach()
    print("ready", flush=True)
    kept = []
    while True:
        kept.append(mmap.mmap(-1, 4096 * (1 + len(kept) % 7)))
        if len(kept) > 200:
            for memory in kept[::2]:
                memory.close()
            kept = [memory for memory in kept if not memory.closed][-50:]
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "SHMTRACE": channel_name},
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            assert sum(has_left(process.pid, *mapped) for _ in range(3000)) == 0
            assert process.poll() is None
        finally:
            process.kill()


def test_a_number_of_a_process_that_becomes_another_program_stays_alive(mapped: tuple[int, int]) -> None:
    """`exec` keeps pid and start time: that it left is known from its mappings alone."""
    pid = os.fork()
    if pid == 0:
        os.execvp("sleep", ["sleep", "60"])
    start = start_ticks(pid)
    assert start is not None
    try:
        commands.until(lambda: has_left(pid, *mapped))
        assert not is_dead(pid, start)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_the_start_time_of_a_thread_is_its_own() -> None:
    time.sleep(TICK_S)
    found: list[int | None] = []
    thread = threading.Thread(target=lambda: found.append(start_ticks("self", threading.get_native_id())))
    thread.start()
    thread.join()
    (start,) = found
    assert start is not None
    assert start > own()[1]


def test_a_name_with_parentheses_and_spaces_does_not_disturb() -> None:
    pid, start = own()
    libc = ctypes.CDLL(None)
    before = Path("/proc/self/comm").read_bytes().rstrip(b"\n")
    libc.prctl(15, b"a) R 1 (b 2 3", 0, 0, 0)
    try:
        assert start_ticks(pid) == start
        assert not is_dead(pid, start)
    finally:
        libc.prctl(15, before, 0, 0, 0)
