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

from .loader import ObjectCodeError, load
from .steps import is_watched

UNITS = {"producer": ("entry", "PRODUCER"), "collector": ("collect", "COLLECTOR_ENTRIES")}
DIGEST_BYTES = 8

_loaded: dict[str, dict[str, int]] = {}


def functions(unit: str) -> dict[str, int]:
    """Addresses of a unit's functions, by name, in this process."""
    if not is_ready(unit):
        _loaded[unit] = _compile(unit)
    return _loaded[unit]


def is_ready(unit: str) -> bool:
    """True if `functions` has the unit without compiling it."""
    if unit not in _loaded and (found := _from_cache(unit)) is not None:
        _loaded[unit] = found
    return unit in _loaded


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


def _key(unit: str) -> str:
    """A digest of all that shapes the code: our sources, the interpreter, the compiler, the cpu.  Raises OSError."""
    parts = [repr((unit, is_watched(), sys.version, sys.abiflags, object.__basicsize__)).encode()]
    here = os.path.dirname(__file__)
    above = os.path.dirname(here)
    sources = [os.path.join(here, name) for name in os.listdir(here)]
    sources += [os.path.join(above, "layout.py"), os.path.join(above, "wire.py")]
    parts += [_read(path) for path in sorted(sources) if path.endswith(".py")]
    for compiler in ("numba", "llvmlite"):
        # as an import would find it, without asking every finder
        versions = (os.path.join(entry, compiler, "_version.py") for entry in sys.path)
        found = next(filter(os.path.isfile, versions), None)
        if found is not None:
            parts.append(_read(found))
    lines = _read("/proc/cpuinfo", 8192).split(b"\n\n")[0].split(b"\n")
    parts += [line for line in lines if line.startswith((b"flags", b"model name", b"Features"))]
    return _digest("", b"".join(parts)).hex()


def _read(path: str, size: int = 0) -> bytes:
    """A file, or so much of one whose size the kernel does not tell."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, size or os.fstat(file).st_size)
    finally:
        os.close(file)


def _from_cache(unit: str) -> dict[str, int] | None:
    directory = cache_directory()
    if directory is None:
        return None
    try:
        key = f"{unit}-{_key(unit)}"
        file = os.open(os.path.join(directory, f"{key}.o"), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, MemoryError):
        return None
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode) or not _is_private(status):
        os.close(file)
        return None
    with open(file, "rb") as stream:
        contents = stream.read()
    code = contents[DIGEST_BYTES:]
    if _digest(key, code) != contents[:DIGEST_BYTES]:
        return None
    try:
        return load(code)
    except (ObjectCodeError, OSError):
        return None


def _digest(key: str, code: bytes) -> bytes:
    """Covers the key, too: good code of another unit or another version is not good here.

    It tells damage, not malice: nobody else can write into the cache.  The hash is the interpreter's own of sources
    (importlib.util.source_hash), which is at hand at once; to load OpenSSL takes as long as half of attaching.
    """
    return _imp.source_hash(0, key.encode() + code)


def _compile(unit: str) -> dict[str, int]:
    from importlib import import_module

    from .compiler import compile_object

    module, entries = UNITS[unit]
    code = compile_object(getattr(import_module(f"{__name__}.{module}"), entries))
    directory = cache_directory()
    if directory is not None:
        key = f"{unit}-{_key(unit)}"
        _store(os.path.join(directory, f"{key}.o"), _digest(key, code) + code)
    return load(code)


def _store(path: str, contents: bytes) -> None:
    """Write a file of the cache whole or not at all; a cache that cannot be written is no cache."""
    import tempfile

    try:
        file, name = tempfile.mkstemp(dir=os.path.dirname(path))
    except OSError:
        return
    try:
        with open(file, "wb") as stream:
            stream.write(contents)
        os.replace(name, path)
    except OSError:
        os.unlink(name)
