"""The standard library's `logging`: a handler that records."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .. import channel as channels
from ..log import is_recording, write_log
from .exceptions import exception_fields

if TYPE_CHECKING:
    from ..channel import Channel

__all__ = ["Handler"]

# what each LogRecord has; all else is the caller's `extra`
_STANDARD = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime"})


class Handler(logging.Handler):
    """Records what a logger gets: a log named like the logger.

    Fields: `message`, `arguments` (if there are any), `file`, `line`, `function`; of an exception `exception` (its
    type), `exception_text` and `traceback`; and those that were given as `extra`.  It needs no formatter and never
    raises: a message that does not fit its arguments is recorded as it stands, with `error`.

    `channel`: where to, else what `attach()` gives when the handler is made.
    """

    def __init__(self, level: int | str = logging.NOTSET, channel: Channel | None = None) -> None:
        super().__init__(level)
        self.channel = channel if channel is not None else channels.attach()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if is_recording(self.channel):
                write_log(self.channel, record.name, _fields(record), record.levelno)
        except Exception:  # noqa: BLE001  (tracing never raises into the program; logging knows whether to tell)
            self.handleError(record)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    try:
        fields["message"] = record.getMessage()
    except Exception as error:  # noqa: BLE001  (the message's format, or a __str__ of the user's)
        fields |= {"message": str(record.msg), "error": f"{type(error).__name__}: {error}"}
    if record.args:
        fields["arguments"] = record.args
    fields |= {"file": record.pathname, "line": record.lineno, "function": record.funcName}
    if record.exc_info and record.exc_info[1] is not None:
        fields |= exception_fields(record.exc_info[1], record.exc_info[2])
    elif record.exc_text:  # it came from another process
        fields["traceback"] = record.exc_text
    if record.stack_info:
        fields["stack"] = record.stack_info
    return fields
