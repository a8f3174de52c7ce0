"""What others can do to a channel, and what is promised against it: docs/security.md, promise by promise.

Who is another user here really is one: a child that has given up being root.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pickle
import re
import shutil
import stat
import string
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import commands
import elsewhere
import shmtrace
import shmtrace.cli
from elsewhere import NOBODY, edit, in_child, in_new_process, needs_root, objects, squat
from recording import collected, end, recorded
from shmtrace import creation, layout, locks, native, segment
from shmtrace.layout import CONTROL
from shmtrace.segment import open_segment, segment_path, semaphore_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SMALL: dict[str, Any] = {"page_size": 4096, "pages": 16}


@pytest.fixture
def channel(channel_name: str) -> Iterator[shmtrace.Channel]:
    """A small channel."""
    with shmtrace.create_channel(channel_name, **SMALL) as made:
        yield made
    if os.path.lexists(segment_path(channel_name)):
        shmtrace.remove_channel(channel_name, drain=True)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory like /dev/shm and /tmp: everybody may make files in it, and nobody may touch those of others."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o1777)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def exposed(open_directory: Path, channel_name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[shmtrace.Channel]:
    """A channel whose runtime directory lies where everybody gets to."""
    with monkeypatch.context() as patch:
        patch.setenv("SHMTRACE_DIR", str(open_directory / "fifos"))
        made = shmtrace.create_channel(channel_name, **SMALL)
    with made:
        yield made
    shmtrace.remove_channel(channel_name)


@contextlib.contextmanager
def beside(function: Callable[[], object], *, uid: int | None = None) -> Iterator[None]:
    """What a function has done in a child, as another user if need be, lasts as long as the block."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        if uid is not None:
            elsewhere.become(uid)
        function()
        os.write(write, b"!")
        time.sleep(commands.LIMIT_S)
        os._exit(1)
    os.close(write)
    try:
        assert os.read(read, 1) == b"!"
        yield
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(read)


def paths(channel: shmtrace.Channel) -> dict[str, str]:
    """A channel's objects."""
    return {
        "segment": segment_path(channel.name),
        "full": semaphore_path(channel.name, "full"),
        "waiting": semaphore_path(channel.name, "waiting"),
        "fifo": str(channel.fifo),
        "directory": str(channel.fifo.parent),
    }


# -- another user

ATTEMPTS: dict[str, Callable[[str], object]] = {
    "read": lambda path: os.open(path, os.O_RDONLY | os.O_NONBLOCK),
    "write": lambda path: os.open(path, os.O_WRONLY | os.O_NONBLOCK),
    "list": os.listdir,
    "truncate": lambda path: os.truncate(path, 0),
    "change the mode": lambda path: Path(path).chmod(0o666),
    "take": lambda path: os.chown(path, NOBODY, NOBODY),
    "change the times": os.utime,
    "remove": os.unlink,
    "remove the directory": os.rmdir,
    "rename": lambda path: Path(path).rename(f"{path}.away"),
    "replace": lambda path: Path(tempfile.mkstemp(dir="/dev/shm")[1]).rename(path),
    "make": lambda path: os.mkfifo(f"{path}/new"),
}


@needs_root
def test_another_user_can_do_nothing_to_the_objects(exposed: shmtrace.Channel) -> None:
    """Neither read, write, remove, rename, replace nor change them, nor the directory of the FIFOs."""
    (exposed.fifo.parent / "other").touch()
    ours = paths(exposed)

    def attempt() -> list[str]:
        succeeded = []
        for what, path in ours.items():
            for attempt, act in ATTEMPTS.items():
                try:
                    act(path)
                except OSError:
                    continue
                succeeded.append(f"{attempt} {what}")
        for left in Path("/dev/shm").glob("tmp*"):
            if left.stat().st_uid == NOBODY:
                left.unlink()
        return succeeded

    before = {what: os.lstat(path) for what, path in ours.items()}
    assert in_child(attempt, uid=NOBODY) == []
    for what, path in ours.items():
        after = os.lstat(path)
        assert (after.st_ino, after.st_mode, after.st_uid, after.st_size, after.st_mtime) == (
            before[what].st_ino, before[what].st_mode, before[what].st_uid, before[what].st_size, before[what].st_mtime,
        )  # fmt: skip
    (exposed.fifo.parent / "other").unlink()


