"""The CONTEXT of a segment in this process: what jitted code gets to know of it."""

from __future__ import annotations

from .layout import CONTEXT, CONTEXT_BYTES, CONTROL, fields_of
from .segment import open_semaphore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .segment import Segment

CLOCK_LIMIT = 1 << 32  # a few seconds, in cycles or ns: a stamp that lies further ahead is damage


def make_context(**values: int) -> bytes:
    """A CONTEXT with these fields; the others are 0."""
    offsets = fields_of(CONTEXT)
    payload = bytearray(CONTEXT_BYTES)
    for field, value in values.items():
        payload[offsets[field] : offsets[field] + 8] = (value & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "little")
    return bytes(payload)


def reader_of(context: bytes, segment: Segment) -> int:
    """Whoever reads the channel now, as the jitted code keeps it with what it has told."""
    return segment.u32(CONTROL.period) | int.from_bytes(context[CONTEXT.reader : CONTEXT.reader + 8], "little")


def segment_context(segment: Segment) -> dict[str, int]:
    """The fields that follow from the segment.  Opens its semaphores, which stay open."""
    return {
        **segment_addresses(segment),
        "waiting": open_semaphore(segment.name, "waiting"),
        "full": open_semaphore(segment.name, "full"),
    }


def segment_addresses(segment: Segment) -> dict[str, int]:
    """The fields that follow from the segment alone; without its semaphores, which the mode overwrite does not use."""
    geometry, base = segment.geometry, segment.address
    return {
        "recording": base + CONTROL.recording,
        "control": base,
        "cpus": base + geometry.cpus_at,
        "lanes": base + geometry.lanes_at,
        "writers": base + geometry.writers_at,
        "descriptors": base + geometry.descriptors_at,
        "pages": base + geometry.pages_at,
        "clock_kind": segment.clock_kind,
        "clock_limit": CLOCK_LIMIT,
        "cpu_slots": geometry.cpus,
        "lanes_per_cpu": geometry.lanes_per_cpu,
        "lanes_count": geometry.lanes,
        "writers_count": geometry.writers,
        "page_size": geometry.page_size,
        "pages_count": geometry.pages,
        "limit": geometry.limit,
        "bare": geometry.limit,
        "foreign": segment.is_foreign,
        "mode": segment.mode,
        "block_ns": segment.u32(CONTROL.block_ms) * 1_000_000,
        "slice_ns": segment.u32(CONTROL.flush_ms) * 1_000_000,
    }
