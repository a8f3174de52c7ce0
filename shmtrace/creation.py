"""Making and removing a channel's objects: the segment, its two semaphores, the FIFO, the runtime directory.

A segment appears under its name whole or not at all: it is made without a name, filled, and linked last.  Making and
removing are serialised by a lock, one a user.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import uuid as uuids
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from . import layout, segment
from .errors import (
    ChannelExists,
    ChannelForeign,
    InvalidGeometry,
    NotEnoughSharedMemory,
    RuntimeDirectoryError,
    SharedMemoryUnavailable,
)
from .layout import CONTROL, LANE, Geometry
from .locks import take_lock
from .process import boot_id, namespaces
from .section import CHANNEL, Section
from .segment import (
    check_name,
    foreign_channel,
    is_private,
    object_name,
    segment_path,
    semaphore_path,
    user_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

LIST_NAMES = ("full", "waiting")


def runtime_directory() -> Path:
    """The directory of the FIFOs, made if it is missing: one's own, mode 0700, no symbolic link.

    $SHMTRACE_DIR, else $XDG_RUNTIME_DIR/shmtrace, else /tmp/shmtrace-<uid>.  Raises RuntimeDirectoryError.
    """
    chosen, session = os.environ.get("SHMTRACE_DIR"), os.environ.get("XDG_RUNTIME_DIR")
    if chosen:
        path = Path(chosen).absolute()
    elif session and os.path.isdir(session) and os.stat(session).st_uid == os.geteuid():
        path = Path(session, "shmtrace")
    else:
        path = Path(f"/tmp/shmtrace-{os.geteuid()}")  # noqa: S108  (checked below)
    try:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
            path.chmod(0o700)  # whatever the umask
        status = path.lstat()
    except OSError as error:
        raise RuntimeDirectoryError(f"the runtime directory {path} cannot be made: {error.strerror}") from None
    if not stat.S_ISDIR(status.st_mode):
        raise RuntimeDirectoryError(f"{path} is not a directory: remove it, or set SHMTRACE_DIR to another place")
    if status.st_uid != os.geteuid():
        raise RuntimeDirectoryError(
            f"the runtime directory {path} belongs to {user_name(status.st_uid)}: set SHMTRACE_DIR to one of your own"
        )
    if status.st_mode & 0o077:
        raise RuntimeDirectoryError(f"others can enter the runtime directory {path}: chmod 700 it")
    return path


@contextmanager
def names_locked() -> Iterator[None]:
    """Hold the lock under which this user's channels are made and removed.  Raises ChannelError."""
    with Section(CHANNEL), _names_file_locked():
        yield


@contextmanager
def _names_file_locked() -> Iterator[None]:
    """The lock.

    It is one a user, wherever the runtime directory is, so it lies in shared memory, in a file that is there only while
    somebody holds or wants the lock.
    """
    path = f"{segment.MEMORY}/.shmtrace.{os.geteuid()}"
    while True:
        file = _open_names_lock(path)
        try:
            take_lock(file, path)
            with suppress(FileNotFoundError):
                if os.lstat(path).st_ino == os.fstat(file).st_ino:
                    break
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # the last holder took it away meanwhile
    try:
        yield
    finally:
        with suppress(FileNotFoundError):  # somebody cleaned up
            os.unlink(path)
        fcntl.flock(file, fcntl.LOCK_UN)  # a child forked meanwhile has the descriptor, too
        os.close(file)


