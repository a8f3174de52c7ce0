"""The words of a lane as the collector sees them: addresses, tags, totals, counts."""

from __future__ import annotations

from . import intrinsics as do
from . import tables
from .intrinsics import STEP, frozen, load64, read64, step, store64, store64_release
from .lanes import (
    CONTEXT,
    CONTROL,
    CPU,
    LANE,
    LANE_BYTES,
    LINE_BYTES,
    PAGE,
    PAGE_BYTES,
    PAGE_SHIFT,
    SEQUENCE_BITS,
    SEQUENCE_MASK,
    SEQUENCE_SHIFT,
    TOTALS,
    TOTALS_BYTES,
    apart,
    inlined,
    sem_post,
)

COLLECTOR = frozen(tables.COLLECTOR)


@inlined
def lane_number_at(collector: int, number: int) -> int:
    """Address of a lane."""
    context = read64(collector + COLLECTOR.context)
    return read64(context + CONTEXT.lanes) + number * LANE_BYTES


@inlined
def descriptor_at(context: int, page: int) -> int:
    """Address of a page's descriptor."""
    return read64(context + CONTEXT.descriptors) + page * PAGE_BYTES


@inlined
def word(sequence: int, page: int, size: int) -> int:
    """A position, progress or note."""
    return ((sequence & SEQUENCE_MASK) << SEQUENCE_SHIFT) | (page << PAGE_SHIFT) | size


@inlined
def tag(lane: int, sequence: int) -> int:
    """The owner word of a page that has this sequence in this lane."""
    return ((lane + 1) << SEQUENCE_BITS) | (sequence & SEQUENCE_MASK)


@inlined
def slot_of(lane: int, packet: int) -> int:
    """The slot of a lane's totals that is valid when progress names this packet."""
    return lane + LANE.totals + (packet & 1) * TOTALS_BYTES


@inlined
def next_totals(lane: int, packet: int) -> int:
    """C4: the slot of totals that progress will make valid, with what the valid one has; its address."""
    after = slot_of(lane, packet + 1)
    do.copy(after, slot_of(lane, packet), TOTALS_BYTES)
    store64(after + TOTALS.packet, packet + 1)
    return after


@inlined
def tally(at: int, more: int) -> None:
    """Add to a number that only the collector writes."""
    store64(at, load64(at) + more)


@apart
def recycle(context: int, page: int) -> None:
    """C8, C9.  Release: matched by the acquire of P6; what stood in the page has been read."""
    step(STEP.C8)
    store64_release(descriptor_at(context, page) + PAGE.owner, 0)
    step(STEP.C9)
    sem_post(read64(context + CONTEXT.waiting))


@apart
def missed_in(context: int, number: int) -> int:
    """Records refused so far that are told in this lane's stream: its own, and in a cpu's first lane the cpu's."""
    lane = read64(context + CONTEXT.lanes) + number * LANE_BYTES
    missed = load64(lane + LANE.missed_no_page)
    lanes_per_cpu = read64(context + CONTEXT.lanes_per_cpu)
    if number % lanes_per_cpu == 0:
        cpu = read64(context + CONTEXT.cpus) + number // lanes_per_cpu * LINE_BYTES
        missed += load64(cpu + CPU.missed_no_lane) + load64(cpu + CPU.missed_timeout)
        missed += load64(cpu + CPU.missed_bad_arguments)
    return missed


@apart
def packet_in_full(context: int, lane: int, progress: int) -> int:
    """The 64-bit number of the next packet, whose low bits progress has."""
    packet = (progress >> SEQUENCE_SHIFT) & SEQUENCE_MASK
    full = load64(slot_of(lane, packet) + TOTALS.packet)
    if (full & SEQUENCE_MASK) != packet:
        do.add64(read64(context + CONTEXT.control) + CONTROL.damaged, 1)
        full = (full & ~SEQUENCE_MASK) | packet
    return full
