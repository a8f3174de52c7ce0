"""The workloads of OpenTelemetry's specification ("performance-benchmark"), and what a span costs in them.

Their names here are the bytes of their attributes: 8 is a span with an integer and an event without attributes, 200 one
with ten attributes of 20 characters.
"""

from __future__ import annotations

NAMES = ("specification_sdk", "specification_bridge", "specification_channel")
INTEGER_AND_EVENT, TEN_TEXTS = 8, 200
WORKLOADS = {INTEGER_AND_EVENT: "an integer and an event", TEN_TEXTS: "ten attributes of 20 characters"}
TEXTS = {f"attribute {number}": f"{number:020}" for number in range(10)}
