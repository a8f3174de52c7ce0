"""Logs, which need no definition, and the context that a user sets for a task: records of one kind, msgpack maps."""

from __future__ import annotations

import ctypes

from . import layout, place, wire
from .channel import Channel, when_attached
from .encoding import REPLACE, WrongArguments
from .known import of_type
from .layout import CONTEXT, CONTROL
from .native import functions
from .native.builtin import METH_FASTCALL, METH_KEYWORDS, METH_NOARGS, METH_O, address_of, make_builtin
from .native.tables import EVENT, PLACE
from .tracepoint import LEVELS, Tracepoint, has_code

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ClassVar, Self

    from .segment import Segment

NAME_LENGTH = 1000  # characters that stay of the name in a log that is too long
LOG_DOC = """log($self, name, /, **fields)
--

Record an event that was not defined before, with fields of any type that msgpack knows.

Returns True if it was recorded.  Never raises: what cannot be packed is shown by its repr."""


def _shown(value: object) -> object:
    """In place of what msgpack cannot pack."""
    try:
        return list(value) if isinstance(value, (set, frozenset)) else repr(value)
    except Exception:  # noqa: BLE001  (a repr of the user's own)
        return f"<{type(value).__name__}>"


def pack(fields: dict[object, object], limit: int) -> bytes:
    """The map, whatever is in it; what does not fit is left out, the largest values first."""
    import msgpack

    try:
        body: bytes = msgpack.packb(fields, default=_shown, unicode_errors=REPLACE)
    except Exception:  # noqa: BLE001  (nested too deep, an integer too great, a dictionary that refers to itself)
        safe: dict[object, object] = {
            key if isinstance(key, int) else str(key): _safe(value) for key, value in fields.items()
        }
        body = _packed(safe)
        fields = safe
    return body if len(body) <= limit else _shortened(fields, len(body), limit)


def _shortened(fields: dict[object, object], size: int, limit: int) -> bytes:
    """The map, in which the largest values are left out; the name is cut, if need be."""
    name = str(fields.get(wire.LOG_NAME, ""))
    fields = {**fields, wire.LOG_NAME: name[:NAME_LENGTH]}
    size -= len(_packed(name)) - len(_packed(fields[wire.LOG_NAME]))
    sizes = {key: len(_packed(value)) for key, value in fields.items() if key != wire.LOG_NAME}
    for key in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if size <= limit:
            break
        fields[key] = f"<{sizes[key]} bytes: too long>"
        size -= sizes[key] - len(_packed(fields[key]))
    body = _packed(fields)
    return body if len(body) <= limit else _packed({wire.LOG_NAME: fields[wire.LOG_NAME]})


def _packed(value: object) -> bytes:
    import msgpack

    packed: bytes = msgpack.packb(value, default=_shown, unicode_errors=REPLACE)
    return packed


def _safe(value: object) -> object:
    try:
        _packed(value)
    except Exception:  # noqa: BLE001
        return _shown(value)
    return value


class _Reserved(Tracepoint):
    """One of a class that is in every channel, and that no switch turns off."""

    __slots__ = ()

    number: ClassVar[int]

    def bind(self, segment: Segment | None, context: bytes) -> None:
        if segment is not None:
            self._set(EVENT.id, self.number)
            self._set(EVENT.enabled, segment.address + CONTROL.recording)
        self._set(EVENT.context, address_of(context))


class Blob(_Reserved):
    """Channel.event, once the user has set a context: a blob that names it."""

    __slots__ = ()

    number = wire.ID_PLACED

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel, "event", "blob", LEVELS["info"], wire.PLACED_FIELDS)


