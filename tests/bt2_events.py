"""Prints what babeltrace2's Python module makes of a trace, an event a line, as JSON: `bt2_events.py DIRECTORY`.

A program of its own, for the system's Python, which is the one that has that module.  It does not round: a real number
is the hexadecimal form of its eight bytes.  An enumeration is its number and its labels.
"""

from __future__ import annotations

import json
import struct
import sys

import bt2


def labels(field: bt2._EnumerationFieldConst) -> list[str]:
    """Those of an enumeration's value."""
    try:
        return sorted(field.labels)
    except AssertionError:  # bt2 2.0, for the first value that has none
        return []


def plain(field: bt2._Field) -> object:
    """A field's value."""
    if isinstance(field, bt2._EnumerationFieldConst):
        return [int(field), labels(field)]
    if isinstance(field, bt2._IntegerFieldConst):
        return int(field)
    if isinstance(field, bt2._RealFieldConst):
        return struct.pack(">d", float(field)).hex()
    if isinstance(field, bt2._StringFieldConst):
        return str(field) if len(field) else ""  # babeltrace 2.0.4 gives an earlier field's text for an empty one
    assert isinstance(field, bt2._ArrayFieldConst), type(field)
    return [plain(element) for element in field]


def main(directory: str) -> None:
    """Print all events in the order of time."""
    for message in bt2.TraceCollectionMessageIterator(directory):
        if isinstance(message, bt2._EventMessageConst):
            event = message.event
            fields = {name: plain(field) for name, field in event.payload_field.items()}
            level = getattr(event.cls.log_level, "value", event.cls.log_level)  # 2.1: an Enum
            print(json.dumps([event.name, event.cls.emf_uri, level, fields]))


if __name__ == "__main__":
    main(*sys.argv[1:])
