"""`shmtrace top` as somebody at a terminal sees it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

import recording
import shmtrace

pytest.importorskip("textual")

from textual.widgets import DataTable, Static

from shmtrace.live.screen import Top

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.timeout(100), pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def rows(app: Top, table: str) -> list[list[str]]:
    found = app.query_one(f"#{table}", DataTable)
    return [[str(cell) for cell in found.get_row_at(number)] for number in range(found.row_count)]


@pytest.mark.parametrize("size", [(80, 24), (140, 40), (30, 8)])
def test_top_shows_rates_and_obeys_its_keys(new_name: Callable[[], str], tmp_path: Path, size: tuple[int, int]) -> None:
    names = [new_name(), new_name()]
    channels = [shmtrace.create_channel(name, pages=64, page_size=8192) for name in names]
    load, request = channels[0].span("load"), channels[0].tracepoint("request", status="u16")

    async def use() -> None:
        app = Top(None, 0.3)
        async with app.run_test(size=size) as pilot:
            for _ in range(3000):
                with load:
                    request(200)
                await asyncio.sleep(0.002)
                if rows(app, "events"):
                    break
            assert {row[0] for row in rows(app, "channels")} >= set(names)
            assert {row[0] for row in rows(app, "events")} <= {"load", "request"}
            assert len(rows(app, "processes")) == 1
            await pilot.press("p", "tab", "s")
            assert "PAUSED" in str(app.query_one("#state", Static).render())
            assert rows(app, "events") == sorted(rows(app, "events"), key=lambda row: row[2])
            await pilot.press("slash", *"req", "enter")
            assert {row[0] for row in rows(app, "events")} == {"request"}
            await pilot.press("escape")
            assert len(rows(app, "events")) == 3
            await pilot.press("question_mark")
            assert len(app.screen_stack) == 2
            await pilot.press("x")
            assert len(app.screen_stack) == 1
            await pilot.press("q")
        assert app.return_code == 0

    with recording.recorded(channels[0], tmp_path / "trace") as recorder:
        asyncio.run(use())
        recorder.finish()
    for channel in channels:
        channel.close()
        shmtrace.remove_channel(channel.name)


def test_a_channel_that_is_removed_goes(channel_name: str) -> None:
    channel = shmtrace.create_channel(channel_name, pages=64, page_size=8192)

    async def use() -> None:
        app = Top(channel_name, 0.1)
        async with app.run_test() as pilot:
            assert [row[0] for row in rows(app, "channels")] == [channel_name]
            channel.close()
            shmtrace.remove_channel(channel_name)
            await pilot.pause(0.5)
            assert rows(app, "channels") == []
            assert "removed" in str(app.query_one("#state", Static).render())

    asyncio.run(use())
