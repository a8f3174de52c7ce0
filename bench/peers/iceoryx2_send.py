"""iceoryx2: a sample is loaned, written and sent; the subscriber polls, and a full buffer holds the publisher back."""

from __future__ import annotations

import ctypes
import os
import time
from contextlib import contextmanager
from itertools import repeat
from typing import TYPE_CHECKING, Any

from bench import leftovers
from bench.peer import Cost, Emitter

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "iceoryx2 loan, write, send"
PACKAGES = ("iceoryx2",)
SAMPLES = 4096
POLL_S = 0.0002
LEFT = ("/dev/shm/iox2_*", "/tmp/iceoryx2/nodes/*", "/tmp/iceoryx2/services/*")  # noqa: S108 - its places


def _service(name: str) -> Any:  # noqa: ANN401 - it comes without useful types
    import iceoryx2

    iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
    node = iceoryx2.NodeBuilder.new().create(iceoryx2.ServiceType.Ipc)
    builder = node.service_builder(iceoryx2.ServiceName.new(name))
    opened = (
        builder.publish_subscribe(iceoryx2.Slice[ctypes.c_uint8])
        .enable_safe_overflow(False)
        .subscriber_max_buffer_size(SAMPLES)
        .open_or_create()
    )
    return node, opened


@contextmanager
def running(size: int) -> Iterator[Emitter]:
    """The consumer makes its own node, in its own process."""
    import iceoryx2

    name = f"bench-{os.getpid()}"
    subscribing: list[Any] = []

    def receive() -> bytes:
        if not subscribing:
            node, service = _service(name)
            subscribing[:] = [service.subscriber_builder().buffer_size(SAMPLES).create(), node, service]
        while (sample := subscribing[0].receive()) is None:
            time.sleep(POLL_S)
        return bytes(sample.payload().as_memory_view())

    with leftovers.removed(*LEFT):
        node, service = _service(name)
        publisher = (
            service.publisher_builder()
            .initial_max_slice_len(size)
            .backpressure_strategy(iceoryx2.BackpressureStrategy.RetryUntilDelivered)
            .create()
        )
        blob = (ctypes.c_uint8 * size)()

        def emit(count: int) -> Cost:
            while not service.dynamic_config.number_of_subscribers:
                time.sleep(POLL_S)
            cpu, begin = time.process_time(), time.perf_counter()
            for _ in repeat(None, count):
                sample = publisher.loan_slice_uninit(size)
                ctypes.memmove(sample.payload_ptr, blob, size)
                sample.assume_init().send()
            return Cost(time.perf_counter() - begin, time.process_time() - cpu)

        yield Emitter(emit, receive=receive)
        del node  # which had to live until now
