"""When there is no room for a record: whether it makes sense to wait (mode block), or to look for the dead (overwrite).

Nothing here touches a Python object, so that kernels can do it, too.
"""

from __future__ import annotations

from . import intrinsics as do
from .intrinsics import STEP, load32, load64, read64, step, store32, store64
from .lanes import CONTEXT, CONTROL, CPU, LINE_BYTES, MONOTONIC, apart, current_cpu, monotonic, sem_post, timespec

RESCUE_EVERY_NS = 1_000_000_000

sem_clockwait = do.external("sem_clockwait", 3, result_bits=32)
kill = do.external("kill", 2, result_bits=32)


@apart
def count_timeout(context: int) -> None:
    """An event of the mode block was given up."""
    cpu = current_cpu(context) % read64(context + CONTEXT.cpu_slots)
    do.add64(read64(context + CONTEXT.cpus) + cpu * LINE_BYTES + CPU.missed_timeout, 1)


@apart
def may_wait(context: int, until: int) -> bool:
    """Mode block: it makes sense to wait for a page, until the time given (ns, monotonic).

    It does not when the collector is gone, or when somebody has waited in vain and no page has come since: a reader
    that is stopped, or a collector, costs one limit and not one an event.
    """
    control = read64(context + CONTEXT.control)
    collector = load32(control + CONTROL.collector_pid)
    gone = collector == 0 or (read64(context + CONTEXT.foreign) == 0 and kill(collector, 0) < 0)
    if gone or load32(control + CONTROL.impatient) != 0:
        return False
    if monotonic(MONOTONIC) < until:
        return True
    store32(control + CONTROL.impatient, 1)
    return False


@apart
def wait_for_page(context: int, until: int) -> None:
    """B1, B2.  No lane is held."""
    wake = min(until, monotonic(MONOTONIC) + read64(context + CONTEXT.slice_ns))
    time = timespec()
    store64(time, wake // 1_000_000_000)
    store64(time + 8, wake % 1_000_000_000)
    step(STEP.B1)
    if sem_clockwait(read64(context + CONTEXT.waiting), MONOTONIC, time) == 0:
        step(STEP.B2)
        sem_post(read64(context + CONTEXT.waiting))


@apart
def is_time_for_rescue(context: int) -> bool:
    """Mode overwrite, where no collector gives back the lanes of the dead: true for one producer, once a second."""
    word = read64(context + CONTEXT.control) + CONTROL.rescued_ns
    now_ns, last = monotonic(MONOTONIC), load64(word)
    return not 0 <= now_ns - last < RESCUE_EVERY_NS and do.swap_acquire(word, last, now_ns) != 0
