"""A channel's collector and recorder, the real ones, as processes beside a test."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import commands

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    import shmtrace


def end(process: subprocess.Popen[str], *, signal_number: int = 0) -> str:
    """Wait until a process ends, after a signal if one is given; what it said on stderr."""
    if signal_number:
        process.send_signal(signal_number)
    _, said = process.communicate(timeout=commands.LIMIT_S)
    assert process.returncode == 0, said
    return said


@contextmanager
def collected(channel: shmtrace.Channel) -> Iterator[subprocess.Popen[str]]:
    """A collector beside the block; it is ended in order."""
    with commands.running("collect", channel.name) as collector:
        yield collector
        end(collector, signal_number=signal.SIGTERM)


class Recording:
    """Collector and recorder of one channel, while recording is on."""

    def __init__(
        self, channel: shmtrace.Channel, collector: subprocess.Popen[str], recorder: subprocess.Popen[str]
    ) -> None:
        self._channel = channel
        self._collector = collector
        self._recorder = recorder
        self.summary = ""

    @contextmanager
    def slow_reader(self) -> Iterator[None]:
        """While the block runs, the reader takes nothing."""
        os.kill(self._recorder.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._recorder.pid, signal.SIGCONT)

    def finish(self) -> None:
        """End in the order that loses nothing; then the counts of the channel are final."""
        end(self._collector, signal_number=signal.SIGTERM)
        self.summary = end(self._recorder).splitlines()[-1]


@contextmanager
def recorded(channel: shmtrace.Channel, directory: Path) -> Iterator[Recording]:
    """Record while the block runs."""
    with (
        commands.running("collect", channel.name) as collector,
        commands.running("record", channel.name, "-o", directory) as recorder,
    ):
        commands.until(lambda: channel.enabled)
        recording = Recording(channel, collector, recorder)
        yield recording
        recording.finish()


@contextmanager
def reading(channel: shmtrace.Channel, reader: str, output: Path, size: int = 0) -> Iterator[subprocess.Popen[str]]:
    """A reader beside the block, once recording is on: cat or head, which save the stream, or record."""
    command = {
        "cat": ["cat"],
        "head": ["head", "-c", str(size)],
        "record": [*commands.SHMTRACE, "record", channel.name, "-o", str(output)],
    }[reader]
    if reader != "record":
        command = ["sh", "-c", 'exec "$@" < "$0" > ' + str(output), str(channel.fifo), *command]
    with commands.running(command=command) as process:
        commands.until(lambda: channel.enabled)
        yield process


def leave(channel: shmtrace.Channel, reader: subprocess.Popen[str], signal_number: int) -> None:
    """End a reader, and wait until its collector has noticed and settled."""
    if signal_number == signal.SIGKILL:
        reader.kill()
        reader.communicate(timeout=commands.LIMIT_S)
    else:
        end(reader, signal_number=signal_number)
    commands.until(lambda: not channel.stats()["reader"] and not channel.enabled)
