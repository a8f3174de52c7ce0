"""What a report shows, counted in one pass over a trace's batches, in bounded memory.

What a trace says is not trusted: of names, processes and series so many are kept apart, and the others counted together
(in the row after the last).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ...reader.batch import KINDS, LOSS
from ..pairing import ENOUGH, pairs_of
from .histogram import Histograms, bucket_begin
from .timeline import Axis

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...reader.batch import Batch
    from ...reader.records import Writer
    from ...reader.rows import Array

__all__ = ["OTHERS", "Summary"]

OTHERS = "(others)"
OTHER_KIND = "other"  # of a program that we do not know
MOST_NAMES = 2048  # with their kinds
MOST_SPANS = 1024
MOST_PROCESSES = 2048
MOST_THREADS = 1 << 16  # counted of all processes that are shown
MOST_COUNTERS = 256
MOST_REASONS = 64
MOST_OPEN = 1 << 16  # as reader.spans.MOST_SPANS
SHOWN_OPEN = 1000
_BEGIN, _END, _COUNTER, _LOSS = (KINDS.index(kind) for kind in ("begin", "end", "counter", "loss"))

Data: TypeAlias = "dict[str, Any]"


class _Numbers:
    """Gives numbers to keys as they come, from 0 on; those beyond the limit share the last one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.keys: dict[Any, int] = {}

    def __getitem__(self, key: object) -> int:
        found = self.keys.get(key)
        if found is None:
            if len(self.keys) >= self._most:
                return self._most
            found = self.keys[key] = len(self.keys)
        return found


@dataclasses.dataclass
class _Marks:
    """Begins and ends of spans, a column an array."""

    process: Array
    span: Array
    time: Array  # monotonic
    wall: Array
    name: Array  # row of the histograms
    thread: Array
    is_end: Array

    @classmethod
    def none(cls) -> _Marks:
        numbers = {field.name: np.empty(0, np.int64) for field in dataclasses.fields(cls)}
        return cls(**numbers | {"is_end": np.empty(0, np.bool_)})

    def columns(self) -> list[Array]:
        return [getattr(self, field.name) for field in dataclasses.fields(self)]

    def then(self, others: Iterable[_Marks]) -> _Marks:
        """These, and the others behind them."""
        columns = zip(self.columns(), *(other.columns() for other in others), strict=True)
        return _Marks(*map(np.concatenate, columns))

    def pick(self, rows: Array) -> _Marks:
        """Some of them."""
        return _Marks(*(column[rows] for column in self.columns()))


