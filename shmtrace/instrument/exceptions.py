"""An exception as fields of a record."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["exception_fields"]


def exception_fields(error: BaseException, trace: TracebackType | None = None) -> dict[str, object]:
    """Its type, its text, and its traceback as Python prints it; whatever its own methods do."""
    kind = type(error)
    return {
        "exception": kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}",
        "exception_text": _text(error),
        "traceback": _traceback(error, trace if trace is not None else error.__traceback__),
    }


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  (a __str__ of the user's own)
        return ""


def _traceback(error: BaseException, trace: TracebackType | None) -> str:
    try:
        return "".join(traceback.format_exception(type(error), error, trace))
    except Exception:  # noqa: BLE001  (the same, of one of its causes)
        return "".join(traceback.format_tb(trace))
