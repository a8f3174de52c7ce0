"""What babeltrace2, a program that nobody here wrote, says about a recorded trace.

Only its text is looked at.  It must not warn of anything but what the tracer says itself that it discarded.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT_S = 100
EVENT = re.compile(
    r"\[(\d+)\.(\d{9})\] .*?(\w+): \{ cpu_id = (\d+), lane = (\d+) \}, "
    r"\{ cpu = (\d+), writer = (\d+), size = (\d+) \}, \{ (.*) \}"
)
PID = re.compile(r"\bpid = (\d+), .*\bnumber = (\d+),")
ELEMENT = re.compile(r"\] = (\d+)")
DISCARDED = re.compile(r"WARNING: Tracer discarded (\d+) events? between .*")


class Event(NamedTuple):
    """A blob, as babeltrace2 prints it; pid 0: nobody said who the writer is."""

    time_ns: int
    stream_cpu: int
    lane: int
    cpu: int
    pid: int
    size: int
    body: str

    @property
    def blob(self) -> bytes:
        return bytes(map(int, ELEMENT.findall(self.body)))


class Verdict(NamedTuple):
    """What is in a trace."""

    by_pid: dict[int, int]
    discarded: int


def events(babeltrace2: str, directory: Path) -> Iterator[Event | int]:
    """The blobs of a trace; and the number of events that were discarded, each time that it is told."""
    with (
        tempfile.TemporaryFile("w+") as stderr,  # a pipe could be full while its text is read
        subprocess.Popen(
            [babeltrace2, "--clock-seconds", "--no-delta", directory], stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as process,
    ):
        assert process.stdout is not None
        pids: dict[tuple[int, int], int] = {}  # by lane and number of the writer
        for line in process.stdout:
            match = EVENT.match(line)
            assert match, line
            seconds, nanoseconds, name, stream_cpu, lane, cpu, writer, size, body = match.groups()
            if name == "writer":
                who = PID.search(body)
                assert who, line
                pids[int(lane), int(who[2])] = int(who[1])
            elif name == "blob":
                yield Event(
                    int(seconds) * 10**9 + int(nanoseconds), int(stream_cpu), int(lane), int(cpu),
                    pids.get((int(lane), int(writer)), 0), int(size), body,
                )  # fmt: skip
        status = process.wait(LIMIT_S)
        stderr.seek(0)
        complaints = stderr.read().splitlines()
    assert status == 0, complaints
    for complaint in complaints:
        told = DISCARDED.fullmatch(complaint)
        assert told, f"babeltrace2 says: {complaint}"
        yield int(told[1])


def judge(babeltrace2: str, directory: Path) -> Verdict:
    """Count."""
    counts = Counter[int]()
    discarded = 0
    for event in events(babeltrace2, directory):
        if isinstance(event, int):
            discarded += event
        else:
            counts[event.pid] += 1
    return Verdict(dict(counts), discarded)
