"""A channel's objects in the system: the segment, its two semaphores, the FIFO, the runtime directory.

A segment appears under its name whole or not at all: it is made without a name, filled, and linked last.  Making and
removing are serialised by a lock, one a user.  Everything that is found is looked at before it is used:
owner, mode, kind, size; no symbolic link is followed.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import pwd
import re
import stat
import time
import uuid as uuids
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from . import layout
from .errors import (
    ChannelError,
    ChannelExists,
    ChannelForeign,
    ChannelIncompatible,
    ChannelNotFound,
    ChannelNotStreamed,
    ChannelRemoved,
    InvalidGeometry,
    InvalidName,
    NotEnoughSharedMemory,
    RuntimeDirectoryError,
    SharedMemoryUnavailable,
)
from .layout import CONTROL, CPU, LANE, PAGE, TOTALS, WRITER, Geometry
from .native.loader import libc, map_memory
from .process import boot_id, namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY = "/dev/shm"  # noqa: S108  (what lies there is looked at)
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
LIST_NAMES = ("full", "waiting")
PUNCH_HOLE = 0x02 | 0x01  # FALLOC_FL_PUNCH_HOLE and FALLOC_FL_KEEP_SIZE
LOCK_LIMIT_S = 30.0  # to allocate all the memory of a large machine takes less

libc.sem_open.restype = ctypes.c_void_p
libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
libc.sem_getvalue.argtypes = (ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))
libc.sem_post.argtypes = libc.sem_close.argtypes = (ctypes.c_void_p,)


def check_name(name: str) -> str:
    """The name, if a channel can have it; else InvalidName."""
    if not NAME.fullmatch(name):
        raise InvalidName(
            f"{name!r} is no channel name: 1 to 64 letters, digits, '_', '.' and '-', not beginning with '.' or '-'"
        )
    return name


def object_name(name: str) -> str:
    """The segment's name; the semaphores have it too, with .full and .waiting."""
    return f"/shmtrace.{os.geteuid()}.{name}"


def segment_path(name: str) -> str:
    """Where glibc keeps a shared memory object."""
    return MEMORY + object_name(name)


def semaphore_path(name: str, which: str) -> str:
    """Where glibc keeps a named semaphore."""
    return f"{MEMORY}/sem.{object_name(name)[1:]}.{which}"


def user_name(uid: int) -> str:
    """The name of a user, or the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


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
def locked(path: Path | str) -> Iterator[None]:
    """Hold the lock of a file, which the kernel gives back when its holder dies.  Raises ChannelError."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _take_lock(file, path)
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)  # a child forked meanwhile has the descriptor, too
        os.close(file)


@contextmanager
def names_locked() -> Iterator[None]:
    """Hold the lock under which this user's channels are made and removed.

    It is one a user, wherever the runtime directory is, so it lies in shared memory, in a file that is there only while
    somebody holds or wants the lock.
    """
    path = f"{MEMORY}/.shmtrace.{os.geteuid()}"
    while True:
        file = _open_names_lock(path)
        try:
            _take_lock(file, path)
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
            if not _is_private(os.lstat(path)):
                raise _foreign_names_lock(path) from None
        raise SharedMemoryUnavailable(
            error.errno, f"{path} cannot be locked ({error.strerror}): channels cannot be made or removed"
        ) from None
    status = os.fstat(file)
    if not _is_private(status) or status.st_nlink > 1:
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


def _take_lock(file: int, path: Path | str) -> None:
    """Raises ChannelError when the holder, who may be stopped, keeps it for too long."""
    limit = time.monotonic() + LOCK_LIMIT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > limit:
                raise ChannelError(
                    f"another process of yours has held the lock {path} for {LOCK_LIMIT_S:g} s and may be stopped: "
                    f"'fuser {path}' names it"
                ) from None
            time.sleep(0.005)
        else:
            return


