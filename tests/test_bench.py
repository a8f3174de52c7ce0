"""The benchmarks run, so that they cannot rot.  Nothing is asserted about times."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from commands import run

ROOT = Path(__file__).parents[1]


def test_the_benchmarks_run_and_write_their_figures(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    result = run("--seconds", "0.3", "--json", figures, command=[sys.executable, "-m", "bench"], cwd=ROOT)
    assert result.returncode == 0, result.stderr
    found = json.loads(figures.read_text())
    assert set(found["costs"]) == {"len(b)", "shmtrace event, off", "shmtrace event", "os.write to a pipe"}
    assert found["delivery"]["accepted"] == found["delivery"]["delivered"] > 0
