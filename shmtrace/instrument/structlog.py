"""structlog: a processor that records."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

from .. import channel as channels
from ..log import is_recording, write_log
from ..tracepoint import LEVELS
from .exceptions import exception_fields

if TYPE_CHECKING:
    from ..channel import Channel

__all__ = ["Processor"]

Entry = TypeVar("Entry")
_LEVELS = {**LEVELS, "warn": 30, "exception": 40, "err": 40, "fatal": 50, "notset": 0}


class Processor:
    """Records the event dictionary, and passes it on as it is: a log named like the event, its fields the others.

    To be put anywhere into the chain; behind a renderer, where there is no dictionary any more, the text is recorded as
    `message`.  `exc_info` becomes `exception`, `exception_text` and `traceback`.  It never raises.

    `channel`: where to, else what `attach()` gives when the processor is made.
    """

    def __init__(self, channel: Channel | None = None) -> None:
        self.channel = channel if channel is not None else channels.attach()

    def __call__(self, _logger: object, method: str, event: Entry) -> Entry:
        try:
            if is_recording(self.channel):
                name, fields = _split(event)
                write_log(self.channel, name, fields, _LEVELS.get(method))
        except Exception:  # noqa: BLE001, S110  (tracing never raises into the program)
            pass
        return event


def _split(event: object) -> tuple[object, dict[str, object]]:
    """Name and fields."""
    if not isinstance(event, dict):
        return "structlog", {"message": event}
    fields = {str(key): value for key, value in event.items() if key != "event"}
    error = _exception(fields.get("exc_info"))
    if error is not None:
        del fields["exc_info"]
        fields |= exception_fields(error)
    return event.get("event", ""), fields


def _exception(given: object) -> BaseException | None:
    """What structlog takes for `exc_info`: True, an exception, or a triple."""
    if isinstance(given, tuple) and len(given) == 3:
        given = given[1]
    elif given is True:
        given = sys.exc_info()[1]
    return given if isinstance(given, BaseException) else None
