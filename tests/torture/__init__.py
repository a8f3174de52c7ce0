"""Torture: real processes that are killed, stopped and forked at random, and books that must balance all the same.

A scenario is a kind of torment of a channel in some mode, for so many seconds or kills.  It is made of rounds:

    begin     a channel of a random shape, and its consumer: the real collector and readers, or snapshots
    torment   producers write numbered events; each process gets a random time at which it is killed, or stopped
    settle    who is stopped goes on, producers end, a last producer must get its events in, the consumer ends in order
    check     what the consumer got, read by shmtrace.read and looked at by babeltrace2, against the ledger

The *ledger* is memory that all processes of a round share: for each event of each process, what `event()` returned.  It
is written after the call, so of a process that was killed one event, the next one, may be in the trace without it.

The processes are forked from here, so that a start costs milliseconds; collector, recorder and snapshot are the real
commands in a forked process.  They are in process groups of their own, their orphans come to this process, and those
that it started itself die with it: none can escape.

`tools/torture` runs it; `tools/torture --help` names the options.
"""

from __future__ import annotations

__all__ = ["Broken"]


class Broken(AssertionError):
    """Something does not hold that must."""
