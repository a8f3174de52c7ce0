"""docs/recipes/celery.md, with redis-server as broker."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

import commands
from recipe import blob_of, running, spans_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from recipe import Course, Recipe

pytestmark = pytest.mark.heavy
WORKERS, TASKS = 3, 300

SEND = """
import sys, tasks
results = [tasks.add.delay(number, 1) for number in range(int(sys.argv[1]), int(sys.argv[2]))]
print(sum(result.get(timeout=60) for result in results))
"""
DIG = """
import sys, celery.exceptions, tasks, time
results = [tasks.dig.delay(number) for number in range(int(sys.argv[1]))]
print("sent", flush=True)
lost = 0
for result in results:
    try:
        result.get(timeout=60)
    except Exception as error:
        assert "WorkerLostError" in repr(error), error
        lost += 1
print(lost)
"""


@pytest.fixture
def broker(tmp_path: Path, needs: Callable[[str], None], peer: Callable[[str], str]) -> Iterator[str]:
    """A redis-server on a Unix socket of its own, which is gone afterwards."""
    needs("celery")
    needs("redis")
    socket = tmp_path / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no", "--dir", str(tmp_path)]
    with commands.running(command=[peer("redis-server"), *options]):
        commands.until(socket.exists, 20)
        yield f"redis+socket://{socket}"


@contextmanager
def working(page: Recipe, broker: str) -> Iterator[Course]:
    """The page's workers beside the block; they are ended in order afterwards."""
    with running(page.command(), page.directory, BROKER=broker) as course:
        commands.until(lambda: course.channel.enabled, 60)
        yield course
        course.process.send_signal(signal.SIGTERM)
        course.finish()


def send(page: Recipe, broker: str, program: str, *arguments: int) -> str:
    """Run another program, which sends tasks and waits for what they give.  It is not traced."""
    result = commands.run(
        program, *map(str, arguments), cwd=page.directory, command=[sys.executable, "-c"], BROKER=broker
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_pool_process_is_in_the_trace(recipe: Callable[[str], Recipe], broker: str) -> None:
    page = recipe("celery")
    with working(page, broker) as course:
        assert int(send(page, broker, SEND, 0, TASKS)) == sum(range(TASKS)) + TASKS
    spans = spans_of(course.records)
    assert Counter((begin.fields["a"], begin.fields["b"]) for begin, _ in spans) == {(n, 1): 1 for n in range(TASKS)}
    assert all(end for _, end in spans)
    assert 2 <= len(course.by_pid) <= WORKERS
    names = [course.names(pid) for pid in course.by_pid]
    assert len({name for (name,) in names}) == len(names)
    assert all(re.fullmatch(r"ForkPoolWorker-\d+", str(name)) for (name,) in names)


def test_a_killed_pool_process_leaves_what_it_had_emitted_and_the_next_one_goes_on(
    recipe: Callable[[str], Recipe], broker: str
) -> None:
    page = recipe("celery")
    count = 2000
    with working(page, broker) as course:
        environment = {**os.environ, "BROKER": broker}
        with subprocess.Popen(
            [sys.executable, "-c", DIG, str(count)], cwd=page.directory, env=environment,
            stdout=subprocess.PIPE, text=True,
        ) as sender:  # fmt: skip
            try:
                assert sender.stdout is not None
                assert sender.stdout.readline() == "sent\n"
                commands.until(lambda: len(course.writers()) == WORKERS, 30)
                victim = max(course.writers())
                os.kill(victim, signal.SIGKILL)
                said, _ = sender.communicate(timeout=commands.LIMIT_S)
            finally:
                sender.kill()
        assert sender.returncode == 0
        assert int(send(page, broker, SEND, 0, 100)) == 5050, "the pool is whole again"
    counts = Counter(blob_of(record) for record in course.records if record.kind == "event")
    dug = {number for number in range(count) if counts[b"dig %d" % number]}
    lost = int(said)
    assert lost <= 1
    assert len(dug) >= count - lost, "what was done is in the trace"
    assert [end is None for _, end in spans_of(course.records)] == [False] * 100
    assert course.by_pid[victim] > 0
    assert len(course.by_pid) >= WORKERS
