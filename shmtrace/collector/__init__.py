"""The collector process: moves full pages to the FIFOs, and keeps the pools of pages filled."""

from __future__ import annotations

from .service import main

__all__ = ["main"]
