"""OpenTelemetry: a span processor that records spans when they start, so that those of a killed worker are there.

Attributes, events and links are texts in JSON: babeltrace2 shows them, SQL can look into them, `json.loads` gives them
back.
"""

from __future__ import annotations

import base64
import json
import math
import operator
import struct
from typing import TYPE_CHECKING, Any, TypeAlias

from opentelemetry.sdk import trace

from .. import channel as channels
from ..encoding import text_bytes
from .spans import ALWAYS_FITS, Pairs, next_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..channel import Channel
    from .spans import Pair

__all__ = ["SpanProcessor"]

OTHER = "OpenTelemetry span"  # of names that are too many
LONGEST_NAME, LONGEST_DESCRIPTION = 200, 500  # characters, so that they fit into a record with the smallest page
MOST_OPEN = 1 << 16  # spans; the end of those that were open before them is not recorded
_BEGIN = (
    "kind:u8{internal=0,server=1,client=2,producer=3,consumer=4} start_ns:u64 trace_id:str span_id:str parent_id:str "
    "attributes:str"
)
_END = "status:u8{unset=0,ok=1,error=2} end_ns:u64 name:str description:str attributes:str events:str links:str"
_HEAD = struct.Struct("<BQ")
_NOTHING = object()

Item: TypeAlias = "tuple[str, dict[str, object]]"  # an event or a link: what comes ahead of its attributes, and these


class SpanProcessor(trace.SpanProcessor):  # type: ignore[misc]  # which need not be installed where types are checked
    """Records OpenTelemetry's spans: a record when one starts and another when it ends.

    The first one has the `kind`, `trace_id`, `span_id` and `parent_id` as hexadecimal text, the `attributes` known so
    far, and `start_ns`; the second one `status` and `description`, the `attributes` that were set since, `events` and
    `links`, the `name` at its end, and `end_ns`.  Where the parent is a span of this process, it is also the record's
    `parent`.  It never raises.

    `channel`: where to, else what `attach()` gives when the processor is made.
    """

    def __init__(self, channel: Channel | None = None) -> None:
        self._pairs = Pairs(channel if channel is not None else channels.attach(), _BEGIN, _END, other=OTHER)
        self._open: dict[int, tuple[int, Pair, dict[str, object]]] = {}  # by span_id; number, pair, attributes so far

    def on_start(self, span: Any, parent_context: Any = None) -> None:  # noqa: ARG002  (the interface's)
        try:
            pair = self._pairs.get(span.name)
            if pair is not None:
                self._begin(pair, span)
        except Exception:  # noqa: BLE001, S110  (tracing never raises into the program)
            pass

    def on_end(self, span: Any) -> None:
        try:
            opened = self._open.pop(span.context.span_id, None)
            if opened is not None:
                self._end(*opened, span)
        except Exception:  # noqa: BLE001, S110
            pass

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002
        """There is nothing to wait for."""
        return True

    def _begin(self, pair: Pair, span: Any) -> None:
        context, parent = span.context, span.parent
        attributes = span.attributes.copy()
        ids = [f"{context.trace_id:032x}", f"{context.span_id:016x}", f"{parent.span_id:016x}" if parent else ""]
        around = self._open.get(parent.span_id) if parent else None
        if len(self._open) >= MOST_OPEN:
            self._open.pop(next(iter(self._open)), None)
        number = next_number()
        self._open[context.span_id] = number, pair, attributes
        name = span.name[:LONGEST_NAME]
        head = _HEAD.pack(span.kind.value, span.start_time)
        pair.begin_with(
            number,
            name,
            head + _texts(pair, ids, attributes, more=4 * len(name)),
            around[0] if around is not None else 0,
        )

    @staticmethod
    def _end(number: int, pair: Pair, begun: dict[str, object], span: Any) -> None:
        attributes = span.attributes.copy()
        if begun:
            attributes = {name: value for name, value in attributes.items() if begun.get(name, _NOTHING) is not value}
        events = [
            (f'{{"name": {_quote(event.name)}, "time_ns": {event.timestamp}', dict(event.attributes or {}))
            for event in span.events
        ]
        links = [
            (
                f'{{"trace_id": "{link.context.trace_id:032x}", "span_id": "{link.context.span_id:016x}"',
                dict(link.attributes or {}),
            )
            for link in span.links
        ]
        status = span.status
        known = [span.name[:LONGEST_NAME], (status.description or "")[:LONGEST_DESCRIPTION]]
        head = _HEAD.pack(status.status_code.value, span.end_time)
        pair.end_with(number, head + _texts(pair, known, attributes, events, links))


def _texts(pair: Pair, known: list[str], attributes: dict[str, object], *items: list[Item], more: int = 0) -> bytes:
    """Fields of the type `str`: some texts, then JSON of attributes and of lists of items.

    What makes them too long is not in it, but told.  `more` is so many bytes that are written beside these.
    """
    body = _join([*known, _text(attributes), *map(_list, items)])
    if len(body) + more <= ALWAYS_FITS:
        return body
    limit = pair.limit - more - _HEAD.size
    if len(body) > limit:
        _shorten(len(body) - limit, [attributes, *(own for each in items for _, own in each)])
        body = _join([*known, _text(attributes), *map(_list, items)])
    if len(body) > limit:  # very many short ones
        body = _join([*known, _text({"too_long": len(body)}), *("[]" for _ in items)])
    return body


def _shorten(excess: int, dictionaries: list[dict[str, object]]) -> None:
    """Replaces the longest values, until so many bytes are saved."""
    sizes = [(len(_text(value).encode(errors="replace")), at, key) for at in dictionaries for key, value in at.items()]
    for size, at, key in sorted(sizes, key=operator.itemgetter(0), reverse=True):
        if excess <= 0:
            break
        told = f"<{size} bytes: too long>"
        at[key] = told
        excess -= size - len(told) - 2


def _join(texts: list[str]) -> bytes:
    text = "\0".join(texts)
    if text.count("\0") == len(texts) - 1:  # NUL is in none of them
        try:
            return text.encode() + b"\0"
        except UnicodeEncodeError:
            pass
    return b"".join(map(text_bytes, texts))


def _text(value: object) -> str:
    """As JSON."""
    if value == {}:
        return "{}"
    try:
        return _encode(value)
    except ValueError:  # NaN and the like
        return _encode(_finite(value))


def _list(items: list[Item]) -> str:
    return "[" + ", ".join([f'{head}, "attributes": {_text(attributes)}}}' for head, attributes in items]) + "]"


def _plain(value: object) -> object:
    """In place of what JSON does not have."""
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else str(value)


def _finite(value: object) -> object:
    """With "NaN", "Infinity" and "-Infinity" in place of floats that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else json.dumps(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def _encoder() -> Callable[[object], str]:
    """What makes JSON.

    `JSONEncoder.encode` makes an encoder in C for each text, which takes twice as long as to write a short one.  If
    this Python lets us, we keep it.
    """
    plain = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain)
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    try:
        write = make(None, _plain, _quote, None, plain.key_separator, plain.item_separator, False, False, False)
        sample = {"a": [1.5, "b"]}
        if "".join(write(sample, 0)) != plain.encode(sample):
            return plain.encode
    except (TypeError, ValueError):
        return plain.encode
    return lambda value: "".join(write(value, 0))


_quote = json.encoder.encode_basestring
_encode = _encoder()