class Log(_Reserved):
    """Channel.log: events that need no definition."""

    __slots__ = ("needs_telling", "told")

    number = wire.ID_LOG

    needs_telling: Callable[[], int]
    told: Callable[[int], bool]

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel, "log", "log", LEVELS["info"], "")

    def finish(self) -> None:
        if has_code(self._channel):
            self._body = self._make("body_write", METH_O, "write")
            self.needs_telling = self._make("log_needs_telling", METH_NOARGS, "needs_telling", "/")
            self.told = self._make("log_told", METH_O, "told", "whom, /")
            self.call = make_builtin(
                functions("typed")["log_call"], self, "log", METH_FASTCALL | METH_KEYWORDS, LOG_DOC
            )
        else:
            self.call = self.call_late

    def _refuse(self, *arguments: object, **keywords: object) -> bool:
        """What the jitted code does not pack."""
        if len(arguments) != 1:
            self._wrong(
                WrongArguments(TypeError, f"log takes one name and fields by keyword, not {len(arguments)} names")
            )
            return False
        return self._is_on and self.write_fields(arguments[0], keywords)

    def write_fields(self, name: object, fields: dict[str, object], level: int | None = None) -> bool:
        """Record fields of this task; `level` is one of `logging`."""
        tell_context(self._channel)
        try:
            text = str(name)
        except Exception:  # noqa: BLE001  (a __str__ of the user's own)
            text = f"<{type(name).__name__}>"
        head: dict[object, object] = {wire.LOG_NAME: text}
        for key, number in ((wire.LOG_SPAN, PLACE.current), (wire.LOG_CONTEXT, PLACE.context)):
            if value := place.number(number, 4):
                head[key] = value
        if level is not None:
            head[wire.LOG_LEVEL] = level
        head.update(fields)
        return self.write(head)

    def write(self, fields: dict[object, object]) -> bool:
        """Record a map."""
        return hasattr(self, "_body") and bool(self._body(pack(fields, self._limit())))

    @property
    def log(self) -> Callable[..., bool]:
        """The builtin, by its name: it pickles by that."""
        return self.call

    def __reduce__(self) -> tuple[Callable[[Channel], Log], tuple[Channel]]:
        return log_of, (self._channel,)


def log_of(channel: Channel) -> Log:
    """A channel's."""
    channel.log  # noqa: B018  (it is made when it is first wanted)
    log = channel.events["log", ""]
    assert isinstance(log, Log)
    if channel.segment is not None and not hasattr(log, "_body"):  # it is of when the channel was still to be attached
        log.finish()
    return log


def is_recording(channel: Channel) -> bool:
    """Whether somebody reads.  Attaches the channel if that is still to be done."""
    if channel.is_pending:
        channel.attach_pending()
    return channel.enabled


def write_log(channel: Channel, name: object, fields: dict[str, object], level: int | None = None) -> bool:
    """As Channel.log, with a level of `logging`."""
    return is_recording(channel) and log_of(channel).write_fields(name, fields, level)


class UserContext:
    """See Channel.context."""

    __slots__ = ("_before",)

    def __init__(self, fields: dict[str, object]) -> None:
        before = place.defined.get(place.NOTHING)
        self._before = (place.number(PLACE.context, 4), before)
        context = place.next_context()
        place.set_context(context, (context, {**before[1], **fields}))
        if place_blobs not in when_attached:  # it is the first one of the process
            _place_all_blobs()
            when_attached.append(place_blobs)
            _place_all_blobs()  # those that were attached meanwhile
        tell_everywhere()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        place.set_context(*self._before)
        tell_everywhere()


def _place_all_blobs() -> None:
    for channel in of_type(Channel):
        place_blobs(channel)


def place_blobs(channel: Channel) -> None:
    """From here on the channel's blobs name the user's context."""
    if channel.segment is None:
        return
    if ("blob", "") not in channel.events:
        made = Blob(channel)
        made.prepare()
        channel.events.setdefault(("blob", ""), made)  # another thread may have done the same
    blob = channel.events["blob", ""]
    assert isinstance(blob, Blob)
    if getattr(channel, "_placed", None) is not blob.call:
        channel._placed = blob.call  # noqa: SLF001
    at = address_of(channel._context) + CONTEXT.bare  # noqa: SLF001
    ctypes.c_int64.from_address(at).value = -1


def tell_context(channel: Channel) -> None:
    """Record the user's context, if there is one, unless this channel's reader knows it."""
    context, (number, values) = place.number(PLACE.context, 4), place.defined.get(place.NOTHING)
    if context == 0 or context != number or not channel.enabled:
        return
    log = log_of(channel)
    whom = log.needs_telling() if hasattr(log, "needs_telling") else 0
    if whom:
        fields: dict[object, object] = {wire.LOG_NAME: "context", wire.LOG_DEFINES: context}
        fields.update(values)
        if log.write(fields):
            log.told(whom)


def tell_everywhere() -> None:
    """Tell it in each channel of the process, or that there is none any more.

    It is told as soon as it changes because what kernels record bears no number of it, see docs/format.md.
    """
    found = [channel for channel in of_type(Channel) if channel.enabled and not channel.is_pending]
    for channel in {id(channel.segment): channel for channel in found}.values():  # one of each segment
        if place.has_context():
            tell_context(channel)
        else:
            log_of(channel).write({wire.LOG_DEFINES: 0})


assert layout.width_of(PLACE, "context") == 4
