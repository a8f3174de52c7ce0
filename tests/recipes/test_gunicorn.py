"""docs/recipes/gunicorn.md: real requests, over a Unix socket, from several clients at once."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import commands
from elsewhere import NOBODY, needs_root
from recipe import Recipe, running, spans_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from recipe import Course

pytestmark = pytest.mark.heavy
PLAIN, PRELOADED, OTHER_USER = range(3)  # the page's commands
WORKERS = 3


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        self.sock.connect(str(self._path))


class Clients:
    """What was asked of a server, and the pids of those that answered."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.answers: dict[int, int] = {}  # pid by number of the request
        self.asked = 0

    def ask(self, count: int) -> None:
        """So many requests, from four clients at once."""
        numbers = range(self.asked, self.asked + count)
        self.asked += count
        with ThreadPoolExecutor(4) as pool:
            for number, pid in zip(numbers, pool.map(self._ask, numbers), strict=True):
                if pid:
                    self.answers[number] = pid

    def _ask(self, number: int) -> int:
        """Pid of the worker that answered; 0 if it was killed instead."""
        connection = _Connection(self._path)
        try:
            connection.request("GET", f"/{number}")
            response = connection.getresponse()
            assert response.status == 200
            return int(response.read())
        except (ConnectionError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    @property
    def workers(self) -> set[int]:
        """Who has answered."""
        return set(self.answers.values())


@contextmanager
def serving(page: Recipe, number: int, *, command: list[str] | None = None) -> Iterator[tuple[Course, Clients]]:
    """A command of the page beside the block, and its clients; it is ended in order afterwards."""
    words = command or page.command(number)
    cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    # gunicorn makes its control socket below HOME
    with running(words, page.directory, HOME=str(page.directory), XDG_CACHE_HOME=cache) as course:
        commands.until(lambda: course.channel.enabled, 60)
        path = page.directory / "web.sock"
        commands.until(lambda: path.exists() or course.process.poll() is not None, 30)
        clients = Clients(path)
        yield course, clients
        course.process.send_signal(signal.SIGTERM)
        course.finish()


def assert_every_request_is_there(course: Course, clients: Clients) -> None:
    """Each that was answered is in the trace once, under the pid of the worker that answered it."""
    spans = spans_of(course.records)
    assert Counter(begin.fields["path"] for begin, _ in spans) == {f"/{number}": 1 for number in range(clients.asked)}
    assert all(end for _, end in spans)
    assert Counter(begin.pid for begin, _ in spans) == Counter(clients.answers.values())
    assert {name for pid in course.by_pid for name in course.names(pid)} == {"gunicorn"}


@pytest.mark.parametrize("number", [PLAIN, PRELOADED], ids=["plain", "preloaded"])
def test_every_worker_is_in_the_trace_before_a_reload_and_after_it(
    number: int, recipe: Callable[[str], Recipe], needs: Callable[[str], None]
) -> None:
    needs("gunicorn")
    with serving(recipe("gunicorn"), number) as (course, clients):
        while len(clients.workers) < WORKERS:
            clients.ask(50)
        old = clients.workers
        course.process.send_signal(signal.SIGHUP)  # `run` hands it on
        while len(clients.workers) < 2 * WORKERS:  # under load
            clients.ask(50)
        assert old < clients.workers
    assert clients.asked == len(clients.answers), "nobody went without an answer"
    assert_every_request_is_there(course, clients)


@pytest.mark.parametrize("number", [PLAIN, PRELOADED], ids=["plain", "preloaded"])
def test_what_a_worker_that_is_killed_under_load_had_emitted_is_in_the_trace(
    number: int, recipe: Callable[[str], Recipe], needs: Callable[[str], None]
) -> None:
    needs("gunicorn")
    with serving(recipe("gunicorn"), number) as (course, clients):
        clients.ask(100)
        killed: list[int] = []
        for _ in range(5):
            with ThreadPoolExecutor(1) as beside:
                load = beside.submit(clients.ask, 200)
                killed.append(next(iter(clients.workers - set(killed))))
                os.kill(killed[-1], signal.SIGKILL)
                load.result()
    spans = spans_of(course.records)
    counts = Counter(begin.fields["path"] for begin, _ in spans)
    assert set(counts.values()) == {1}, "nothing twice"
    assert all(counts[f"/{asked}"] for asked in clients.answers), "what was answered is in the trace"
    assert {begin.pid for begin, end in spans if end is None} <= set(killed)
    answered = Counter(clients.answers.values())
    for pid, count in Counter(begin.pid or 0 for begin, _ in spans).items():
        assert count - answered[pid] in ({0, 1} if pid in killed else {0}), "begun, and killed before the answer"
    assert set(killed) <= set(course.by_pid)


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A directory that other users can reach."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@needs_root
def test_a_preloaded_worker_keeps_the_channel_across_a_change_of_user(
    recipe: Callable[[str], Recipe], needs: Callable[[str], None], public_directory: Path
) -> None:
    needs("gunicorn")
    recipe("gunicorn")
    page = Recipe("gunicorn", public_directory)
    with serving(page, OTHER_USER) as (course, clients):
        while len(clients.workers) < WORKERS:
            clients.ask(50)
        assert {Path(f"/proc/{pid}").stat().st_uid for pid in clients.workers} == {NOBODY}
        course.process.send_signal(signal.SIGHUP)
        while len(clients.workers) < 2 * WORKERS:
            clients.ask(50)
        victim = max(clients.workers)
        os.kill(victim, signal.SIGKILL)
        clients.ask(100)
    assert_every_request_is_there(course, clients)


def reachable() -> list[str]:
    """A command that runs another one where every user can reach this Python, though root's home may be closed."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "--mount", "true"], capture_output=True).returncode:
        pytest.skip("needs leave to make namespaces")
    prefix = Path(sys.base_prefix)
    closed = [part for part in prefix.parents if not part.stat().st_mode & 0o001]
    if not closed:
        return []
    script = (
        'there=$(mktemp -d) && mount --bind "$1" "$there" && mount -t tmpfs -o mode=0755 tmpfs "$0" '
        '&& mkdir -p "$1" && mount --bind "$there" "$1" && umount "$there" && rmdir "$there" && shift && exec "$@"'
    )
    return [unshare, "--mount", "sh", "-c", script, str(closed[-1]), str(prefix)]


@needs_root
def test_a_worker_that_changes_its_user_before_it_attaches_serves_untraced_and_says_so_in_one_line(
    recipe: Callable[[str], Recipe], needs: Callable[[str], None], public_directory: Path
) -> None:
    needs("gunicorn")
    recipe("gunicorn")
    page = Recipe("gunicorn", public_directory)
    words = [word for word in page.command(OTHER_USER) if word != "--preload"]
    at = words.index("gunicorn")
    gunicorn = [sys.executable, "-P", "-c", "from gunicorn.app.wsgiapp import run; run()"]
    command = [*words[:at], *reachable(), *gunicorn, *words[at + 1 :]]
    with serving(page, OTHER_USER, command=command) as (course, clients):
        while len(clients.workers) < WORKERS and clients.asked < 5000:
            clients.ask(50)
        workers = clients.workers
    assert len(clients.answers) == clients.asked
    assert course.records == []
    lines = [line for line in course.stderr.splitlines() if line.startswith("shmtrace: nothing")]
    assert len(lines) == len(workers) == WORKERS
    assert all(
        line.endswith(
            "it is the channel of root, and this process runs as nobody: "
            "attach before the change of user, or run all of it as one user"
        )
        for line in lines
    )
