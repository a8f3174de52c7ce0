"""The command line of the torture: scenarios, a line each."""

from __future__ import annotations

import argparse
import importlib
import itertools
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from shmtrace.native import functions

from . import Broken
from .crew import adopt_orphans
from .rounds import KINDS, ROUND_S, Round

if TYPE_CHECKING:
    from collections.abc import Iterable

MODES = ("drop", "block", "overwrite")
SECONDS = 10.0
COLUMNS = (
    "seconds", "rounds", "producers", "inside", "collectors", "readers", "stops", "forks",
    "accepted", "delivered", "lost", "missed", "extra",
)  # fmt: skip
MODULES = (
    "cli.create", "cli.collect", "cli.record", "cli.snapshot", "collector", "collector.copies", "reader.recorder",
    "reader.source",
)  # fmt: skip


class Scenario:
    """A kind of torment of a mode of channel."""

    _numbers = itertools.count(1)  # of channels

    def __init__(self, kind: str, mode: str, *, seed: int, keep: bool) -> None:
        self._kind = kind
        self._mode = mode
        self._seed = seed
        self._keep = keep
        self.counts = Counter[str]()

    def run(self, seconds: float, kills: float) -> None:
        """Round after round, for so long or until there were so many kills.  Broken names the round."""
        began = time.monotonic()
        for number in itertools.count():
            left = seconds - (time.monotonic() - began)
            kills_left = kills - sum(self.counts[aim] for aim in KINDS[self._kind].aim)
            if number and (left < 0.2 or kills_left <= 0):
                break
            self._run_round(number, min(left, ROUND_S), kills_left)
            self.counts["rounds"] += 1
        self.counts["seconds"] = round(time.monotonic() - began)

    def _run_round(self, number: int, seconds: float, kills: float) -> None:
        scratch = Path(tempfile.mkdtemp(prefix="shmtrace-torture-"))
        os.environ["SHMTRACE_DIR"] = str(scratch / "fifos")
        choose = random.Random(f"{self._seed} {self._kind} {self._mode} {number}")
        name = f"t{os.getpid()}-torture-{next(self._numbers)}"
        this = Round(KINDS[self._kind], self._mode, choose, name, scratch)
        kept = ""
        try:
            this.run(seconds, kills)
        except AssertionError as error:
            if self._keep:
                kept = f"; what it left is in {scratch}"
            raise Broken(
                f"{self._kind}, {self._mode}, round {number} of seed {self._seed} ({this}): {error}{kept}"
            ) from error
        finally:
            if not kept:
                shutil.rmtree(scratch, ignore_errors=True)
        self.counts += this.counts


def row(kind: str, mode: str, cells: Iterable[object]) -> str:
    return f"{kind:<11}{mode:<9}" + "".join(f"{cell:>11}" for cell in cells)


def main(arguments: list[str]) -> int:
    """Run the scenarios that are asked for; an exit status."""
    parser = argparse.ArgumentParser(
        prog="torture",
        description="Kill, stop and fork processes of a channel at random, and check that nothing is lost uncounted.",
        epilog="Counted are those killed, and of the producers those that were hit inside an event; then events.",
    )
    parser.add_argument("--seconds", type=float, help=f"of each scenario (default: {SECONDS:.0f}; no end with --kills)")
    parser.add_argument("--kills", type=float, default=math.inf, help="end a scenario after so many of what it kills")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="may be given again (default: all)")
    parser.add_argument("--mode", action="append", choices=MODES, help="may be given again (default: all)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of all choices")
    parser.add_argument("--keep", action="store_true", help="leave the files of a round that failed, and name them")
    options = parser.parse_args(arguments)
    seconds = options.seconds or (SECONDS if options.kills == math.inf else math.inf)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    adopt_orphans()
    for half in ("producer", "collector"):  # what every process needs is loaded before they are forked
        functions(half)
    for module in MODULES:
        importlib.import_module(f"shmtrace.{module}")
    print(f"torture: seed {options.seed}")
    print(row("kind", "mode", COLUMNS), flush=True)
    total = Counter[str]()
    for mode, kind in itertools.product(options.mode or MODES, options.kind or KINDS):
        if mode == "overwrite" and KINDS[kind].aim == ("collectors",):  # it has none
            continue
        scenario = Scenario(kind, mode, seed=options.seed, keep=options.keep)
        try:
            scenario.run(seconds, options.kills)
        except Broken as error:
            print(f"torture: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        print(row(kind, mode, (f"{scenario.counts[column]:,}" for column in COLUMNS)), flush=True)
        total += scenario.counts
    print(row("total", "", (f"{total[column]:,}" for column in COLUMNS)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
