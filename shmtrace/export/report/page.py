"""The page: what was counted, as tables and charts.  All text of a trace is escaped; nothing is fetched from anywhere.

The page's own policy allows one script, by its digest, so that even text that was not escaped could not run.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import html
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from . import charts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["render"]

Data: TypeAlias = "dict[str, Any]"

SHOWN_SPANS, SHOWN_HISTOGRAMS, SHOWN_EVENTS = 100, 12, 100
SHOWN_PROCESSES, SHOWN_COUNTERS, SHOWN_OPEN = 48, 24, 100
LAYERS = 5


def render(data: Data, title: str) -> str:
    """The page of what `Summary.data` gave; the same data are in it as JSON, under the id `data`."""
    here = Path(__file__).parent
    style, script = (here / "page.css").read_text(), (here / "page.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
    sections = (
        _head, _rates, _losses, _spans, _histograms, _open_spans, _processes, _counters, _events,
    )  # fmt: skip
    body = "\n".join(part for part in (section(data) for section in sections) if part)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{_text(title)}</title>
<style>
{style}</style>
</head>
<body>
<h1>{_text(title)}</h1>
{body}
<footer>Made by shmtrace. Percentiles are right to within 1.6 percent; counts, sums and extremes are exact.</footer>
<script type="application/json" id="data">{_json(data)}</script>
<script>{script}</script>
</body>
</html>
"""


# sections


def _head(data: Data) -> str:
    if not data["records"]:
        return "<p>This trace has no records.</p>"
    duration_ns = data["last_ns"] - data["first_ns"]
    lost = sum(data["losses"].values())
    tiles = [
        (f"{data['records']:,}", "records"),
        (_duration(duration_ns), "from first to last"),
        (f"{data['records'] / (duration_ns / 1e9):,.0f}" if duration_ns else "-", "records a second"),
        (f"{sum(1 for process in data['processes'] if process['pid'] is not None):,}", "processes"),
        (f"{sum(span['count'] for span in data['spans']):,}", "spans ended"),
        (f"{data['open_spans_count']:,}", "spans left open"),
        (f"{lost:,}" if lost or not data["losses"] else "some", "lost or missed"),
    ]
    made = "".join(
        f'<div class="tile{" bad" if label == "lost or missed" and value != "0" else ""}"><b>{value}</b>'
        f"<span>{label}</span></div>"
        for value, label in tiles
    )
    return f'<p class="soft">{_wall(data["first_ns"])} to {_wall(data["last_ns"])}</p><div class="tiles">{made}</div>'


def _rates(data: Data) -> str:
    bins = data["axis"]["bins"]
    if not data["records"]:
        return ""
    events = _by_name(data["events"], bins)
    layers = [(name, rates) for name, _, rates in events[:LAYERS]]
    if len(events) > LAYERS:
        layers.append(("all others", _sum([rates for _, _, rates in events[LAYERS:]], bins)))
    total = _sum([rates for _, rates in layers], bins)
    losses = _sum(data["losses_rates"].values(), bins)
    second = 1e9 / data["axis"]["width_ns"]
    chart = charts.stacked([(f"k{at}", rates) for at, (_, rates) in enumerate(layers)], losses, max(total))
    legend = "".join(f'<li><i class="k{at}"></i>{_text(name)}</li>' for at, (name, _) in enumerate(layers))
    if any(losses):
        legend += '<li><i class="loss"></i>something is missing here</li>'
    return _section(
        "Records over time",
        f'<figure class="card"><p class="soft">up to {_quantity(max(total) * second)} a second</p>{chart}'
        f'{_time_axis(data)}<ul class="legend">{legend}</ul></figure>',
    )


def _losses(data: Data) -> str:
    if not data["losses"]:
        return ""
    rows = [[_cell(reason, "text"), _cell(f"{count:,}" if count else "not known", value=count),
             _cell("packets" if reason == "gap" else "records", "text")]
            for reason, count in sorted(data["losses"].items(), key=lambda loss: -loss[1])]  # fmt: skip
    return _section("Lost and missed", _table([("reason", True), ("count", False), ("of", True)], rows))


