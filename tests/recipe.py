"""The pages of docs/recipes, cooked: their programs and commands, taken from the page and run as they stand there.

What is asserted for all of them is here: the commands end in order, nothing is left of the channel, and the books
balance: what was emitted is in the trace, or lost, or missed, and is counted as that.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import commands
import shmtrace
from shmtrace.segment import channel_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from shmtrace.reader import Record

PAGES = Path(__file__).parent.parent / "docs" / "recipes"
TRACE = "trace"  # where the pages' commands put it
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# file: (\S+)\n")


class Recipe:
    """A page: its programs, written into a directory, and its shell blocks, in the order in which they stand."""

    def __init__(self, page: str, directory: Path) -> None:
        self.directory = directory
        self.shell: list[str] = []
        for language, text in _BLOCK.findall((PAGES / f"{page}.md").read_text()):
            if language == "python":
                named = _FILE.match(text)
                assert named, f"{page}: a program without a name"
                (directory / named[1]).write_text(text)
            elif language == "sh":
                self.shell.append(text)

    def command(self, number: int = 0) -> list[str]:
        """The page's command of that number that begins with `shmtrace run`."""
        lines = "".join(self.shell).replace("\\\n", " ").splitlines()
        words = shlex.split([line for line in lines if line.startswith("shmtrace run ")][number])
        return words[1:]


class Course:
    """A command of a recipe while it runs, and its trace afterwards."""

    def __init__(self, process: subprocess.Popen[str], directory: Path) -> None:
        self.process = process
        self.trace = directory / TRACE
        self._channel: shmtrace.Channel | None = None
        self.stdout = self.stderr = ""
        self.records: list[Record] = []
        self.stats: dict[str, Any] = {}

    @property
    def channel(self) -> shmtrace.Channel:
        """The channel that `shmtrace run` made: its name ends in the pid of `run`."""
        if self._channel is None:
            commands.until(lambda: self._names() or self.process.poll() is not None)
            (name,) = self._names()
            self._channel = shmtrace.open_channel(name)
        return self._channel

    def _names(self) -> list[str]:
        return [name for name in channel_names() if name.endswith(f"-{self.process.pid}")]

    def finish(self, *, status: int = 0) -> None:
        """Wait for the end; then the counts are final.  All that was emitted is in the trace."""
        channel = self.channel
        self.stdout, self.stderr = self.process.communicate(timeout=commands.LIMIT_S)
        assert self.process.returncode == status, self.stderr
        assert not self._names(), "the channel is left"
        self.stats = channel.stats()
        self.records = [record for record in shmtrace.read(self.trace) if record.kind != "loss"]
        accepted = len(self.records)
        assert accepted == self.stats["delivered"], "what is delivered is in the trace"
        assert sum(self.stats["lost"].values()) == sum(self.stats["missed"].values()) == 0
        assert self.stats["damaged_words"] == 0
        assert f"shmtrace: {accepted:,} events, " in self.stderr.splitlines()[-1], self.stderr
        assert all(record.pid and record.process for record in self.records), "everybody is known"

    @property
    def by_pid(self) -> Counter[int]:
        """How many records each process has."""
        return Counter(record.pid for record in self.records if record.pid is not None)

    @property
    def blobs(self) -> list[bytes]:
        return [blob_of(record) for record in self.records]

    def names(self, pid: int) -> set[str | None]:
        """The names under which a process stands in the trace."""
        return {record.process for record in self.records if record.pid == pid}

    def writers(self) -> Mapping[int, str]:
        """The processes that have written so far: their names by pid."""
        return {writer["pid"]: writer["process"] for writer in self.channel.writers()}


@contextmanager
def running(command: list[str], directory: Path, **environment: str) -> Iterator[Course]:
    """Run `shmtrace` with these words beside the block.  Whatever of its processes is left then is killed.

    Their temporary files go, too: workers that are killed do not remove them.
    """
    with (
        tempfile.TemporaryDirectory() as scratch,
        subprocess.Popen(
            [*commands.SHMTRACE, *command],
            cwd=directory,
            env={**os.environ, "TMPDIR": scratch, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        ) as process,
    ):
        try:
            yield Course(process, directory)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def cook(recipe: Recipe, *more: str, number: int = 0) -> Course:
    """Run a command of the page, with `more` words behind it, to its end."""
    with running([*recipe.command(number), *more], recipe.directory) as course:
        course.finish()
        return course


def blob_of(record: Record) -> bytes:
    """What an untyped event carries."""
    blob = record.fields["blob"]
    assert isinstance(blob, bytes)
    return blob


def spans_of(records: list[Record]) -> list[tuple[Record, Record | None]]:
    """Begin and end of each span, where they nest in a thread; None: there is no end."""
    found: list[tuple[Record, Record | None]] = []
    begun: dict[tuple[int | None, int | None], list[Record]] = {}
    for record in records:
        stack = begun.setdefault((record.pid, record.tid), [])
        if record.kind == "begin":
            stack.append(record)
        elif record.kind == "end":
            assert stack[-1].name == record.name, "they nest"
            assert "exception" not in record.fields
            found.append((stack.pop(), record))
    return found + [(record, None) for stack in begun.values() for record in stack]


def until_gone(pid: int) -> None:
    """Wait until nothing is left of a process, not even a zombie."""
    commands.until(lambda: not Path(f"/proc/{pid}").exists(), 30)


def eventually(values: Callable[[], Any], expected: object, limit_s: float = 30) -> None:
    """Wait until a function gives what is expected."""
    limit = time.monotonic() + limit_s
    while (found := values()) != expected:
        assert time.monotonic() < limit, f"waited in vain for {expected}: {found}"
        time.sleep(0.01)
