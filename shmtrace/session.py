"""A session: a channel with a collector and a recorder of its own, while one program or one block of code runs.

`shmtrace run` and `record` are the two faces of it.  Collector and recorder are processes in a session of their own in
the terminal's sense, so that Ctrl-C reaches the program only.  They end in this order, which loses nothing:

1. the collector gets SIGTERM: it sends what is committed, says goodbye in the control block and ends;
2. the recorder sees the goodbye and an empty FIFO, writes its summary and ends;
3. the channel is removed.

A collector that was killed is replaced, at the latest when the session ends.

In the mode "overwrite" there is neither a collector nor a recorder: at the end a snapshot is taken.

If the process of the session is killed, nobody here can do that.  So the collector is told whose session it is, watches
that process, and then does steps 1 and 3 by itself.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from .channel import create_channel, remove_channel
from .errors import ChannelExists, ChannelNotFound, ChannelNotStreamed, ShmtraceError
from .layout import CONTROL
from .notes import say
from .process import start_ticks
from .reader.errors import DirectoryNotEmpty
from .segment import open_segment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .channel import Channel

__all__ = ["Session", "record"]

_POLL_S = 0.002
_START_LIMIT_S = 180  # on a cold cache the collector compiles first
_END_LIMIT_S = 30  # a reader that keeps up empties the default geometry in a fraction of a second
_TERM_LIMIT_S = 5
_REPLACEMENTS = 100  # of killed collectors in a session: whatever kills them is not to keep us busy

_numbers = itertools.count(1)


@contextmanager
def record(
    directory: str | os.PathLike[str],
    *,
    name: str | None = None,
    mode: str = "drop",
    page_size: int | None = None,
    pages: int | None = None,
    flush_ms: int = 100,
    block_ms: int = 1000,
) -> Iterator[Channel]:
    """Record the events of a block, and of the processes that it starts, into `directory` as a CTF trace.

    Gives the channel.  Inside the block `$SHMTRACE` names it, so that `attach` finds it here and in every process that
    is started from here; it is removed at the end.  Raises `ShmtraceError` if `directory` is not empty or recording
    cannot start, and ChannelNotStreamed for the mode "overwrite".  The other arguments are those of `create_channel`,
    and so are the other errors.
    """
    if mode == "overwrite":
        raise ChannelNotStreamed("mode 'overwrite' has no stream to record: create a channel and take a snapshot of it")
    with Session(
        directory, name=name, mode=mode, page_size=page_size, pages=pages, flush_ms=flush_ms, block_ms=block_ms
    ) as session:
        before = os.environ.get("SHMTRACE")
        os.environ["SHMTRACE"] = session.channel.name
        try:
            yield session.channel
        finally:
            if before is None:
                os.environ.pop("SHMTRACE", None)
            else:
                os.environ["SHMTRACE"] = before


class Session:
    """See the head of this module.  A context manager: recording is on inside the block."""

    channel: Channel

    def __init__(
        self, directory: str | os.PathLike[str], *, name: str | None = None, prefix: str = "record",
        mode: str = "drop", page_size: int | None = None, pages: int | None = None,
        flush_ms: int = 100, block_ms: int = 1000,
    ) -> None:  # fmt: skip
        self.directory = Path(directory)
        self._pid = os.getpid()
        self._name = name
        self._prefix = prefix
        self._mode = mode
        self._create = partial(
            create_channel, mode=mode, page_size=page_size, pages=pages, flush_ms=flush_ms, block_ms=block_ms,
            _session=(self._pid, start_ticks() or 0),
        )  # fmt: skip
        self._replacements = 0
        self._helpers: list[_Helper] = []  # the collector and the recorder, once they run

    def __enter__(self) -> Self:
        if self.directory.is_dir() and any(self.directory.iterdir()):  # the recorder would say so too, but only later
            raise DirectoryNotEmpty(f"{self.directory} is not empty: give the name of one that is, or does not exist")
        self.channel = self._create_channel()
        if self._mode == "overwrite":
            return self
        try:
            self._helpers.append(self._start_collector())
            self._helpers.append(_Helper("record", self.channel.name, "-o", str(self.directory)))
            self._await_recording()
        except BaseException:
            self._abandon()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if os.getpid() != self._pid:  # a child forked inside the block leaves it too; the session is not its own
            return
        try:
            self._end()
        except BaseException:  # a second Ctrl-C: leave nothing behind all the same
            self._abandon()
            raise

    def tend(self) -> None:
        """Replace a collector that was killed; to be called now and then.  Its successor loses nothing."""
        if self._helpers and self._helpers[0].was_killed and self._replacements < _REPLACEMENTS:
            self._replacements += 1
            say("the collector was killed; another one goes on")
            self._helpers[0].close()
            self._helpers[0] = self._start_collector()

    def _start_collector(self) -> _Helper:
        return _Helper("collect", self.channel.name, "--session", str(self._pid))

    def _create_channel(self) -> Channel:
        while True:
            name = self._name or f"{self._prefix}-{self._pid}" + ("" if (n := next(_numbers)) == 1 else f"-{n}")
            try:
                return self._create(name)
            except ChannelExists:  # a name that we made up may be that of an earlier process with our pid
                if self._name is not None:
                    raise

    def _await_recording(self) -> None:
        limit = time.monotonic() + _START_LIMIT_S
        while not self.channel.enabled:
            for helper in self._helpers:
                if helper.ended:
                    raise ShmtraceError(f"the {helper.name} ended at once: {helper.last_words()}")
            if time.monotonic() > limit:
                raise ShmtraceError(f"collector and recorder did not start within {_START_LIMIT_S} s")
            time.sleep(_POLL_S)

    def _end(self) -> None:
        if self._mode == "overwrite":
            self._end_with_a_snapshot()
            return
        self.tend()
        self._end_collector()
        while self._helpers[0].was_killed and self._replacements < _REPLACEMENTS:
            self.tend()
            self._end_collector()
        collector, recorder = self._helpers
        if collector.failed:
            collector.pass_on()
            recorder.terminate()  # it would wait for the next collector
        recorder.await_end()
        self._remove_channel()
        recorder.pass_on()
        if recorder.was_killed:
            say(f"the recorder was killed: what came after that is not in {self.directory}")
        self._forget()

    def _end_collector(self) -> None:
        collector = self._helpers[0]
        with suppress(ShmtraceError):  # somebody removed the channel: the collector ends by itself
            segment = open_segment(self.channel.name)  # the program may have closed its own
            limit = time.monotonic() + _START_LIMIT_S  # one that has not begun does not know what SIGTERM means
            while segment.u32(CONTROL.collector_pid) != collector.pid and not collector.ended:
                if time.monotonic() > limit:
                    break
                time.sleep(_POLL_S)
            segment.unmap()
        collector.terminate()
        collector.await_end()

    def _end_with_a_snapshot(self) -> None:
        from .collector.snapshot import take_snapshot

        recorder = take_snapshot(open_segment(self.channel.name), self.directory)
        self._remove_channel()
        say(recorder.summary())

    def _abandon(self) -> None:
        for helper in self._helpers:
            helper.kill()
        self._forget()
        self._remove_channel()

    def _forget(self) -> None:
        while self._helpers:
            self._helpers.pop().close()

    def _remove_channel(self) -> None:
        self.channel.close()
        with suppress(ChannelNotFound):  # somebody did that already
            remove_channel(self.channel.name)


class _Helper:
    """A process of ours that runs one of our commands.  What it says on stderr is kept until it has ended."""

    def __init__(self, *arguments: str) -> None:
        self.name = {"collect": "collector", "record": "recorder"}[arguments[0]]
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        environment = {key: value for key, value in os.environ.items() if key != "SHMTRACE"}  # not to be traced itself
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "shmtrace", *arguments],  # -P: the program's directory must not shadow modules
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._stderr,
            env=environment, start_new_session=True,
        )  # fmt: skip

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def failed(self) -> bool:
        return bool(self._process.poll())

    @property
    def was_killed(self) -> bool:
        return (self._process.poll() or 0) < 0

    def terminate(self) -> None:
        self._process.terminate()

    def await_end(self) -> None:
        """Wait until it ends by itself; if it does not, end it."""
        for limit_s, next_step in ((_END_LIMIT_S, self._process.terminate), (_TERM_LIMIT_S, self._process.kill)):
            try:
                self._process.wait(limit_s)
            except subprocess.TimeoutExpired:
                next_step()
            else:
                return
        self._process.wait()
        say(f"the {self.name} did not end and was killed: the trace may lack its end")

    def pass_on(self) -> None:
        """Say what it said."""
        for line in self._lines():
            say(line.removeprefix("shmtrace: "))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self._stderr.close()

    def last_words(self) -> str:
        """The last line of its stderr, without our name in front."""
        lines = self._lines()
        return lines[-1].removeprefix("shmtrace: ") if lines else f"exit status {self._process.returncode}"

    def _lines(self) -> list[str]:
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace").splitlines()