class Segment:
    """A mapped segment.  Numbers are read and written whole, at offsets of the tables in `layout`."""

    def __init__(self, name: str, file: int, geometry: Geometry) -> None:
        self.name = name
        self.geometry = geometry
        self.file = file
        try:
            self.address = map_memory(geometry.segment_bytes, file)
        except OSError as error:
            raise SharedMemoryUnavailable(
                f"the channel {name!r} has {geometry.segment_bytes:,} bytes and cannot be mapped: "
                f"{os.strerror(error.errno or 0)}"
            ) from None
        status = os.fstat(file)
        self.identity = (status.st_dev, status.st_ino)
        self.uuid = self.read(CONTROL.uuid, 16)
        self.fifo = Path(os.fsdecode(self.text(CONTROL.fifo, layout.width_of(CONTROL, "fifo"))))

    def close(self) -> None:
        """Give the descriptor back.  The mapping stays: producers may write as long as the process lives."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    def unmap(self) -> None:
        """Give the mapping back as well; only for who knows that nobody in this process writes."""
        self.close()
        libc.munmap(self.address, self.geometry.segment_bytes)
        self.address = 0

    def open_lock(self) -> int:
        """A descriptor of the segment under whose `flock` lanes are given back: the collector's, for its life.

        Raises OSError if the name is gone, or is another channel's now.
        """
        file = os.open(segment_path(self.name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        status = os.fstat(file)
        if (status.st_dev, status.st_ino) != self.identity:
            os.close(file)
            raise FileNotFoundError(errno.ENOENT, f"the channel {self.name!r} was removed")
        return file

    def release_pages(self) -> None:
        """Give the memory of a removed channel's pages back; those who have it mapped keep the mapping.

        Only if no lane is taken: a producer that is stopped in the middle of an event will still write into its page.
        """
        lanes = (self.lane_at(lane) for lane in range(self.geometry.lanes))
        if all(self.u64(at + LANE.owner) == 0 for at in lanes):
            begin = self.geometry.pages_at
            libc.fallocate(self.file, PUNCH_HOLE, begin, self.geometry.segment_bytes - begin)

    def u32(self, at: int) -> int:
        return ctypes.c_uint32.from_address(self.address + at).value

    def u64(self, at: int) -> int:
        return ctypes.c_uint64.from_address(self.address + at).value

    def set_u32(self, at: int, value: int) -> None:
        ctypes.c_uint32.from_address(self.address + at).value = value

    def set_u64(self, at: int, value: int) -> None:
        ctypes.c_uint64.from_address(self.address + at).value = value

    def read(self, at: int, size: int) -> bytes:
        return ctypes.string_at(self.address + at, size)

    def write(self, at: int, data: bytes) -> None:
        ctypes.memmove(self.address + at, data, len(data))

    def text(self, at: int, size: int) -> bytes:
        """A field that is ended by NUL."""
        return self.read(at, size).partition(b"\0")[0]

    def lane_at(self, lane: int) -> int:
        return self.geometry.lanes_at + lane * layout.LANE_BYTES

    @property
    def is_streamed(self) -> bool:
        """The channel has a FIFO and may have a collector."""
        return self.u32(CONTROL.mode) != layout.MODE_OVERWRITE

    def totals(self, lane: int) -> dict[str, int]:
        """The valid slot of a lane's totals."""
        at = self.lane_at(lane)
        word = self.u64(at + (LANE.progress if self.is_streamed else LANE.position))
        slot = at + LANE.totals + (word >> layout.SEQUENCE_SHIFT & 1) * layout.TOTALS_BYTES
        return {field: self.u64(slot + offset) for field, offset in layout.fields_of(TOTALS).items()}

    def delivered(self) -> int:
        """Records that left through the FIFO."""
        return sum(self.totals(lane)["delivered"] for lane in range(self.geometry.lanes))

    def missed(self) -> dict[str, int]:
        """Records refused since the channel was made, by reason."""
        lanes = [self.lane_at(lane) for lane in range(self.geometry.lanes)]
        cpus = [self.geometry.cpus_at + cpu * layout.LINE_BYTES for cpu in range(self.geometry.cpus)]
        return {
            "no_page": sum(self.u64(at + LANE.missed_no_page) for at in lanes),
            "timeout": sum(self.u64(at + CPU.missed_timeout) for at in cpus),
            "no_lane": sum(self.u64(at + CPU.missed_no_lane) for at in cpus),
            "bad_arguments": sum(self.u64(at + CPU.missed_bad_arguments) for at in cpus),
        }

    def missed_in(self, lane: int) -> int:
        """Records refused since the channel was made that are told in a lane's stream: see native/words.py."""
        cpu, number = divmod(lane, self.geometry.lanes_per_cpu)
        missed = self.u64(self.lane_at(lane) + LANE.missed_no_page)
        if number == 0:
            line = self.geometry.cpus_at + cpu * layout.LINE_BYTES
            missed += sum(self.u64(line + at) for at in layout.fields_of(CPU).values())
        return missed

    def is_table_full(self) -> bool:
        """No number is left for another writer."""
        numbers = range(1, self.geometry.writers)
        return all(self.u64(self.geometry.writers_at + n * layout.WRITER_BYTES + WRITER.identity) for n in numbers)

    def waiting_pages(self) -> int:
        owners = (self.geometry.descriptors_at + page * layout.PAGE_BYTES for page in range(self.geometry.pages))
        return sum(self.u64(at + PAGE.owner) == 0 for at in owners)


