"""Channels, tracepoints, spans and counters as numba sees them: their types, and the code of their calls."""

from __future__ import annotations

import inspect
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.core.imputils import lower_constant
from numba.core.registry import cpu_target
from numba.core.typing import signature
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import (
    NativeValue,
    intrinsic,
    lower_builtin,
    lower_getattr,
    models,
    register_model,
    unbox,
)

from .. import wire
from ..channel import Channel
from ..native import code_key, tables
from ..native import intrinsics as do
from ..native.access import BYTES_DATA, METHOD_SELF, OBJECT_SLOT
from ..native.lanes import inlined
from ..spans import Span
from ..tracepoint import Tracepoint
from . import SYMBOL, enter_used, place, records

llvm.initialize_native_asmparser()
place()
_I64 = ir.IntType(64)
VERSION = code_key("kernel")


class CellType(types.Type):
    """Something that is found by its cell: `kind` is one of wire.KINDS, or "channel"."""

    def __init__(self, kind: str, event: str = "", fields: str = "", *, is_object: bool = False) -> None:
        self.kind, self.event, self.fields, self.is_object = kind, event, fields, is_object
        super().__init__(f"shmtrace.{type(self).__name__}({kind}, {event!r}, {fields!r}, {is_object}, {VERSION[:16]})")


class CallType(types.Callable, CellType):
    """One that can be called."""

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        names = ["blob"] if self.kind == "channel" else [name for name, _ in wire.split_fields(self.fields)]
        if self.kind == "log":
            raise TypingError("shmtrace: channel.log is for Python alone: in a kernel, use a tracepoint")
        values = self._arrange(names, args, dict(kws))
        kinds = ["blob"] if self.kind == "channel" else [kind for _, kind in wire.split_fields(self.fields)]
        for name, kind, value in zip(names, kinds, values, strict=True):
            check(self.event or "event", name, kind, value)
        found = signature(types.boolean, *values, recvr=self)
        return found.replace(
            pysig=inspect.Signature(
                [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
            )
        )

    def _arrange(self, names: list[str], args: Any, kws: dict[str, Any]) -> list[Any]:
        what = f"{self.event or 'channel.event'}({', '.join(names)})"
        if len(args) > len(names):
            raise TypingError(f"shmtrace: {what}: {len(args)} values for {len(names)} fields")
        values = dict(zip(names, args, strict=False))
        for name, value in kws.items():
            if name not in names:
                raise TypingError(f"shmtrace: {what}: has no field {name!r}")
            if name in values:
                raise TypingError(f"shmtrace: {what}: {name} is given twice")
            values[name] = value
        missing = [name for name in names if name not in values]
        if missing:
            raise TypingError(f"shmtrace: {what}: {', '.join(missing)} missing")
        return [values[name] for name in names]

    def get_call_signatures(self) -> tuple[list[Any], bool]:
        return [], True

    def get_impl_key(self, sig: Any) -> Any:
        return CallType


@register_model(CellType)
@register_model(CallType)
class CellModel(models.PrimitiveModel):
    """The address of the cell."""

    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _I64)


def type_of(value: Any) -> CellType | None:
    """The type of one of our objects."""
    if isinstance(value, Channel):
        return CellType("channel", is_object=True)
    if isinstance(value, Span):
        return CellType("begin", value.name, value.fields, is_object=True)
    owner = value.__self__
    if isinstance(owner, Channel):
        return CallType("channel") if value in {owner.event, owner._event_late} else None  # noqa: SLF001
    if isinstance(owner, Tracepoint):
        return CallType(owner._kind, owner.name, owner.fields)  # noqa: SLF001
    return None


