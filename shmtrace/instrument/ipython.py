"""Jupyter and IPython: `%%shmtrace` records a cell, `%shmtrace` a line, and shows what there was."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.display import display

from ..errors import ShmtraceError
from ..notes import say
from ..reader import read
from ..session import record
from .redirect import redirected
from .summary import Summary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..channel import Channel

__all__ = ["load"]


def load(shell: Any) -> None:
    """What `%load_ext shmtrace` does."""
    shell.register_magics(_Shmtrace)


@magics_class
class _Shmtrace(Magics):  # type: ignore[misc]  # IPython need not be installed where types are checked
    @line_cell_magic  # type: ignore[untyped-decorator]
    def shmtrace(self, line: str, cell: str | None = None) -> Summary:
        """Record a cell or a statement, and show the spans and events that it recorded.

        %%shmtrace [-o DIR]
        %shmtrace [-o DIR] statement

        All channels that `shmtrace.attach()` gave lead into the record meanwhile, and the processes that the cell
        starts find it.  It is kept in DIR, which must be empty or not be there yet.
        """
        options, statement = self.parse_options(line, "o:", preserve_non_opts=cell is None)
        if cell is not None and statement:
            raise UsageError(f"%%shmtrace takes -o DIR, and not {statement!r}")
        return _run(self.shell, statement if cell is None else cell, options.get("o"))


def _run(shell: Any, code: str, kept: str | None) -> Summary:
    try:
        with contextlib.ExitStack() as stack:
            if kept is not None:
                directory = Path(kept).expanduser()
            else:
                directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shmtrace-")))
            with _recording(directory, is_kept=kept is not None):
                result = shell.run_cell(code)
            summary = Summary(read(directory))
    except ShmtraceError as error:
        raise UsageError(f"shmtrace: {error}") from None
    failure = result.error_before_exec or result.error_in_exec
    if failure is not None:  # which was shown
        display(summary)
        raise UsageError(f"the traced code ended with {type(failure).__name__}")
    return summary


@contextlib.contextmanager
def _recording(directory: Path, *, is_kept: bool) -> Iterator[Channel]:
    """Of a directory that is not kept it is not said what is in it."""
    with contextlib.ExitStack() as stack:
        outside = os.environ.get("SHMTRACE")
        channel = stack.enter_context(record(directory))
        try:
            with redirected(channel, outside):
                yield channel
        finally:
            said = io.StringIO()
            with contextlib.nullcontext() if is_kept else contextlib.redirect_stderr(said):
                stack.close()
            for line in said.getvalue().splitlines():
                if not line.endswith(f"-> {directory}"):
                    say(line.removeprefix("shmtrace: "))
