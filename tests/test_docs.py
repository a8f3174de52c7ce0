"""The code blocks of the README and the guide, run as they stand, in the order in which they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import commands

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
SHORT_PAGES = ("docs/kernels.md", "docs/bridges.md", "docs/analysis.md", "docs/views.md", "docs/perfetto.md")
PAGES = ("README.md", "docs/guide.md", *SHORT_PAGES)
RECIPES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs/recipes").glob("*.md"))
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# file: (\S+)\n")


class Block(NamedTuple):
    """A fenced block: its language, its text, and its line in the page."""

    language: str
    text: str
    line: int


def blocks(page: str) -> Iterator[Block]:
    text = (ROOT / page).read_text()
    for match in _BLOCK.finditer(text):
        yield Block(match[1], match[2], text.count("\n", 0, match.start()) + 1)


@pytest.mark.parametrize("page", PAGES)
def test_the_code_blocks_of_the_page_run(page: str, tmp_path: Path, channel_name: str) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONWARNINGS": "ignore::DeprecationWarning",  # fork beside threads
    }
    ran = 0
    for number, block in enumerate(blocks(page)):
        # channels of this test run have names of this test run
        text = re.sub(r'(?<=create_channel\(")\w+|(?<=remove_channel\(")\w+', channel_name, block.text)
        text = re.sub(r"\bapp\b", channel_name, text).replace("hello.py", f"{channel_name}-hello.py")
        if block.language == "python":
            named = _FILE.match(text)
            path = tmp_path / (named[1] if named else f"{channel_name}-block{number}.py")
            path.write_text(text)
            command = [sys.executable, path.name]
        elif block.language == "sh":
            command = ["bash", "-euo", "pipefail", "-c", text]
        else:
            continue
        result = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=commands.LIMIT_S
        )
        assert result.returncode == 0, f"{page}:{block.line}: {result.stderr}"
        ran += 1
    assert ran >= (1 if page in SHORT_PAGES else 4)


@pytest.mark.parametrize("page", [*PAGES, *RECIPES])
def test_links_within_the_project_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        if "://" not in target:
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_every_recipe_is_in_the_index_and_has_a_test() -> None:
    index = (ROOT / "docs/recipes/README.md").read_text()
    pages = {Path(page).stem for page in RECIPES} - {"README"}
    assert len(pages) > 10
    assert set(re.findall(r"^\| \[\w+\]\((\w+)\.md\)", index, re.MULTILINE)) == pages
    assert {path.stem.removeprefix("test_") for path in (ROOT / "tests/recipes").glob("test_*.py")} == pages