def open_segment(name: str) -> Segment:
    """Map a channel's segment.

    Raises ChannelNotFound, ChannelForeign, ChannelIncompatible, ChannelRemoved, and SharedMemoryUnavailable if the
    process cannot open or map anything more.
    """
    check_name(name)
    file = _open_file(name)
    try:
        geometry = _check_segment(name, file)
        segment = Segment(name, file, geometry)
    except BaseException:
        os.close(file)
        raise
    if segment.u32(CONTROL.removed):
        segment.unmap()
        raise ChannelRemoved(f"the channel {name!r} was removed just now")
    return segment


def open_streamed(name: str) -> Segment:
    """As `open_segment`, for who wants the stream.  Raises ChannelNotStreamed for a flight recorder as well."""
    segment = open_segment(name)
    if segment.is_streamed:
        return segment
    segment.unmap()
    raise ChannelNotStreamed(
        f"the channel {name!r} is a flight recorder (mode overwrite), which has no FIFO and no stream: "
        f"take what is in it with 'shmtrace snapshot {name} -o DIR'"
    )


def _open_file(name: str) -> int:
    """The segment's descriptor.  Looked at first: the owner of a file can hold up those who open it."""
    import posix_ipc

    path = segment_path(name)
    try:
        private = _is_private(os.lstat(path))
        file: int = posix_ipc.SharedMemory(object_name(name)).fd if private else -1
    except (FileNotFoundError, posix_ipc.ExistentialError):
        raise ChannelNotFound(f"there is no channel {name!r}: make it with 'shmtrace create {name}'") from None
    except (posix_ipc.Error, OSError) as error:  # the process has no descriptor left, for one
        raise SharedMemoryUnavailable(f"the channel {name!r} cannot be opened: {error}") from None
    if not private:
        raise foreign_channel(name, path)
    return file


def _is_private(status: os.stat_result) -> bool:
    """A regular file of ours that nobody else can open."""
    return status.st_uid == os.geteuid() and stat.S_ISREG(status.st_mode) and not status.st_mode & 0o077


def foreign_channel(name: str, path: str) -> ChannelForeign:
    """The error for an object that belongs to somebody else, naming the owner."""
    try:
        status = os.lstat(path)
    except OSError:
        owner = "another user"
    else:
        if status.st_uid == os.geteuid():
            return ChannelForeign(f"{path} is not what shmtrace makes ({stat.filemode(status.st_mode)}): remove it")
        owner = user_name(status.st_uid)
    return ChannelForeign(
        f"{path} belongs to {owner}, not to you: the channel {name!r} cannot be used; choose another name"
    )


def _check_segment(name: str, file: int) -> Geometry:
    """The geometry of a segment that is ours and whole."""
    status = os.fstat(file)
    if not _is_private(status):
        raise foreign_channel(name, segment_path(name))
    head = os.pread(file, layout.CONTROL_BYTES, 0)
    if len(head) < layout.CONTROL_BYTES or int.from_bytes(head[:8], "little") != layout.MAGIC:
        raise ChannelIncompatible(f"{segment_path(name)} holds no channel: remove it with 'shmtrace remove {name}'")

    def number(field: str) -> int:
        at = layout.fields_of(CONTROL)[field]
        return int.from_bytes(head[at : at + layout.width_of(CONTROL, field)], "little")

    if number("version") != layout.VERSION:
        raise ChannelIncompatible(
            f"the channel {name!r} has layout version {number('version')} and this shmtrace writes {layout.VERSION}: "
            f"use the same version, or remove the channel"
        )
    boot = boot_id()
    if not any(boot):
        raise SharedMemoryUnavailable(f"whether the channel {name!r} is of this boot cannot be read from /proc")
    if head[CONTROL.boot_id : CONTROL.boot_id + 16] != boot:
        raise ChannelIncompatible(f"the channel {name!r} is of another boot: 'shmtrace remove {name}'")
    fifo = head[CONTROL.fifo : CONTROL.fifo + layout.width_of(CONTROL, "fifo")].partition(b"\0")[0]
    if os.path.basename(fifo) != os.fsencode(name):  # others can give our files further names
        raise ChannelIncompatible(f"{segment_path(name)} is not the channel {name!r}, its FIFO is {fifo!r}: remove it")
    geometry = Geometry(**{field: number(field) for field in Geometry.__slots__})
    wrong = geometry.check()
    if wrong or number("segment_bytes") != geometry.segment_bytes or status.st_size != geometry.segment_bytes:
        raise ChannelIncompatible(f"the channel {name!r} is damaged ({wrong or 'its size is wrong'}): remove it")
    return geometry