def check(event: str, name: str, kind: str, value: Any) -> None:
    """Raise TypingError for a value that the field cannot hold."""
    array, enum = wire.parse_array(kind), wire.parse_enum(kind)
    base = enum[0] if enum else kind
    if kind in {"bytes", "blob"}:
        good = isinstance(value, types.Buffer) and value.is_contig
        wanted = "bytes or a contiguous array"
    elif kind == "str":
        good, wanted = isinstance(value, (types.UnicodeType, types.StringLiteral)), "a str"
    elif array is not None:
        dtype = getattr(value, "dtype", None)
        good = (
            isinstance(value, types.Buffer) and value.is_contig and value.ndim == 1 and str(dtype) == _numba(array[0])
        )
        wanted = f"a contiguous array of {_numba(array[0])}"
    elif base in {"f32", "f64"}:
        good, wanted = isinstance(value, (types.Integer, types.Boolean, types.Float)), "a number"
    else:
        good = isinstance(value, (types.Integer, types.Boolean))
        wanted = "a bool" if base == "bool" else "an integer"
    if not good:
        raise TypingError(f"shmtrace: {event}: {name}: must be {wanted} ({kind}), not {value}")


def _numba(base: str) -> str:
    return {"u": "uint", "i": "int", "f": "float"}[base[0]] + base[1:]


# -- cells at run time


