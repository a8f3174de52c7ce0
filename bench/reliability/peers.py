"""The peers, by the name of their module."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from . import logging_queue, loguru_enqueue, opentelemetry_batch, shmtrace_record, viztracer_instant

if TYPE_CHECKING:
    from .peer import Peer

PEERS: dict[str, Peer] = {
    "shmtrace_record": shmtrace_record,
    "logging_queue": logging_queue,
    "loguru_enqueue": loguru_enqueue,
    "opentelemetry_batch": opentelemetry_batch,
    "viztracer_instant": viztracer_instant,
}
_MODULES = {"opentelemetry-sdk": "opentelemetry.sdk"}  # the others' packages are called like their modules


def installed(name: str) -> bool:
    """Whether the packages of a peer are there."""
    return all(_importable(_MODULES.get(package, package)) for package in PEERS[name].PACKAGES)


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False
