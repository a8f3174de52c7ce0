"""What a segment counts, read without disturbing anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import layout
from .layout import CONTROL, CPU, LANE, WRITER
from .process import is_dead

if TYPE_CHECKING:
    from .segment import Segment


def segment_stats(mapped: Segment) -> dict[str, Any]:
    """Counts of a segment, as `stats()` and `shmtrace stat --json` give them.  Counts are of records."""
    geometry = mapped.geometry
    cpus: list[dict[str, Any]] = []
    used = 0
    for cpu in range(geometry.cpus):
        line = geometry.cpus_at + cpu * layout.LINE_BYTES
        delivered, overwritten, lost = 0, 0, {"unread": 0, "damaged": 0}
        missed = {
            "no_page": 0,
            "timeout": mapped.u64(line + CPU.missed_timeout),
            "no_lane": mapped.u64(line + CPU.missed_no_lane),
            "bad_arguments": mapped.u64(line + CPU.missed_bad_arguments),
        }  # fmt: skip
        for lane in range(cpu * geometry.lanes_per_cpu, (cpu + 1) * geometry.lanes_per_cpu):
            at = mapped.lane_at(lane)
            totals = mapped.totals(lane)
            delivered += totals["delivered"]
            overwritten += totals["overwritten"]
            lost = {reason: count + totals[reason] for reason, count in lost.items()}
            missed["no_page"] += mapped.u64(at + LANE.missed_no_page)
            used += mapped.u64(at + LANE.taken) != 0
        cpus.append({"cpu": cpu, "delivered": delivered, "lost": lost, "overwritten": overwritten, "missed": missed})
    return {
        "name": mapped.name,
        "mode": layout.MODE_NAMES.get(mapped.u32(CONTROL.mode), "unknown"),
        "recording": bool(mapped.u32(CONTROL.recording)),
        "reader": bool(mapped.u32(CONTROL.reader)),
        "collector": mapped.u32(CONTROL.collector_pid) or None,
        "page_size": geometry.page_size,
        "pages": geometry.pages,
        "pages_waiting": mapped.waiting_pages(),
        "lanes": geometry.lanes,
        "lanes_used": used,
        "writers": len(segment_writers(mapped)),
        "unnumbered": mapped.u64(CONTROL.unnumbered),
        "delivered": sum(cpu["delivered"] for cpu in cpus),
        "lost": {reason: sum(cpu["lost"][reason] for cpu in cpus) for reason in ("unread", "damaged")},
        "overwritten": sum(cpu["overwritten"] for cpu in cpus),
        "missed": mapped.missed(),
        "damaged_words": mapped.u64(CONTROL.damaged),
        "cpus": cpus,
    }


def segment_writers(mapped: Segment) -> list[dict[str, Any]]:
    """The entries of the writer table that are in use."""
    geometry = mapped.geometry
    pid_mask = (1 << layout.IDENTITY_PID_BITS) - 1
    found = []
    for number in range(1, geometry.writers):
        at = geometry.writers_at + number * layout.WRITER_BYTES
        identity = mapped.u64(at + WRITER.identity)
        if identity:
            names = {
                field: mapped.text(at + offset, layout.width_of(WRITER, field)).decode(errors="replace")
                for field, offset in (("process", WRITER.process), ("thread", WRITER.thread))
            }
            process = identity & ~layout.IDENTITY_ENDED
            pid, start = process & pid_mask, process >> layout.IDENTITY_PID_BITS
            found.append(
                {"number": number, "pid": pid, "tid": mapped.u32(at + WRITER.tid), **names,
                 "alive": not is_dead(pid, start)}
            )  # fmt: skip
    return found
