"""`shmtrace top` as somebody at a terminal sees it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

import recording
import shmtrace

pytest.importorskip("textual")

from textual.widgets import DataTable, Static

from shmtrace.live import screen
from shmtrace.live.screen import Top, _shortened

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.timeout(100), pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def rows(app: Top, table: str) -> list[list[str]]:
    found = app.query_one(f"#{table}", DataTable)
    return [[str(cell) for cell in found.get_row_at(number)] for number in range(found.row_count)]


@pytest.mark.parametrize("size", [(80, 24), (140, 40), (30, 8)])
def test_top_shows_rates_and_obeys_its_keys(
    new_name: Callable[[], str], tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [new_name(), new_name()]
    monkeypatch.setattr(screen, "channel_names", lambda: names)  # others may be recorded, too
    channels = [shmtrace.create_channel(name, pages=64, page_size=8192) for name in names]
    load, request = channels[0].span("load"), channels[0].tracepoint("request", status="u16")

    async def work() -> None:
        while True:
            with load:
                request(200)
            await asyncio.sleep(0.002)

    async def use() -> None:
        app = Top(None, 0.3)
        async with app.run_test(size=size) as pilot:
            working = asyncio.create_task(work())
            for _ in range(100):
                await asyncio.sleep(0.1)
                if len(rows(app, "events")) == 3:
                    await pilot.press("p")
                    if len(rows(app, "events")) == 3:  # it was not drawn anew meanwhile
                        break
                    await pilot.press("p")
            working.cancel()
            assert {row[0] for row in rows(app, "channels")} >= set(names)
            assert {row[0] for row in rows(app, "events")} <= {"load", "request"}
            assert len(rows(app, "processes")) == 1
            await pilot.press("tab", "s")
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


LONG = "very.long.package.module_name.ClassName.method_with_a_long_name"


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
def test_long_names_push_no_number_out(new_name: Callable[[], str], tmp_path: Path, size: tuple[int, int]) -> None:
    name = f"{new_name()}-{'service' * 6}"
    channel = shmtrace.create_channel(name, pages=64, page_size=8192)
    called = channel.tracepoint(LONG)

    async def use() -> None:
        app = Top(name, 0.3)
        async with app.run_test(size=size) as pilot:
            while not rows(app, "events"):
                called()
                await pilot.pause(0.01)
            await pilot.press("p")
            for table in ("channels", "events", "processes"):
                found = app.query_one(f"#{table}", DataTable)
                assert found.virtual_size.width <= found.size.width
            (shown,) = {row[0] for row in rows(app, "events")}
            assert "…" in shown
            assert (shown[:10], shown[-10:]) == (LONG[:10], LONG[-10:])
            assert ("…" in rows(app, "channels")[0][0]) == (size[0] == 80)
            state = str(app.query_one("#state", Static).render())
            assert name in state
            assert "delivered " in state
            assert all(len(line) <= size[0] - 2 for line in state.splitlines())
            await pilot.press("q")

    try:
        with recording.recorded(channel, tmp_path / "trace"):
            asyncio.run(use())
    finally:
        channel.close()
        shmtrace.remove_channel(name)


@pytest.mark.parametrize(("room", "shown"), [(10, "0123456789"), (9, "0123…6789"), (4, "01…9"), (3, "0…9")])
def test_a_name_is_shortened_in_its_middle(room: int, shown: str) -> None:
    assert _shortened("0123456789", room) == shown
