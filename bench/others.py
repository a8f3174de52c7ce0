"""Workloads of others: the table in the README of faster-fifo, and what a message costs in picologging's manner.

faster-fifo: so many producers (P) put tuples of five integers, so many each, and one consumer (C) takes them all; the
time is from the start of the processes until the last one has been taken and unpickled.  shmtrace carries the same
tuples, pickled, and its consumer reads them by `shmtrace.read` from the FIFO.

picologging: a message with one argument is formatted into a StringIO.  An event carries the formatted message.
"""

from __future__ import annotations

import io
import logging
import multiprocessing
import pickle
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import shmtrace

from .costs import spread
from .peer import calling_with_two
from .peers import missing
from .peers.shmtrace_event import channel, collected, collecting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPETITIONS = 3
TABLE = ((1, 200_000), (10, 100_000))  # producers, messages of each
QUEUE_BYTES = 1 << 25
LOG_ROUNDS, LOG_MESSAGES = 15, 5000


def fifo_table(scale: float = 1.0) -> list[dict[str, Any]]:
    """Seconds for each kind of queue and each row of the table; `scale` makes for fewer messages."""
    kinds: dict[str, Callable[[int, int], tuple[float, int]]] = {"shmtrace, read()": _through_channel}
    if missing("faster_fifo_put") is None:
        kinds["faster-fifo, get_many"] = _through_faster_fifo
    kinds["multiprocessing.Queue"] = _through_queue
    samples: dict[tuple[str, int, int], list[float]] = {}
    taken: dict[tuple[str, int, int], int] = {}
    for _ in range(REPETITIONS):
        for producers, messages in TABLE:
            each = max(int(messages * scale), 1)
            for kind, run in kinds.items():
                seconds, count = run(producers, each)
                key = kind, producers, each
                samples.setdefault(key, []).append(seconds)
                taken[key] = taken.get(key, 0) + count
    return [
        {
            "kind": kind, "producers": producers, "messages": each, "s": spread(values),
            "emitted": producers * each * REPETITIONS, "delivered": taken[kind, producers, each],
        }
        for (kind, producers, each), values in samples.items()
    ]  # fmt: skip


def _produce(put: Callable[[tuple[int, ...]], object], count: int) -> None:
    for number in range(count):
        put((number,) * 5)


@contextmanager
def _producers(put: Callable[[tuple[int, ...]], object], producers: int, each: int) -> Iterator[None]:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_produce, args=(put, each)) for _ in range(producers)]
    for process in processes:
        process.start()
    yield
    for process in processes:
        process.join()


def _through_queue(producers: int, each: int) -> tuple[float, int]:
    queue: multiprocessing.Queue[tuple[int, ...]] = multiprocessing.get_context("fork").Queue()
    begin = time.perf_counter()
    with _producers(queue.put, producers, each):
        for _ in range(producers * each):
            queue.get()
        return time.perf_counter() - begin, producers * each


def _through_faster_fifo(producers: int, each: int) -> tuple[float, int]:
    from faster_fifo import Queue

    queue = Queue(max_size_bytes=QUEUE_BYTES)
    begin = time.perf_counter()
    with _producers(queue.put, producers, each):
        taken = 0
        while taken < producers * each:
            taken += len(queue.get_many(timeout=100.0))
        return time.perf_counter() - begin, taken


def _through_channel(producers: int, each: int) -> tuple[float, int]:
    with channel(mode="block", block_ms=60_000) as made, collecting(made), made.fifo.open("rb") as stream:
        while not made.enabled:
            time.sleep(0.001)
        event, dumps = made.event, pickle.dumps

        def put(message: tuple[int, ...]) -> None:
            event(dumps(message))

        begin = time.perf_counter()
        with _producers(put, producers, each):
            taken = 0
            for record in shmtrace.read(stream):
                if record.kind == "event":
                    pickle.loads(record.fields["blob"])  # type: ignore[arg-type]  # noqa: S301 - our own
                    taken += 1
                    if taken == producers * each:
                        break
            return time.perf_counter() - begin, taken


def log_messages(rounds: int = LOG_ROUNDS) -> list[dict[str, Any]]:
    """Nanoseconds a message, in turn."""
    with channel() as made, collected(made):
        event = made.event

        def format_and_emit(text: str, argument: str) -> None:
            event((text % argument).encode())

        functions: dict[str, Callable[[str, str], object]] = {"shmtrace": format_and_emit}
        if missing("picologging_file") is None:
            import picologging

            functions["picologging"] = _logging_to_memory(picologging)
        functions["logging"] = _logging_to_memory(logging)
        samples: dict[str, list[float]] = {name: [] for name in functions}
        for _ in range(rounds):
            for name, function in functions.items():
                cost = calling_with_two(function, "There has been a %s issue", "logging")(LOG_MESSAGES)
                samples[name].append(cost.seconds / LOG_MESSAGES * 1e9)
        assert made.missed == 0
    return [{"kind": name, "ns": spread(values)} for name, values in samples.items()]


def _logging_to_memory(module: Any) -> Callable[[str, str], object]:  # noqa: ANN401 - both have the same names
    logger = module.Logger("bench", level=module.DEBUG)
    handler = module.StreamHandler(io.StringIO())
    handler.setFormatter(module.Formatter("%(levelname)s:%(name)s:%(message)s"))
    logger.addHandler(handler)
    debug: Callable[[str, str], object] = logger.debug
    return debug