@lower_constant(CellType)
@lower_constant(CallType)
def lower_cell(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """The cell of a global: looked for when the kernel first needs it, in the process in which it runs."""
    text = enter_used(value if kind.is_object else value.__self__)
    name = f"shmtrace.{text[: tables.KERNEL_MARK_BYTES].decode()}"
    word = builder.module.globals.get(name)
    if word is None:
        word = ir.GlobalVariable(builder.module, _I64, name)
        word.linkage, word.initializer = "internal", _I64(0)
    out = cgutils.alloca_once(builder, _I64)
    cell = builder.load_atomic(word, "monotonic", 8)
    builder.store(cell, out)
    is_unknown = builder.or_(
        builder.icmp_unsigned("==", cell, _I64(0)),
        builder.icmp_unsigned("==", builder.and_(cell, _I64(1)), _I64(1)),
    )
    with cgutils.if_unlikely(builder, is_unknown):
        known = builder.module.globals.get(SYMBOL) or ir.GlobalVariable(builder.module, _I64, SYMBOL)
        resolve = builder.load_atomic(known, "monotonic", 8)
        builder.store(_I64(0), out)
        with cgutils.if_likely(builder, builder.icmp_unsigned("!=", resolve, _I64(0))):
            prototype = ir.FunctionType(_I64, [_I64] * 3).as_pointer()
            string = context.insert_const_string(builder.module, text.decode())
            args = [builder.ptrtoint(part, _I64) for part in (string, word, known)]
            builder.store(builder.call(builder.inttoptr(resolve, prototype), args), out)
    return builder.load(out)


@unbox(CellType)
@unbox(CallType)
def unbox_cell(kind: Any, thing: Any, c: Any) -> Any:
    """The cell of an argument."""

    def load(address: Any) -> Any:
        return c.builder.load(c.builder.inttoptr(address, _I64.as_pointer()))

    owner = c.builder.ptrtoint(thing, _I64)
    if not kind.is_object and METHOD_SELF != 0:
        owner = load(c.builder.add(owner, _I64(METHOD_SELF)))
    elif not kind.is_object:
        found = c.pyapi.object_getattr_string(thing, "__self__")
        c.pyapi.decref(found)  # its method, an argument of the kernel, has it
        owner = c.builder.ptrtoint(found, _I64)
    if kind.kind != "channel":
        owner = c.builder.add(load(c.builder.add(owner, _I64(OBJECT_SLOT))), _I64(BYTES_DATA))
    return NativeValue(owner)


@infer_getattr
class CellAttributes(AttributeTemplate):
    """`channel.event`, `load.begin`, `load.end`."""

    key = CellType

    def generic_resolve(self, cell: Any, attribute: str) -> Any:
        if not cell.is_object:
            return None
        if (cell.kind, attribute) == ("channel", "event"):
            return CallType("channel")
        if (cell.kind, attribute) == ("begin", "begin"):
            return CallType("begin", cell.event, cell.fields)
        if (cell.kind, attribute) == ("begin", "end"):
            return CallType("end", cell.event, "")
        return None


@lower_getattr(CellType, "event")
@lower_getattr(CellType, "begin")
def lower_same_cell(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """The cell is the same."""
    return value


@lower_getattr(CellType, "end")
def lower_end_cell(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """The end has a cell of its own, which that of the begin names."""
    with builder.if_else(builder.icmp_unsigned("==", value, _I64(0))) as (then, otherwise):
        with then:
            nothing = builder.block
        with otherwise:
            at = builder.inttoptr(builder.add(value, _I64(tables.EVENT.other)), _I64.as_pointer())
            other = builder.load(at)
            something = builder.block
    result = builder.phi(_I64)
    result.add_incoming(_I64(0), nothing)
    result.add_incoming(other, something)
    return result


# -- values


@intrinsic
def buffer_parts(typingctx: Any, value: Any) -> Any:
    """Address and number of elements of a buffer."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array = context.make_helper(builder, sig.args[0], args[0])
        parts = [builder.ptrtoint(array.data, _I64), array.nitems]
        return context.make_tuple(builder, sig.return_type, parts)

    return types.UniTuple(types.int64, 2)(value), generate


@intrinsic
def text_parts(typingctx: Any, value: Any) -> Any:
    """Address, characters and bytes a character of a text."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        text = cgutils.create_struct_proxy(types.unicode_type)(context, builder, args[0])
        kind = builder.sext(text.kind, _I64)
        return context.make_tuple(builder, sig.return_type, [builder.ptrtoint(text.data, _I64), text.length, kind])

    return types.UniTuple(types.int64, 3)(types.unicode_type), generate


def _putter(bits: int, kind: Any) -> Any:
    @intrinsic
    def put(typingctx: Any, at: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            number = args[1]
            if kind is types.int64 and bits < 64:
                number = builder.trunc(number, ir.IntType(bits))
            builder.store(number, builder.inttoptr(args[0], number.type.as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, kind), generate

    return put


PUT = {f"put{bits}": _putter(bits, types.int64) for bits in (8, 16, 32, 64)}
PUT |= {"putf32": _putter(32, types.float32), "putf64": _putter(64, types.float64)}
_emitters: dict[tuple[Any, ...], Any] = {}


def emitter(kind: Any, values: tuple[Any, ...]) -> Any:
    """The function that records values of these types in a class of these fields."""
    key = (kind.kind, kind.fields, values)
    if key not in _emitters:
        _emitters[key] = inlined(
            _compile(_channel_source(values[0]) if kind.kind == "channel" else _source(kind, values))
        )
    return _emitters[key]


def _compile(source: str) -> Any:
    namespace: dict[str, Any] = {
        **vars(records),
        **PUT,
        "copy": do.copy,
        "float32": types.float32,
        "int64": types.int64,
        "uint64": types.uint64,
        "np_inf": float("inf"),
    }
    namespace |= {"buffer_parts": buffer_parts, "text_parts": text_parts, "float64": types.float64}
    exec(source, namespace)  # noqa: S102  (the names are those of fields, which are identifiers, as numbers)
    return namespace["emit"]


def _element_bytes(value: Any) -> int:
    return 1 if not hasattr(value.dtype, "bitwidth") else value.dtype.bitwidth // 8


def _channel_source(value: Any) -> str:
    return f"""
def emit(cell, v0):
    context = channel_on(cell) if cell != 0 else 0
    if context == 0:
        return False
    data, count = buffer_parts(v0)
    size = count * {_element_bytes(value)}
    head = 0
    if size > bare_limit_of(context):
        if size > limit_of(context):
            return refuse(context)
        if size + {wire.PLACED_BYTES} <= limit_of(context):
            head = {wire.PLACED_BYTES}
    lane, position, at = open_record(context, {wire.ID_PLACED} if head != 0 else {wire.ID_BLOB}, head + size)
    if lane == REFUSED:
        return False
    if head != 0:
        put64(at, -1)
        put16(at + 8, size)
        at += head
    copy(at, data, size)
    return close_record(lane, position, head + size)
"""


def _source(kind: Any, values: tuple[Any, ...]) -> str:
    head = wire.KIND_BYTES[kind.kind]
    size, good, before, puts = str(head + (kind.kind == "end")), [], [], []
    for number, ((_, text), value) in enumerate(zip(wire.split_fields(kind.fields), values, strict=True)):
        enum, array = wire.parse_enum(text), wire.parse_array(text)
        base, v, n = enum[0] if enum else text, f"v{number}", number
        if base == "str":
            before += [f"d{n}, c{n}, k{n} = text_parts({v})", f"s{n} = text_size(d{n}, c{n}, k{n})"]
            size += f" + s{n}"
            puts += [f"at = put_text(at, d{n}, c{n}, k{n})"]
        elif base == "bytes" or array is not None:
            counted = array is None or array[1] is None
            width = _element_bytes(value)
            before += [f"d{n}, c{n} = buffer_parts({v})", f"s{n} = c{n} * {width}"]
            elements = f"s{n}" if array is None else f"c{n}"
            good.append(f"{elements} <= 65535" if counted else f"c{n} == {array[1] if array else 0}")
            size += f" + s{n}" + (" + 2" if counted else "")
            puts += ([f"put16(at, {elements})", "at += 2"] if counted else []) + [
                f"copy(at, d{n}, s{n})",
                f"at += s{n}",
            ]
        elif base in {"f32", "f64"}:
            before.append(f"x{n} = float{base[1:]}({v})")
            if base == "f32":
                good.append(f"(abs(x{n}) != float32(np_inf) or abs(float64({v})) == np_inf)")
            size += f" + {int(base[1:]) // 8}"
            puts += [f"put{base}(at, x{n})", f"at += {int(base[1:]) // 8}"]
        elif base == "bool":
            size += " + 1"
            puts += [f"put8(at, 1 if {v} else 0)", "at += 1"]
        else:
            bits = int(base[1:])
            low, high = wire.limits(base)
            unsigned = isinstance(value, types.Integer) and not value.signed
            if not unsigned and base[0] == "u":
                good.append(f"{v} >= 0")
            if unsigned and high < (1 << 64) - 1:
                good.append(f"{v} <= uint64({high})")
            elif not unsigned and bits < 64:
                good.append(f"{low} <= int64({v}) <= {high}")
            size += f" + {bits // 8}"
            puts += [f"put{bits}(at, int64({v}))", f"at += {bits // 8}"]
    arguments = "".join(f", v{number}" for number in range(len(values)))
    lines = ["context, identifier = event_on(cell) if cell != 0 else (0, 0)", "if context == 0:", "    return False"]
    lines += before
    lines += [
        f"size = {size}",
        f"if not ({' and '.join([*good, 'size <= limit_of(context)'])}):",
        "    return refuse(context)",
    ]
    lines += [
        "lane, position, at = open_record(context, identifier, size)",
        "if lane == REFUSED:",
        "    return False",
    ]
    lines += [f"put64(at + {8 * number}, -1)" for number in range(head // 8)]
    lines += [f"at += {head}", *puts, *(["put8(at, 0)"] if kind.kind == "end" else [])]
    lines += ["return close_record(lane, position, size)"]
    return f"def emit(cell{arguments}):\n" + "".join(f"    {line}\n" for line in lines)


@lower_builtin(CallType, CallType, types.VarArg(types.Any))
def lower_call(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """A call: the code of its shape, inlined."""
    kind, *values = sig.args
    plain = tuple(types.unliteral(value) for value in values)
    values_in = [
        context.cast(builder, arg, given, wanted) for arg, given, wanted in zip(args[1:], values, plain, strict=True)
    ]
    function = types.Dispatcher(emitter(kind, plain))
    found = function.get_call_type(context.typing_context, (types.int64, *plain), {})
    call = context.get_function(function, found)
    result = call(builder, [args[0], *values_in])
    context.add_linking_libs(getattr(call, "libs", ()))
    return result


# This module is imported in the middle of a compilation, when the contexts have been filled already.
cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()
