"""Who a process is and whether it lives: pid and start time, as the kernel tells them."""

from __future__ import annotations

import os

from .layout import (
    IDENTITY_ENDED,
    IDENTITY_PID_BITS,
    OWNER_PID_MASK,
    OWNER_PID_SHIFT,
    OWNER_START_MASK,
    OWNER_START_SHIFT,
)


def start_ticks(pid: int | str = "self", tid: int | None = None) -> int | None:
    """Start time of a process (or of one of its threads) in clock ticks since boot; None if there is none."""
    fields = _stat(pid, tid)
    return None if fields is None else int(fields[19])


def is_dead(pid: int, start: int, start_mask: int = -1) -> bool:
    """True if no thread of the process (pid, start time) is left.

    A pid that is in use by a process that started at another time is dead; a zombie leader whose threads still run is
    not.  What cannot be read counts as alive.  Pid 0 stands for a process of another pid or time namespace, of which
    nobody can say.
    """
    if pid == 0:
        return False
    try:
        file = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except OSError:  # no such call, no descriptor left, or the number of a thread
        return _is_gone(pid, start, start_mask)
    import select

    try:
        # The descriptor is of one process, whatever becomes of the number: if that ended, poll says so.
        fields = _stat(pid)
        if fields is not None and int(fields[19]) & start_mask != start & start_mask:
            return True
        poll = select.poll()
        poll.register(file, select.POLLIN)  # readable once the last thread has ended
        return bool(poll.poll(0))
    finally:
        os.close(file)


def _is_gone(pid: int, start: int, start_mask: int) -> bool:
    """As `is_dead`, where there is no pidfd."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    fields = _stat(pid)
    if fields is None:  # hidden (hidepid), no /proc, no descriptor left; kill said that it is there
        return False
    if int(fields[19]) & start_mask != start & start_mask:
        return True
    return _has_ended(fields) and _threads_have_ended(pid)


def is_owner_dead(owner: int) -> bool:
    """True if the process is dead that a lane's owner word names."""
    pid = owner >> OWNER_PID_SHIFT & OWNER_PID_MASK
    return is_dead(pid, owner >> OWNER_START_SHIFT, OWNER_START_MASK)


def is_writer_gone(identity: int) -> bool:
    """True if the thread has ended, or its process, that an entry of the writer table stands for."""
    if identity == 0 or identity & IDENTITY_ENDED:
        return identity != 0
    return is_dead(identity & (1 << IDENTITY_PID_BITS) - 1, identity >> IDENTITY_PID_BITS)


def has_left(pid: int, device: int, inode: int) -> bool:
    """True if a living process does not map the file: it has become another program by `exec`, as mappings stay.

    What cannot be read says nothing.
    """
    files = mapped_files(pid)
    return bool(files) and file_mark(device, inode) not in files


def mapped_files(pid: int) -> frozenset[bytes]:
    """The marks of all that a process maps; empty if that cannot be read."""
    try:
        with open(f"/proc/{pid}/maps", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return frozenset()
    return frozenset(b" ".join(line.split(maxsplit=5)[3:5]) for line in lines)


def file_mark(device: int, inode: int) -> bytes:
    """Device and inode as the table of a process' mappings has them."""
    return f"{os.major(device):02x}:{os.minor(device):02x} {inode}".encode()


def _has_ended(fields: list[str]) -> bool:
    return fields[0] in ("Z", "X")


def _threads_have_ended(pid: int) -> bool:
    try:
        threads = [_stat(pid, int(tid)) for tid in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return False
    return all(thread is not None and _has_ended(thread) for thread in threads)


def namespaces() -> tuple[int, int]:
    """Inode numbers of this process' pid and time namespaces; 0 where the kernel does not tell."""
    found = []
    for kind in ("pid", "time"):
        try:
            found.append(os.stat(f"/proc/self/ns/{kind}").st_ino)
        except OSError:
            found.append(0)
    return found[0], found[1]


def boot_id() -> bytes:
    """The 16 bytes that tell this boot from any other; zeros where the kernel does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return bytes.fromhex(file.read().strip().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)


def _stat(pid: int | str, tid: int | None = None) -> list[str] | None:
    """The words of a `stat` file from the third (the state) on; the name ahead of it may hold anything."""
    path = f"/proc/{pid}/stat" if tid is None else f"/proc/{pid}/task/{tid}/stat"
    try:
        with open(path, "rb") as file:
            return file.read().rpartition(b")")[2].decode().split()
    except OSError:
        return None
