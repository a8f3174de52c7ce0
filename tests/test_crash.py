"""Processes are killed ahead of each step of the protocol: `crash.py` does it, a program of its own.

It asserts that nothing hangs, that what the dead held is given back, and what exactly is in the trace.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import commands
from shmtrace import layout
from shmtrace.attachment import cpu_source
from shmtrace.clock import choose_clock
from shmtrace.native import steps

CRASH = Path(__file__).with_name("crash.py")
PRINTED = re.compile(r"(\d+) scenarios, (\d+) kills, (\d+) events, [\d.]+ s, at (.*)")
SWITCHING = "P5 P6 P7 P8 P9 "
EVENT = "V1 V2 P2 P3 P10 P10a P11 P12 P13 "
SENDING = "C5 C6 C4 C7 C8 C9 C10 "


class Family(NamedTuple):
    """All scenarios of a kind and mode; and, for everyday, one in so many of them."""

    kind: str
    mode: str
    scenarios: int
    at: str  # where somebody was killed or stopped
    one_in: int

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.mode}"


FAMILIES = [
    Family("single", "drop", 90, EVENT + SWITCHING + "P9a", 4),
    Family("single", "block", 90, EVENT + SWITCHING + "P9a", 20),
    Family("single", "overwrite", 85, EVENT + "O1 O2 P9 R2", 4),
    Family("starved", "drop", 79, EVENT + SWITCHING, 20),
    Family("starved", "block", 94, EVENT + SWITCHING + "B1 B2", 8),
    Family("pairs", "drop", 1568, EVENT + SWITCHING + "P9a", 80),
    Family("pairs", "block", 2048, EVENT + SWITCHING + "P9a B1 B2", 100),
    Family("pairs", "overwrite", 968, EVENT + "O1 O2 P9", 60),
    Family("collector", "drop", 57, SENDING + "C2 R2 Q1 W2 P12 P13", 4),
    Family("ending", "drop", 45, "D1 D2 E1 E2 E3 E4 P12 P13 C7 C8 C9 C10", 15),
    Family("both", "drop", 392, EVENT + SWITCHING + "P9a " + SENDING, 40),
]


# Where cpu or clock are asked for, who waits for a page looks at its desk each time: so many scenarios more.
ASKING = {"starved-block": 4}


class Outcome(NamedTuple):
    """What was printed."""

    scenarios: int
    kills: int
    events: int
    at: set[str]


def crash(family: Family, name: str, one_in: int, limit_s: float) -> Outcome:
    """Run a family; it ends what it has started, whatever happens here."""
    options = [family.kind, "--mode", family.mode, "--every", str(one_in), "--name", name]
    with commands.running(command=[sys.executable, str(CRASH), *options]) as driver:
        try:
            printed, said = driver.communicate(timeout=limit_s)
        finally:
            if driver.poll() is None:
                driver.terminate()
                driver.wait(10)
    assert driver.returncode == 0, said
    assert not said
    print(printed)
    found = PRINTED.search(printed)
    assert found, printed
    return Outcome(int(found[1]), int(found[2]), int(found[3]), set(found[4].split()))


def test_the_families_reach_each_step() -> None:
    assert {step for family in FAMILIES for step in family.at.split()} == {
        *steps.PRODUCER_STEPS,
        *steps.COLLECTOR_STEPS,
    }


@pytest.mark.timeout(240)  # a cold cache is filled with code that is compiled for this
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_some_crash_points(family: Family, channel_name: str) -> None:
    outcome = crash(family, channel_name, family.one_in, 200)
    assert outcome.scenarios >= family.scenarios // family.one_in
    assert outcome.kills >= outcome.scenarios // 2
    assert outcome.at <= {*family.at.split()}


@pytest.mark.heavy
@pytest.mark.timeout(900)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_all_crash_points(family: Family, channel_name: str) -> None:
    outcome = crash(family, channel_name, 1, 800)
    is_asking = cpu_source()[0] != layout.CPU_RSEQ or choose_clock() != layout.CLOCK_TSC
    assert outcome.scenarios == family.scenarios + is_asking * ASKING.get(family.name, 0)
    assert outcome.at == {*family.at.split()}
