"""pyzmq: PUSH to PULL over ipc, default limits.  A thread of libzmq sends."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bench.peer import Emitter, calling

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "pyzmq PUSH, ipc"
PACKAGES = ("pyzmq",)
FIRST_EVENT = """
import zmq
push = zmq.Context().socket(zmq.PUSH)
push.linger = 0
push.connect("ipc:///tmp/none-such")
try:
    push.send(b"first event", zmq.NOBLOCK)
except zmq.Again:
    pass  # nobody pulls
"""


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """The consumer makes its own context, in its own process."""
    import zmq

    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        address = f"ipc://{directory}/socket"
        pulling: list[Any] = []

        def receive() -> bytes:
            if not pulling:
                pulling.append(zmq.Context().socket(zmq.PULL))
                pulling[0].bind(address)
            received: bytes = pulling[0].recv()
            return received

        with zmq.Context() as context, context.socket(zmq.PUSH) as push:
            push.connect(address)
            yield Emitter(calling(push.send, bytes(size)), send=push.send, receive=receive)
            push.linger = 0
