"""Records as lines of text: JSON for programs, one line a record for people.

Records hold what users wrote: text with anything in it, bytes, numbers that JSON does not have.
"""

from __future__ import annotations

import base64
import json
import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..reader import Record
    from ..reader.spans import OpenSpan

__all__ = ["encode", "json_line", "open_span_line", "plain_fields", "plain_value", "text_line"]

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
    return encode(line)


def text_line(record: Record) -> str:
    """The record for people: local time, cpu, who wrote it, what.  Without any character that a terminal would obey."""
    level = "" if record.level in USUAL_LEVELS else f"[{record.level}] "
    return _printable(f"{_when(record)} {record.cpu:3} {_who(record)} {level}{_what(record)}")


def open_span_line(span: OpenSpan, around: OpenSpan | None, *, lossy: bool) -> str:
    """A span that never ended, for people: what, in which other one, who, since when, and its last record.

    `lossy` says that records are missing, of which its end may be one.
    """
    begin, last = span.begin, span.last
    inside = "" if around is None else f" in {around.begin.name}"
    then = "nothing" if last is begin else f"{_what(last)} (+{(last.monotonic_ns - begin.monotonic_ns) / 1e6:.1f} ms)"
    doubt = "  (records are missing: its end may be one of them)" if lossy else ""
    what = f"{begin.name}{_fields(begin)}{inside}"
    return _printable(f"open: {what}  {_who(begin)} since {_when(begin)}  last: {then}{doubt}")


def _when(record: Record) -> str:
    seconds, rest = divmod(record.time_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(seconds))}.{rest:09}"


def _who(record: Record) -> str:
    return "-" if record.pid is None else f"{record.process}[{record.pid}] {record.thread}[{record.tid}]"


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
