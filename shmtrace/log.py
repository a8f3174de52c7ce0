"""Logs, which need no definition, and the context that a user sets for a task: records of one kind, msgpack maps."""

from __future__ import annotations

import msgpack

from . import layout, place, wire
from .layout import CONTEXT, CONTROL, PLACE

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    from typing import Self

    from .channel import Channel


def _shown(value: object) -> object:
    """In place of what msgpack cannot pack."""
    if isinstance(value, (set, frozenset)):
        return list(value)
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  (a repr of the user's own)
        return f"<{type(value).__name__}>"


def pack(fields: dict[object, object], limit: int) -> bytes:
    """The map, whatever is in it; what does not fit is left out, the largest values first."""
    try:
        body: bytes = msgpack.packb(fields, default=_shown, unicode_errors="surrogatepass")
    except Exception:  # noqa: BLE001  (nested too deep, an integer too great, a dictionary that refers to itself)
        safe: dict[object, object] = {
            key if isinstance(key, int) else str(key): _safe(value) for key, value in fields.items()
        }
        body = msgpack.packb(safe, unicode_errors="surrogatepass")
        fields = safe
    while len(body) > limit:
        longest = max((key for key in fields), key=lambda key: len(_packed(fields[key])))
        fields = {**fields, longest: f"<{len(_packed(fields[longest]))} bytes: too long>"}
        smaller: bytes = msgpack.packb(fields, default=_shown, unicode_errors="surrogatepass")
        if len(smaller) >= len(body):
            return _packed({wire.LOG_NAME: str(fields.get(wire.LOG_NAME))[:100]})
        body = smaller
    return body


def _packed(value: object) -> bytes:
    packed: bytes = msgpack.packb(value, default=_shown, unicode_errors="surrogatepass")
    return packed


def _safe(value: object) -> object:
    try:
        _packed(value)
    except Exception:  # noqa: BLE001
        return _shown(value)
    return value


def is_recording(channel: Channel) -> bool:
    """Whether somebody reads.  Attaches the channel if that is still to be done."""
    return channel.enabled or (channel.attach_pending() and channel.enabled)


def write_log(channel: Channel, name: object, fields: dict[str, object], level: int | None = None) -> bool:
    """See Channel.log.  `level` is one of `logging`."""
    if not is_recording(channel):
        return False
    tell_context(channel)
    head: dict[object, object] = {wire.LOG_NAME: str(name)}
    span, context = place.number(PLACE.current, 4), place.number(PLACE.context, 4)
    if span:
        head[wire.LOG_SPAN] = span
    if context:
        head[wire.LOG_CONTEXT] = context
    if level is not None:
        head[wire.LOG_LEVEL] = level
    head.update(fields)
    return channel.write_log(pack(head, _limit(channel)))


def _limit(channel: Channel) -> int:
    return int.from_bytes(channel._context[CONTEXT.limit : CONTEXT.limit + 8], "little")  # noqa: SLF001


class UserContext:
    """See Channel.context."""

    __slots__ = ("_before",)

    def __init__(self, channel: Channel, fields: dict[str, object]) -> None:
        before = place.fields.get({})
        self._before = (place.number(PLACE.context, 4), before)
        place.set_context(place.next_context(), {**before, **fields})
        tell_context(channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        place.set_context(*self._before)


def tell_context(channel: Channel) -> None:
    """Record the user's context, if there is one, unless this channel's reader knows it."""
    context, segment = place.number(PLACE.context, 4), channel.segment
    if context == 0 or segment is None or not segment.u32(CONTROL.recording):
        return
    slot = int.from_bytes(channel._context[CONTEXT.slot : CONTEXT.slot + 8], "little")  # noqa: SLF001
    period = slot << 32 | segment.u32(CONTROL.period)
    if place.number(PLACE.period) == period:
        return
    fields: dict[object, object] = {wire.LOG_NAME: "context", wire.LOG_DEFINES: context}
    fields.update(place.fields.get({}))
    if channel.write_log(pack(fields, _limit(channel))):
        place.set_number(PLACE.period, period)


assert layout.width_of(PLACE, "context") == 4
