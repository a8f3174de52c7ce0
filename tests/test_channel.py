"""Channels as a program meets them: made, found, refused, removed; and `event`, wherever it is called from."""

from __future__ import annotations

import array
import ctypes
import errno
import inspect
import json
import mmap
import multiprocessing
import os
import pickle
import re
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import posix_ipc
import pytest

import commands
import elsewhere
import shmtrace
from elsewhere import begin_in_child, edit, in_child, in_new_process, objects
from recording import collected
from shmtrace import layout, segment
from shmtrace.layout import CONTROL, PAGE
from shmtrace.segment import open_segment, segment_path, semaphore_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SMALL: dict[str, Any] = {"page_size": 4096, "pages": 16}


def python(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program with this interpreter, to its end."""
    return commands.run("-c", textwrap.dedent(program), command=[sys.executable], cwd=None, **environment)


@contextmanager
def python_beside(program: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A program beside the block, which reads and writes lines."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def reading(channel: shmtrace.Channel, output: Path | str = os.devnull) -> Iterator[None]:
    """Collector and `cat` beside the block, recording on; afterwards all that was accepted is in `output`."""
    with subprocess.Popen(["sh", "-c", 'exec cat < "$0" > "$1"', channel.fifo, output]) as cat:
        try:
            with collected(channel):
                commands.until(lambda: channel.enabled)
                yield
            assert cat.wait(commands.LIMIT_S) == 0
        finally:
            cat.kill()


def blobs(stream: Path) -> list[object]:
    return [record.fields["blob"] for record in shmtrace.read(stream) if record.name == "blob"]


@pytest.fixture
def channel(channel_name: str) -> Iterator[shmtrace.Channel]:
    """A small channel of one cpu slot."""
    with shmtrace.create_channel(channel_name, **SMALL) as made:
        yield made
    if os.path.lexists(segment_path(channel_name)):
        shmtrace.remove_channel(channel_name, drain=True)


@pytest.fixture
def on(channel: shmtrace.Channel, tmp_path: Path) -> Iterator[tuple[shmtrace.Channel, Path]]:
    """A channel that is recording, and the file that its stream will be in when the block has been left."""
    with reading(channel, tmp_path / "stream"):
        yield channel, tmp_path / "stream"


# -- names and sizes


@pytest.mark.parametrize(
    "name", ["", ".x", "-x", "a/b", "../x", "a b", "ä", "x" * 65, "x\n", "x\0", "a%s", "~"]
)  # fmt: skip
def test_a_name_that_no_channel_can_have(name: str) -> None:
    for call in (shmtrace.create_channel, shmtrace.open_channel, shmtrace.remove_channel):
        with pytest.raises(shmtrace.InvalidName, match="is no channel name") as raised:
            call(name)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("tail", [".", "-", "_", ".full", ".waiting", "x" * 40])
def test_odd_names_that_are_allowed(channel_name: str, new_name: Callable[[], str], tail: str) -> None:
    name = (channel_name + tail)[:64]
    with shmtrace.create_channel(name, **SMALL):
        assert shmtrace.open_channel(name).name == name
    shmtrace.remove_channel(name)
    assert not objects(name)


def test_a_channel_whose_name_is_another_ones_semaphore_does_not_disturb_it(channel: shmtrace.Channel) -> None:
    other = f"{channel.name}.full"
    with shmtrace.create_channel(other, **SMALL):
        pass
    shmtrace.remove_channel(other)
    shmtrace.open_channel(channel.name).close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"page_size": 4095}, "page size 4095"), ({"page_size": 1 << 20}, "page size 1048576"),
        ({"page_size": 0}, "page size 0"), ({"page_size": -4096}, "page size -4096"),
        ({"pages": 1}, "1 pages"), ({"pages": 65_535}, "65535 pages"), ({"pages": 0}, "0 pages"),
        ({"pages": -5}, "-5 pages"), ({"mode": "loop"}, "mode 'loop'"), ({"mode": ""}, "mode ''"),
        ({"flush_ms": 0}, "0 ms"), ({"flush_ms": 60_001}, "60001 ms"), ({"block_ms": 0}, "0 ms"),
        ({"block_ms": 3_600_001}, "3600001 ms"),
    ],
)  # fmt: skip
def test_sizes_that_no_channel_can_have(channel_name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(shmtrace.InvalidGeometry, match=message) as raised:
        shmtrace.create_channel(channel_name, **options)
    assert isinstance(raised.value, ValueError)
    assert not Path(segment_path(channel_name)).exists()


def test_a_channel_that_exists(channel: shmtrace.Channel) -> None:
    with pytest.raises(shmtrace.ChannelExists, match=f"{channel.name!r} exists already"):
        shmtrace.create_channel(channel.name)
    shmtrace.open_channel(channel.name).close()


def test_a_channel_that_does_not_exist(channel_name: str) -> None:
    for call in (shmtrace.open_channel, shmtrace.remove_channel):
        with pytest.raises(shmtrace.ChannelNotFound, match=f"no channel {channel_name!r}"):
            call(channel_name)


def test_a_removed_name_can_be_used_again_and_the_old_object_stays_with_its_segment(
    channel: shmtrace.Channel,
) -> None:
    shmtrace.remove_channel(channel.name)
    with pytest.raises(shmtrace.ChannelNotFound):
        shmtrace.open_channel(channel.name)
    with shmtrace.create_channel(channel.name, page_size=8192, pages=8) as anew:
        assert anew.stats()["page_size"] == 8192
        assert channel.stats()["page_size"] == 4096
        with reading(anew):
            assert (anew.event(b"x"), channel.event(b"x")) == (True, False)


def test_nothing_is_left_of_a_removed_channel(channel: shmtrace.Channel, runtime_directory: Path) -> None:
    assert len(objects(channel.name)) == 3
    shmtrace.remove_channel(channel.name)
    assert not objects(channel.name)
    assert not os.path.lexists(runtime_directory / channel.name)


def test_the_longest_fifo_path_is_found_by_who_opens_the_channel(
    channel_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path
    while len(str(directory)) + 200 + 64 < 1000:
        directory /= "d" * 199
    directory.mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("SHMTRACE_DIR", str(directory))
    shmtrace.create_channel(channel_name, **SMALL)
    monkeypatch.setenv("SHMTRACE_DIR", str(tmp_path))  # as a service that has another one
    assert shmtrace.open_channel(channel_name).fifo == directory / channel_name
    shmtrace.remove_channel(channel_name)
    assert not list(directory.iterdir())
    monkeypatch.setenv("SHMTRACE_DIR", str(directory / ("e" * 199)))
    with pytest.raises(shmtrace.RuntimeDirectoryError, match="too long"):
        shmtrace.create_channel(channel_name, **SMALL)


# -- shared memory that is short


def test_the_space_is_really_allocated(channel: shmtrace.Channel) -> None:
    status = Path(segment_path(channel.name)).stat()
    assert status.st_blocks * 512 >= status.st_size == open_segment(channel.name).geometry.segment_bytes


@pytest.fixture
def confined(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program in a mount namespace of its own, whose /dev/shm has a given size (none at all: 0)."""

    def run(program: str, size: str) -> subprocess.CompletedProcess[str]:
        return elsewhere.confined(program, size=size, SHMTRACE_DIR=str(tmp_path / "fifos"))

    return run


def test_explicit_sizes_fail_when_there_is_no_room(confined: Callable[..., Any]) -> None:
    result = confined(
        """
        import os, shmtrace
        try:
            shmtrace.create_channel("full", page_size=65536, pages=512)
        except shmtrace.NotEnoughSharedMemory as error:
            print(isinstance(error, MemoryError), error)
        print(os.listdir("/dev/shm"), os.listdir(os.environ["SHMTRACE_DIR"]))
        """,
        "8m",
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert re.match(
        r"True the channel 'full' needs 3\d,\d{3},\d{3} bytes of shared memory and /dev/shm has 8,388,608 free",
        result.stdout,
    )
    assert result.stdout.endswith("\n[] []\n")


def test_no_room_for_the_semaphores_is_no_room(confined: Callable[..., Any]) -> None:
    """The segment just fits, and then nothing more does."""
    result = confined(
        """
        import os, shmtrace
        from shmtrace import channel, layout
        geometry = layout.Geometry(page_size=4096, pages=2, cpus=layout.possible_cpus(),
            lanes_per_cpu=channel.LANES_PER_CPU, writers=channel.WRITERS, classes_bytes=layout.CLASSES_BYTES)
        free = os.statvfs("/dev/shm").f_bavail * 4096
        pages = (free - geometry.pages_at) // 4096
        for spare in range(8):
            try:
                shmtrace.create_channel("full", page_size=4096, pages=pages - spare)
            except shmtrace.NotEnoughSharedMemory as error:
                assert not os.listdir("/dev/shm") and not os.listdir(os.environ["SHMTRACE_DIR"])
            else:
                shmtrace.remove_channel("full")
                break
        print("done", spare)
        """,
        "8m",
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert re.fullmatch("done [1-7]\n", result.stdout)


@pytest.mark.parametrize("size_mb", [8, 64])
def test_the_default_geometry_takes_at_most_half_and_says_so(confined: Callable[..., Any], size_mb: int) -> None:
    result = confined(
        """
        import os, shmtrace
        free = os.statvfs("/dev/shm").f_bavail
        channel = shmtrace.create_channel("half")
        status = os.statvfs("/dev/shm")
        print(channel.stats()["pages"], (free - status.f_bavail) / free)
        with channel:
            shmtrace.remove_channel("half")
        """,
        f"{size_mb}m",
    )
    assert result.returncode == 0, result.stderr
    pages, share = result.stdout.split()
    assert result.stderr == (
        f"shmtrace: channel 'half' has {pages} pages instead of 512: /dev/shm has {size_mb << 20:,} bytes free\n"
    )
    assert 0.35 < float(share) <= 0.51  # the semaphores and names come on top


def test_where_there_is_room_the_default_says_nothing(confined: Callable[..., Any]) -> None:
    program = "import shmtrace; print(shmtrace.create_channel('x').stats()['pages']); shmtrace.remove_channel('x')"
    result = confined(program, "256m")
    assert (result.returncode, result.stdout, result.stderr) == (0, "512\n", "")


def test_without_shared_memory_that_is_what_is_said(confined: Callable[..., Any]) -> None:
    result = confined(
        """
        import os, subprocess, shmtrace
        subprocess.run(["mount", "-t", "proc", "proc", "/dev/shm"], check=True)
        for options in ({}, {"pages": 16}):
            try:
                shmtrace.create_channel("x", **options)
            except shmtrace.SharedMemoryUnavailable as error:
                print("/dev/shm" in str(error), isinstance(error, OSError))
        print(shmtrace.attach().event(b"x"))
        """,
        "8m",
    )
    assert (result.returncode, result.stdout) == (0, "True True\nTrue True\nFalse\n"), result.stderr


def test_block_after_block_needs_the_memory_of_one_channel(confined: Callable[..., Any]) -> None:
    """What a program has closed and removed is free again, though its mapping stays."""
    result = confined(
        """
        import shmtrace
        for _ in range(8):
            with shmtrace.create_channel("block", page_size=65536, pages=200) as channel:
                channel.event(b"x")
            shmtrace.remove_channel("block")
        """,
        "32m",
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.heavy
def test_a_program_may_open_more_channels_in_its_life_than_a_process_has_thread_keys(
    confined: Callable[..., Any],
) -> None:
    result = confined(
        """
        import shmtrace
        for _ in range(1500):
            shmtrace.create_channel("block", page_size=4096, pages=2).close()
            shmtrace.remove_channel("block")
        """,
        "4g",
    )
    assert (result.returncode, result.stderr) == (0, "")


# -- creators that die, creators that race

STEPS = ("pwrite", "mkfifo", "link", "posix_fallocate", "fchmod", "open")


def test_a_creator_killed_at_any_point_does_not_prevent_creation(channel_name: str) -> None:
    steps = 0
    while create_and_die(channel_name, steps):
        steps += 1
        if Path(segment_path(channel_name)).exists():
            shmtrace.remove_channel(channel_name)
        with shmtrace.create_channel(channel_name, **SMALL) as channel:
            assert channel.stats()["pages_waiting"] == 16
            opened = open_segment(channel_name)
            opened.set_u32(CONTROL.recording, 1)
            assert channel.event(b"x")
            opened.unmap()
        shmtrace.remove_channel(channel_name)
        assert not objects(channel_name)
    assert steps > 10
    shmtrace.remove_channel(channel_name)


def create_and_die(name: str, step: int) -> bool:
    """Create a channel in a child that kills itself at its step-th system call of the kind; False: it came through."""
    child = os.fork()
    if child == 0:
        left = step

        def dying(function: Callable[..., object]) -> Callable[..., object]:
            def call(*arguments: object, **options: object) -> object:
                nonlocal left
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
                return function(*arguments, **options)

            return call

        for call in STEPS:
            setattr(os, call, dying(getattr(os, call)))
        posix_ipc.Semaphore = dying(posix_ipc.Semaphore)
        shmtrace.create_channel(name, **SMALL)
        os._exit(0)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def race(functions: list[Callable[[], object]]) -> list[Any]:
    """Run functions in processes of their own, from the same moment on; what they give or raise.

    One thread forks them all: a process that several threads fork at once is not always whole.
    """
    go_read, go_write = os.pipe()

    def wait(function: Callable[[], object]) -> object:
        os.read(go_read, 1)
        return function()

    answers = [begin_in_child(partial(wait, function)) for function in functions]
    os.write(go_write, b"!" * len(functions))
    given = [answer() for answer in answers]
    os.close(go_read)
    os.close(go_write)
    return given


@pytest.mark.parametrize("directories", [1, 2])
def test_of_creators_that_race_one_wins_and_the_channel_works(
    channel_name: str, tmp_path: Path, directories: int
) -> None:
    """Also when their environments name different runtime directories, as those of a shell and of a service do."""

    def creator(number: int) -> Callable[[], object]:
        def create() -> str:
            os.environ["SHMTRACE_DIR"] = str(tmp_path / f"fifos-{number % directories}")
            shmtrace.create_channel(channel_name, **SMALL)
            return "made"

        return create

    for _ in range(15):
        answers = race([creator(number) for number in range(3)])
        assert sorted(type(answer).__name__ for answer in answers) == ["ChannelExists", "ChannelExists", "str"]
        with shmtrace.open_channel(channel_name) as channel:
            assert stat.S_ISFIFO(channel.fifo.lstat().st_mode)
        shmtrace.remove_channel(channel_name)
        assert not objects(channel_name)


def test_a_creator_waits_for_another_one_whatever_their_runtime_directories_are(
    channel_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, others = os.link, list[subprocess.Popen[str]]()
    program = (
        "import shmtrace\n"
        "try:\n"
        f"    shmtrace.create_channel({channel_name!r}, page_size=4096, pages=4)\n"
        "except shmtrace.ChannelExists:\n"
        "    print('exists')\n"
    )

    def late(*arguments: Any, **options: Any) -> None:  # noqa: ANN401
        environment = {**os.environ, "SHMTRACE_DIR": str(tmp_path / "other")}
        others.append(
            subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment)
        )
        with pytest.raises(subprocess.TimeoutExpired):
            others[0].wait(1)
        link(*arguments, **options)

    monkeypatch.setattr(os, "link", late)
    shmtrace.create_channel(channel_name, **SMALL)
    assert others[0].communicate(timeout=30)[0] == "exists\n"
    in_new_process(channel_name)
    shmtrace.remove_channel(channel_name)


# -- attaching


def test_without_the_variable_attach_gives_a_disabled_channel() -> None:
    channel = shmtrace.attach()
    assert (channel.name, channel.event(b"x"), channel.enabled, channel.missed) == ("", False, False, 0)
    assert repr(channel) == "<shmtrace.Channel '' disabled>"
    assert (channel.stats(), channel.writers()) == ({}, [])
    with pytest.raises(TypeError):
        channel.event("text")
    channel.close()
    assert pickle.loads(pickle.dumps(channel)).event(b"x") is False


def test_a_program_that_is_not_traced_compiles_nothing(tmp_path: Path) -> None:
    result = python(
        """
        import shmtrace, sys
        channel = shmtrace.attach()
        print(channel.event(b"x"), "numba" in sys.modules, "numpy" in sys.modules)
        for blob in ("text", bytes(65536)):
            try:
                channel.event(blob)
            except (TypeError, ValueError) as error:
                print(type(error).__name__)
        """,
        SHMTRACE_CACHE=str(tmp_path / "cold"),
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split() == ["False", "False", "False", "TypeError", "ValueError"]


def test_attach_opens_the_channel_that_the_variable_names(
    channel: shmtrace.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHMTRACE", channel.name)
    attached = shmtrace.attach()
    assert (attached.name, attached.fifo) == (channel.name, channel.fifo)


LATE = """
import shmtrace, sys
channel = shmtrace.attach()
print(channel.enabled, channel.name, flush=True)
for line in sys.stdin:
    print([channel.event(b"%d" % number) for number in range(3)], flush=True)
"""


def test_a_channel_made_after_attach_is_found_at_the_first_event(channel_name: str, tmp_path: Path) -> None:
    with python_beside(LATE, SHMTRACE=channel_name) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == f"False {channel_name}\n"
        with shmtrace.create_channel(channel_name, **SMALL) as channel, reading(channel, tmp_path / "stream"):
            said, complaints = program.communicate("go\n", timeout=commands.LIMIT_S)
        shmtrace.remove_channel(channel_name)
    assert (said, complaints) == ("[True, True, True]\n", "")
    assert blobs(tmp_path / "stream") == [b"0", b"1", b"2"]


def test_a_channel_that_is_not_there_at_the_first_event_is_said_once_and_never_looked_for_again(
    channel_name: str,
) -> None:
    with python_beside(LATE, SHMTRACE=channel_name) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write("go\n")
        program.stdin.flush()
        program.stdout.readline()
        assert program.stdout.readline() == "[False, False, False]\n"
        with shmtrace.create_channel(channel_name, **SMALL) as channel, reading(channel):
            said, complaints = program.communicate("go\n", timeout=commands.LIMIT_S)
        shmtrace.remove_channel(channel_name)
    assert said == "[False, False, False]\n"
    assert complaints.count("\n") == 1
    assert channel_name in complaints


def test_a_first_event_that_is_too_long_for_the_channel_that_is_found_is_an_error(
    channel_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHMTRACE", channel_name)
    late = shmtrace.attach()
    with shmtrace.create_channel(channel_name, **SMALL):
        with pytest.raises(ValueError, match="4080"):
            late.event(bytes(5000))
        shmtrace.remove_channel(channel_name)


@pytest.mark.parametrize("trouble", ["version", "boot", "garbage", "name", "semaphore", "foreign"])
def test_attach_never_raises_but_says_in_one_line_what_is_wrong(channel: shmtrace.Channel, trouble: str) -> None:
    name = channel.name
    match trouble:
        case "version":
            edit(name, CONTROL.version, b"\x63")
        case "boot":
            edit(name, CONTROL.boot_id, bytes(16))
        case "garbage":
            os.truncate(segment_path(name), 100)
        case "semaphore":
            Path(semaphore_path(name, "full")).unlink()
        case "foreign":
            Path(segment_path(name)).chmod(0o666)
        case "name":
            name = "../x"
    result = python("import shmtrace; c = shmtrace.attach(); print(c.event(b'x'), c.enabled, c.missed)", SHMTRACE=name)
    assert (result.returncode, result.stdout) == (0, "False False 0\n")
    assert result.stderr.startswith("shmtrace: ")
    assert result.stderr.count("\n") == 1


def test_attach_survives_a_stderr_that_is_closed() -> None:
    program = "import os, sys; os.close(2); sys.stderr = None; import shmtrace; print(shmtrace.attach().event(b''))"
    assert python(program, SHMTRACE="../x").stdout == "False\n"


# -- the object


def test_repr_says_what_is_happening(channel: shmtrace.Channel) -> None:
    assert repr(channel) == f"<shmtrace.Channel {channel.name!r} off>"
    with reading(channel):
        assert repr(channel) == f"<shmtrace.Channel {channel.name!r} recording>"
    channel.close()
    assert repr(channel) == f"<shmtrace.Channel {channel.name!r} disabled>"


def test_event_is_a_builtin_of_its_channel(channel: shmtrace.Channel) -> None:
    assert type(channel.event) is type(len)
    assert channel.event.__self__ is channel  # type: ignore[attr-defined]
    assert channel.event.__name__ == "event"
    assert str(inspect.signature(channel.event)) == "(blob, /)"
    assert inspect.getdoc(channel.event).startswith("Record a blob, any bytes-like object")  # type: ignore[union-attr]
    assert repr(channel.event).startswith("<built-in method event of Channel object at 0x")


@pytest.mark.parametrize("arguments", [(), (b"a", b"b")])
def test_event_takes_one_argument(channel: shmtrace.Channel, arguments: tuple[bytes, ...]) -> None:
    with pytest.raises(TypeError, match="takes exactly one argument"):
        channel.event(*arguments)
    with pytest.raises(TypeError, match="keyword"):
        channel.event(blob=b"")  # type: ignore[call-arg]


def test_a_closed_channel_records_nothing_and_still_checks(on: tuple[shmtrace.Channel, Path]) -> None:
    channel, _ = on
    held = channel.event
    assert held(b"x") is True
    channel.close()
    channel.close()
    assert (held(b"x"), channel.event(b"x"), channel.enabled, channel.name) == (False, False, False, channel.name)
    with pytest.raises(TypeError):
        held("x")
    with shmtrace.open_channel(channel.name) as again:
        assert again.event(b"x") is True
    assert again.event(b"x") is False


def test_closing_one_object_leaves_the_others_open(on: tuple[shmtrace.Channel, Path]) -> None:
    channel, _ = on
    second = shmtrace.open_channel(channel.name)
    second.close()
    assert channel.event(b"x") is True


def test_channel_and_bound_event_pickle_by_name(on: tuple[shmtrace.Channel, Path]) -> None:
    channel, _ = on
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        copy = pickle.loads(pickle.dumps(channel, protocol))
        assert (copy.name, copy.event(b"x")) == (channel.name, True)
        event = pickle.loads(pickle.dumps(channel.event, protocol))
        assert event(b"x") is True
        assert event.__self__.name == channel.name


def test_a_pickle_of_a_channel_that_is_gone_gives_a_disabled_one_and_says_so(
    channel: shmtrace.Channel, capfd: pytest.CaptureFixture[str]
) -> None:
    frozen = pickle.dumps(channel.event)
    shmtrace.remove_channel(channel.name)
    assert pickle.loads(frozen)(b"x") is False
    assert capfd.readouterr().err.count("\n") == 1


def test_channels_are_collected_while_their_builtins_are_not_held(channel: shmtrace.Channel) -> None:
    program = f"""if True:
        import gc, weakref
        import shmtrace

        second = shmtrace.open_channel({channel.name!r})
        gone = weakref.ref(second)
        event = second.event
        del second
        gc.collect()
        assert event(b"x") is False
        assert gone() is not None
        del event
        gc.collect()
        assert gone() is None
    """
    ran = commands.run("-c", program, command=[sys.executable])  # where numba is imported, it keeps them for kernels
    assert (ran.returncode, ran.stderr) == (0, "")


# -- what event takes


class _Bytes(bytes):
    __slots__ = ()


class _Exporter:
    """Runs Python when its buffer is asked for (from 3.12 on), and writes an event there."""

    def __init__(self, event: Callable[[Any], bool]) -> None:
        self.event = event

    def __buffer__(self, flags: int) -> memoryview:
        self.event(b"inner")
        return memoryview(b"outer")


def test_anything_with_a_buffer_is_recorded_byte_for_byte(channel: shmtrace.Channel, tmp_path: Path) -> None:
    import numpy as np

    memory = mmap.mmap(-1, 16)
    memory[:5] = b"mmap!"
    kinds: list[tuple[Any, bytes]] = [
        (b"", b""), (b"bytes", b"bytes"), (_Bytes(b"subclass"), b"subclass"), (bytearray(b"bytearray"), b"bytearray"),
        (bytearray(), b""), (memoryview(b"view")[1:3], b"ie"), (memoryview(memory)[:5], b"mmap!"),
        (array.array("H", [1, 2]), b"\1\0\2\0"), ((ctypes.c_uint32 * 2)(3, 4), b"\3\0\0\0\4\0\0\0"),
        (memory, b"mmap!" + bytes(11)), (np.arange(3, dtype="<i2"), b"\0\0\1\0\2\0"), (np.array(7, dtype="u1"), b"\7"),
        (np.float64(1.0), b"\0" * 6 + b"\xf0?"),
        (memoryview(array.array("B", range(6))).cast("B", [2, 3]), bytes(range(6))), (bytes(4080), bytes(4080)),
    ]  # fmt: skip
    with reading(channel, tmp_path / "stream"):
        assert [channel.event(blob) for blob, _ in kinds] == [True] * len(kinds)
    assert blobs(tmp_path / "stream") == [expected for _, expected in kinds]
    kinds.clear()
    memory.close()  # nothing is left exported


def test_a_buffer_is_given_back(on: tuple[shmtrace.Channel, Path]) -> None:
    blob = bytearray(b"x")
    assert on[0].event(blob)
    blob.append(1)
    with pytest.raises(ValueError, match="4080"):
        on[0].event(long := bytearray(4081))
    long.append(1)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ came with Python 3.12")
def test_a_buffer_method_may_write_events_itself(channel: shmtrace.Channel, tmp_path: Path) -> None:
    with reading(channel, tmp_path / "stream"):
        assert channel.event(_Exporter(channel.event))
    assert blobs(tmp_path / "stream") == [b"inner", b"outer"]


@pytest.mark.parametrize("recording", [False, True])
def test_wrong_arguments_are_errors_whether_a_reader_is_there_or_not(
    channel: shmtrace.Channel, *, recording: bool
) -> None:
    import numpy as np

    opened = open_segment(channel.name)
    opened.set_u32(CONTROL.recording, recording)
    for wrong in ("text", 1, None, 1.5, [b"x"], object(), channel):
        with pytest.raises(TypeError):
            channel.event(wrong)
    with pytest.raises(BufferError):
        channel.event(memoryview(b"abcdef")[::2])
    with pytest.raises(ValueError, match="contiguous"):  # numpy's own words
        channel.event(np.arange(6)[::2])
    for long in (bytes(4081), bytearray(4081), memoryview(bytes(1 << 20)), bytes(65_536), _Bytes(5000)):
        with pytest.raises(ValueError, match=rf"{len(long)} bytes: .* 4080 "):
            channel.event(long)
    opened.set_u32(CONTROL.recording, 0)
    opened.unmap()
    assert channel.missed == 0
    assert channel.event(b"still fine") is False


def test_references_stay_as_they_were(on: tuple[shmtrace.Channel, Path]) -> None:
    channel, _ = on
    things = [b"bytes".upper(), bytearray(b"x"), _Bytes(b"x"), bytearray(4081), "text", channel, channel.event]
    before = [sys.getrefcount(thing) for thing in things]
    singletons = [sys.getrefcount(single) for single in (True, False)]

    def use() -> None:
        for blob in things[:3]:
            channel.event(blob)
        for wrong in things[3:5]:
            with suppress(TypeError, ValueError):
                channel.event(wrong)

    for _ in range(1000):
        use()
    assert [sys.getrefcount(thing) for thing in things] == before
    for single, count in zip((True, False), singletons, strict=True):
        assert abs(sys.getrefcount(single) - count) < 100


# -- where event is called


def test_a_forked_child_is_another_writer(on: tuple[shmtrace.Channel, Path]) -> None:
    channel, _ = on
    assert channel.event(b"parent")

    def child() -> tuple[int, bool]:
        return os.getpid(), channel.event(b"child")

    answers = [in_child(child) for _ in range(3)]
    assert [recorded for _, recorded in answers] == [True] * 3
    assert channel.event(b"parent")
    known = {writer["pid"]: writer for writer in channel.writers()}
    assert set(known) >= {os.getpid()} | {pid for pid, _ in answers}
    assert len({writer["number"] for writer in channel.writers()}) == len(channel.writers())


def test_a_child_forked_by_libc_is_another_writer_too(on: tuple[shmtrace.Channel, Path]) -> None:
    """No hook of Python's runs in it."""
    channel, _ = on
    channel.event(b"parent")
    read, write = os.pipe()
    child = ctypes.PyDLL(None).fork()
    if child == 0:
        os.write(write, b"1" if channel.event(b"child") else b"0")
        os._exit(0)
    os.close(write)
    assert os.read(read, 1) == b"1"
    os.close(read)
    os.waitpid(child, 0)
    assert child in {writer["pid"] for writer in channel.writers()}


def test_a_spawned_process_gets_the_bound_event_as_an_argument(on: tuple[shmtrace.Channel, Path]) -> None:
    channel, _ = on
    process = multiprocessing.get_context("spawn").Process(target=channel.event, args=(b"spawned",), name="offspring")
    process.start()
    process.join(commands.LIMIT_S)
    assert process.exitcode == 0
    assert [writer["process"] for writer in channel.writers() if writer["pid"] == process.pid] == ["offspring"]


def test_threads_are_writers_with_their_names(on: tuple[shmtrace.Channel, Path]) -> None:
    channel, _ = on
    long = "ä" * 40
    threads = [threading.Thread(target=channel.event, args=(b"x",), name=name) for name in ("one", "two", long)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    named = {writer["thread"]: writer for writer in channel.writers()}
    assert {"one", "two", "ä" * 23} <= set(named)
    assert {named["one"]["pid"], named["two"]["pid"]} == {os.getpid()}
    assert named["one"]["tid"] != named["two"]["tid"]


def test_a_thread_that_python_did_not_start_writes(on: tuple[shmtrace.Channel, Path]) -> None:
    import _thread

    channel, _ = on
    done = threading.Lock()
    done.acquire()

    def work() -> None:
        channel.event(b"x")
        done.release()

    before = threading.active_count()
    _thread.start_new_thread(work, ())
    assert done.acquire(timeout=30)
    assert threading.active_count() == before  # naming the writer made no Thread object
    commands.until(lambda: len(channel.writers()) == 1)


def test_a_signal_handler_emits_inside_a_loop_that_emits(channel: shmtrace.Channel, tmp_path: Path) -> None:
    with reading(channel, tmp_path / "stream"):
        result = python(
            """
            import json, shmtrace, signal
            from collections import Counter
            event, results = shmtrace.attach().event, {"loop": [], "handler": []}
            signal.signal(signal.SIGALRM, lambda *_: results["handler"].append(event(b"handler")))
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            while len(results["handler"]) < 200:
                results["loop"].append(event(b"loop"))
                if len(results["loop"]) % 50 == 0:
                    signal.sigtimedwait([], 0.0005)
            signal.setitimer(signal.ITIMER_REAL, 0)
            print(json.dumps({kind: Counter(map(str, got)) for kind, got in results.items()}))
            """,
            SHMTRACE=channel.name,
        )
    assert (result.returncode, result.stderr) == (0, "")
    counts = json.loads(result.stdout)
    assert counts["handler"]["True"] > 0
    delivered = Counter(blobs(tmp_path / "stream"))
    assert delivered == {kind.encode(): count["True"] for kind, count in counts.items()}
    assert channel.missed == sum(count.get("False", 0) for count in counts.values())


def test_the_end_of_the_interpreter_is_survived(channel: shmtrace.Channel) -> None:
    """Daemon threads, atexit, finalizers of modules and objects that hold the builtin: all of them write."""
    with reading(channel):
        for _ in range(5):
            result = python(
                """
                import atexit, builtins, itertools, shmtrace, sys, threading, time
                channel = shmtrace.attach()

                class Last:
                    def __init__(self):
                        self.event, self.blob = channel.event, bytearray(b"last words")
                    def __del__(self):
                        self.event(self.blob), self.event(b"last")

                def work():
                    event = channel.event
                    while True:
                        event(b"daemon")

                for _ in range(4):
                    threading.Thread(target=work, daemon=True).start()
                atexit.register(channel.event, b"atexit")
                if sys.version_info < (3, 12):  # later ones start no thread at the end
                    atexit.register(threading.Thread(target=work, daemon=True).start)
                builtins.kept = Last()
                cycle = [Last()]; cycle.append(cycle)
                sys.modules["kept"] = Last()
                threading.local().kept = Last()
                time.sleep(0.02)
                """,
                SHMTRACE=channel.name,
            )
            assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_an_event_of_a_finalizer_at_the_end_is_delivered(channel: shmtrace.Channel, tmp_path: Path) -> None:
    with reading(channel, tmp_path / "stream"):
        result = python(
            """
            import builtins, shmtrace

            class Last:
                event = shmtrace.attach().event
                def __del__(self, event=event):
                    event(b"first event of this process")

            builtins.kept = Last()
            """,
            SHMTRACE=channel.name,
        )
        assert (result.returncode, result.stderr) == (0, "")
    assert blobs(tmp_path / "stream") == [b"first event of this process"]


def test_closing_in_one_thread_while_another_writes(on: tuple[shmtrace.Channel, Path]) -> None:
    channel, _ = on
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            channel.event(b"x")

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        shmtrace.open_channel(channel.name).close()
    channel.close()
    stop.set()
    for thread in threads:
        thread.join(30)
    assert channel.event(b"x") is False


# -- what a producer pays for

HEAVY = ("numba", "llvmlite", "numpy", "posix_ipc", "click", "msgpack", "shmtrace.reader", "shmtrace.collector")


def test_importing_imports_nothing_heavy() -> None:
    program = f"import shmtrace, sys; print([name for name in {HEAVY} if name in sys.modules])"
    assert python(program).stdout == "[]\n"


def test_attaching_and_writing_needs_no_compiler(channel: shmtrace.Channel) -> None:
    with reading(channel):
        result = python(
            f"""
            import shmtrace, sys
            print(shmtrace.attach().event(b"x"), [name for name in {HEAVY} if name in sys.modules])
            """,
            SHMTRACE=channel.name,
        )
    assert result.stdout == "True []\n"


def test_a_page_that_the_pool_gave_away_names_its_lane(channel: shmtrace.Channel) -> None:
    """What `stats()` says of the pool is what the descriptors say."""
    assert channel.stats()["pages_waiting"] == 16
    opened = open_segment(channel.name)
    opened.set_u32(CONTROL.recording, 1)
    assert channel.event(b"x")
    owners = [opened.u64(opened.geometry.descriptors_at + page * layout.PAGE_BYTES + PAGE.owner) for page in range(16)]
    assert channel.stats()["pages_waiting"] == owners.count(0) == 15
    opened.set_u32(CONTROL.recording, 0)
    opened.unmap()


def test_without_pages_and_without_a_collector_events_are_refused_and_counted(channel: shmtrace.Channel) -> None:
    opened = open_segment(channel.name)
    opened.set_u32(CONTROL.recording, 1)
    results = Counter(channel.event(bytes(1000)) for _ in range(100))
    assert results[True] + 8 * 4 >= 16 * 4
    assert results[True] <= 16 * 4
    assert channel.stats()["missed"] == {"no_page": results[False], "timeout": 0, "no_lane": 0, "bad_arguments": 0}
    opened.set_u32(CONTROL.recording, 0)
    opened.unmap()


def test_errno_of_what_fails_is_kept(channel_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "MEMORY", "/nonexistent")
    with pytest.raises(shmtrace.SharedMemoryUnavailable) as raised:
        shmtrace.create_channel(channel_name, **SMALL)
    assert raised.value.errno == errno.ENOENT
