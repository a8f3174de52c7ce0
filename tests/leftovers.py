"""What tests may leave behind, and how to get rid of it.

`python tests/leftovers.py MARK SCRATCH` is what `tools/test` asks; SCRATCH was the directory of temporary files.

A process of a test run is known by its environment, `SHMTRACE_TEST_RUN=<mark>`; a shared memory object by its name,
`shmtrace.<uid>.t<pid>-...` with the pid of pytest, so that test runs beside each other do not mistake each other's.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import time
from contextlib import suppress
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

_SHM = Path("/dev/shm")
_NAME = re.compile(rf"(?:sem\.)?shmtrace\.{os.getuid()}\.t(\d+)-.*")


def processes(mark: str) -> list[int]:
    """Pids of the processes, but for this one and its ancestors, that were started by the test run `mark`."""
    wanted = f"SHMTRACE_TEST_RUN={mark}".encode()
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and int(entry.name) not in _ancestors() and wanted in _environment(entry)
    ]


def started() -> list[int]:
    """Processes of this test run that still live, without those that multiprocessing keeps for this one."""
    kept = {
        getattr(resource_tracker._resource_tracker, "_pid"),  # noqa: B009 - typeshed does not have them
        getattr(forkserver._forkserver, "_forkserver_pid"),  # noqa: B009
    }
    return [pid for pid in processes(os.environ["SHMTRACE_TEST_RUN"]) if pid not in kept]


def shared_memory(pid: int) -> list[Path]:
    """Shared memory objects of the test run whose pytest was process `pid`."""
    return [path for path, owner in _owned() if owner == pid]


def sweep() -> None:
    """Remove what test runs left that are dead."""
    for path, owner in _owned():
        if not Path("/proc", str(owner)).exists():
            path.unlink(missing_ok=True)


def end(pids: list[int]) -> None:
    """Kill processes."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _owned() -> list[tuple[Path, int]]:
    return [(path, int(match[1])) for path in _SHM.iterdir() if (match := _NAME.fullmatch(path.name))]


def _environment(entry: Path) -> list[bytes]:
    try:
        return (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _ancestors() -> set[int]:
    pid, found = os.getpid(), set[int]()
    while pid > 1:
        found.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return found


def main(mark: str, scratch: Path) -> int:
    """Name what is left of the test run `mark` and of dead test runs, remove it, and say whether there was anything.

    What pytest keeps to be looked at (it has a directory of its own in `scratch`) goes, too, but is nobody's fault.
    """
    limit = time.monotonic() + 5  # the orphans of an interrupted run need a moment to notice
    while (pids := processes(mark)) and time.monotonic() < limit:
        time.sleep(0.05)
    names = [path.name for path, owner in _owned() if not Path("/proc", str(owner)).exists()]
    files = sorted(path.name for path in scratch.iterdir() if not path.name.startswith("pytest-of-"))
    for what, left in (("processes", pids), ("/dev/shm", names), ("temporary files", files)):
        if left:
            print(f"tools/test: left behind ({what}): {' '.join(map(str, left))}", file=sys.stderr)
    end(pids)
    sweep()
    shutil.rmtree(scratch)
    return 1 if pids or names or files else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