class Summary:
    """Takes batches; `data` is what was found."""

    def __init__(self, batches: Iterable[Batch] = ()) -> None:
        self.axis = Axis()
        self._records = 0
        self._first, self._last = 0, 0
        self._names = _Numbers(MOST_NAMES)
        self._counts = np.zeros(MOST_NAMES + 1, np.int64)
        self._events = self.axis.table()
        self._span_names = _Numbers(MOST_SPANS)
        self._durations = Histograms(MOST_SPANS + 1)
        self._open = _Marks.none()
        self._waiting: list[_Marks] = []
        self._waiting_rows = 0
        self._forgotten = 0
        self._losses: dict[str, int] = {}
        self._reasons = _Numbers(MOST_REASONS)
        self._lost = self.axis.table()
        self._writers: dict[Writer, int] = {}  # of open spans, and more
        self._processes: dict[tuple[str, int, int] | None, int] = {None: 0}
        self._threads_known = 0
        self._about: dict[int, Data] = {0: {"pid": None, "start": None, "process": None, "threads": set()}}
        size = MOST_PROCESSES + 1
        self._of_process = np.zeros(size, np.int64)
        self._began, self._ended = np.full(size, np.iinfo(np.int64).max), np.full(size, np.iinfo(np.int64).min)
        self._activity = self.axis.table()
        self._series = _Numbers(MOST_COUNTERS)
        self._values: dict[int, Data] = {}
        self._sums, self._samples = self.axis.table(dtype="f8"), self.axis.table()
        self._least = self.axis.table(np.minimum, np.inf, "f8")
        self._most = self.axis.table(np.maximum, -np.inf, "f8")
        for batch in batches:
            self.add(batch)

    def add(self, batch: Batch) -> None:
        """Takes some more records into account."""
        times = batch.time_ns
        bins = self.axis.bins_of(times)
        low, high = int(times.min()), int(times.max())
        self._first = min(self._first, low) if self._records else low
        self._last = max(self._last, high) if self._records else high
        self._records += len(batch)
        processes = self._processes_of(batch)
        rows = np.minimum(processes, MOST_PROCESSES)
        self._count_names(batch, bins)
        self._count_processes(rows, times, bins)
        self._add_losses(batch, bins)
        self._add_spans(batch, processes)
        self._add_counters(batch, rows, bins)

    def _processes_of(self, batch: Batch) -> Array:
        """The process of each record."""
        of_thread = np.zeros(len(batch.threads) + 1, np.int64)  # -1 is the last: nobody
        for number in batch.thread_ids():
            thread = batch.threads[number]
            of_thread[number] = process = self._process_of(thread)
            if process < MOST_PROCESSES:
                about = self._about.setdefault(process, {"pid": thread.pid, "start": thread.start, "threads": set()})
                about["process"] = f"{thread.host} {thread.process}" if thread.host else thread.process
                identity = thread.tid, thread.thread_start
                if identity not in about["threads"] and self._threads_known < MOST_THREADS:
                    self._threads_known += 1
                    about["threads"].add(identity)
        found: Array = of_thread[batch.thread_id]
        return found

    def _process_of(self, thread: Writer) -> int:
        key = thread.host, thread.pid, thread.start
        number = self._processes.get(key)
        if number is None:
            if len(self._processes) >= MOST_PROCESSES:  # what is counted is one for all, but spans are told apart
                return MOST_PROCESSES + (hash(key) & (1 << 61) - 1)
            number = self._processes[key] = len(self._processes)
        return number

    def _threads_of(self, batch: Batch, rows: Array) -> Array:
        """Numbers of the threads, which stay the same from batch to batch."""
        if len(self._writers) > 2 * MOST_OPEN:
            self._pair()
            writers = list(self._writers)
            kept, places = np.unique(self._open.thread, return_inverse=True)
            self._writers = {writers[number]: place for place, number in enumerate(kept.tolist())}
            self._open = dataclasses.replace(self._open, thread=places.reshape(-1))
        threads, places = np.unique(batch.thread_id[rows], return_inverse=True)
        numbers = [self._writers.setdefault(batch.threads[n], len(self._writers)) for n in threads.tolist()]
        found: Array = np.array(numbers, np.int64)[places.reshape(-1)]
        return found

    def _count_names(self, batch: Batch, bins: Array) -> None:
        known = np.minimum(batch.kind, len(KINDS)).astype(np.int64)
        found, places, counts = np.unique(
            batch.name_id * (len(KINDS) + 1) + known, return_inverse=True, return_counts=True
        )
        kinds = (*KINDS, OTHER_KIND)
        pairs = [divmod(int(key), len(kinds)) for key in found]
        rows = np.array([self._names[batch.names[name], kinds[kind]] for name, kind in pairs], np.int64)
        np.add.at(self._counts, rows, counts)
        self._events.add(rows[places.reshape(-1)], bins)

    def _count_processes(self, rows: Array, times: Array, bins: Array) -> None:
        self._of_process += np.bincount(rows, minlength=MOST_PROCESSES + 1)
        np.minimum.at(self._began, rows, times)
        np.maximum.at(self._ended, rows, times)
        self._activity.add(rows, bins)

    def _add_losses(self, batch: Batch, bins: Array) -> None:
        if not (batch.kind == _LOSS).any():
            return
        rows, fields = batch.fields(LOSS)
        reasons = [str(reason) for reason in fields["reason"]]
        counts = np.asarray(fields["count"]).astype(np.float64)
        for reason, count in zip(reasons, np.asarray(fields["count"]).tolist(), strict=True):
            self._losses[reason] = self._losses.get(reason, 0) + count
        numbers = np.array([self._reasons[reason] for reason in reasons], np.int64)
        self._lost.add(numbers, bins[rows], np.minimum(counts, 1 << 40).astype(np.int64))

    # spans

    def _add_spans(self, batch: Batch, processes: Array) -> None:
        kind = batch.kind
        rows = np.flatnonzero(((kind == _BEGIN) | (kind == _END)) & (batch.span > 0) & (batch.thread_id >= 0))
        if not len(rows):
            return
        ids, places = np.unique(batch.name_id[rows], return_inverse=True)
        is_end = kind[rows] == _END
        begun = set(np.unique(batch.name_id[rows[~is_end]]).tolist())
        names = np.array([self._span_names[batch.names[i]] if i in begun else 0 for i in ids.tolist()], np.int64)
        new = _Marks(
            processes[rows], batch.span[rows], batch.monotonic_ns[rows], batch.time_ns[rows],
            names[places.reshape(-1)], self._threads_of(batch, rows), is_end,
        )  # fmt: skip
        self._waiting.append(new)
        self._waiting_rows += len(rows)
        if self._waiting_rows >= max(ENOUGH, len(self._open.span)):
            self._pair()

    def _pair(self) -> None:
        """Begins and ends that wait become durations; what is left is open."""
        marks = self._open.then(self._waiting)
        self._waiting, self._waiting_rows = [], 0
        found = pairs_of((marks.span, marks.process), marks.is_end)
        durations = marks.time[found.ends] - marks.time[found.begins]
        self._durations.add(marks.name[found.begins], np.maximum(durations, 0))
        self._forgotten += max(0, len(found.open) - MOST_OPEN)
        self._open = marks.pick(found.open[-MOST_OPEN:])

    # counters

    def _add_counters(self, batch: Batch, processes: Array, bins: Array) -> None:
        for number in batch.class_ids():
            made = batch.classes[number]
            if made.kind != KINDS[_COUNTER] or [name for name, _ in made.fields] != ["value"]:
                continue
            rows, fields = batch.fields(number)
            values = np.asarray(fields["value"]).astype(np.float64)
            for process in np.unique(processes[rows]).tolist():
                chosen = processes[rows] == process
                self._add_series(self._series[made.name, process], values[chosen], bins[rows[chosen]])

    def _add_series(self, series: int, values: Array, bins: Array) -> None:
        found = self._values.setdefault(series, {"count": 0, "sum": 0.0, "min": np.inf, "max": -np.inf, "last": None})
        found["count"] += len(values)
        finite = np.isfinite(values)
        values, bins = values[finite], bins[finite]
        if len(values):
            found["sum"] += float(values.sum())
            found["min"], found["max"] = min(found["min"], float(values.min())), max(found["max"], float(values.max()))
            found["last"] = float(values[-1])
            rows = np.full(len(values), series, np.int64)
            self._sums.add(rows, bins, values)
            self._samples.add(rows, bins)
            self._least.add(rows, bins, values)
            self._most.add(rows, bins, values)

    # what was found

    def data(self) -> Data:
        """All of it, as JSON has it: times in ns, most first.  `rates` and `series` have a number a bin of the axis."""
        self._pair()
        used = self.axis.used
        kinds: dict[str, int] = {}
        for (_, kind), row in self._names.keys.items():
            kinds[kind] = kinds.get(kind, 0) + int(self._counts[row])
        return {
            "records": self._records,
            "first_ns": self._first,
            "last_ns": self._last,
            "kinds": kinds,
            "axis": {"origin_ns": self.axis.origin, "width_ns": self.axis.width_ns, "bins": used},
            "events": self._events_data(used),
            "spans": self._spans_data(),
            "open_spans": self._open_data(),
            "open_spans_count": len(self._open.span) + self._forgotten,
            "processes": self._processes_data(used),
            "counters": self._counters_data(used),
            "losses": self._losses,
            "losses_rates": {
                reason: self._lost.row(number, used).tolist() for reason, number in self._reasons.keys.items()
            },
        }

    def _events_data(self, used: int) -> list[Data]:
        rows = [*self._names.keys.items(), ((OTHERS, OTHER_KIND), MOST_NAMES)]
        found = [
            {"name": name, "kind": kind, "count": int(self._counts[row]), "rates": self._events.row(row, used).tolist()}
            for (name, kind), row in rows
            if self._counts[row]
        ]
        return sorted(found, key=lambda event: -event["count"])

    def _spans_data(self) -> list[Data]:
        made = self._durations
        still_open = np.bincount(self._open.name, minlength=MOST_SPANS + 1)
        found = []
        for name, row in [*self._span_names.keys.items(), (OTHERS, MOST_SPANS)]:
            count = int(made.count[row])
            if not count:
                if still_open[row]:
                    found.append({"name": name, "count": 0, "total_ns": 0, "open": int(still_open[row]), "buckets": []})
                continue
            buckets = np.flatnonzero(made.buckets[row])
            found.append({
                "name": name, "count": count, "total_ns": int(made.total[row]),
                "mean_ns": int(made.total[row]) / count, "min_ns": int(made.least[row]),
                "p50_ns": made.percentile(row, 0.5), "p90_ns": made.percentile(row, 0.9),
                "p99_ns": made.percentile(row, 0.99), "max_ns": int(made.most[row]), "open": int(still_open[row]),
                "buckets": [[bucket_begin(int(at)), int(made.buckets[row, at])] for at in buckets],
            })  # fmt: skip
        return sorted(found, key=lambda span: -int(span["total_ns"]))

    def _open_data(self) -> list[Data]:
        names = {row: name for name, row in self._span_names.keys.items()}
        writers = list(self._writers)
        columns = (column[:SHOWN_OPEN].tolist() for column in self._open.columns())
        found = []
        for process, span, _, wall, name, thread, _ in zip(*columns, strict=True):
            writer = writers[thread]
            ended = int(self._ended[min(process, MOST_PROCESSES)])
            found.append({
                "name": names.get(name, OTHERS), "span": span, "pid": writer.pid, "tid": writer.tid,
                "process": writer.process, "thread": writer.thread, "begin_ns": wall, "last_of_process_ns": ended,
            })  # fmt: skip
        return found

    def _processes_data(self, used: int) -> list[Data]:
        found = []
        for row in np.flatnonzero(self._of_process).tolist():
            about = self._about.get(row, {"pid": None, "start": None, "process": OTHERS, "threads": set()})
            found.append({
                **about, "threads": len(about["threads"]), "records": int(self._of_process[row]),
                "first_ns": int(self._began[row]), "last_ns": int(self._ended[row]),
                "rates": self._activity.row(row, used).tolist(),
            })  # fmt: skip
        return sorted(found, key=lambda process: -process["records"])

    def _counters_data(self, used: int) -> list[Data]:
        found = []
        for (name, process), row in [*self._series.keys.items(), ((OTHERS, 0), MOST_COUNTERS)]:
            values = self._values.get(row)
            if values is None:
                continue
            samples = self._samples.row(row, used)
            finite = values["last"] is not None
            have = samples > 0
            means = np.divide(self._sums.row(row, used), samples, out=np.zeros(used), where=have)
            found.append({
                "name": name, "pid": self._about.get(process, {}).get("pid"), "count": values["count"],
                "min": values["min"] if finite else None, "max": values["max"] if finite else None,
                "last": values["last"],
                "series": [
                    [int(at), float(means[at]), float(self._least.rows[row, at]), float(self._most.rows[row, at])]
                    for at in np.flatnonzero(have)
                ],
            })  # fmt: skip
        return sorted(found, key=lambda counter: -counter["count"])
