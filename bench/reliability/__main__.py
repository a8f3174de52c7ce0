"""Does the job with each peer in turn, several times over, and prints what was recovered.

Peers that are not installed are left out, and that is said; `pip install shmtrace[bench]` installs them all.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from bench.machine import machine

from . import judge, report
from .peers import PEERS, installed
from .scenarios import SCENARIOS

REPETITIONS = 5


def versions(peers: list[str]) -> dict[str, str]:
    """Of what is compared."""
    return {package: metadata.version(package) for peer in peers for package in PEERS[peer].PACKAGES}


def main() -> None:
    """Measure and print."""
    scenarios = {scenario.name: scenario for scenario in SCENARIOS}
    parser = argparse.ArgumentParser(prog="python -m bench.reliability", description=__doc__)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument(
        "--events", type=int, default=100_000, help="of a worker at full speed; fewer where it is paced"
    )
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--patience", type=float, default=15.0, metavar="SECONDS", help="without progress is hung")
    parser.add_argument("--seed", default="2005", help="of the moments at which workers are killed")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--scenarios", nargs="+", choices=scenarios, default=list(scenarios))
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--chart", type=Path, metavar="FILE.svg")
    options = parser.parse_args()
    peers = [peer for peer in options.peers if installed(peer)]
    for peer in set(options.peers).difference(peers):
        print(f"left out: {PEERS[peer].NAME} is not installed", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "shmtrace", "warmup"], check=True, stdout=subprocess.DEVNULL)
    results: list[judge.Result] = []
    for repetition in range(options.repetitions):
        for name in options.scenarios:
            for peer in peers:
                result = judge.run(
                    peer,
                    name,
                    workers=options.workers,
                    events=scenarios[name].events(options.events),
                    seed=f"{options.seed} {name} {repetition}",
                    patience_s=options.patience,
                )
                results.append(result)
                print(
                    f"{repetition + 1} {name:11} {PEERS[peer].NAME:21} {result.recovered:9,} of {result.emitted:9,}"
                    f" {result.seconds:6.1f} s{' hung' * result.hung}",
                    file=sys.stderr,
                )
    facts = machine() | versions(peers)
    line = ", ".join(f"{key} {value}" for key, value in facts.items())
    print(f"{line}\n\n{report.table(results)}")
    if options.json:
        record = {"machine": facts, "results": [asdict(result) for result in results]}
        options.json.write_text(json.dumps(record, indent=1))
    if options.chart:
        report.chart(results, line, options.chart)


if __name__ == "__main__":
    main()
