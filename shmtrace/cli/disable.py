"""`shmtrace disable`: see enable.py."""

from __future__ import annotations

from .enable import make_command

command = make_command("disable", "below")
command.help = """Switch off the events of the channel NAME that match PATTERN, "req*" as in a shell.

They then cost a load and a branch.  It holds for all processes, and for events that are defined later."""
