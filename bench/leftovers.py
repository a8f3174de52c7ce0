"""What peers leave behind when a process of theirs is killed, or at any end."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def removed(*patterns: str) -> Iterator[None]:
    """Files and directories of these absolute patterns that have come during the block go with it."""
    before = _files(patterns)
    try:
        yield
    finally:
        for path in _files(patterns) - before:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _files(patterns: tuple[str, ...]) -> set[Path]:
    return {path for pattern in patterns for path in Path("/").glob(pattern.lstrip("/"))}
