"""The figures of one run as tables, for a terminal and for docs/benchmarks.md, and as a chart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import specification, start
from .latency import TAIL
from .peers import PEERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

OURS = "shmtrace_event"
OFF = ("floor_len", "shmtrace_off", "lttng_off", "logging_off")
FLOORS = ("floor_len", "floor_ring")
SIZE = 32
_COLORS = {True: "#c0392b", False: "#8896a5"}
_INK = "#222222"


def title(name: str) -> str:
    """A peer's, with its language if that is not Python."""
    if name in start.TITLES:
        return start.TITLES[name]
    language = getattr(PEERS[name], "LANGUAGE", None)
    return PEERS[name].NAME + (f" ({language})" if language else "")


def number(value: float) -> str:
    """Three digits are known at most."""
    if 0 < value < 0.005:
        return "<0.01"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 1 else f"{value:.2f}"


def spread(figures: dict[str, float], scale: float = 1.0) -> list[str]:
    """Median and quartiles."""
    low, high = number(figures["low"] / scale), number(figures["high"] / scale)
    return [number(figures["median"] / scale), f"{low} to {high}"]


def losses(row: dict[str, Any]) -> list[str]:
    """What was emitted, and what is missing of it: told by the peer, and not told."""
    emitted = f"{row['emitted']:,}"
    if "delivered" not in row:
        return [emitted, "", ""]
    return [emitted, f"{row['told']:,}", f"{row['untold']:,}"]


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown, its columns aligned for those who read it as it is."""
    widths = [max(len(row[column]) for row in (heading, *rows)) for column in range(len(heading))]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        aligned = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return f"| {' | '.join(aligned)} |"

    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([line(heading), f"|{rule}|", *map(line, rows)])


def costs(found: list[dict[str, Any]]) -> Iterator[str]:
    """A table a size."""
    for size in dict.fromkeys(row["size"] for row in found):
        rows = [row for row in found if row["size"] == size]
        ours = _median(rows, OURS)
        cells = [
            [
                title(row["peer"]),
                *spread(row["ns"]),
                number(row["ns"]["median"] / ours) if ours else "",
                number(row["cold_ns"]["median"]),
                number(row["cpu_ns"]["median"]),
                *losses(row),
            ]
            for row in sorted(rows, key=lambda row: float(row["ns"]["median"]))
        ]
        heading = [
            f"{size} bytes",
            "ns an event",
            "quartiles",
            "of ours",
            "cold",
            "cpu ns",
            "emitted",
            "lost, told",
            "untold",
        ]
        yield table(heading, cells)


def _median(rows: list[dict[str, Any]], name: str) -> float | None:
    return next((row["ns"]["median"] for row in rows if row["peer"] == name), None)


def off(found: list[dict[str, Any]]) -> Iterator[str]:
    """Of the peers that do nothing, against the floor."""
    rows = [row for row in found if row["peer"] in OFF and row["size"] == SIZE]
    floor = _median(rows, "floor_len")
    if floor:
        cells = [[title(row["peer"]), *spread(row["ns"]), number(row["ns"]["median"] / floor)] for row in rows]
        yield table(["a call that records nothing", "ns", "quartiles", "of len(b)"], cells)


def disabled(found: list[dict[str, Any]]) -> Iterator[str]:
    """Against the empty builtin of each shape."""
    empty = {row["shape"]: row["ns"]["median"] for row in found if row["state"] == "empty"}
    cells = [
        [f"{row['shape']}, {row['state']}", *spread(row["ns"]), f"{row['ns']['median'] / empty[row['shape']]:.2f}"]
        for row in found
    ]
    yield table(["nothing is recorded", "ns", "quartiles", "of empty"], cells)


def scale(found: list[dict[str, Any]]) -> Iterator[str]:
    """Cpu time for each number of processes."""
    one = {row["peer"]: row["cpu_ns"]["median"] for row in found if row["processes"] == 1}
    cells = [
        [
            f"{title(row['peer'])}, {row['processes']}",
            *spread(row["cpu_ns"]),
            number(row["cpu_ns"]["median"] / one[row["peer"]]) if row["peer"] in one else "",
            *losses(row),
        ]
        for row in sorted(found, key=lambda row: list(PEERS).index(row["peer"]))
    ]
    heading = ["processes", "cpu ns an event", "quartiles", "of one", "emitted", "lost, told", "untold"]
    yield table(heading, cells)


def starts(found: list[dict[str, Any]]) -> Iterator[str]:
    """Milliseconds and KiB."""
    cells = [
        [title(row["peer"]), *spread(row["ms"]), f"{row['own_kib']:,.0f}", f"{row['resident_kib']:,.0f}"]
        for row in sorted(found, key=lambda row: (row["peer"] != start.BARE, row["ms"]["median"]))
    ]
    yield table(["beyond the bare interpreter", "ms", "quartiles", "own KiB", "resident KiB"], cells)


def delivery(found: list[dict[str, Any]]) -> Iterator[str]:
    """Events a second."""
    queue = next((row["per_s"]["median"] for row in found if row["peer"] == "queue_put"), None)
    cells = [
        [
            title(row["peer"]),
            *spread(row["per_s"], 1e6),
            number(row["per_s"]["median"] / queue) if queue else "",
            *losses(row),
        ]
        for row in sorted(found, key=lambda row: -float(row["per_s"]["median"]))
    ]
    heading = ["million events a second", "median", "quartiles", "of mp.Queue", "emitted", "lost, told", "untold"]
    yield table(heading, cells)


def collecting(found: dict[str, Any]) -> Iterator[str]:
    """Seconds of cpu a GB."""
    cells = [
        ["collector", *spread(found["collector_s_per_gb"])],
        ["writev of the same pages, nothing else", *spread(found["writev_s_per_gb"])],
        ["ratio", *spread(found["ratio"])],
    ]
    yield table(["cpu seconds a GB", "median", "quartiles"], cells)


def latency(found: list[dict[str, Any]]) -> Iterator[str]:
    """Percentiles."""
    cells = [
        [
            f"shmtrace, flushed every {row['flush_ms']} ms" if row["peer"] == TAIL else title(row["peer"]),
            *(f"{row[key]:.2f}" for key in ("p50_ms", "p99_ms", "p99.9_ms")),
            f"{row['events']:,}",
            *("" if row[key] is None else number(row[key]) for key in ("collector_wakes_s", "collector_cpu")),
        ]
        for row in found
    ]
    heads = ["p50", "p99", "p99.9", "events", "collector woken a second", "its part of a cpu"]
    yield table(["ms from event to consumer", *heads], cells)


def fifo_table(found: list[dict[str, Any]]) -> Iterator[str]:
    """Seconds."""
    cells = [
        [
            f"{row['producers']}P1C, {row['messages']:,} each, {row['kind']}",
            *spread(row["s"]),
            f"{row['emitted']:,}",
            f"{row['emitted'] - row['delivered']:,}",
        ]
        for row in found
    ]
    yield table(["faster-fifo's table", "s", "quartiles", "emitted", "lost"], cells)


def log_messages(found: list[dict[str, Any]]) -> Iterator[str]:
    """Nanoseconds."""
    cells = [[row["kind"], *spread(row["ns"])] for row in found]
    yield table(["a formatted message", "ns", "quartiles"], cells)


def specified(found: list[dict[str, Any]]) -> Iterator[str]:
    """A table a workload."""
    for size, workload in specification.WORKLOADS.items():
        rows = [row for row in found if row["size"] == size]
        sdk = _median(rows, specification.NAMES[0])
        cells = [
            [
                title(row["peer"]),
                *spread(row["ns"], 1000),
                number(row["ns"]["median"] / sdk) if sdk else "",
                number((row["ns"]["median"] - sdk) / 1000) if sdk else "",
                *losses(row),
            ]
            for row in rows
        ]
        heading = [workload, "µs a span", "quartiles", "of the SDK's", "more", "emitted", "lost, told", "untold"]
        yield table(heading, cells)


SECTIONS: dict[str, tuple[str, Callable[[Any], Iterator[str]]]] = {
    "costs": ("What an event costs", costs),
    "off": ("What a call costs when nothing is recorded", off),
    "disabled": ("What is switched off, against an empty builtin of the same shape", disabled),
    "scale": ("Many processes", scale),
    "start": ("The start of a worker, and its memory", starts),
    "delivery": ("End to end", delivery),
    "collecting": ("The collector", collecting),
    "latency": ("Latency", latency),
    "fifo_table": ("faster-fifo's table", fifo_table),
    "log_messages": ("picologging's message", log_messages),
    "specification": ("OpenTelemetry's workloads", specified),
}


def facts(figures: dict[str, Any]) -> str:
    """The machine in a line."""
    return ", ".join(f"{key} {value}" for key, value in figures["machine"].items())


def text(figures: dict[str, Any]) -> str:
    """All tables."""
    parts = [f"{facts(figures)}."]
    parts += [f"Left out: {name}: {reason}." for name, reason in figures["left_out"].items()]
    for key, (heading, section) in SECTIONS.items():
        found = figures["costs"] if key == "off" and "costs" in figures else figures.get(key)
        tables = list(section(found)) if found else []
        if tables:
            parts += [f"## {heading}", *tables]
    return "\n\n".join(parts) + "\n"


def drawn(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """What the chart shows: events that are recorded, the dearest first."""
    rows = [row for row in figures.get("costs", []) if row["size"] == SIZE and row["peer"] not in {*OFF, *FLOORS}]
    return sorted(rows, key=lambda row: -float(row["ns"]["median"]))


def chart(figures: dict[str, Any], path: Path) -> None:
    """What an event of 32 bytes costs, medians and quartiles, on a logarithmic scale."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    rows = drawn(figures)
    settings = {"svg.fonttype": "none", "svg.hashsalt": "shmtrace", "font.family": "sans-serif", "font.size": 9}
    with plt.rc_context(settings):
        figure, axes = plt.subplots(figsize=(8, 0.27 * len(rows) + 1.2))
        for place, row in enumerate(rows):
            ns = row["ns"]
            axes.barh(place, ns["median"], height=0.65, left=0, color=_COLORS[row["peer"].startswith("shmtrace")])
            axes.plot([ns["low"], ns["high"]], [place, place], color=_INK, linewidth=1.2)
            axes.text(ns["high"] * 1.12, place, number(ns["median"]), va="center", color=_INK)
        axes.set_xscale("log")
        axes.set_xlim(10, max(row["ns"]["high"] for row in rows) * 4)
        axes.set_yticks(range(len(rows)), [title(row["peer"]) for row in rows])
        axes.tick_params(length=0, colors=_INK)
        axes.spines[:].set_visible(False)
        axes.set_title(f"ns an event of {SIZE} bytes (logarithmic): median, quartiles", loc="left", color=_INK)
        machine = {key: figures["machine"][key] for key in ("cpu", "cpus", "kernel", "python")}
        figure.text(0.01, 0.01, facts({"machine": machine}), fontsize=7, color=_INK)
        figure.tight_layout(rect=(0, 0.03, 1, 1))
        figure.savefig(path, format="svg", metadata={"Date": None})
        plt.close(figure)
