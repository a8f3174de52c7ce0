"""A trace as one page of HTML: `gather` counts in one pass over batches of columns, `page` shows what was counted."""

from __future__ import annotations

from .gather import Summary
from .page import render

__all__ = ["Summary", "render"]
