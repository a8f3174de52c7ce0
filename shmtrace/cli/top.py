"""`shmtrace top`: what happens in channels, live."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

SAMPLES = 10  # looks at the records in an interval


@click.command
@click.argument("name", required=False)
@click.option("--once", is_flag=True, help="Look for one interval, print, and end.")
@click.option("--json", "as_json", is_flag=True, help="With --once: one JSON object.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 60),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks.",
)
def command(name: str | None, *, once: bool, as_json: bool, interval: float) -> None:
    """Show what happens in the channel NAME, or in all of this user's: rates, fill of pages, missed, lost, lag.

    Only the shared segments are read, never a FIFO: so it can run beside a recorder.  Rates by event and by process are
    estimates, from the records in the pages.  Keys: q ends, ? helps.
    """
    if as_json and not once:
        raise click.UsageError("--json needs --once")
    if once:
        found = _look_once(name, interval)
        click.echo(json.dumps({"time_ns": time.time_ns(), "channels": found}) if as_json else _text(found), nl=as_json)
        return
    try:
        from shmtrace.live.screen import Top
    except ImportError:
        raise click.UsageError("top needs textual: pip install 'shmtrace[tui]'; --once does without") from None
    if name is not None:
        _look_once(name, 0)  # if there is none, that is said here
    Top(name, interval).run()


def _look_once(name: str | None, interval: float) -> list[dict[str, Any]]:
    from shmtrace.errors import ShmtraceError
    from shmtrace.live.look import Watch
    from shmtrace.segment import channel_names, open_segment

    with ExitStack() as stack:
        watches = []
        for each in [name] if name is not None else channel_names():
            try:
                segment = open_segment(each)
            except ShmtraceError:
                if name is not None:
                    raise
                continue
            stack.callback(segment.unmap)
            watches.append(Watch(segment))
        for _ in range(SAMPLES):
            time.sleep(interval / SAMPLES)
            for watch in watches:
                watch.sample()
        return [watch.report() for watch in watches]


def _text(found: Iterable[dict[str, Any]]) -> str:
    lines = []
    for channel in found:
        rates, estimates = channel["rates"], channel["estimates"]
        lag = "-" if channel["lag_ms"] is None else f"{channel['lag_ms']:,.1f} ms"
        lines.append(
            f"{channel['name']}: {rates['delivered']:,.0f}/s delivered, {rates['missed']:,.0f}/s missed, "
            f"{rates['lost']:,.0f}/s lost, {channel['pages_in_use']:,} of {channel['pages']:,} pages, lag {lag}, "
            f"{channel['writers']:,} writers"
        )
        lines += [f"  about {event['rate']:,.0f}/s  {event['kind']} {event['name']}" for event in estimates["events"]]
        lines += [
            f"  about {process['rate']:,.0f}/s  {'not known' if process['pid'] is None else process['process']}"
            f"[{process['pid'] or '-'}]"
            for process in estimates["processes"]
        ]
    return "".join(f"{line if line.isprintable() else ascii(line)[1:-1]}\n" for line in lines)
