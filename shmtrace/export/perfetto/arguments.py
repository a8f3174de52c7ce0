"""What belongs to records beside their kind: the arguments of events, what links them, and the values of counters."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ...reader.batch import EXCEPTION, KINDS, LOG
from ...reader.log import unpack_log
from .protobuf import VALUE, field_of, flow_of, flows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ...reader.batch import Batch
    from ...reader.description import EventClass
    from ...reader.rows import Array
    from .protobuf import Interned

    _Encoder: TypeAlias = Callable[..., list[bytes]]

__all__ = ["Arguments"]


class Arguments:
    """Makes bytes of the fields of records."""

    def __init__(self, interned: Interned) -> None:
        self._interned = interned
        self._encoders: dict[int, list[tuple[str, _Encoder]]] = {}  # of fields of each class

    def of(self, batch: Batch) -> list[bytes]:
        """Of each record."""
        made: list[bytes] = [b""] * len(batch)
        for number in batch.class_ids():
            if number == LOG:
                self._add_logs(batch, made)
            elif _has_arguments(batch.classes[number]):
                self._add_class(batch, number, made)
        self._add_contexts(batch, made)
        return made

    def _add_class(self, batch: Batch, number: int, made: list[bytes]) -> None:
        rows, fields = batch.fields(number)
        encoders = self._encoders.get(number)
        if encoders is None:
            encoders = self._encoders[number] = self._encoders_of(batch.classes[number])
        pieces = [encode(fields[name]) for name, encode in encoders]
        for row, *parts in zip(rows.tolist(), *pieces, strict=True):
            made[row] = b"".join(parts)

    def _encoders_of(self, made: EventClass) -> list[tuple[str, _Encoder]]:
        """For each field, one that makes an argument; for one that links events, another that does."""
        if made.kind == "counter":
            return [("value", _values)] if ("value", "f64") in made.fields else []
        encoders: list[tuple[str, _Encoder]] = []
        for name, kind in made.fields:
            encode = field_of(self._interned, name, kind)
            encoders.append((name, _unless_empty(encode) if (made.kind, name) == ("end", EXCEPTION) else encode))
            if name == "flow" and made.kind != "end" and (kind == "str" or kind[0] in "ui") and "[" not in kind:
                encoders.append((name, flows_of))
        return encoders

    def _add_logs(self, batch: Batch, made: list[bytes]) -> None:
        for row in batch.rows_of(LOG).tolist():
            log = unpack_log(batch.body(row))
            if log is not None:
                parts = self._interned.arguments(log.fields)
                made[row] = b"".join(parts.values()) + flow_of(log.fields.get("flow"))

    # contexts

    def _add_contexts(self, batch: Batch, made: list[bytes]) -> None:
        """The fields of contexts; a record's own win."""
        known: dict[int, dict[str, bytes]] = {}  # arguments of contexts
        kept: dict[tuple[int, int], bytes] = {}  # of them, those that records of a class lack
        rows = np.flatnonzero(batch.context >= 0)
        for row, number, context in zip(
            rows.tolist(), batch.class_id[rows].tolist(), batch.context[rows].tolist(), strict=True
        ):
            piece = kept.get((number, context))
            if piece is None:
                parts = known.get(context)
                if parts is None:
                    parts = known[context] = self._of_context(batch.contexts[context])
                own = _names(batch, row, number)
                piece = b"".join(part for name, part in parts.items() if name not in own)
                if number != LOG:
                    kept[number, context] = piece
            made[row] += piece

    def _of_context(self, body: bytes) -> dict[str, bytes]:
        log = unpack_log(body)
        return {} if log is None else self._interned.arguments(log.fields)


def _has_arguments(made: EventClass) -> bool:
    return bool(made.fields) and made.kind in KINDS and made.kind != "loss"


def _names(batch: Batch, row: int, number: int) -> Iterable[object]:
    """Of a record's own fields."""
    if number != LOG:
        return [name for name, _ in batch.classes[number].fields]
    log = unpack_log(batch.body(row))
    return () if log is None else log.fields


def _values(column: Array) -> list[bytes]:
    data = column.astype("<f8").tobytes()
    return [VALUE + data[at : at + 8] for at in range(0, len(data), 8)]


def _unless_empty(encode: _Encoder) -> _Encoder:
    """Nothing where there is no text."""

    def pieces(column: Iterable[object]) -> list[bytes]:
        return [piece if value else b"" for piece, value in zip(encode(column), column, strict=True)]

    return pieces
