"""The contexts that processes set: fields that belong to every record that names their number.

They are kept as they stand in the stream, so that a hostile one takes no more memory than its bytes, and are read when
a record names them.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, TypeAlias

from .log import unpack_log

if TYPE_CHECKING:
    from .decode import Fields

__all__ = ["Contexts"]

MOST_BYTES = 64 << 20  # of all contexts together; the one that was not named for the longest time is forgotten
ENTRY_BYTES = 256  # what one takes beside its own

Key: TypeAlias = "tuple[int | None, int | None, int]"  # pid, start time of the process, number


class Contexts:
    """All that are known."""

    def __init__(self) -> None:
        self._bodies: collections.OrderedDict[Key, bytes] = collections.OrderedDict()
        self._bytes = 0

    def define(self, key: Key, body: bytes, *, early: bool = False) -> None:
        """A context of a process.  One that comes `early`, ahead of the records beside it, pushes no other out."""
        if early and self._bytes + len(body) + ENTRY_BYTES > MOST_BYTES:
            return
        self._bytes += len(body) + ENTRY_BYTES
        before = self._bodies.pop(key, None)
        self._bytes -= 0 if before is None else len(before) + ENTRY_BYTES
        self._bodies[key] = body
        while self._bytes > MOST_BYTES:
            self._bytes -= len(self._bodies.popitem(last=False)[1]) + ENTRY_BYTES

    def add_to(self, fields: Fields, key: Key) -> None:
        """Adds the fields of a context to a record's; the record's own win."""
        body = self._bodies.get(key)
        if body is None:
            return
        self._bodies.move_to_end(key)
        log = unpack_log(body)
        if log is not None:
            for name, value in log.fields.items():
                fields.setdefault(name, value)
