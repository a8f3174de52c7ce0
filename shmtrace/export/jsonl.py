"""Batches as JSON lines: the same text as `text.json_line` makes of each record, without a record each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..reader.batch import LEVEL_NAMES
from ..reader.shown import shown_fields
from .text import USUAL_LEVELS, encode

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

    from ..reader.batch import Batch

__all__ = ["json_lines", "write_json_lines"]

_LINE = b'{"time_ns": %d, "name": %b, "kind": %b, "cpu": %d, %b, "fields": %b%b}\n'
_NOBODY = b'"pid": null, "tid": null, "process": null, "thread": null'


def write_json_lines(batches: Iterable[Batch], out: BinaryIO) -> None:
    """A line a record; those of a batch are written at once."""
    for batch in batches:
        out.write(json_lines(batch))
        out.flush()


def json_lines(batch: Batch) -> bytes:
    """All of a batch."""
    names = [_text(name) for name in batch.names]
    kinds = {made: _text(batch.classes[made].kind) for made in batch.class_ids()}
    who = {-1: _NOBODY}
    for number in batch.thread_ids():
        thread = batch.threads[number]
        who[number] = b'"pid": %d, "tid": %d, "process": %b, "thread": %b' % (
            thread.pid, thread.tid, _text(thread.process), _text(thread.thread),
        )  # fmt: skip
    texts, offsets = shown_fields(batch)
    data, ends = texts.tobytes(), offsets.tolist()
    columns = (batch.time_ns, batch.name_id, batch.class_id, batch.cpu, batch.thread_id)
    return b"".join([
        _LINE % (time_ns, names[name], kinds[made], cpu, who[thread], data[begin:end], more)
        for time_ns, name, made, cpu, thread, begin, end, more in zip(
            *(column.tolist() for column in columns), ends[:-1], ends[1:], _ends(batch), strict=True
        )
    ])  # fmt: skip


def _ends(batch: Batch) -> list[bytes]:
    """What stands behind the fields."""
    levels = [
        b"" if name in USUAL_LEVELS else b', "level": %b' % _text(name) for name in LEVEL_NAMES if name is not None
    ] + [b""]
    origins = [b', "host": %b, "channel": %b' % (_text(host), _text(channel)) for host, channel in batch.origins]
    columns = (batch.span, batch.parent, batch.level, batch.origin)
    return [
        (b', "span": %d' % span if span else b"")
        + (b', "parent": %d' % parent if parent else b"")
        + levels[level]
        + (origins[origin] if origins else b"")
        for span, parent, level, origin in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _text(text: str) -> bytes:
    return encode(text).encode("utf-8", "backslashreplace")
