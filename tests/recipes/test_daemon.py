"""docs/recipes/daemon.md."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import commands
import leftovers
import shmtrace
from recipe import TRACE, blob_of, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from recipe import Recipe


def test_a_daemon_and_its_worker_are_in_the_trace(recipe: Callable[[str], Recipe], channel_name: str) -> None:
    page = recipe("daemon")
    assert len(page.shell) == 1
    script = re.sub(r"\bapp\b", channel_name, page.shell[0])  # channels of this test run have names of this test run
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=page.directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=commands.LIMIT_S,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    eventually(leftovers.started, [])
    daemon = int((page.directory / "done").read_text())
    records = [record for record in shmtrace.read(page.directory / TRACE) if record.kind != "loss"]
    by_pid: dict[int | None, list[bytes]] = {}
    for record in records:
        by_pid.setdefault(record.pid, []).append(blob_of(record))
    assert by_pid.pop(daemon) == [b"%d" % number for number in range(1000)]
    assert sorted(by_pid.values()) == [[b"before"], [b"worker"]]
    assert {record.process for record in records} == {"steward.py"}
    # two processes say it, perhaps at once
    assert re.search(r"shmtrace: 1,002 events, .*, 3 writers, 0 missed, 0 lost -> ", result.stderr)
