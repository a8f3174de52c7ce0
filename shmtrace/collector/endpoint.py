"""`collect --metrics`: the counts of the channels and of the collector's process, for Prometheus, on loopback."""

from __future__ import annotations

import http.server
import ipaddress
import resource
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..errors import ShmtraceError
from ..metrics import CONTENT_TYPE, exposition
from ..segment import open_segment
from ..stats import segment_stats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["Endpoint", "parse_address"]

PATIENCE_S = 5  # with who connects and does not ask


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of "9464", "127.0.0.1:9464" or "[::1]:9464".  Raises ValueError."""
    host, _, digits = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not digits.isdecimal() or int(digits) > 65_535:
        raise ValueError(f"{text!r} is no address: write it as 9464 or 127.0.0.1:9464")
    try:
        is_ours = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_ours = False
    if not is_ours:
        raise ValueError(f"{text!r} is not on loopback, and whoever reaches it may read: let a proxy serve others")
    return host, int(digits)


class Endpoint:
    """Serves /metrics from a thread of its own.  `names` gives the channels of now."""

    def __init__(self, address: tuple[str, int], names: Callable[[], Iterable[str]]) -> None:
        """Raises OSError if the address is taken."""

        class Handler(_Handler):
            def text(self) -> str:
                return exposition(_stats(names())) + "".join(f"{line}\n" for line in _process())

        server = _ServerOfIPv6 if ":" in address[0] else http.server.ThreadingHTTPServer
        self._server = server(address, Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()


class _ServerOfIPv6(http.server.ThreadingHTTPServer):
    address_family = 10  # AF_INET6


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = PATIENCE_S
    server_version, sys_version = "shmtrace", ""

    def text(self) -> str:
        raise NotImplementedError

    def do_GET(self) -> None:
        """Answer."""
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404, "there is /metrics only")
            return
        body = self.text().encode()
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 - the library's signature
        """Say nothing."""


def _stats(names: Iterable[str]) -> Iterator[dict[str, Any]]:
    for name in names:
        with suppress(ShmtraceError):  # it was removed just now
            segment = open_segment(name)
            try:
                yield segment_stats(segment)
            finally:
                segment.unmap()


def _process() -> Iterator[str]:
    """The cpu time and the memory of the collector itself."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    for name, kind, what, value in (
        ("cpu_seconds_total", "counter", "Cpu time of the collector's process.", used.ru_utime + used.ru_stime),
        ("peak_memory_bytes", "gauge", "The most memory that the collector's process had.", used.ru_maxrss * 1024),
    ):
        yield f"# HELP shmtrace_collector_{name} {what}"
        yield f"# TYPE shmtrace_collector_{name} {kind}"
        yield f"shmtrace_collector_{name} {value}"
