"""Which records are wanted: by name, by process, and by an expression over columns and fields.

An expression is written as in Python, and is neither compiled nor run: it is taken apart, and only what is listed here
is understood.  So it can come from anywhere, and cannot do anything but compare.

    status >= 500 and path.startswith("/api")
    kind == "log" and level in ("error", "critical")
    "tried" in fields and not 0 < tried <= 3

* A name is a column (COLUMNS, of several traces ORIGIN, too) or else a field of the record; `fields["pid"]` is a field
  that has a column's name, or one whose name is no identifier.
* A comparison of what a record does not have, or of values that have no order, is false: of `status != 200` records
  without a status are none.
* Bytes that are UTF-8 are text, as in JSON lines.
"""

from __future__ import annotations

import ast
import operator
import warnings
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..reader import Record

    Wanted: TypeAlias = "Callable[[Record], bool]"
    _Value: TypeAlias = "Callable[[Record], Any]"  # raises _Absent

__all__ = ["COLUMNS", "InvalidExpression", "parse_expression", "wanted"]

COLUMNS = (
    "time_ns", "name", "kind", "level", "cpu", "pid", "tid", "process", "thread", "span", "parent", "task",
)  # fmt: skip
ORIGIN = ("host", "channel")  # of one trace these are not known, and are names like any other
METHODS = ("startswith", "endswith")
LONGEST = 10_000  # characters of an expression
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.In: lambda item, whole: item in whole, ast.NotIn: lambda item, whole: item not in whole,
}  # fmt: skip


class InvalidExpression(ValueError):
    """What is not understood of an expression, and where."""


class _Absent(Exception):
    """The record does not have it."""


def wanted(names: Sequence[str] = (), pids: Iterable[int] = (), where: str | None = None) -> Wanted | None:
    """Says of a record whether it matches one of the names' patterns, one of the pids, and the expression.

    None: every record does.  Raises InvalidExpression.
    """
    tests: list[Wanted] = []
    if names:
        patterns = tuple(names)
        tests.append(lambda record: any(fnmatchcase(record.name, pattern) for pattern in patterns))
    if processes := frozenset(pids):
        tests.append(lambda record: record.pid in processes)
    if where is not None:
        tests.append(parse_expression(where))
    if len(tests) < 2:
        return tests[0] if tests else None
    return lambda record: all(test(record) for test in tests)


def parse_expression(text: str) -> Wanted:
    """The expression as a test of records.  Raises InvalidExpression."""
    if len(text) > LONGEST:
        raise InvalidExpression(f"an expression of {len(text):,} characters: {LONGEST:,} are the most")
    try:
        with warnings.catch_warnings(action="ignore"):  # such as of an escape that is none
            tree = ast.parse(text.strip(), mode="eval")
        return _test(tree.body)
    except InvalidExpression:
        raise
    except SyntaxError as error:
        raise InvalidExpression(f"{text!r} is no expression: {error.msg} at character {error.offset or 0}") from None
    except (ValueError, RecursionError, MemoryError):
        raise InvalidExpression(f"{text[:40]!r}... is no expression that is understood") from None


def _test(node: ast.expr) -> Wanted:
    """A part that is true or false."""
    if isinstance(node, ast.BoolOp):
        parts = [_test(value) for value in node.values]
        if isinstance(node.op, ast.And):
            return lambda record: all(part(record) for part in parts)
        return lambda record: any(part(record) for part in parts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = _test(node.operand)
        return lambda record: not inner(record)
    return _present(_compare(node) if isinstance(node, ast.Compare) else _value(node))


def _present(value: _Value) -> Wanted:
    """False where the record does not have what is asked for, or where it cannot be compared."""

    def test(record: Record) -> bool:
        try:
            return bool(value(record))
        except (_Absent, TypeError):
            return False

    return test


def _compare(node: ast.Compare) -> _Value:
    for op in node.ops:
        if type(op) not in _COMPARISONS:
            raise _not_understood(node, "of comparisons there are ==, !=, <, <=, >, >=, in and not in")
    values = [_value(side) for side in (node.left, *node.comparators)]
    pairs = [(_COMPARISONS[type(op)], values[at], values[at + 1]) for at, op in enumerate(node.ops)]

    def compare(record: Record) -> bool:
        return all(operation(left(record), right(record)) for operation, left, right in pairs)

    return compare


def _value(node: ast.expr) -> _Value:
    """A part that has a value."""
    if isinstance(node, ast.Name):
        return _named(node.id)
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "fields":
        key = _constant(node.slice)
        return lambda record: _field(record, key)
    if isinstance(node, ast.Call):
        return _call(node)
    constant = _constant(node)
    return lambda _record: constant


def _named(name: str) -> _Value:
    if name == "fields":
        return lambda record: record.fields
    if name not in (*COLUMNS, *ORIGIN):
        return lambda record: _field(record, name)
    column = operator.attrgetter(name)

    def value(record: Record) -> object:
        found = column(record)
        if found is None:
            if name in ORIGIN:
                return _field(record, name)
            raise _Absent
        return found

    return value


def _field(record: Record, name: object) -> object:
    try:
        value = record.fields[name]  # type: ignore[index]  # what is no text is not found
    except KeyError:
        raise _Absent from None
    if isinstance(value, (bytes, bytearray)):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return bytes(value)
    return value


def _call(node: ast.Call) -> _Value:
    function = node.func
    if not isinstance(function, ast.Attribute) or function.attr not in METHODS or node.keywords or len(node.args) != 1:
        raise _not_understood(node, f"of calls there are text.{'(...) and text.'.join(METHODS)}(...)")
    text, part, method = _value(function.value), _constant(node.args[0]), function.attr
    if not isinstance(part, (str, tuple)) or not all(isinstance(one, str) for one in part):
        raise _not_understood(node, f"{method} takes a text, or several in parentheses")

    def call(record: Record) -> bool:
        value = text(record)
        return isinstance(value, str) and bool(getattr(value, method)(part))

    return call


def _constant(node: ast.expr) -> Any:  # noqa: ANN401 - whatever was written
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes, int, float)):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _constant(node.operand)
        if isinstance(number, (int, float)):
            return -number
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return tuple(_constant(element) for element in node.elts)
    raise _not_understood(node, "beside comparisons there are and, or, not, names, numbers, texts and lists of these")


def _not_understood(node: ast.expr, known: str) -> InvalidExpression:
    return InvalidExpression(
        f"{ast.unparse(node)[:60]!r} at character {node.col_offset + 1} is not understood: {known}"
    )