def open_semaphore(name: str, which: str) -> int:
    """Address of a semaphore (sem_t).  sem_open checks neither owner nor mode, so look first."""
    path = semaphore_path(name, which)
    try:
        status = os.lstat(path)
    except OSError:
        raise ChannelRemoved(f"the channel {name!r} has lost {path}: remove it and make it anew") from None
    if not _is_private(status):
        raise foreign_channel(name, path)
    address: int | None = libc.sem_open(f"{object_name(name)}.{which}".encode(), 0)
    if not address:
        if ctypes.get_errno() == errno.ENOENT:
            raise ChannelRemoved(f"the channel {name!r} was removed just now")
        raise ChannelIncompatible(f"the semaphore {path} cannot be opened: {os.strerror(ctypes.get_errno())}")
    return address


def create_segment(
    name: str, geometry: Geometry, *, mode: int, flush_ms: int, block_ms: int, clock: tuple[int, int, int, int],
    session: tuple[int, int],
) -> None:  # fmt: skip
    """Make a channel's objects; `clock` is kind, cycles, monotonic ns, realtime ns.  Raises as create_channel does."""
    check_name(name)
    wrong = geometry.check()
    if not wrong and mode == layout.MODE_OVERWRITE and geometry.pages < geometry.least_pages_in_rings:
        wrong = (
            f"{geometry.pages} pages: the mode overwrite needs at least {geometry.least_pages_in_rings} on this "
            f"machine, as each of {geometry.lanes} lanes has a ring of its own"
        )
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
        os.close(file)


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
    unlink_objects(name, fifo, segment=False)


def _allocate(name: str, geometry: Geometry) -> int:
    """A file without a name in shared memory, its space really allocated."""
    size = geometry.segment_bytes
    try:
        file = os.open(MEMORY, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SharedMemoryUnavailable(
            error.errno, f"{MEMORY} cannot be used as shared memory ({error.strerror}): the channel {name!r} needs it"
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
                f"the channel {name!r} needs {size:,} bytes of shared memory and {MEMORY} has {free_memory():,} free: "
                f"choose fewer or smaller pages"
            ) from None
        raise
    return file


def free_memory() -> int:
    """Bytes free in shared memory."""
    try:
        status = os.statvfs(MEMORY)
    except OSError as error:
        raise SharedMemoryUnavailable(error.errno, f"there is no shared memory in {MEMORY}: {error.strerror}") from None
    return status.f_bavail * status.f_frsize


def unlink_objects(name: str, fifo: Path, *, segment: bool = True) -> None:
    """Take the names away, the segment's last; whoever has the objects open keeps them.

    A `cat` that still waits in open() for the FIFO's other end would wait for ever: it gets an end, and with it EOF.
    The FIFO's path was read from the segment, where anything may stand: whatever is no FIFO is left alone.
    """
    if _is_fifo(fifo):
        end = -1
        with suppress(OSError):
            end = os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with suppress(OSError):
            fifo.unlink()
        if end >= 0:
            os.close(end)
    for which in LIST_NAMES:
        with suppress(OSError):
            os.unlink(semaphore_path(name, which))
    if segment:
        with suppress(OSError):
            os.unlink(segment_path(name))


def _is_fifo(path: Path) -> bool:
    try:
        return stat.S_ISFIFO(path.lstat().st_mode)
    except OSError:
        return False


def channel_names() -> list[str]:
    """Names of this user's channels.  What others put under such names, or is no such name, is none of them."""
    prefix = object_name("")[1:]
    try:
        entries = os.listdir(MEMORY)
    except OSError:
        return []
    names = (entry[len(prefix) :] for entry in entries if entry.startswith(prefix))
    return sorted(name for name in names if NAME.fullmatch(name) and _is_ours(segment_path(name)))


def _is_ours(path: str) -> bool:
    try:
        return os.lstat(path).st_uid == os.geteuid()
    except OSError:  # it was removed just now
        return False
