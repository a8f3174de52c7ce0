"""All of it, or the parts and peers that are named: tables on stdout, figures as JSON, tables and chart for the docs.

What is not installed is left out, and that is said; `pip install shmtrace[bench]` installs the peers that pip can.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import collecting, costs, delivery, disabled, latency, others, process, report, scale, specification, start
from .machine import load, machine, memory_gb_per_s, versions
from .peers import PEERS, missing, packages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SIZES = (8, 32, 256, 4096)


def parts(
    names: Sequence[str],
    sizes: Sequence[int],
    processes: Sequence[int],
    seconds: float,
    environment: Mapping[str, str],
) -> dict[str, Callable[[], Any]]:
    """What is measured, by its name in the figures."""

    def there(wanted: Sequence[str]) -> list[str]:
        return [name for name in wanted if name in names]

    return {
        "costs": lambda: costs.measure(
            [name for name in names if name not in specification.NAMES], sizes, seconds, environment
        ),
        "disabled": lambda: disabled.measure(seconds / 4),
        "scale": lambda: scale.measure(there(scale.NAMES), processes, seconds, environment),
        "start": lambda: start.measure(names, seconds, environment),
        "delivery": lambda: delivery.measure(there(delivery.NAMES), seconds, environment),
        "collecting": lambda: collecting.measure(10 * seconds),
        "latency": lambda: latency.measure(there(latency.NAMES), 10 * seconds),
        "fifo_table": lambda: others.fifo_table(min(seconds, 1)),
        "log_messages": others.log_messages,
        "specification": lambda: costs.measure(
            there(specification.NAMES), tuple(specification.WORKLOADS), seconds, environment
        ),
    }


def measure(
    wanted: Sequence[str], names: Sequence[str], sizes: Sequence[int], processes: Sequence[int], seconds: float
) -> dict[str, Any]:
    """The figures of one run."""
    left_out = {PEERS[name].NAME: reason for name in names if (reason := missing(name))}
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    present = [name for name in names if missing(name) is None]
    facts = machine() | {"load before": round(load(), 1), "memcpy GB/s": round(memory_gb_per_s(), 1)}
    facts |= versions(package for name in present for package in packages(name))
    figures: dict[str, Any] = {"machine": facts, "seconds": seconds, "left_out": left_out}
    subprocess.run([sys.executable, "-m", "shmtrace", "warmup"], check=True, stdout=subprocess.DEVNULL)
    with process.served(present) as environment:
        for name, part in parts(present, sizes, processes, seconds, environment).items():
            if name in wanted:
                print(f"measuring: {name}", file=sys.stderr)
                figures[name] = part()
    return figures


def main() -> None:
    """Measure and print."""
    known = list(parts([], [], [], 0, {}))
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="for each peer of each part, more for some (default: 1)"
    )
    parser.add_argument("--only", nargs="+", choices=PEERS, default=list(PEERS), metavar="NAME", help="these peers")
    parser.add_argument("--parts", nargs="+", choices=known, default=known, metavar="PART", help=", ".join(known))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), metavar="BYTES", help="of events")
    parser.add_argument(
        "--processes", nargs="+", type=int, default=list(scale.PROCESSES), metavar="N", help="that write at once"
    )
    parser.add_argument("--from", type=Path, metavar="FILE", help="measure nothing: take the figures of an earlier run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--markdown", type=Path, metavar="FILE.md", help="write the tables")
    parser.add_argument("--chart", type=Path, metavar="FILE.svg", help="draw the costs")
    options = parser.parse_args()
    earlier = getattr(options, "from")
    if earlier:
        figures = json.loads(earlier.read_text())
    else:
        names = [name for name in PEERS if name in options.only]
        figures = measure(options.parts, names, options.sizes, options.processes, options.seconds)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    tables = report.text(figures)
    print(tables)
    if options.markdown:
        options.markdown.write_text(f"<!-- written by `python -m bench --markdown`; do not edit -->\n\n{tables}")
    if options.chart:
        if not report.drawn(figures):
            parser.error(f"--chart: there are no costs of events of {report.SIZE} bytes to draw")
        report.chart(figures, options.chart)


if __name__ == "__main__":
    main()
