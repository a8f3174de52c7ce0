"""The commands that make, show and remove channels."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

import commands
import shmtrace
from shmtrace.channel import create_channel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def channel(channel_name: str) -> str:
    """A channel that is there."""
    result = commands.run("create", channel_name, "--pages", "64", "--page-size", "8192")
    assert result.returncode == 0, result.stderr
    return channel_name


def test_create_prints_the_path_of_the_fifo(channel_name: str, runtime_directory: Path) -> None:
    result = commands.run("create", channel_name, "--pages", "64")
    assert (result.returncode, result.stdout) == (0, f"{runtime_directory / channel_name}\n"), result.stderr
    assert (runtime_directory / channel_name).is_fifo()


def test_path_prints_it_too(channel: str, runtime_directory: Path) -> None:
    assert commands.run("path", channel).stdout == f"{runtime_directory / channel}\n"


def test_creating_a_channel_twice_fails_in_one_line(channel: str) -> None:
    result = commands.run("create", channel)
    assert result.returncode == 1
    assert result.stderr.startswith("shmtrace: ")
    assert channel in result.stderr
    assert result.stderr.count("\n") == 1


def test_remove_takes_several_names(new_name: Callable[[], str]) -> None:
    names = [new_name(), new_name()]
    for name in names:
        assert commands.run("create", name, "--pages", "64").returncode == 0
    assert commands.run("remove", *names).returncode == 0
    for name in names:
        with pytest.raises(shmtrace.ChannelNotFound):
            shmtrace.open_channel(name)


@pytest.mark.parametrize("arguments", [["remove"], ["path"], ["stat"], ["stat", "--json"]])
def test_a_channel_that_is_not_there_is_one_line_and_exit_status_1(arguments: list[str], channel_name: str) -> None:
    result = commands.run(*arguments, channel_name)
    assert (result.returncode, result.stdout) == (1, "")
    assert channel_name in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".x", "-x", "ä", "x" * 65])
def test_a_name_that_is_none_is_one_line(name: str) -> None:
    result = commands.run("create", "--", name)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1


def test_list_shows_name_pages_and_state(channel: str) -> None:
    result = commands.run("list")
    assert result.returncode == 0
    head, *rows = result.stdout.splitlines()
    (row,) = [row for row in rows if row.split()[0] == channel]
    cells = {"NAME": channel, "STATE": "idle", "PAGES": "64 x 8192", "MODE": "drop", "READER": "-", "COLLECTOR": "-"}
    for column, cell in cells.items():
        assert row[head.index(column) :].startswith(cell)


def test_stat_is_the_same_as_text_and_as_json(channel: str) -> None:
    stats = json.loads(commands.run("stat", channel, "--json").stdout)
    text = commands.run("stat", channel).stdout
    with shmtrace.open_channel(channel) as opened:
        assert set(stats) == set(opened.stats())
    for key in stats:
        if stats[key] not in ({}, []):
            assert key.replace("_", " ") in text


def test_remove_stale_leaves_living_channels_alone(channel: str) -> None:
    assert commands.run("remove", "--stale").returncode == 0
    shmtrace.open_channel(channel).close()


def test_remove_stale_removes_the_channel_of_a_dead_session(channel_name: str) -> None:
    create_channel(channel_name, pages=64, _session=(os.getpid(), 1)).close()  # began at another time
    assert commands.run("remove", "--stale").returncode == 0
    with pytest.raises(shmtrace.ChannelNotFound):
        shmtrace.open_channel(channel_name)