@needs_root
def test_another_user_cannot_switch_recording_on(exposed: shmtrace.Channel) -> None:
    """Nor hold the locks of the collector and of the recorder."""
    ours = paths(exposed)

    def attempt() -> int:
        opened = 0
        for path in ours.values():
            with contextlib.suppress(OSError):
                fcntl.flock(os.open(path, os.O_RDONLY | os.O_NONBLOCK), fcntl.LOCK_EX)
                opened += 1
        time.sleep(0.1)  # the collector looks every 20 ms
        return opened

    with collected(exposed):
        commands.until(lambda: exposed.stats()["collector"])
        assert in_child(attempt, uid=NOBODY) == 0
        assert not exposed.enabled
        assert not exposed.stats()["reader"]


@needs_root
@pytest.mark.parametrize("what", ["mem", "fd", "map_files", "environ"])
def test_another_user_gets_nothing_through_the_collectors_process(channel: shmtrace.Channel, what: str) -> None:
    with commands.running("collect", channel.name) as collector:
        commands.until(lambda: channel.stats()["collector"])
        path = f"/proc/{collector.pid}/{what}"
        act = os.listdir if what in {"fd", "map_files"} else partial(os.open, flags=os.O_RDONLY)
        assert isinstance(in_child(partial(act, path), uid=NOBODY), PermissionError)
        end(collector, signal_number=15)


COMMANDS = [
    ("stat", "NAME"), ("stat", "NAME", "--json"), ("path", "NAME"), ("tail", "NAME"), ("collect", "NAME"),
    ("record", "NAME", "-o", "DIR"), ("snapshot", "NAME", "-o", "DIR"), ("remove", "NAME"),
    ("remove", "NAME", "--drain"), ("enable", "NAME", "x"), ("disable", "NAME", "x"),
]  # fmt: skip


@needs_root
@pytest.mark.parametrize("line", COMMANDS, ids=" ".join)
def test_to_the_commands_of_another_user_the_channel_is_not_there(
    exposed: shmtrace.Channel, open_directory: Path, line: tuple[str, ...]
) -> None:
    """Also when the environment names our runtime directory."""
    shmtrace.cli.main.make_context("shmtrace", ["--help"], resilient_parsing=True)
    command = shmtrace.cli.main.get_command(None, line[0])  # type: ignore[arg-type]
    if command is None:
        pytest.skip("this command does not exist yet")
    preload = CliRunner().invoke(shmtrace.cli.main, [*line[:1], "no-such-channel", *line[2:]])  # what it imports
    assert preload.exit_code != 0
    arguments = [{"NAME": exposed.name, "DIR": str(open_directory / "trace")}.get(word, word) for word in line]

    def attempt() -> tuple[object, str]:
        said = io.StringIO()
        with contextlib.redirect_stderr(said), pytest.raises(SystemExit) as ended:
            shmtrace.cli.main(arguments)
        return ended.value.code, said.getvalue()

    assert in_child(attempt, uid=NOBODY) == (
        1,
        f"shmtrace: there is no channel {exposed.name!r}"
        + ("" if line[0] == "remove" else f": make it with 'shmtrace create {exposed.name}'")
        + "\n",
    )
    assert not (open_directory / "trace").exists()
    assert len(objects(exposed.name)) == 3


@needs_root
def test_what_was_attached_before_a_change_of_user_goes_on_and_nothing_can_be_attached_after_it(
    channel: shmtrace.Channel, tmp_path: Path
) -> None:
    """As a server does that is started by root.  It keeps what it had; the new user has no right to the name."""

    def drop_privileges() -> tuple[bool, str]:
        try:
            shmtrace.open_channel(channel.name)
        except shmtrace.ChannelNotFound as error:
            return channel.event(b"x"), str(error)
        return False, ""

    with recorded(channel, tmp_path / "trace"):
        recorded_, said = in_child(drop_privileges, uid=NOBODY)
    assert recorded_
    assert said.startswith("there is no channel")


