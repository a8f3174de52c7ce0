"""The models of the protocol, which spin searches."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "tools/model"
STEP = re.compile(r"^ {4}(?=.{5}[a-z])([A-Z])([0-9]+)(?:-([0-9]+))?(a?) +(.{11})", re.MULTILINE)


def steps_of_the_code() -> dict[str, str]:
    """Number and name of each step, from the heads of the two modules; "R3-4 orphan" are two."""
    found = {}
    for module in ("lanes", "collect"):
        head = (ROOT / f"shmtrace/native/{module}.py").read_text().split('"""')[1]
        for letter, first, last, more, name in STEP.findall(head):
            for number in range(int(first), int(last or first) + 1):
                found[f"{letter}{number}{more}"] = name.strip()
    return found


def steps_of_the_model() -> set[tuple[str, str]]:
    """Number and name of each step that a comment of the models names as its transition."""
    found = set()
    for path in MODEL.glob("*.pml"):
        for comment in re.findall(r"/\* (.*?) ?\*/", path.read_text()):
            for part in comment.split(", "):
                named = re.match(r"([A-Z][0-9]+a?) ([a-z]+(?: [a-z]+)*)(?=[:,.]|$)", part)
                if named:
                    found.add((named[1], named[2]))
    return found


def test_transitions_are_named_as_the_steps_of_the_code() -> None:
    code = steps_of_the_code()
    model = steps_of_the_model()
    assert {(number, name) for number, name in model if code.get(number) != name} == set()
    assert set(code) == {number for number, _ in model}, "a step is not in the models"


@pytest.mark.peers
@pytest.mark.timeout(900)
def test_models_hold_and_each_broken_variant_is_found(peer: Callable[[str], str]) -> None:
    peer("spin")
    peer("gcc")
    cores = len(os.sched_getaffinity(0))
    done = subprocess.run([MODEL / "check", "--jobs", str(cores)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith(" passed, 0 failed")
