"""The map of a log record."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .. import wire

if TYPE_CHECKING:
    from .decode import Fields

__all__ = ["LEVELS", "Log", "level_name", "unpack_log"]

DEEPEST = 100  # levels of a map in a map
INFO = 20
# What `wire.log_level` gives, as `logging` calls it.
LEVELS = {2: "critical", 3: "error", 4: "warning", 6: "info", 14: "debug"}
assert set(LEVELS) == {theirs for _, theirs in wire.LEVELS}


class Log(NamedTuple):
    """What a log record says.  Numbers of what it is in are 0 where it does not have them."""

    name: str
    span: int
    context: int
    level: str
    defines: int | None  # the number of a context, which the fields are; 0: none is set from here on
    fields: Fields


def level_name(level: int) -> str:
    """The name of a level of CTF's readers."""
    return LEVELS[min((known for known in LEVELS if known >= level), default=max(LEVELS))]


def unpack_log(body: bytes | memoryview) -> Log | None:
    """What a log record's body says; None: it is no map, or one that nobody can handle."""
    found = _unpack(body, use_list=True) or _unpack(body, use_list=False)  # a list cannot be a key, a tuple can
    if not isinstance(found, dict) or not _is_shallow(found, DEEPEST):
        return None
    name, level = found.get(wire.LOG_NAME), found.get(wire.LOG_LEVEL)
    return Log(
        name if isinstance(name, str) else "log",
        _number(found.get(wire.LOG_SPAN)) or 0,
        _number(found.get(wire.LOG_CONTEXT)) or 0,
        level_name(wire.log_level(max(0, level) if isinstance(level, int) else INFO)),
        _number(found.get(wire.LOG_DEFINES)),
        {key: value for key, value in found.items() if not isinstance(key, int)},
    )


def _unpack(body: bytes | memoryview, *, use_list: bool) -> object:
    import msgpack  # only traces with log records need it

    try:
        return msgpack.unpackb(body, strict_map_key=False, unicode_errors="replace", use_list=use_list)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException):
        return None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value <= wire.BY_THREAD else None


def _is_shallow(value: object, levels: int) -> bool:
    """Whether the value has at most so many levels: who handles it must not run out of stack."""
    if isinstance(value, dict):
        return levels > 0 and all(_is_shallow(item, levels - 1) for item in value.values())
    return not isinstance(value, (list, tuple)) or (levels > 0 and all(_is_shallow(item, levels - 1) for item in value))
