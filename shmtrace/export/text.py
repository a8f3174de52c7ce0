"""Records as lines of text: JSON for programs, one line a record for people.

Records hold what users wrote: text with anything in it, bytes, numbers that JSON does not have.
"""

from __future__ import annotations

import base64
import json
import math
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..reader import Record
    from ..reader.spans import OpenSpan

__all__ = [
    "Pieces", "encode", "json_line", "open_span_line", "pieces", "plain_fields", "plain_value",
    "text_line", "wall_time",
]  # fmt: skip

encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
USUAL_LEVELS = {None, "info"}  # go without saying
_MARKS = {"begin": "> ", "end": "< "}


def json_line(record: Record) -> str:
    """The record as one JSON object, without a line break.

    Bytes that are UTF-8 become text; others become base64 under the field's name with `_base64` behind it.  `NaN`,
    `Infinity` and `-Infinity` are strings.  `span`, `parent` and `level` are there only if the record has them; a level
    of info is not said.
    """
    line: dict[str, object] = {
        "time_ns": record.time_ns,
        "name": record.name,
        "kind": record.kind,
        "cpu": record.cpu,
        "pid": record.pid,
        "tid": record.tid,
        "process": record.process,
        "thread": record.thread,
        "fields": plain_fields(record.fields),
    }
    if record.span is not None:
        line["span"] = record.span
    if record.parent is not None:
        line["parent"] = record.parent
    if record.level not in USUAL_LEVELS:
        line["level"] = record.level
    if record.host is not None:
        line["host"], line["channel"] = record.host, record.channel
    return encode(line)


class Pieces(NamedTuple):
    """What a line for people is put together from; each without any character that a terminal would obey."""

    when: str
    cpu: str
    who: str
    level: str  # empty if it goes without saying
    mark: str
    name: str
    fields: list[tuple[str, str]]


def pieces(record: Record, when: str) -> Pieces:
    """The record for people, in pieces: time, cpu, who wrote it, what."""
    level = "" if record.level in USUAL_LEVELS else f"[{record.level}] "
    mark = _MARKS.get(record.kind, "")
    fields = [(_printable(str(name)), _printable(_shown(value))) for name, value in record.fields.items()]
    return Pieces(when, f"{record.cpu:3}", _printable(_who(record)), level, mark, _printable(record.name), fields)


def text_line(record: Record, when: str | None = None) -> str:
    """The record for people: local time, or what is given in its place, cpu, who wrote it, what."""
    made = pieces(record, wall_time(record) if when is None else when)
    fields = "".join(f" {name}={value}" for name, value in made.fields)
    return f"{made.when} {made.cpu} {made.who} {made.level}{made.mark}{made.name}{fields}"


def wall_time(record: Record) -> str:
    """Local time, to the nanosecond."""
    seconds, rest = divmod(record.time_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(seconds))}.{rest:09}"


def open_span_line(
    span: OpenSpan, around: OpenSpan | None, *, lossy: bool, when: Callable[[Record], str] = wall_time
) -> str:
    """A span that never ended, for people: what, in which other one, who, since when, and its last record.

    `lossy` says that records are missing, of which its end may be one.
    """
    begin, last = span.begin, span.last
    inside = "" if around is None else f" in {around.begin.name}"
    then = "nothing" if last is begin else f"{_what(last)} (+{(last.monotonic_ns - begin.monotonic_ns) / 1e6:.1f} ms)"
    doubt = "  (records are missing: its end may be one of them)" if lossy else ""
    what = f"{begin.name}{_fields(begin)}{inside}"
    return _printable(f"open: {what}  {_who(begin)} since {when(begin)}  last: {then}{doubt}")


def _who(record: Record) -> str:
    where = "" if record.host is None else f"{record.host}/{record.channel} "
    return where + ("-" if record.pid is None else f"{record.process}[{record.pid}] {record.thread}[{record.tid}]")


def _what(record: Record) -> str:
    return f"{_MARKS.get(record.kind, '')}{record.name}{_fields(record)}"


def _fields(record: Record) -> str:
    return "".join(f" {name}={_shown(value)}" for name, value in record.fields.items())


def plain_fields(fields: Mapping[object, object] | Mapping[str, object]) -> dict[str, object]:
    """Fields as JSON has them."""
    plain: dict[str, object] = {}
    for key, value in fields.items():
        name = key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)
        if isinstance(value, (bytes, bytearray)):
            text = _utf8(value)
            if text is None:
                plain[f"{name}_base64"] = base64.b64encode(value).decode("ascii")
            else:
                plain[name] = text
        else:
            plain[name] = plain_value(value)
    return plain


def plain_value(value: object) -> object:
    """What JSON has in place of a value."""
    plain: object
    if value is None or isinstance(value, (str, int)):
        plain = value
    elif isinstance(value, float):
        plain = value if math.isfinite(value) else json.dumps(value)
    elif isinstance(value, (bytes, bytearray)):
        text = _utf8(value)
        plain = {"base64": base64.b64encode(value).decode("ascii")} if text is None else text
    elif isinstance(value, dict):
        plain = plain_fields(value)
    elif isinstance(value, (list, tuple)):
        plain = [plain_value(item) for item in value]
    else:  # of another type that msgpack knows, such as its time stamps
        plain = str(value)
    return plain


def _utf8(value: bytes | bytearray) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _shown(value: object) -> str:
    if isinstance(value, (bytes, bytearray)):
        text = _utf8(value)
        return repr(bytes(value) if text is None else text)
    return repr(value)


def _printable(line: str) -> str:
    return line if line.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
