"""The command line: `shmtrace COMMAND`, a file a command.

A file `<name>.py` beside this one defines `command`; it is imported when it is run.  Every error is one line on stderr;
the exit status is 1 for a failure and 2 for wrong usage.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from shmtrace import __version__
from shmtrace.errors import InvalidGeometry, InvalidName, ShmtraceError

if TYPE_CHECKING:
    from shmtrace.reader.records import Source

__all__ = ["Complaints", "end_at_sigterm", "main", "source_of", "strict_option"]

_IN_ORDER = (
    "run", "create", "remove", "list", "path", "stat", "collect", "record", "tail", "snapshot", "enable", "disable",
    "top", "convert", "view", "report", "query", "warmup", "doctor", "relay", "gather",
)  # fmt: skip

# Of click 8.2 and later: without arguments the help is the error.  Until then it is printed, and that is all.
_HELP: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        here = Path(__file__).parent
        return [name for name in _IN_ORDER if (here / f"{name}.py").exists()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(f"shmtrace.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; its errors become an exit status."""
        try:
            status = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:  # whoever read our output has seen enough
            _drop_output()
            return 0
        except KeyboardInterrupt:
            return 130
        except (InvalidGeometry, InvalidName) as error:
            return _complain(str(error), 2)  # wrong usage
        except OSError as error:
            _drop_output()  # the trouble may be that it cannot be written
            return _complain(_reason(error), 1)
        except ShmtraceError as error:
            return _complain(str(error), 1)
        return status

    def main(self, args: Any = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        """Run the command that `args` name and exit with its status."""
        try:
            status = super().main(args, prog_name or "shmtrace", **{**extra, "standalone_mode": False})
        except click.Abort:
            status = 130
        except click.ClickException as error:
            if isinstance(error, _HELP):
                click.echo(error.format_message(), err=True)
                status = error.exit_code
            else:
                status = _complain(_advice(error), error.exit_code)
        sys.exit(status)


def _drop_output() -> None:
    """What cannot be written now could not be written at the end either, where it would be said again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())


def _reason(error: OSError) -> str:
    reason = error.strerror or str(error)  # without the number
    return reason if error.filename is None else f"{os.fsdecode(error.filename)}: {reason}"


def _complain(message: str, status: int) -> int:
    click.echo("shmtrace: " + " ".join(message.split()), err=True)
    return status


def _advice(error: click.ClickException) -> str:
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    return message if context is None else f"{message} (see {context.command_path} --help)"


strict_option = click.option("--strict", is_flag=True, help="Exit with 1 if a part of TRACE could not be read.")


def source_of(traces: tuple[str, ...]) -> Source | list[Source]:
    """What a reader takes: one trace or several, of which - is stdin."""
    sources: list[Source] = [sys.stdin.buffer if trace == "-" else trace for trace in traces]
    return sources[0] if len(sources) == 1 else sources


def end_at_sigterm() -> None:
    """SIGTERM ends the command as Ctrl-C does: it takes its temporary files along."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


class Complaints:
    """What is wrong with a trace: each line goes to stderr."""

    def __init__(self) -> None:
        self._some = False

    def __call__(self, line: str) -> None:
        self._some = True
        click.echo(f"shmtrace: {line}", err=True)

    def settle(self) -> None:
        """Raises TraceDamaged if there was one."""
        from shmtrace.reader.errors import TraceDamaged

        if self._some:
            raise TraceDamaged("the trace is damaged, as said above; what could be read was")


@click.group("shmtrace", cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="shmtrace", message="%(prog)s %(version)s")
def main() -> None:
    """Record events of the processes of a Python program, without the recording being in their way."""
