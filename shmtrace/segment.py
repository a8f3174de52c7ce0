"""A channel's objects in the system, as they are opened: the segment and its two semaphores.

Everything that is found is looked at before it is used: owner, mode, kind, size; no symbolic link is followed.  (They
are made by `creation`.)  Every producer imports this, so it imports little.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from . import layout
from .errors import (
    ChannelForeign,
    ChannelIncompatible,
    ChannelNotFound,
    ChannelNotStreamed,
    ChannelRemoved,
    InvalidName,
    SharedMemoryUnavailable,
)
from .layout import CONTROL, CPU, LANE, PAGE, TOTALS, WRITER, Geometry
from .native.loader import libc, map_memory
from .process import boot_id, namespaces

MEMORY = "/dev/shm"  # noqa: S108  (what lies there is looked at)
NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
NAME_LIMIT = 64
PUNCH_HOLE = 0x02 | 0x01  # FALLOC_FL_PUNCH_HOLE and FALLOC_FL_KEEP_SIZE

libc.sem_open.restype = ctypes.c_void_p
libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
libc.sem_getvalue.argtypes = (ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))
libc.sem_post.argtypes = libc.sem_close.argtypes = (ctypes.c_void_p,)


def check_name(name: str) -> str:
    """The name, if a channel can have it; else InvalidName."""
    if not _is_name(name):
        raise InvalidName(
            f"{name!r} is no channel name: 1 to 64 letters, digits, '_', '.' and '-', not beginning with '.' or '-'"
        )
    return name


def _is_name(name: str) -> bool:
    return 0 < len(name) <= NAME_LIMIT and name[0] not in ".-" and NAME_CHARACTERS.issuperset(name)


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
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


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
        self.uid = status.st_uid
        self.uuid = self.read(CONTROL.uuid, 16)
        self.mode = self.u32(CONTROL.mode)
        self.fifo = os.fsdecode(self.text(CONTROL.fifo, layout.width_of(CONTROL, "fifo")))

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
        return self.mode != layout.MODE_OVERWRITE

    @property
    def clock_kind(self) -> int:
        """The clock of the stamps; if what stands there is none, the one that the creator will have chosen."""
        kind = self.u32(CONTROL.clock_kind)
        if kind in (layout.CLOCK_TSC, layout.CLOCK_MONOTONIC):
            return kind
        from .clock import choose_clock

        return choose_clock()

    @property
    def is_foreign(self) -> bool:
        """The channel is of another pid or time namespace: from here none of its processes can be judged."""
        return namespaces() != (self.u64(CONTROL.pid_namespace), self.u64(CONTROL.time_namespace))

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
    path = segment_path(name)
    try:
        private = is_private(os.lstat(path))
        # as shm_open does it; a worker does not wait for the import of posix_ipc
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC) if private else -1
    except FileNotFoundError:
        raise ChannelNotFound(f"there is no channel {name!r}: make it with 'shmtrace create {name}'") from None
    except OSError as error:  # the process has no descriptor left, for one
        raise SharedMemoryUnavailable(f"the channel {name!r} cannot be opened: {error}") from None
    if not private:
        raise foreign_channel(name, path)
    return file


def is_private(status: os.stat_result) -> bool:
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


def channels_elsewhere(name: str) -> list[int]:
    """Other users (uid) who have a channel of that name, as far as names in shared memory tell."""
    own, found = os.geteuid(), []
    for entry in os.listdir(MEMORY):
        kind, _, rest = entry.partition(".")
        uid, _, named = rest.partition(".")
        if kind == "shmtrace" and named == name and uid.isdecimal() and int(uid) != own:
            found.append(int(uid))
    return found


def _check_segment(name: str, file: int) -> Geometry:
    """The geometry of a segment that is ours and whole."""
    status = os.fstat(file)
    if not is_private(status):
        raise foreign_channel(name, segment_path(name))
    head = os.pread(file, layout.CONTROL_BYTES, 0)
    if len(head) < layout.CONTROL_BYTES or int.from_bytes(head[:8], "little") != layout.MAGIC:
        raise ChannelIncompatible(f"{segment_path(name)} holds no channel: remove it with 'shmtrace remove {name}'")

    def number(field: str) -> int:
        at = getattr(CONTROL, field)
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
    wrong = geometry.check() or geometry.check_mode(number("mode"))
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
    if not is_private(status):
        raise foreign_channel(name, path)
    address: int | None = libc.sem_open(f"{object_name(name)}.{which}".encode(), 0)
    if not address:
        if ctypes.get_errno() == errno.ENOENT:
            raise ChannelRemoved(f"the channel {name!r} was removed just now")
        raise ChannelIncompatible(f"the semaphore {path} cannot be opened: {os.strerror(ctypes.get_errno())}")
    return address


def channel_names() -> list[str]:
    """Names of this user's channels.  What others put under such names, or is no such name, is none of them."""
    prefix = object_name("")[1:]
    try:
        entries = os.listdir(MEMORY)
    except OSError:
        return []
    names = (entry[len(prefix) :] for entry in entries if entry.startswith(prefix))
    return sorted(name for name in names if _is_name(name) and _is_ours(segment_path(name)))


def _is_ours(path: str) -> bool:
    try:
        return os.lstat(path).st_uid == os.geteuid()
    except OSError:  # it was removed just now
        return False
