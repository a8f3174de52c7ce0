"""The peers, by the name of their module."""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from bench.peer import Peer

NAMES = (
    "floor_len",
    "floor_ring",
    "shmtrace_off",
    "lttng_off",
    "logging_off",
    "shmtrace_event",
    "shmtrace_kernel",
    "shmtrace_tracepoint",
    "shmtrace_span",
    "shmtrace_span_task",
    "shmtrace_span_fields",
    "shmtrace_log",
    "shmtrace_record",
    "lttng_c",
    "pipe_write",
    "file_append",
    "trace_marker",
    "zmq_push",
    "queue_put",
    "viztracer_instant",
    "viztracer_span",
    "picologging_file",
    "iceoryx2_send",
    "dftracer_log",
    "faster_fifo_put",
    "structlog_json",
    "lttng_python",
    "logging_file",
    "logging_queue",
    "opentelemetry_span",
    "loguru_enqueue",
    "specification_sdk",
    "specification_bridge",
    "specification_channel",
)


PEERS: dict[str, Peer] = {name: cast("Peer", import_module(f"{__name__}.{name}")) for name in NAMES}


def packages(name: str) -> tuple[str, ...]:
    """What a peer needs, by its name for pip."""
    needed: tuple[str, ...] = getattr(PEERS[name], "PACKAGES", ())
    return needed


def missing(name: str) -> str | None:
    """Why a peer cannot run here; None if it can."""
    for package in packages(name):
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            return f"{package} is not installed"
    reason: str | None = getattr(PEERS[name], "missing", lambda: None)()
    return reason
