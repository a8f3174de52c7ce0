"""A channel's objects seen from outside; and pieces of tests that run as another user, or in another /dev/shm."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import commands
import shmtrace
from shmtrace.segment import segment_path

if TYPE_CHECKING:
    from collections.abc import Callable

NOBODY = 65_534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


def become(uid: int) -> None:
    """Be another user from here on, for good."""
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


def begin_in_child(function: Callable[[], object], *, uid: int | None = None) -> Callable[[], Any]:
    """Call a function in a forked child; what is called for its answer, as `in_child` gives it."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            if uid is not None:
                become(uid)
            result = function()
        except BaseException as error:  # noqa: BLE001
            result = error
        with os.fdopen(write, "wb") as stream:
            pickle.dump(result, stream)
        os._exit(0)
    os.close(write)

    def answer() -> Any:  # noqa: ANN401
        with os.fdopen(read, "rb") as stream:
            said = stream.read()
        os.waitpid(child, 0)
        return pickle.loads(said)

    return answer


def in_child(function: Callable[[], object], *, uid: int | None = None) -> Any:  # noqa: ANN401
    """What a function gives, or the exception that it raises, in a forked child, as another user if need be."""
    return begin_in_child(function, uid=uid)()


def in_new_process(name: str) -> None:
    """Open a channel as a process does that has not opened it yet; raises what it raises."""

    def attach() -> None:
        from shmtrace import attachment

        attachment._attachments.clear()
        shmtrace.open_channel(name)

    error = in_child(attach)
    if error is not None:
        raise error


def objects(name: str) -> list[Path]:
    """What there is of a channel in shared memory."""
    return list(Path("/dev/shm").glob(f"*{name}*"))


def edit(name: str, offset: int, data: bytes) -> None:
    """Write into a channel's segment as a file."""
    with Path(segment_path(name)).open("r+b") as file:
        file.seek(offset)
        file.write(data)


def squat(path: str, content: bytes = b"") -> None:
    """Make a file as another user."""

    def make() -> None:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666), "wb") as file:
            file.write(content)

    assert in_child(make, uid=NOBODY) is None


def confined(
    program: str, *, size: str = "64m", before: str = "", namespaces: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program in a mount namespace whose /dev/shm has a size of its own; `before` is a shell's work ahead of it.

    The program can import what tests can.  The test is skipped where no mount namespace can be made.
    """
    unshare = shutil.which("unshare")
    options = ["--mount", *namespaces]
    if unshare is None or subprocess.run([unshare, *options, "true"], capture_output=True).returncode:
        pytest.skip("needs leave to make namespaces")
    script = f'mount -t tmpfs -o size="$0" tmpfs /dev/shm && {before or ":"} && exec "$@"'
    command = [unshare, *options, "sh", "-c", script, size, sys.executable, "-c"]
    return commands.run(
        textwrap.dedent(program), cwd=None, command=command, PYTHONPATH=str(Path(__file__).parent), **environment
    )