def _spans(data: Data) -> str:
    spans = [span for span in data["spans"] if span["count"]]
    if not spans:
        return ""
    rows = []
    for span in spans[:SHOWN_SPANS]:
        picture = charts.mini_histogram(span["buckets"], max(span["min_ns"], 1), span["max_ns"])
        rows.append([
            _cell(span["name"], "name"), _cell(f"{span['count']:,}", value=span["count"]),
            *(_cell(_duration(span[f"{key}_ns"]), value=span[f"{key}_ns"])
              for key in ("total", "mean", "p50", "p90", "p99", "max")),
            _cell(f"{span['open']:,}" if span["open"] else "", value=span["open"]),
            f"<td>{picture}</td>",
        ])  # fmt: skip
    heads = [
        ("span", True),
        *((head, False) for head in ("count", "total", "mean", "p50", "p90", "p99", "max", "open")),
    ]
    return _section("Busiest spans", _table(heads, rows, "durations", wide=True) + _more(len(spans), SHOWN_SPANS))


def _histograms(data: Data) -> str:
    cards = []
    for span in [span for span in data["spans"] if span["count"]][:SHOWN_HISTOGRAMS]:
        low, high = max(span["min_ns"], 1), max(span["max_ns"], 1)
        marks = [span[key] for key in ("p50_ns", "p90_ns", "p99_ns")]
        half, most, last = map(_duration, marks)
        cards.append(
            f'<figure class="card"><h3>{_text(span["name"])}</h3><figcaption>{span["count"]:,} &middot; '
            f"p50 {half} &middot; p90 {most} &middot; p99 {last}</figcaption>"
            f"{charts.histogram(span['buckets'], low, high, marks)}"
            f'<div class="axis"><span>{_duration(span["min_ns"])}</span>'
            f"<span>{_duration((low * high) ** 0.5)}</span>"
            f"<span>{_duration(span['max_ns'])}</span></div></figure>"
        )
    note = '<p class="soft">How often which duration, on a logarithmic scale; the dashed lines are the percentiles.</p>'
    return _section("Latencies", f'{note}<div class="cards">{"".join(cards)}</div>') if cards else ""


def _open_spans(data: Data) -> str:
    spans = data["open_spans"]
    if not spans:
        return ""
    rows = [
        [
            _cell(span["name"], "name"),
            _cell(f"{span['process']}[{span['pid']}] {span['thread']}[{span['tid']}]", "name"),
            _cell(_duration(span["begin_ns"] - data["first_ns"]), value=span["begin_ns"]),
            _cell(_duration(span["last_of_process_ns"] - span["begin_ns"]),
                  value=span["last_of_process_ns"] - span["begin_ns"]),
            _cell(_duration(data["last_ns"] - span["last_of_process_ns"]),
                  value=data["last_ns"] - span["last_of_process_ns"]),
        ]
        for span in spans[:SHOWN_OPEN]
    ]  # fmt: skip
    heads = [("span", True), ("who", True), ("begun after", False), ("until its process' last record", False),
             ("and from there to the end", False)]  # fmt: skip
    note = (
        '<p class="soft">They have begun, and no end was recorded: of workers that were killed, or still at work'
        f"{', or because records are missing' if data['losses'] else ''}.</p>"
    )
    return _section(
        "Spans left open", note + _table(heads, rows, wide=True) + _more(data["open_spans_count"], SHOWN_OPEN)
    )


def _processes(data: Data) -> str:
    processes = data["processes"]
    if not processes:
        return ""
    top = max(max(process["rates"], default=0) for process in processes[:SHOWN_PROCESSES])
    rows = []
    for process in processes[:SHOWN_PROCESSES]:
        who = "not known" if process["pid"] is None else f"{process['process']}[{process['pid']}]"
        if process["pid"] is None and process["process"]:
            who = process["process"]
        threads = f", {process['threads']:,} threads" if process["threads"] > 1 else ""
        rows.append(
            f'<div class="who">{_text(who)}<br><span class="soft">{process["records"]:,} records{threads}</span></div>'
            f"{charts.area(process['rates'], top)}"
        )
    return _section(
        "Activity of processes",
        f'<div class="card lanes">{"".join(rows)}{_time_axis(data)}</div>{_more(len(processes), SHOWN_PROCESSES)}',
    )


def _counters(data: Data) -> str:
    cards = []
    for counter in data["counters"][:SHOWN_COUNTERS]:
        if not counter["series"]:
            continue
        who = "" if counter["pid"] is None else f" &middot; process {counter['pid']}"
        chart = charts.band(counter["series"], data["axis"]["bins"], counter["min"], counter["max"])
        cards.append(
            f'<figure class="card"><h3>{_text(counter["name"])}</h3><figcaption>{counter["count"]:,} values{who}'
            f" &middot; {_quantity(counter['min'])} to {_quantity(counter['max'])}, last {_quantity(counter['last'])}"
            "</figcaption>"
            f"{chart}{_time_axis(data)}</figure>"
        )
    more = _more(len(data["counters"]), SHOWN_COUNTERS)
    return _section("Counters", f'<div class="cards">{"".join(cards)}</div>{more}') if cards else ""


