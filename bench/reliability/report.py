"""The table and the chart."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from .peers import PEERS
from .scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .judge import Result
    from .scenarios import Scenario

_OURS, _OTHERS, _INK = "#c0392b", "#8896a5", "#222222"


def percent(share: float) -> str:
    """Never 100 unless it is all of it, never 0 unless it is nothing."""
    if share in {0.0, 1.0}:
        return f"{share:.0%}"
    return f"{min(max(share * 100, 0.01), 99.99):.2f}%"


def spread(shares: Sequence[float]) -> str:
    """Median and range."""
    low, high = min(shares), max(shares)
    middle = percent(statistics.median(shares))
    return middle if low == high else f"{middle} ({percent(low)} to {percent(high)})"


def of(results: list[Result], scenario: str, peer: str) -> list[Result]:
    """The jobs of one peer in one scenario."""
    return [result for result in results if result.scenario == scenario and result.peer == peer]


def present(results: list[Result]) -> tuple[list[Scenario], list[str]]:
    """The scenarios and the peers that were measured."""
    scenarios = [scenario for scenario in SCENARIOS if any(result.scenario == scenario.name for result in results)]
    return scenarios, [peer for peer in PEERS if any(result.peer == peer for result in results)]


def told(results: list[Result]) -> str:
    """What the peer says about what is missing."""
    missing = sum(result.emitted - result.recovered for result in results)
    number = sum(result.told for result in results)
    if number:
        return f"{number:,} of {missing:,}"
    if any(result.warned for result in results):
        return "a warning"
    return "no" if missing else "nothing to tell"


def table(results: list[Result]) -> str:
    """A table a scenario, in Markdown; the figures are sums, medians and ranges over the repetitions."""
    scenarios, peers = present(results)
    lines: list[str] = []
    for scenario in scenarios:
        killed = scenario.ending == "kill"
        lines += [f"### {scenario.title}", ""]
        lines += ["| | emitted | recovered | " + "of the killed workers' | " * killed + "damaged | loss told | hung |"]
        lines += ["|---|---:|---:|" + "---:|" * killed + "---:|---|---:|"]
        for peer in peers:
            mine = of(results, scenario.name, peer)
            cells = [
                PEERS[peer].NAME,
                f"{statistics.median(result.emitted for result in mine):,.0f}",
                spread([result.share for result in mine]),
                *([spread([result.share_of_killed for result in mine])] if killed else []),
                str(sum(result.undecodable + result.twice for result in mine)),
                told(mine),
                f"{sum(result.hung for result in mine)} of {len(mine)}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def chart(results: list[Result], facts: str, path: Path) -> None:
    """Median as a bar, range as a line, jobs that hung in words."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    scenarios, peers = present(results)
    settings = {"svg.fonttype": "none", "svg.hashsalt": "shmtrace", "font.family": "sans-serif", "font.size": 9}
    with plt.rc_context(settings):
        figure, grid = plt.subplots(len(scenarios), 1, figsize=(8, 1.75 * len(scenarios) + 0.7), squeeze=False)
        for axes, scenario in zip(grid.flat, scenarios, strict=True):
            for place, peer in enumerate(reversed(peers)):
                mine = of(results, scenario.name, peer)
                shares = [100 * result.share for result in mine]
                middle = statistics.median(shares)
                color = _OURS if peer == "shmtrace_record" else _OTHERS
                axes.barh(place, middle, height=0.6, color=color)
                axes.plot([min(shares), max(shares)], [place, place], color=_INK, linewidth=1.2)
                hung = sum(result.hung for result in mine)
                note = percent(statistics.median(result.share for result in mine))
                note += f", hung {hung} of {len(mine)}" if hung else ""
                axes.text(max(shares) + 1, place, note, va="center", color=_INK)
            axes.set_title(scenario.title, loc="left", fontsize=10, color=_INK)
            axes.set_xlim(0, 128)
            axes.set_xticks(range(0, 101, 25), [f"{tick}%" for tick in range(0, 101, 25)])
            axes.set_yticks(range(len(peers)), [PEERS[peer].NAME for peer in reversed(peers)])
            axes.tick_params(length=0, colors=_INK)
            axes.spines[:].set_visible(False)
            axes.axvline(0, color=_INK, linewidth=0.8)
        figure.suptitle(
            "Events recovered of those emitted: median (bar) and range (line)",
            x=0.01,
            ha="left",
            fontsize=12,
            color=_INK,
        )
        figure.text(0.01, 0.005, facts, fontsize=7, color=_INK)
        figure.tight_layout(rect=(0, 0.02, 1, 0.99))
        figure.savefig(path, format="svg", metadata={"Date": None})
        plt.close(figure)
