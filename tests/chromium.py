"""A headless Chromium that tests look through: its DevTools protocol over pipes, which needs no port and no library."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT_S = 90
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-breakpad", "--disable-background-networking", "--disable-component-update", "--disable-extensions",
    "--mute-audio", "--remote-debugging-pipe", "--force-color-profile=srgb",
)  # fmt: skip


class Page:
    """A page of the browser."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = commands
        self._answers = answers
        self._received = b""
        self._number = 0
        self._session: str | None = None
        self.errors: list[str] = []  # exceptions that nobody caught
        self.answers: list[str] = []  # addresses of all that was fetched
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """One command and its result."""
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        limit = time.monotonic() + LIMIT_S
        while True:
            answer = self._receive(limit)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._notice(answer)

    def _receive(self, limit: float) -> dict[str, Any]:
        while b"\0" not in self._received:
            assert select.select([self._answers], [], [], max(0, limit - time.monotonic()))[0], "Chromium says nothing"
            data = os.read(self._answers, 1 << 16)
            assert data, "Chromium is gone"
            self._received += data
        message, _, self._received = self._received.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _notice(self, event: dict[str, Any]) -> None:
        about = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(about["exceptionDetails"].get("exception", {}).get("description", str(about)))
        elif event.get("method") == "Network.responseReceived":
            self.answers.append(about["response"]["url"])

    def open(self, url: str) -> None:
        """Goes there; it is not loaded yet."""
        self.call("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:  # noqa: ANN401  (whatever JavaScript gives)
        """The value of an expression, also of a promise."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, condition: str) -> None:
        """Waits for an expression to be true."""
        limit = time.monotonic() + LIMIT_S
        while not self.evaluate(f"Boolean({condition})"):
            assert time.monotonic() < limit, f"waited in vain for {condition}"
            time.sleep(0.1)

    def picture(self) -> bytes:
        """A PNG of what is visible."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        """Ends the browser; killed, it would leave temporary files."""
        self._session = None
        self.call("Browser.close")


@contextmanager
def browsing(program: str, profile: Path, *, width: int = 1600, height: int = 900) -> Iterator[Page]:
    """A page of a browser that ends with the block."""
    pipes = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for pair in (os.pipe(), os.pipe()) for end in _taken(pair)]
    theirs_in, ours_out, ours_in, theirs_out = pipes
    script = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
    command = [program, *OPTIONS, f"--user-data-dir={profile}", f"--window-size={width},{height}", "about:blank"]
    with subprocess.Popen(
        ["bash", "-c", script, "bash", *command],
        pass_fds=(theirs_in, theirs_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    ) as process:
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            page = Page(ours_out, ours_in)
            try:
                yield page
            finally:
                page.close()
                process.wait(LIMIT_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            os.close(ours_out)
            os.close(ours_in)


def _taken(pair: tuple[int, int]) -> Iterator[int]:
    """Ends of a pipe, closed once a copy with a number above those that the browser wants was made."""
    for end in pair:
        yield end
        os.close(end)