def _events(data: Data) -> str:
    events = data["events"]
    if not events:
        return ""
    seconds = (data["last_ns"] - data["first_ns"]) / 1e9
    rows = [
        [
            _cell(event["name"], "name"), _cell(event["kind"], "text"),
            _cell(f"{event['count']:,}", value=event["count"]),
            _cell(_quantity(event["count"] / seconds) if seconds else "-", value=event["count"]),
        ]
        for event in events[:SHOWN_EVENTS]
    ]  # fmt: skip
    heads = [("name", True), ("kind", True), ("count", False), ("a second", False)]
    return _section("Records by name", _table(heads, rows) + _more(len(events), SHOWN_EVENTS))


# pieces


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>"


def _table(
    heads: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]], picture: str = "", *, wide: bool = False
) -> str:
    """`heads` have a word and whether it stands above text; `picture` is the head of a last column without an order.

    Of a `wide` one each row is a card where the screen is small, and each cell of it has its head as `data-h`.
    """
    cells = "".join(
        f'<th scope="col"{" class=text" if is_text else ""}><button>{word}</button></th>' for word, is_text in heads
    )
    cells += f'<th scope="col" class="text">{picture}</th>' if picture else ""
    if wide:
        words = [*(word for word, _ in heads), picture]
        rows = [[_headed(cell, word) for cell, word in zip(row, words, strict=False)] for row in rows]
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    table = f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll{" wide" if wide else ""}">{table}</div>'


def _cell(text: str, name: str = "", *, value: float | None = None) -> str:
    return f"<td{f' class={name}' if name else ''}{'' if value is None else f' data-v={value}'}>{_text(text)}</td>"


def _headed(cell: str, word: str) -> str:
    return cell.replace("<td", f'<td data-h="{html.escape(word)}"', 1)


def _more(count: int, shown: int) -> str:
    return f'<p class="soft">and {count - shown:,} more</p>' if count > shown else ""


def _time_axis(data: Data) -> str:
    axis = data["axis"]
    duration = axis["bins"] * axis["width_ns"]
    marks = "".join(f"<span>{_duration(duration * part // 4)}</span>" for part in range(5))
    return f'<div class="axis">{marks}</div>'


def _by_name(events: Sequence[Data], bins: int) -> list[tuple[str, int, list[int]]]:
    """Names with their counts and rates, most first: begins and ends of a span are of one name."""
    found: dict[str, tuple[int, list[int]]] = {}
    for event in events:
        count, rates = found.get(event["name"], (0, [0] * bins))
        found[event["name"]] = count + event["count"], _sum([rates, event["rates"]], bins)
    return sorted(((name, *numbers) for name, numbers in found.items()), key=lambda event: -event[1])


def _sum(rows: Iterable[Sequence[int]], bins: int) -> list[int]:
    return [sum(column) for column in zip(*rows, strict=True)] or [0] * bins


def _text(text: str) -> str:
    """Text of a trace in HTML, with what does not print as escapes."""
    shown = text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return html.escape(shown)


def _json(data: Data) -> str:
    """As JSON in which nothing can end the element that it stands in."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _duration(nanoseconds: float) -> str:
    if abs(nanoseconds) >= 120e9:
        return str(dt.timedelta(seconds=round(nanoseconds / 1e9)))
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if abs(nanoseconds) >= size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{nanoseconds:.0f} ns" if nanoseconds else "0"


def _quantity(value: float) -> str:
    for unit, size, least in (("G", 1e9, 1e9), ("M", 1e6, 1e6), ("k", 1e3, 1e4)):
        if abs(value) >= least:
            return f"{value / size:.3g} {unit}"
    return f"{value:,.4g}" if abs(value) < 1e3 else f"{value:,.0f}"


def _wall(nanoseconds: int) -> str:
    try:
        when = dt.datetime.fromtimestamp(nanoseconds / 1e9, dt.UTC).astimezone()
    except (OverflowError, ValueError, OSError):  # a time that no clock has
        return f"{nanoseconds} ns"
    return f"{when:%Y-%m-%d %H:%M:%S}.{nanoseconds % 10**9 // 10**6:03} {when:%Z}"
