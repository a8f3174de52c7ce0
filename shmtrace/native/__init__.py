"""The jitted core: compiled once, kept as object code, placed in every process that writes events.

`functions("producer")` and `functions("collector")` give the addresses of the C functions.  numba is imported only when
no good object code is in the cache.  The cache is a directory that belongs to the user alone; a file's name is a digest
of everything that shapes the code, and its contents are checked against a digest of their own.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from .loader import ObjectCodeError, load
from .steps import is_watched

UNITS = {"producer": ("entry", "PRODUCER"), "collector": ("collect", "COLLECTOR_ENTRIES")}
DIGEST_BYTES = 32

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


def warmup() -> Path | None:
    """Compile what is not in the cache yet; the cache's directory, or None where there can be none."""
    for unit in UNITS:
        functions(unit)
    return cache_directory()


def cache_directory() -> Path | None:
    """$SHMTRACE_CACHE, else shmtrace in the user's cache; None if others could write there or it cannot be made."""
    chosen = os.environ.get("SHMTRACE_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = Path(chosen) if chosen else Path(base) / "shmtrace"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
    except OSError:
        return None
    if not stat.S_ISDIR(status.st_mode) or not _is_private(status):
        return None
    return path


def _is_private(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _key(unit: str) -> str:
    """A digest of all that shapes the code: our sources, the interpreter, the compiler, the cpu."""
    digest = hashlib.sha256(repr((unit, is_watched(), sys.version, sys.abiflags, object.__basicsize__)).encode())
    package = Path(__file__).parent
    for path in sorted((*package.glob("*.py"), *package.parent.glob("[lw]*.py"))):
        digest.update(path.read_bytes())
    for compiler in ("numba", "llvmlite"):
        spec = find_spec(compiler)
        version = Path(spec.origin).with_name("_version.py") if spec and spec.origin else None
        if version is not None and version.exists():
            digest.update(version.read_bytes())
    with open("/proc/cpuinfo", "rb") as file:
        lines = file.read(8192).split(b"\n\n")[0].split(b"\n")
    digest.update(b"".join(line for line in lines if line.startswith((b"flags", b"model name", b"Features"))))
    return digest.hexdigest()[:32]


def _from_cache(unit: str) -> dict[str, int] | None:
    directory = cache_directory()
    if directory is None:
        return None
    try:
        key = f"{unit}-{_key(unit)}"
        file = os.open(directory / f"{key}.o", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
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
    """Covers the key, too: good code of another unit or another version is not good here."""
    return hashlib.sha256(key.encode() + code).digest()


def _compile(unit: str) -> dict[str, int]:
    from importlib import import_module

    from .compiler import compile_object

    module, entries = UNITS[unit]
    code = compile_object(getattr(import_module(f"{__name__}.{module}"), entries))
    directory = cache_directory()
    if directory is not None:
        key = f"{unit}-{_key(unit)}"
        _store(directory / f"{key}.o", _digest(key, code) + code)
    return load(code)


def _store(path: Path, contents: bytes) -> None:
    """Write a file of the cache whole or not at all; a cache that cannot be written is no cache."""
    try:
        file, name = tempfile.mkstemp(dir=path.parent)
    except OSError:
        return
    try:
        with open(file, "wb") as stream:
            stream.write(contents)
        os.replace(name, path)
    except OSError:
        os.unlink(name)
