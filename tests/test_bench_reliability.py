"""The comparison of what is left after a kill runs, briefly, so that it cannot rot; and its judge counts right."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from bench.reliability import events, judge, peers, report
from bench.reliability.peer import Recovered
from bench.reliability.scenarios import SCENARIOS
from commands import run

ROOT = Path(__file__).parents[1]
EVENTS = 500  # of a worker at full speed


def measure(directory: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run it as a user does; its results."""
    figures = directory / "figures.json"
    result = run(
        *("--workers", "2", "--events", str(EVENTS), "--repetitions", "1", "--patience", "5", "--json", figures),
        *arguments,
        command=[sys.executable, "-m", "bench.reliability"],
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stderr
    found: list[dict[str, Any]] = json.loads(figures.read_text())["results"]
    return found


def test_of_shmtrace_every_event_is_recovered_or_told_in_each_scenario(tmp_path: Path) -> None:
    results = measure(tmp_path, "--peers", "shmtrace_record")
    assert [result["scenario"] for result in results] == [scenario.name for scenario in SCENARIOS]
    for result in results:
        assert result["emitted"] > 0
        assert result["recovered"] == result["emitted"] - result["told"]
        assert result["beyond"] <= 1, "one worker was killed"
        assert (result["twice"], result["undecodable"], result["hung"]) == (0, 0, False)
        assert result["second_reader"] in {None, result["recovered"] + result["beyond"]}


@pytest.mark.parametrize("peer", [peer for peer in peers.PEERS if peer != "shmtrace_record"])
def test_a_peer_recovers_all_of_a_pool_that_ends_its_workers(tmp_path: Path, peer: str) -> None:
    if not peers.installed(peer):
        pytest.skip(f"needs {' '.join(peers.PEERS[peer].PACKAGES)}")
    (result,) = measure(tmp_path, "--peers", peer, "--scenarios", "recycle")
    assert result["recovered"] == result["emitted"] == 4 * EVENTS // 20
    assert (result["beyond"], result["twice"], result["undecodable"], result["hung"]) == (0, 0, 0, False)


def test_a_job_that_stands_still_is_ended_and_has_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = peers.PEERS["logging_queue"]
    monkeypatch.setattr(peer, "command", lambda *_: ["sleep", "100"])
    monkeypatch.setattr(peer, "recover", lambda _: Recovered(()))
    result = judge.run("logging_queue", "fast-kill", workers=2, events=10, seed="", patience_s=0.2)
    assert result.hung
    assert result.seconds < 50


def test_events_that_are_missing_doubled_damaged_or_early_are_told_apart() -> None:
    whole = [events.text(0, 0), events.text(0, 2), events.text(1, 0)]
    early = [events.text(1, 1)]
    damaged = [events.text(0, 1)[:-1], events.text(0, 1) + "x", events.text(7, 0), ""]
    tally = judge.Tally.of([*whole, *early, *damaged, events.text(0, 2)], [3, 1])
    assert tally == judge.Tally(recovered=[2, 1], beyond=1, twice=1, undecodable=4)


@pytest.mark.parametrize(
    ("share", "said"), [(0.0, "0%"), (1.0, "100%"), (0.5, "50.00%"), (0.999999, "99.99%"), (0.000001, "0.01%")]
)
def test_a_share_is_all_or_nothing_only_if_it_is(share: float, said: str) -> None:
    assert report.percent(share) == said


def test_the_chart_is_an_image_that_names_each_peer(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results = [
        judge.Result(peer, scenario.name, 10, number, 10, number, 0, 0, 0, 0, False, None, number == 3, 1.0)
        for scenario in SCENARIOS
        for number, peer in enumerate(peers.PEERS)
    ]
    path = tmp_path / "chart.svg"
    report.chart(results, "facts", path)
    image = ET.parse(path).getroot()
    words = " ".join(image.itertext())
    assert all(peer.NAME in words for peer in peers.PEERS.values())
    assert "hung 1 of 1" in words
