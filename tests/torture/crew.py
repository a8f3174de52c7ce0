"""Processes that live for a random time."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import signal
import sys
import time
import traceback
from collections import Counter
from typing import TYPE_CHECKING

from shmtrace import cli
from shmtrace.native.loader import libc

from . import Broken

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

LIMIT_S = 60.0  # whatever is waited for takes at most so long
LONGEST_STOP_S = 0.2
ENDINGS = (signal.SIGINT, signal.SIGTERM)
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def adopt_orphans() -> None:
    """Descendants whose parents are gone become children of this process."""
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)


def until(condition: Callable[[], object], complaint: str) -> None:
    """Wait for a condition; Broken if it takes too long."""
    limit = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > limit:
            raise Broken(f"{complaint}, after {LIMIT_S:.0f} s")
        time.sleep(0.001)


@dataclasses.dataclass
class Member:
    """A process of a crew."""

    pid: int
    role: str
    dies_at: float = math.inf
    dies_of: signal.Signals = signal.SIGKILL
    stops_at: float = math.inf  # or goes on, if it is stopped
    is_stopped: bool = False
    is_ending: bool = False  # it was sent a signal that ends it
    is_killed: bool = False  # because its time had come
    status: int | None = None  # exit status once it has ended, negative: the signal

    @property
    def is_alive(self) -> bool:
        return self.status is None


class Crew:
    """Forked processes in a process group of their own, all of which end with the block.

    Args:
        log: what they print.
        choose: their times.
        stop: mean time between stops of each, in seconds.
    """

    def __init__(self, log: Path, choose: random.Random, stop: float) -> None:
        self._log = log
        self._choose = choose
        self._stop = stop
        self._members: dict[int, Member] = {}
        self.counts = Counter[str]()  # of the killed by role, and of stops
        self.killed: list[Member] = []  # since somebody looked last
        self._group = 0
        self._keeper = self.fork("keeper", signal.pause)  # the group is there as long as anybody may join it
        self._keeper.stops_at = math.inf
        self._group = self._keeper.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Whatever is left of it is killed."""
        while True:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._group, signal.SIGKILL)
            try:
                os.waitpid(-self._group, 0)
            except ChildProcessError:
                break

    def fork(
        self,
        role: str,
        function: Callable[[], object],
        *,
        lifetime: float = math.inf,
        dies_of: signal.Signals = signal.SIGKILL,
    ) -> Member:
        """Start a process that calls a function and ends.  It lives for `lifetime` seconds, in the mean."""
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)  # as long as the child would handle them as this process does
        pid = os.fork()
        if pid == 0:
            _run(function, self._group, self._log)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)
        with contextlib.suppress(PermissionError, ProcessLookupError):  # whoever of the two is first
            os.setpgid(pid, self._group or pid)
        now = time.monotonic()
        self._members[pid] = Member(pid, role, now + self._draw(lifetime), dies_of, now + self._draw(self._stop))
        return self._members[pid]

    def command(
        self,
        role: str,
        *arguments: str | Path,
        lifetime: float = math.inf,
        dies_of: signal.Signals = signal.SIGKILL,
    ) -> Member:
        """Start a command of shmtrace."""
        return self.fork(role, lambda: cli.main([*map(str, arguments)]), lifetime=lifetime, dies_of=dies_of)

    def _draw(self, mean: float) -> float:
        return math.inf if mean == math.inf else self._choose.expovariate(1 / mean)

    def alive(self, role: str) -> list[Member]:
        return [member for member in self._members.values() if member.role == role]

    def tend(self) -> None:
        """Kill, stop and continue those whose time has come; bury the dead."""
        now = time.monotonic()
        for member in self._members.values():
            if now >= member.dies_at:
                self.kill(member)
            elif now >= member.stops_at:
                self._stop_or_go_on(member, now)
        self.reap()

    def kill(self, member: Member) -> None:
        """Its time has come."""
        member.dies_at, member.is_killed = math.inf, True
        self.end(member, member.dies_of)

    def end(self, member: Member, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal that ends a process."""
        member.is_ending = True
        with contextlib.suppress(ProcessLookupError):  # it ended by itself just now
            os.kill(member.pid, number)

    def _stop_or_go_on(self, member: Member, now: float) -> None:
        if member.is_stopped:
            os.kill(member.pid, signal.SIGCONT)
            member.stops_at = now + self._draw(self._stop)
        else:
            os.kill(member.pid, signal.SIGSTOP)
            self.counts["stops"] += 1
            member.stops_at = now + self._choose.uniform(0, LONGEST_STOP_S)
        member.is_stopped = not member.is_stopped

    def calm(self) -> None:
        """From now on nobody is killed or stopped; who is stopped goes on."""
        for member in self._members.values():
            if member.is_stopped:
                os.kill(member.pid, signal.SIGCONT)
            member.is_stopped, member.dies_at, member.stops_at = False, math.inf, math.inf

    def reap(self) -> bool:
        """Note who has ended; False if nobody is left.  Broken if one did so otherwise than in order or killed."""
        while True:
            try:
                pid, status = os.waitpid(-self._group, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            member = self._members.pop(pid, None) or Member(pid, "orphan")
            member.status = os.waitstatus_to_exitcode(status)
            if member.is_killed and (member.status or member.dies_of != signal.SIGKILL):
                self.counts[member.role] += 1
                self.killed.append(member)
            was_ended = member.is_ending and member.status == -member.dies_of
            if member.status not in (0, -signal.SIGKILL) and not was_ended:
                raise Broken(f"{member.role} {pid} ended with {member.status}: {self._last_words()}")

    def wait(self, member: Member) -> None:
        """Wait until a process has ended."""
        until(lambda: self.reap() and not member.is_alive, f"{member.role} {member.pid} does not end")

    def dismiss(self) -> None:
        """Wait until everybody has ended, orphans included."""
        os.kill(self._keeper.pid, signal.SIGKILL)
        until(lambda: not self.reap(), "producers do not end")

    def _last_words(self) -> str:
        return " | ".join(self._log.read_text(errors="replace").splitlines()[-8:])


def _run(function: Callable[[], object], group: int, log: Path) -> None:
    """The life of a forked process."""
    status = 70
    try:
        os.setpgid(0, group)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in ENDINGS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, 1)
        os.dup2(file, 2)
        function()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