@needs_root
def test_attach_after_a_change_of_user_gives_what_the_process_had_attached_before_it(
    channel: shmtrace.Channel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a module does that a preloaded server's worker imports late; and a channel that comes out of a pickle."""
    monkeypatch.setenv("SHMTRACE", channel.name)

    def work() -> list[bool]:
        return [shmtrace.attach().event(b"1"), pickle.loads(pickle.dumps(channel)).event(b"2")]

    with recorded(channel, tmp_path / "trace"):
        assert in_child(work, uid=NOBODY) == [True, True]
    assert [record.fields["blob"] for record in shmtrace.read(tmp_path / "trace")] == [b"1", b"2"]


@needs_root
def test_attach_by_another_user_gives_a_disabled_channel_and_one_line_that_says_whose_it_is(
    channel: shmtrace.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a worker that changed its user before it attached."""
    monkeypatch.setenv("SHMTRACE", channel.name)

    def work() -> tuple[list[bool], str]:
        from shmtrace import attachment as module

        module._attachments.clear()  # as a process that has attached nothing
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            late = shmtrace.attach()
            return [late.event(b"1"), late.event(b"2"), late.enabled], said.getvalue()

    answers, said = in_child(work, uid=NOBODY)
    assert answers == [False, False, False]
    assert said == (
        f"shmtrace: nothing is recorded in {channel.name!r}: it is the channel of root, and this process runs as "
        "nobody: attach before the change of user, or run all of it as one user\n"
    )


@needs_root
def test_after_a_change_of_user_an_event_that_was_defined_before_is_recorded_and_a_new_one_is_told_and_off(
    channel: shmtrace.Channel, tmp_path: Path
) -> None:
    early = channel.tracepoint("early", number="u8")

    def work() -> tuple[list[object], str]:
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            late = channel.tracepoint("late", number="u8")
            with channel.span("late span"):
                return [early(1), channel.tracepoint("early", number="u8")(2), late(3)], said.getvalue()

    channel.span("imports what a worker could not")
    with recorded(channel, tmp_path / "trace"):
        answers, said = in_child(work, uid=NOBODY)
    assert answers == [True, True, False]
    assert [line.split(" is not recorded: ")[0] for line in said.splitlines()] == [
        "shmtrace: 'late'",
        "shmtrace: 'late span'",
    ]
    assert [record.fields["number"] for record in shmtrace.read(tmp_path / "trace")] == [1, 2]


@needs_root
def test_what_a_process_had_attached_before_a_change_of_user_is_not_given_again_once_it_was_removed(
    channel: shmtrace.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHMTRACE", channel.name)
    shmtrace.remove_channel(channel.name)
    assert in_child(lambda: repr(shmtrace.attach()), uid=NOBODY) == f"<shmtrace.Channel {channel.name!r} disabled>"


def test_a_program_that_is_executed_inherits_no_descriptor_of_a_channel(channel: shmtrace.Channel) -> None:
    opened = open_segment(channel.name)
    program = "import os; print([os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if n > '2'])"
    held = subprocess.run([sys.executable, "-c", program], close_fds=False, capture_output=True, text=True)
    opened.unmap()
    assert channel.name not in held.stdout


# -- names

ALLOWED = frozenset(string.ascii_letters + string.digits + "_.-")
ANY_NAME = st.one_of(
    st.text(max_size=70),
    st.text(alphabet="./\\-_~%$ a0\n\r\x1b\0", max_size=70),
    st.from_regex(r"(\.\./|/|\./|\.\.)+[a-z]{0,3}", fullmatch=True),
)
QUICK = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@QUICK
@given(name=ANY_NAME)
@example(name="..")
@example(name=".")
@example(name="a/../../b")
@example(name="a\n")
@example(name="\u0661")  # a digit, but not of ours
@example(name="x" * 65)
def test_no_name_leads_out_of_the_directories(name: str, runtime_directory: Path) -> None:
    allowed = 1 <= len(name) <= 64 and set(name) <= ALLOWED and name[0] not in ".-"
    if not allowed:
        with pytest.raises(shmtrace.InvalidName) as raised:
            segment.check_name(name)
        assert str(raised.value).isprintable()
        return
    assert segment.check_name(name) == name
    for path in (runtime_directory / name, Path(segment_path(name)), Path(semaphore_path(name, "full"))):
        assert path.parent in {runtime_directory, Path("/dev/shm")}
        assert path.resolve() == path


@QUICK
@given(name=ANY_NAME.filter(lambda name: "\0" not in name))
@example(name="\udcff")  # a byte that is no text
def test_no_value_of_the_variable_does_more_than_disable_the_channel(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHMTRACE", f"/{name}")  # and so never that of a channel
    capfd.readouterr()
    attached = shmtrace.attach()
    assert attached.event(b"x") is False
    said = capfd.readouterr().err
    assert said.startswith("shmtrace: nothing is recorded in ")
    assert said.endswith("\n")
    assert said[:-1].isprintable()


@QUICK
@given(name=ANY_NAME.map(lambda name: f"/{name}"), command=st.sampled_from(["stat", "path", "remove", "create"]))
def test_no_name_on_the_command_line_is_more_than_wrong_usage(name: str, command: str) -> None:
    result = CliRunner().invoke(shmtrace.cli.main, [command, "--", name])
    assert result.exit_code == 2
    assert result.stderr.startswith("shmtrace: ")
    assert result.stderr[:-1].isprintable()


# -- what others left under the names


@needs_root
@pytest.mark.parametrize("which", ["segment", "full", "waiting"])
def test_a_name_that_another_user_squats_cannot_be_created(channel_name: str, which: str) -> None:
    path = segment_path(channel_name) if which == "segment" else semaphore_path(channel_name, which)
    squat(path)
    try:
        with pytest.raises(shmtrace.ChannelForeign, match=f"{re.escape(path)} belongs to nobody"):
            shmtrace.create_channel(channel_name, **SMALL)
        assert Path(path).exists()
        assert len(objects(channel_name)) == 1
    finally:
        Path(path).unlink()


@needs_root
def test_a_copy_of_a_channel_that_another_user_made_is_neither_opened_nor_removed(channel_name: str) -> None:
    shmtrace.create_channel(channel_name, **SMALL).close()
    content = Path(segment_path(channel_name)).read_bytes()
    shmtrace.remove_channel(channel_name)
    squat(segment_path(channel_name), content)
    try:
        for call in (shmtrace.open_channel, shmtrace.remove_channel):
            with pytest.raises(shmtrace.ChannelForeign, match="belongs to nobody"):
                call(channel_name)
        assert Path(segment_path(channel_name)).exists()
    finally:
        Path(segment_path(channel_name)).unlink()


@needs_root
@pytest.mark.parametrize("which", ["full", "waiting"])
def test_a_semaphore_of_another_user_is_not_opened(channel: shmtrace.Channel, which: str) -> None:
    path = semaphore_path(channel.name, which)
    content = Path(path).read_bytes()
    Path(path).unlink()
    squat(path, content)
    with pytest.raises(shmtrace.ChannelForeign, match=f"{re.escape(path)} belongs to nobody"):
        in_new_process(channel.name)
    Path(path).unlink()
    with pytest.raises(shmtrace.ChannelRemoved, match=re.escape(path)):
        in_new_process(channel.name)


@needs_root
def test_what_root_made_under_the_name_of_another_user_is_foreign_to_that_user(channel_name: str) -> None:
    path = segment_path(channel_name).replace(f".{os.geteuid()}.", f".{NOBODY}.")
    os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
    try:
        for call in (shmtrace.open_channel, shmtrace.remove_channel):
            error = in_child(partial(call, channel_name), uid=NOBODY)
            assert isinstance(error, shmtrace.ChannelForeign)
            assert "belongs to root" in str(error)
        assert Path(path).exists()
    finally:
        Path(path).unlink()


@needs_root
def test_two_users_may_have_channels_of_one_name(channel: shmtrace.Channel) -> None:
    def use() -> bool:
        directory = tempfile.mkdtemp()
        os.environ["SHMTRACE_DIR"] = directory
        try:
            with shmtrace.create_channel(channel.name, **SMALL) as own:
                result = own.fifo == Path(directory, own.name) and own.stats()["pages"] == 16
            shmtrace.remove_channel(channel.name)
            return result
        finally:
            shutil.rmtree(directory)

    assert in_child(use, uid=NOBODY) is True
    shmtrace.open_channel(channel.name).close()


@pytest.mark.parametrize("which", ["segment", "full", "waiting"])
@pytest.mark.parametrize("target", ["real", "dangling"])
def test_no_symbolic_link_is_followed(channel: shmtrace.Channel, tmp_path: Path, which: str, target: str) -> None:
    path = segment_path(channel.name) if which == "segment" else semaphore_path(channel.name, which)
    shutil.move(path, tmp_path / "real")
    Path(path).symlink_to(tmp_path / target)
    with pytest.raises(shmtrace.ChannelError) as raised:
        in_new_process(channel.name)
    assert path in str(raised.value)


@pytest.mark.parametrize("which", ["segment", "full", "waiting"])
def test_no_symbolic_link_is_created_through(channel_name: str, tmp_path: Path, which: str) -> None:
    path = segment_path(channel_name) if which == "segment" else semaphore_path(channel_name, which)
    Path(path).symlink_to(tmp_path / "target")
    try:
        shmtrace.create_channel(channel_name, **SMALL)
    except shmtrace.ChannelExists:
        assert which == "segment"
    assert not (tmp_path / "target").exists()
    shmtrace.remove_channel(channel_name)
    assert not os.path.lexists(path)


@pytest.mark.parametrize(
    ("offset", "data", "message"),
    [
        (CONTROL.version, (layout.VERSION + 1).to_bytes(4, "little"), f"layout version {layout.VERSION + 1}"),
        (CONTROL.boot_id, bytes(16), "of another boot"),
        (CONTROL.magic, b"GARBAGE!", "holds no channel"),
        (CONTROL.page_size, (4095).to_bytes(4, "little"), "damaged"),
        (CONTROL.pages, (17).to_bytes(4, "little"), "damaged"),
        (CONTROL.lanes_per_cpu, (1 << 31).to_bytes(4, "little"), "damaged"),
        (CONTROL.cpus, bytes(4), "damaged"),
        (CONTROL.writers, b"\xff\xff\xff\xff", "damaged"),
        (CONTROL.segment_bytes, bytes(8), "damaged"),
        (0, bytes(layout.CONTROL_BYTES), "holds no channel"),
    ],
)
def test_an_incompatible_segment_is_refused_and_can_be_removed(
    channel: shmtrace.Channel, offset: int, data: bytes, message: str
) -> None:
    edit(channel.name, offset, data)
    with pytest.raises(shmtrace.ChannelIncompatible, match=message) as raised:
        shmtrace.open_channel(channel.name)
    assert "\n" not in str(raised.value)
    shmtrace.remove_channel(channel.name)
    assert not objects(channel.name)


@pytest.mark.parametrize("size", [0, 1, 7, 8, layout.CONTROL_BYTES - 1, layout.CONTROL_BYTES, 100_000])
def test_a_truncated_segment_is_refused_and_can_be_removed(channel: shmtrace.Channel, size: int) -> None:
    os.truncate(segment_path(channel.name), size)
    with pytest.raises(shmtrace.ChannelIncompatible):
        shmtrace.open_channel(channel.name)
    shmtrace.remove_channel(channel.name)


@pytest.mark.parametrize("kind", ["directory", "fifo", "socket"])
def test_what_is_no_file_at_all_is_refused(channel_name: str, kind: str) -> None:
    path = segment_path(channel_name)
    if kind == "directory":
        Path(path).mkdir()
    else:
        os.mknod(path, 0o600 | (stat.S_IFIFO if kind == "fifo" else stat.S_IFSOCK))
    try:
        with pytest.raises(shmtrace.ChannelError):
            in_new_process(channel_name)
        with pytest.raises(shmtrace.ChannelError):
            shmtrace.create_channel(channel_name, **SMALL)
    finally:
        (os.rmdir if kind == "directory" else os.unlink)(path)


@pytest.mark.parametrize("which", ["segment", "full", "waiting"])
def test_objects_that_others_may_write_are_refused(channel: shmtrace.Channel, which: str) -> None:
    path = segment_path(channel.name) if which == "segment" else semaphore_path(channel.name, which)
    Path(path).chmod(0o666)
    with pytest.raises(shmtrace.ChannelForeign, match=re.escape(path)):
        in_new_process(channel.name)


@pytest.mark.parametrize("trouble", ["its mode", "a link"])
def test_what_is_ours_is_not_said_to_belong_to_somebody_else(
    channel: shmtrace.Channel, tmp_path: Path, trouble: str
) -> None:
    path = Path(segment_path(channel.name))
    if trouble == "its mode":
        path.chmod(0o666)
    else:
        shutil.move(path, tmp_path / "real")
        path.symlink_to(tmp_path / "real")
    with pytest.raises(shmtrace.ChannelError) as raised:
        shmtrace.open_channel(channel.name)
    assert "not to you" not in str(raised.value)


# -- modes and the runtime directory


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o177])
def test_whatever_the_umask_the_objects_are_private(channel_name: str, tmp_path: Path, umask: int) -> None:
    directory = tmp_path / "fifos"

    def make() -> dict[str, int]:
        os.umask(umask)
        os.environ["SHMTRACE_DIR"] = str(directory)
        shmtrace.create_channel(channel_name, **SMALL)
        paths: dict[str, Path | str] = {
            "directory": directory, "fifo": directory / channel_name, "segment": segment_path(channel_name),
            "full": semaphore_path(channel_name, "full"), "waiting": semaphore_path(channel_name, "waiting"),
        }  # fmt: skip
        modes = {what: stat.S_IMODE(os.lstat(path).st_mode) for what, path in paths.items()}
        shmtrace.remove_channel(channel_name)
        return modes

    assert in_child(make) == {"directory": 0o700, "fifo": 0o600, "segment": 0o600, "full": 0o600, "waiting": 0o600}


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o755, 0o777, 0o704])
def test_a_runtime_directory_that_others_can_enter(
    channel_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(mode)
    monkeypatch.setenv("SHMTRACE_DIR", str(tmp_path / "open"))
    with pytest.raises(shmtrace.RuntimeDirectoryError, match="chmod 700"):
        shmtrace.create_channel(channel_name, **SMALL)


@needs_root
def test_a_runtime_directory_of_another_user(
    channel_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs").mkdir(mode=0o700)
    os.chown(tmp_path / "theirs", NOBODY, NOBODY)
    monkeypatch.setenv("SHMTRACE_DIR", str(tmp_path / "theirs"))
    with pytest.raises(shmtrace.RuntimeDirectoryError, match="belongs to nobody"):
        shmtrace.create_channel(channel_name, **SMALL)


@pytest.mark.parametrize("kind", ["symlink", "file", "missing parent"])
def test_a_runtime_directory_that_is_none(
    channel_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "symlink").symlink_to(tmp_path / "real")
    (tmp_path / "file").touch()
    monkeypatch.setenv("SHMTRACE_DIR", str(tmp_path / ("a/b/c" if kind == "missing parent" else kind)))
    with pytest.raises(shmtrace.RuntimeDirectoryError, match=re.escape(str(tmp_path))):
        shmtrace.create_channel(channel_name, **SMALL)
    assert not list((tmp_path / "real").iterdir())


def test_the_order_in_which_runtime_directories_are_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHMTRACE_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert creation.runtime_directory() == tmp_path / "own"
    monkeypatch.delenv("SHMTRACE_DIR")
    assert creation.runtime_directory() == tmp_path / "shmtrace"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))
    assert creation.runtime_directory() == Path(f"/tmp/shmtrace-{os.geteuid()}")


def test_a_file_in_the_place_of_the_fifo_is_named_and_kept(channel_name: str, runtime_directory: Path) -> None:
    (runtime_directory / channel_name).write_text("mine")
    with pytest.raises(shmtrace.RuntimeDirectoryError, match=re.escape(str(runtime_directory / channel_name))):
        shmtrace.create_channel(channel_name, **SMALL)
    assert (runtime_directory / channel_name).read_text() == "mine"
    assert not objects(channel_name)


@pytest.mark.parametrize("target", ["a file", "the FIFO of another channel"])
def test_removing_a_channel_takes_nothing_away_but_its_own_fifo(
    channel: shmtrace.Channel, new_name: Callable[[], str], tmp_path: Path, target: str
) -> None:
    """The FIFO's path stands in the segment, where anything may be written by those whom it belongs to."""
    other = shmtrace.create_channel(new_name(), **SMALL)
    precious = other.fifo if target != "a file" else tmp_path / channel.name
    precious.touch()
    edit(channel.name, CONTROL.fifo, os.fsencode(precious) + b"\0")
    shmtrace.remove_channel(channel.name)
    assert precious.exists()
    assert not objects(channel.name)
    shmtrace.remove_channel(other.name)


def test_another_name_of_a_segment_is_not_a_channel(channel: shmtrace.Channel, new_name: Callable[[], str]) -> None:
    """Where the kernel lets them, others may give our files further names, of our channels too."""
    other = new_name()
    os.link(segment_path(channel.name), segment_path(other))
    with pytest.raises(shmtrace.ChannelIncompatible, match=f"is not the channel {other!r}"):
        shmtrace.open_channel(other)
    shmtrace.remove_channel(other)
    assert not objects(other)
    in_new_process(channel.name)
    assert open_segment(channel.name).u32(CONTROL.removed) == 0


@needs_root
def test_what_others_put_under_our_names_is_not_among_our_channels() -> None:
    """It is neither listed, with whatever its name makes a terminal do, nor collected, nor in the way of `--stale`."""
    result = elsewhere.confined(
        """
        import contextlib, io, os, shmtrace, sys
        from pathlib import Path
        from elsewhere import NOBODY, in_child, squat
        from shmtrace import layout
        from shmtrace.channel import list_channels
        from shmtrace.segment import segment_path
        for name in ("aaa", "\\x1b[31m", "a b", "line\\nbreak", "..", "x" * 200):
            squat(f"/dev/shm/shmtrace.{os.getuid()}.{name}")
        def make():
            os.mkdir(f"/dev/shm/shmtrace.0.directory")
            os.symlink("/dev/shm", f"/dev/shm/shmtrace.0.link")
        in_child(make, uid=NOBODY)
        for name in ("good", "stale"):
            shmtrace.create_channel(name, page_size=4096, pages=4).close()
        with open(segment_path("stale"), "r+b") as file:
            file.seek(layout.CONTROL.boot_id)
            file.write(b"another boot----")
        print([(row["name"], row["state"]) for row in list_channels()])
        import shmtrace.cli
        with contextlib.suppress(SystemExit):
            shmtrace.cli.main(["remove", "--stale"])
        print([row["name"] for row in list_channels()], len(os.listdir("/dev/shm")) - 3)
        """,
        SHMTRACE_DIR=os.environ["SHMTRACE_DIR"],
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "[('good', 'idle'), ('stale', 'stale')]\n['good'] 8\n"
    (Path(os.environ["SHMTRACE_DIR"]) / "good").unlink()


@needs_root
def test_a_squatted_name_is_refused_before_it_is_opened(channel_name: str) -> None:
    """A lease on a file holds up those who open it, until it is given back."""
    path = segment_path(channel_name)

    def lease() -> None:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o666))
        fcntl.fcntl(os.open(path, os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK)

    with beside(lease, uid=NOBODY):
        began = time.monotonic()
        with pytest.raises(shmtrace.ChannelForeign, match="belongs to nobody"):
            shmtrace.open_channel(channel_name)
        assert time.monotonic() - began < 2
    Path(path).unlink()


# -- the lock under which channels are made and removed


def names_lock(directory: Path) -> Path:
    return directory / f".shmtrace.{os.geteuid()}"


@pytest.fixture
def lock(open_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the lock is looked for: not in the real /dev/shm, where it is in use."""
    monkeypatch.setattr(segment, "MEMORY", str(open_directory))
    return names_lock(open_directory)


def squat_lock(path: Path, kind: str, target: Path) -> None:
    os.umask(0)
    match kind:
        case "directory":
            path.mkdir()
        case "FIFO":
            os.mkfifo(path, 0o666)
        case "symbolic link":
            path.symlink_to(target)
        case _:
            file = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
            if kind == "locked file":
                fcntl.flock(file, fcntl.LOCK_EX)
            elif kind == "leased file":  # who opens it waits until the lease is given back, 45 s at most
                os.close(file)
                fcntl.fcntl(os.open(path, os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK)


@needs_root
@pytest.mark.parametrize("kind", ["file", "locked file", "leased file", "FIFO", "directory", "symbolic link"])
def test_a_lock_that_another_user_squats_is_refused_at_once_by_owner(
    lock: Path, channel_name: str, tmp_path: Path, kind: str
) -> None:
    """Whatever the settings fs.protected_* are: what is not ours is not used, not waited for and not removed."""
    target = tmp_path / "target"
    with beside(partial(squat_lock, lock, kind, target), uid=NOBODY):
        before, began = lock.lstat(), time.monotonic()
        with pytest.raises(shmtrace.ChannelForeign, match=rf"{re.escape(str(lock))} belongs to nobody") as raised:
            shmtrace.create_channel(channel_name, **SMALL)
        assert time.monotonic() - began < 2
        assert "\n" not in str(raised.value)
        after = lock.lstat()
        assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert not target.exists()
    lock.rmdir() if kind == "directory" else lock.unlink()
    with creation.names_locked():
        assert lock.exists()
    assert not lock.exists()


def test_a_lock_that_is_another_file_of_ours_is_refused_and_the_file_left_as_it_is(lock: Path) -> None:
    """Where the kernel lets them, others may give our files further names."""
    ours = lock.parent / "ours"
    ours.touch(mode=0o600)
    ours.chmod(0o400)
    os.link(ours, lock)
    with pytest.raises(shmtrace.ChannelForeign, match="is not the lock"), creation.names_locked():
        pass
    assert stat.S_IMODE(ours.stat().st_mode) == 0o400


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_the_lock_is_private_whatever_the_umask(lock: Path, umask: int) -> None:
    def mode() -> int:
        os.umask(umask)
        with creation.names_locked():
            return stat.S_IMODE(lock.stat().st_mode)

    assert in_child(mode) == 0o600


def test_a_process_of_ours_that_is_stopped_with_the_lock_is_waited_for_a_limited_time(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "LIMIT_S", 0.2)
    held = creation.names_locked()
    with (
        beside(held.__enter__),
        pytest.raises(shmtrace.ChannelError, match=f"fuser {re.escape(str(lock))}"),
        creation.names_locked(),
    ):
        pass
    with creation.names_locked():  # its holder is dead
        pass


def test_a_lock_that_somebody_cleaned_away_is_no_error(lock: Path) -> None:
    with creation.names_locked():
        lock.unlink()


# -- the cache of object code


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a warm cache, to be copied on."""
    native.warmup()
    found = native.cache_directory()
    assert found is not None
    directory = tmp_path_factory.mktemp("warm")
    for unit in native.UNITS:
        shutil.copy2(Path(found, f"{unit}-{native.code_key(unit)}.o"), directory)
    return directory


@pytest.fixture
def cache(warm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "cache"
    shutil.copytree(warm, directory)
    directory.chmod(0o700)
    monkeypatch.setenv("SHMTRACE_CACHE", str(directory))
    assert native._from_cache("producer") is not None
    return directory


def code_file(cache: Path, unit: str) -> Path:
    return cache / f"{unit}-{native.code_key(unit)}.o"


@needs_root
@pytest.mark.parametrize(
    "how", ["directory of others", "directory 0770", "directory 0707", "file of others", "file 0620", "file 0602"]
)
def test_object_code_that_others_could_have_written_is_not_placed(cache: Path, how: str) -> None:
    path = cache if how.startswith("directory") else code_file(cache, "producer")
    if how.endswith("others"):
        os.chown(path, NOBODY, NOBODY)
    else:
        path.chmod(int(how[-4:], 8))
    assert native._from_cache("producer") is None


@needs_root
def test_nothing_is_stored_in_a_cache_of_others(open_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = open_directory / "theirs"
    assert in_child(theirs.mkdir, uid=NOBODY) is None
    theirs.chmod(0o777)
    monkeypatch.setenv("SHMTRACE_CACHE", str(theirs))
    assert native.cache_directory() is None
    assert not list(theirs.iterdir())


def test_what_is_stored_is_private_whatever_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHMTRACE_CACHE", str(tmp_path / "cache"))

    def store() -> tuple[int, int]:
        os.umask(0)
        made = native.cache_directory()
        assert made is not None
        directory = Path(made)
        native._store(str(directory / "unit.o"), b"code")
        return stat.S_IMODE(directory.stat().st_mode), stat.S_IMODE((directory / "unit.o").stat().st_mode)

    assert in_child(store) == (0o700, 0o600)


def test_good_object_code_under_the_name_of_another_is_not_placed(cache: Path) -> None:
    shutil.copy(code_file(cache, "collector"), code_file(cache, "producer"))
    assert native._from_cache("producer") is None


# -- what is written


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_a_recorded_trace_can_be_read_by_its_owner_alone(channel: shmtrace.Channel, tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with recorded(channel, tmp_path / "trace"):
            assert channel.event(b"secret")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "trace").iterdir()}
    assert len(modes) >= 2
    assert set(modes.values()) == {0o600}


def test_a_snapshot_can_be_read_by_its_owner_alone(new_name: Callable[[], str], tmp_path: Path) -> None:
    name = new_name()
    with shmtrace.create_channel(name, mode="overwrite") as made:
        assert made.event(b"secret")
        before = os.umask(0)
        try:
            made.snapshot(tmp_path / "trace")
        finally:
            os.umask(before)
    shmtrace.remove_channel(name)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "trace").iterdir()}
    assert len(modes) >= 2
    assert set(modes.values()) == {0o600}


@needs_root
def test_a_fifo_of_another_user_in_the_place_of_ours_gets_nothing(channel: shmtrace.Channel) -> None:
    with commands.running("collect", channel.name) as collector:
        commands.until(lambda: channel.stats()["collector"])
        path = channel.fifo.with_name(f"{channel.name}.new")
        os.mkfifo(path, 0o600)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        os.chown(path, NOBODY, NOBODY)
        path.rename(channel.fifo)
        assert f"{channel.fifo} is no FIFO of this user" in end(collector)
    assert os.read(reader, 1) == b""
    os.close(reader)


# -- the page


def test_each_test_that_the_page_names_exists() -> None:
    tests = Path(__file__).parent
    there = set(re.findall(r"def (test_\w+)", "".join(path.read_text() for path in tests.rglob("test_*.py"))))
    named = set(re.findall(r"`(test_\w+)`", (tests.parent / "docs" / "security.md").read_text()))
    assert len(named) > 20
    assert named <= there
