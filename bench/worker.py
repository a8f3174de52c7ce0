"""One peer in a process: `python -m bench.worker PEER SIZE`.  The protocol of lines is the one of bench/c/protocol.h.

    in    COUNT               so many events
    out   SECONDS CPU         what passed; what the process used, what it does afterwards for these events included
    in    COUNT PROCESSES     so many events in each of so many processes that begin together
    out   SECONDS CPU         from the first to the last; of all of them together
    in    arrived COUNT       wait until so many have arrived at the consumer, in all, or no more comes
    out   NUMBER SECONDS      how many have; what passed until the last was there
    in    end COUNT           so many there were in all
    out   DELIVERED TOLD      or a dash where nobody can count

What it says first is how many events it has emitted to warm up.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from . import consumer
from .peer import Cost, Counted
from .peers import PEERS
from .process import LIMIT_S, WARM_UP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .peer import Emitter


def emit(emitter: Emitter, count: int) -> Cost:
    """Time, and wait until nothing of it is left to be done."""
    cost = emitter.emit(count)
    begin = time.process_time()
    emitter.settle()
    return cost._replace(cpu_seconds=cost.cpu_seconds + time.process_time() - begin)


def emit_together(emitter: Emitter, count: int, processes: int) -> Cost:
    """Fork, let all of them warm up, then begin; the start of processes is not counted."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(processes + 1)
    cpu_ns = consumer.shared_words(processes)

    def work(number: int) -> None:
        with emitter.in_child() as mine:
            emit(mine, WARM_UP)
            barrier.wait(LIMIT_S)
            cpu_ns[number] = round(emit(mine, count).cpu_seconds * 1e9)

    children = [context.Process(target=work, args=(number,)) for number in range(processes)]
    for child in children:
        child.start()
    barrier.wait(LIMIT_S)
    begin = time.perf_counter()
    for child in children:
        child.join()
    seconds = time.perf_counter() - begin
    assert not any(child.exitcode for child in children)
    return Cost(seconds, sum(cpu_ns) / 1e9)


@contextmanager
def running(name: str, size: int) -> Iterator[Emitter]:
    """A peer with a consumer, if it needs one."""
    with ExitStack() as stack:
        emitter = stack.enter_context(PEERS[name].running(size))
        if emitter.receive is not None:
            emitter.arrived = stack.enter_context(consumer.counting(emitter.receive, size))
        yield emitter


def count(emitter: Emitter, emitted: int) -> Counted | None:
    """What became of so many events."""
    if emitter.counted is not None:
        return emitter.counted(emitted)
    if emitter.arrived is not None:
        return Counted(consumer.wait_for(emitter.arrived, emitted))
    return None


def main() -> None:
    """Do what is said on stdin."""
    name, size = sys.argv[1], int(sys.argv[2])
    with running(name, size) as emitter:
        emit(emitter, WARM_UP)
        print(WARM_UP, flush=True)
        for line in sys.stdin:
            match line.split():
                case ["end", emitted]:
                    print(*(count(emitter, int(emitted)) or "-"), flush=True)
                    break
                case ["arrived", number]:
                    assert emitter.arrived is not None
                    print(*consumer.wait_for_last(emitter.arrived, int(number)), flush=True)
                case [number]:
                    print(*emit(emitter, int(number)), flush=True)
                case [number, processes]:
                    print(*emit_together(emitter, int(number), int(processes)), flush=True)


if __name__ == "__main__":
    main()