def _open_names_lock(path: str) -> int:
    """The lock's file.  Whose others can open, they can lock for as long as they like: it is refused.

    So is one with a second name, for it is something else: others may link to a file of ours, and we would change its
    mode and wait for its locks.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        with suppress(FileNotFoundError):
            if not is_private(os.lstat(path)):
                raise _foreign_names_lock(path) from None
        raise SharedMemoryUnavailable(
            error.errno, f"{path} cannot be locked ({error.strerror}): channels cannot be made or removed"
        ) from None
    status = os.fstat(file)
    if not is_private(status) or status.st_nlink > 1:
        os.close(file)
        raise _foreign_names_lock(path)
    os.fchmod(file, 0o600)  # whatever the umask
    return file


def _foreign_names_lock(path: str) -> ChannelForeign:
    try:
        owner = user_name(os.lstat(path).st_uid)
    except OSError:
        owner = "another user"
    return ChannelForeign(
        f"{path} belongs to {owner} and is not the lock that shmtrace makes: channels cannot be made or removed until "
        f"it is removed"
    )


def create_segment(
    name: str, geometry: Geometry, *, mode: int, flush_ms: int, block_ms: int, clock: tuple[int, int, int, int],
    session: tuple[int, int],
) -> int:  # fmt: skip
    """Make a channel's objects; the segment's inode.

    `clock` is kind, cycles, monotonic ns, realtime ns.  Raises as create_channel does.
    """
    check_name(name)
    wrong = geometry.check() or geometry.check_mode(mode)
    if wrong:
        raise InvalidGeometry(wrong)
    directory = runtime_directory()
    fifo = directory / name
    path = os.fsencode(fifo)
    if len(path) >= layout.width_of(CONTROL, "fifo"):
        raise RuntimeDirectoryError(f"the path of the runtime directory is too long: {directory}")
    pid_namespace, time_namespace = namespaces()
    numbers = {
        "magic": layout.MAGIC, "version": layout.VERSION, "mode": mode, "flush_ms": flush_ms, "block_ms": block_ms,
        "segment_bytes": geometry.segment_bytes, "pid_namespace": pid_namespace, "time_namespace": time_namespace,
        "uid": os.geteuid(), "clock_kind": clock[0], "clock_cycles": clock[1], "clock_monotonic_ns": clock[2],
        "clock_realtime_ns": clock[3], "session_pid": session[0], "session_start": session[1],
        "recording": mode == layout.MODE_OVERWRITE,  # nobody needs to read
        **{field: getattr(geometry, field) for field in Geometry.__slots__},
    }  # fmt: skip
    control = bytearray(layout.CONTROL_BYTES)
    for field, value in numbers.items():
        at, width = layout.fields_of(CONTROL)[field], layout.width_of(CONTROL, field)
        control[at : at + width] = value.to_bytes(width, "little")
    control[CONTROL.uuid : CONTROL.uuid + 16] = uuids.uuid4().bytes
    control[CONTROL.boot_id : CONTROL.boot_id + 16] = boot_id()
    control[CONTROL.fifo : CONTROL.fifo + len(path)] = path
    lane = bytearray(layout.LANE_BYTES)
    for at in (LANE.position, LANE.progress, LANE.note):
        lane[at : at + 8] = layout.NO_PAGE_POSITION.to_bytes(8, "little")

    with names_locked(), ExitStack() as undo:
        _look_for_squatters(name, fifo)
        file = _allocate(name, geometry)
        undo.callback(os.close, file)
        os.pwrite(file, control, 0)
        os.pwrite(file, bytes(lane) * geometry.lanes, geometry.lanes_at)
        if mode != layout.MODE_OVERWRITE:
            _make_fifo(fifo)
            undo.callback(os.unlink, fifo)
        for which, value in zip(LIST_NAMES, (0, geometry.pages), strict=True):
            _make_semaphore(name, which, value)
            undo.callback(os.unlink, semaphore_path(name, which))
        try:
            # with a directory's descriptor os.link is linkat, which follows the link; link itself does not
            os.link(f"/proc/self/fd/{file}", segment_path(name), src_dir_fd=file, follow_symlinks=True)
        except FileExistsError:
            raise ChannelExists(f"the channel {name!r} exists already") from None
        except FileNotFoundError:
            raise SharedMemoryUnavailable(f"the channel {name!r} cannot be named: /proc is not there") from None
        undo.pop_all()
        inode = os.fstat(file).st_ino
        os.close(file)
        return inode


def _make_fifo(fifo: Path) -> None:
    try:
        os.mkfifo(fifo, 0o600)
        os.chmod(fifo, 0o600)  # whatever the umask
    except OSError as error:
        raise RuntimeDirectoryError(error.errno, f"the FIFO {fifo} cannot be made: {error.strerror}") from None


def _make_semaphore(name: str, which: str, value: int) -> None:
    import posix_ipc

    try:
        posix_ipc.Semaphore(f"{object_name(name)}.{which}", posix_ipc.O_CREX, mode=0o600, initial_value=value).close()
        os.chmod(semaphore_path(name, which), 0o600)
    except (OSError, posix_ipc.Error) as error:
        raise NotEnoughSharedMemory(
            f"the semaphore {semaphore_path(name, which)} of channel {name!r} cannot be made: {error}"
        ) from None


def _look_for_squatters(name: str, fifo: Path) -> None:
    """Nothing may lie under the names yet; what a creator that was killed left behind is ours, and is taken away."""
    path = segment_path(name)
    if os.path.lexists(path):
        if os.lstat(path).st_uid != os.geteuid():
            raise foreign_channel(name, path)
        raise ChannelExists(
            f"the channel {name!r} exists already: open it, or remove it first with 'shmtrace remove {name}'"
        )
    for which in LIST_NAMES:
        path = semaphore_path(name, which)
        if os.path.lexists(path) and os.lstat(path).st_uid != os.geteuid():
            raise foreign_channel(name, path)
    if os.path.lexists(fifo) and not stat.S_ISFIFO(fifo.lstat().st_mode):
        raise RuntimeDirectoryError(f"{fifo} is in the way of the channel's FIFO: remove it")
    unlink_objects(name, fifo, with_segment=False)


def _allocate(name: str, geometry: Geometry) -> int:
    """A file without a name in shared memory, its space really allocated."""
    size = geometry.segment_bytes
    try:
        file = os.open(segment.MEMORY, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SharedMemoryUnavailable(
            error.errno,
            f"{segment.MEMORY} cannot be used as shared memory ({error.strerror}): the channel {name!r} needs it",
        ) from None
    try:
        os.fchmod(file, 0o600)
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        os.close(file)
        if error.errno == errno.EFBIG:
            import resource

            limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
            raise NotEnoughSharedMemory(
                f"the channel {name!r} needs {size:,} bytes of shared memory and this process may make files of at "
                f"most {limit:,} ('ulimit -f'): choose fewer or smaller pages"
            ) from None
        if error.errno in (errno.ENOSPC, errno.ENOMEM):
            raise NotEnoughSharedMemory(
                f"the channel {name!r} needs {size:,} bytes of shared memory and {segment.MEMORY} has "
                f"{free_memory():,} free: choose fewer or smaller pages"
            ) from None
        raise
    return file


def free_memory() -> int:
    """Bytes free in shared memory."""
    try:
        status = os.statvfs(segment.MEMORY)
    except OSError as error:
        raise SharedMemoryUnavailable(
            error.errno, f"there is no shared memory in {segment.MEMORY}: {error.strerror}"
        ) from None
    return status.f_bavail * status.f_frsize


def unlink_objects(name: str, fifo: Path | str, *, with_segment: bool = True) -> None:
    """Take the names away, the segment's last; whoever has the objects open keeps them.

    A `cat` that still waits in open() for the FIFO's other end would wait for ever: it gets an end, and with it EOF.
    The FIFO's path was read from the segment, where anything may stand: whatever is no FIFO is left alone.
    """
    if _is_fifo(fifo):
        end = -1
        with suppress(OSError):
            end = os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with suppress(OSError):
            os.unlink(fifo)
        if end >= 0:
            os.close(end)
    for which in LIST_NAMES:
        with suppress(OSError):
            os.unlink(semaphore_path(name, which))
    if with_segment:
        with suppress(OSError):
            os.unlink(segment_path(name))


def _is_fifo(path: Path | str) -> bool:
    try:
        return stat.S_ISFIFO(os.lstat(path).st_mode)
    except OSError:
        return False
