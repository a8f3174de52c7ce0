"""LTTng's session daemon and sessions, made for the benchmark and destroyed by it.

The daemon's files are in a private $LTTNG_HOME.  For root it has fixed places; if a daemon of root runs, that one is
not touched, and LTTng is left out.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from . import leftovers, native
from .peer import Counted

if TYPE_CHECKING:
    from collections.abc import Iterator

DAEMON, CLIENT, READER = "lttng-sessiond", "lttng", "babeltrace2"
SUB_BUFFER_BYTES, SUB_BUFFERS = 1 << 20, 16  # a cpu; no less memory than a channel's default
LIMIT_S = 20
_LEFT = "/dev/shm/lttng-ust-wait-*"  # noqa: S108
_HEADERS = Path("/usr/include")


@functools.cache  # before the benchmark starts a daemon
def missing() -> str | None:
    """Why it cannot run here; None if it can."""
    for program in (DAEMON, CLIENT, READER):
        if not shutil.which(program):
            return f"there is no {program}"
    if os.geteuid() == 0 and subprocess.run([CLIENT, "list"], check=False, capture_output=True).returncode == 0:
        return "a session daemon of root runs already"
    return None


def missing_for_c() -> str | None:
    """Why its library cannot be used here; None if it can."""
    return (
        missing()
        or native.missing()
        or (None if any(_HEADERS.rglob("lttng/tracepoint.h")) else "liblttng-ust-dev is not installed")
    )


@contextmanager
def daemon() -> Iterator[dict[str, str]]:
    """A daemon runs beside the block; gives the environment for those who use it."""
    with tempfile.TemporaryDirectory(prefix="bench-lttng-") as home, leftovers.removed(_LEFT):
        environment = {"LTTNG_HOME": home, "LTTNG_UST_REGISTER_TIMEOUT": "-1"}
        with subprocess.Popen(
            [DAEMON, "--no-kernel", "--quiet"], env=os.environ | environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            try:
                _wait_for_daemon(process, environment)
                yield environment
            finally:
                process.terminate()
                process.wait(LIMIT_S)


def _wait_for_daemon(process: subprocess.Popen[bytes], environment: dict[str, str]) -> None:
    limit = time.monotonic() + LIMIT_S
    answer = 1
    while answer:
        assert process.poll() is None, "LTTng's daemon ended; does another one run?"
        assert time.monotonic() < limit, "LTTng's daemon does not answer"
        answer = subprocess.run(
            [CLIENT, "list"], env=os.environ | environment, check=False, capture_output=True
        ).returncode
        time.sleep(0.05)


class Session:
    """A session that records."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory

    def client(self, *arguments: str) -> str:
        """Tell the daemon something; what it says."""
        return subprocess.run([CLIENT, *arguments], check=True, capture_output=True, text=True, timeout=60).stdout

    def counted(self, _emitted: int) -> Counted:
        """What babeltrace2 finds in the trace, and what the session says was discarded."""
        self.client("stop", self.name)
        said = self.client("list", self.name)
        # Version 2.13 now and then says a number that is too great by 2**63.
        told = sum(int(number) % (1 << 63) for number in re.findall(r"Discarded events: *(\d+)", said))
        command = [READER, "--component", "sink.utils.counter", "--params", "step=+0", str(self.directory)]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        events = re.search(r"(\d+) Event messages?", found)
        return Counted(int(events[1]) if events else 0, told)


@contextmanager
def session(*enable: str) -> Iterator[Session]:
    """A session with the events that `lttng enable-event` is told to enable."""
    with tempfile.TemporaryDirectory(prefix="bench-lttng-") as directory:
        made = Session(f"bench-{os.getpid()}", Path(directory, "trace"))
        made.client("create", made.name, "--output", str(made.directory))
        try:
            if "--python" not in enable:  # an agent has a channel of its own
                made.client(
                    "enable-channel", "--userspace", "--session", made.name, f"--subbuf-size={SUB_BUFFER_BYTES}",
                    f"--num-subbuf={SUB_BUFFERS}", "channel",
                )  # fmt: skip
                enable = (*enable, "--channel", "channel")
            made.client("enable-event", "--session", made.name, *enable)
            made.client("start", made.name)
            yield made
        finally:
            made.client("destroy", "--no-wait", made.name)
