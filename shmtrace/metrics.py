"""Counts of channels as Prometheus reads them: its text format, version 0.0.4."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["CONTENT_TYPE", "exposition"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_Sample = tuple[dict[str, str], int | float]


def _value(key: str) -> Any:  # noqa: ANN401 - a function of stats
    return lambda stats: [({}, stats[key])]


def _by_reason(key: str) -> Any:  # noqa: ANN401 - a function of stats
    return lambda stats: [({"reason": reason}, count) for reason, count in stats[key].items()]


def _by_cpu(stats: Mapping[str, Any]) -> list[_Sample]:
    return [({"cpu": str(cpu["cpu"])}, cpu["delivered"]) for cpu in stats["cpus"]]


# name, type, what it is, and its labels and values in `stats`
_METRICS: tuple[tuple[str, str, str, Callable[[Mapping[str, Any]], list[_Sample]]], ...] = (
    ("recording", "gauge", "1 while events are recorded", lambda stats: [({}, int(stats["recording"]))]),
    ("reader", "gauge", "1 while a reader has the FIFO open", lambda stats: [({}, int(stats["reader"]))]),
    ("collector", "gauge", "1 while the channel has a collector",
     lambda stats: [({}, int(stats["collector"] is not None))]),
    ("records_delivered_total", "counter", "records that left through the FIFO, by cpu", _by_cpu),
    ("records_overwritten_total", "counter", "records of a flight recorder that newer ones took the place of",
     _value("overwritten")),
    ("records_missed_total", "counter", "records refused, by reason", _by_reason("missed")),
    ("records_lost_total", "counter", "records lost after they were accepted, by reason", _by_reason("lost")),
    ("pages", "gauge", "pages of the channel", _value("pages")),
    ("pages_waiting", "gauge", "pages that wait to be written", _value("pages_waiting")),
    ("page_bytes", "gauge", "bytes of a page", _value("page_size")),
    ("lanes", "gauge", "lanes of the channel", _value("lanes")),
    ("lanes_used", "gauge", "lanes that were ever written to", _value("lanes_used")),
    ("writers", "gauge", "threads that have a number", _value("writers")),
    ("writers_unnumbered_total", "counter", "threads that found no number", _value("unnumbered")),
    ("damaged_words_total", "counter", "words of the segment that were found to be nonsense", _value("damaged_words")),
)  # fmt: skip


def exposition(channels: Iterable[Mapping[str, Any]]) -> str:
    """The text of what `stats()` of each channel says."""
    return "".join(f"{line}\n" for line in _lines(list(channels)))


def _lines(channels: list[Mapping[str, Any]]) -> Iterator[str]:
    for name, kind, what, samples in _METRICS:
        yield f"# HELP shmtrace_{name} {what[0].upper()}{what[1:]}."
        yield f"# TYPE shmtrace_{name} {kind}"
        for stats in channels:
            for labels, value in samples(stats):
                pairs = {"channel": stats["name"], "mode": stats["mode"], **labels}
                text = ",".join(f'{label}="{_escape(content)}"' for label, content in pairs.items())
                yield f"shmtrace_{name}{{{text}}} {value}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
