"""The jitted core: compiled once, kept as object code, placed in every process that writes events.

`functions("producer")` and `functions("collector")` give the addresses of the C functions.  numba is imported only when
no good object code is in the cache.  The cache is a directory that belongs to the user alone; a file's name is a digest
of everything that shapes the code, and its contents are checked against a digest of their own.
"""

from __future__ import annotations

import _imp
import os
import stat
import sys

from ..notes import say
from ..section import COMPILE, Section
from . import loader
from .loader import ObjectCodeError, load

UNITS = {
    "producer": ("entry", "PRODUCER"),
    "typed": ("typed", "TYPED_ENTRIES"),
    "hooks": ("hooks", "HOOKS_ENTRIES"),
    "kernel": ("kernel", "KERNEL_ENTRIES"),
    "collector": ("collect", "COLLECTOR_ENTRIES"),
    "reader": ("reading", "READER_ENTRIES"),
    "json": ("showing", "JSON_ENTRIES"),
}
CPU_VARIABLES = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")  # of numba: compile for another cpu than this one
DIGEST_BYTES = 8
TURN_LIMIT_S = 120.0  # whoever compiles for longer is stopped

_loaded: dict[str, dict[str, int]] = {}
_compiling: list[str] = []


def functions(unit: str) -> dict[str, int]:
    """Addresses of a unit's functions, by name, in this process."""
    if not is_ready(unit):
        with Section(COMPILE):
            _compile(unit)
    return _loaded[unit]


def is_ready(unit: str) -> bool:
    """True if `functions` has the unit without compiling it."""
    if unit not in _loaded and (found := _from_cache(unit)) is not None:
        _loaded[unit] = found
    return unit in _loaded


def is_compiling() -> bool:
    """True while this process compiles for us."""
    return bool(_compiling)


def warmup() -> str | None:
    """Compile what is not in the cache yet; the cache's directory, or None where there can be none."""
    for unit in UNITS:
        functions(unit)
    return cache_directory()


def cache_directory() -> str | None:
    """$SHMTRACE_CACHE, else shmtrace in the user's cache; None if others could write there or it cannot be made."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = os.environ.get("SHMTRACE_CACHE") or os.path.join(base, "shmtrace")
    try:
        if not os.path.isdir(path):
            os.makedirs(path, mode=0o700, exist_ok=True)
        status = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISDIR(status.st_mode) or not _is_private(status):
        return None
    return path


def _is_private(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def code_key(unit: str) -> str:
    """A digest of all that shapes the code: our sources, the interpreter, the compiler, the cpu.  Raises OSError."""
    chosen = tuple(map(os.environ.get, CPU_VARIABLES))
    parts = [repr((unit, bool(loader.hooks), sys.version, sys.abiflags, object.__basicsize__, chosen)).encode()]
    parts.append(_digest_of_sources())
    for compiler in ("numba", "llvmlite"):
        # as an import would find it, without asking every finder
        versions = (os.path.join(entry, compiler, "_version.py") for entry in sys.path)
        found = next(filter(os.path.isfile, versions), None)
        if found is not None:
            parts.append(_read(found))
    lines = _read("/proc/cpuinfo", 8192).split(b"\n\n")[0].split(b"\n")
    parts += [line for line in lines if line.startswith((b"flags", b"model name", b"Features"))]
    return _digest("", b"".join(parts)).hex()


def _digest_of_sources() -> bytes:
    """Kept in the cache, under what stat says of the sources: to read them takes a worker as long as all the rest."""
    here = os.path.dirname(__file__)
    above = os.path.dirname(here)
    paths = [os.path.join(here, name) for name in os.listdir(here) if name.endswith(".py")]
    paths += [os.path.join(above, name) for name in ("layout.py", "wire.py", "encoding.py")]
    paths.sort()
    looks = here
    for path in paths:
        status = os.stat(path)
        looks += f" {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
    key = f"sources-{_digest('', looks.encode()).hex()}"
    directory = cache_directory()
    kept = _kept(directory, key) if directory is not None else None
    if kept is not None:
        return kept
    digest = _digest("", b"".join(map(_read, paths)))
    if directory is not None:
        _store(os.path.join(directory, key), _digest(key, digest) + digest)
    return digest


def _read(path: str, size: int = 0) -> bytes:
    """A file, or so much of one whose size the kernel does not tell."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, size or os.fstat(file).st_size)
    finally:
        os.close(file)


def _kept(directory: str, key: str, suffix: str = "") -> bytes | None:
    """What the cache keeps under this key; None if that is nothing, or damaged, or others could have written it."""
    try:
        file = os.open(os.path.join(directory, key + suffix), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or not _is_private(status):
            return None
        contents = os.read(file, status.st_size)
    except OSError:
        return None
    finally:
        os.close(file)
    kept = contents[DIGEST_BYTES:]
    return kept if _digest(key, kept) == contents[:DIGEST_BYTES] else None


def _from_cache(unit: str) -> dict[str, int] | None:
    directory = cache_directory()
    if directory is None:
        return None
    try:
        code = _kept(directory, f"{unit}-{code_key(unit)}", ".o")
        return load(code) if code is not None else None
    except (ObjectCodeError, OSError, MemoryError):
        return None


def _digest(key: str, code: bytes) -> bytes:
    """Covers the key, too: good code of another unit or another version is not good here.

    It tells damage, not malice: nobody else can write into the cache.  The hash is the interpreter's own of sources
    (importlib.util.source_hash), which is at hand at once; to load OpenSSL takes as long as half of attaching.
    """
    return _imp.source_hash(0, key.encode() + code)


def _compile(unit: str) -> None:
    """Compile, unless another process does so at this moment: of fifty workers that start at once, one compiles."""
    directory = cache_directory()
    lock = _take_turn(directory) if directory is not None else -1
    try:
        if lock >= 0 and is_ready(unit):
            return
        from importlib import import_module

        from .compiler import compile_object
        from .objects import KNOWN, VERSION

        if unit == "producer" and VERSION not in KNOWN:
            say("this shmtrace does not know this version of Python: it asks where it would look, which is slower")
        module, entries = UNITS[unit]
        _compiling.append(unit)
        try:
            code = compile_object(getattr(import_module(f"{__name__}.{module}"), entries))
        finally:
            _compiling.pop()
        key = f"{unit}-{code_key(unit)}"
        if directory is None or not _store(os.path.join(directory, f"{key}.o"), _digest(key, code) + code):
            say(
                "compiled code cannot be kept, so each process that begins to trace compiles for some seconds: set "
                "SHMTRACE_CACHE to a directory that nobody else can write to"
            )
        _loaded[unit] = load(code)
    finally:
        if lock >= 0:
            os.close(lock)


def _take_turn(directory: str) -> int:
    """A descriptor that holds the cache's lock; -1 if it cannot be had, then there is nothing to wait for."""
    import fcntl
    import time

    try:
        file = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
    limit = time.monotonic() + TURN_LIMIT_S
    while time.monotonic() < limit:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        except OSError:  # a file system without locks
            break
        else:
            return file
    os.close(file)
    return -1


def _store(path: str, contents: bytes) -> bool:
    """Write a file of the cache whole or not at all; False if it cannot be written."""
    import tempfile

    try:
        file, name = tempfile.mkstemp(dir=os.path.dirname(path))
    except OSError:
        return False
    try:
        with open(file, "wb") as stream:
            stream.write(contents)
        os.replace(name, path)
    except OSError:
        os.unlink(name)
        return False
    return True
