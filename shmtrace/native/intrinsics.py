"""What numba has no words for: loads and stores with a memory order, compare-and-swap, the clock, the cpu, C functions.

All numbers are int64, addresses too: numba makes a float of uint64 + int64.  Words of 64 bits with the top bit set are
negative here, which `>>` and `&` do not mind.
"""

from __future__ import annotations

import platform
from collections import namedtuple
from typing import Any, TypeVar, cast

from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ..layout import fields_of
from . import loader, steps

Table = TypeVar("Table")

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_BEHIND_FS = 257  # LLVM: an address space that begins where the register fs points, as a thread's own memory does
_AARCH64 = platform.machine() == "aarch64"


def frozen(table: type[Table]) -> type[Table]:
    """A table of offsets as jitted code can take it: a named tuple of constants."""
    fields = fields_of(table)
    return cast("type[Table]", namedtuple(table.__name__, fields)(**fields))  # noqa: PYI024


STEP: Any = namedtuple("STEP", steps.STEPS)(*range(len(steps.STEPS)))  # noqa: PYI024  (as `frozen`)


def _pointer(builder: ir.IRBuilder, address: ir.Value, kind: ir.Type) -> ir.Value:
    return builder.inttoptr(address, kind.as_pointer())


def _load(bits: int, order: str) -> Any:
    kind = ir.IntType(bits)

    @intrinsic
    def load(typingctx: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = builder.load_atomic(_pointer(builder, args[0], kind), order, bits // 8)
            return value if bits == 64 else builder.zext(value, _I64)

        return types.int64(types.int64), generate

    return load


def _store(bits: int, order: str) -> Any:
    kind = ir.IntType(bits)

    @intrinsic
    def store(typingctx: Any, address: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = args[1] if bits == 64 else builder.trunc(args[1], kind)
            builder.store_atomic(value, _pointer(builder, args[0], kind), order, bits // 8)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), generate

    return store


# Relaxed unless the name says more.  Every use of the others names its partner.
load8 = _load(8, "monotonic")
load16 = _load(16, "monotonic")
load32 = _load(32, "monotonic")
load64 = _load(64, "monotonic")
load32_acquire = _load(32, "acquire")
load64_acquire = _load(64, "acquire")
store8 = _store(8, "monotonic")
store16 = _store(16, "monotonic")
store32 = _store(32, "monotonic")
store64 = _store(64, "monotonic")
store32_release = _store(32, "release")
store64_release = _store(64, "release")


@intrinsic
def read64(typingctx: Any, address: Any) -> Any:
    """A load of a word that nobody writes while the code runs: LLVM may keep it in a register across calls."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(_pointer(builder, args[0], _I64), align=8)
        value.set_metadata("invariant.load", builder.module.add_metadata([]))
        return value

    return types.int64(types.int64), generate


@intrinsic
def write64(typingctx: Any, address: Any, value: Any) -> Any:
    """A plain store, for records that are not committed yet: LLVM may merge it with its neighbours."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[1], _pointer(builder, args[0], _I64), align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def swap_acquire(typingctx: Any, address: Any, expected: Any, new: Any) -> Any:
    """Compare-and-swap of a 64-bit word: 1 if it held `expected` and now holds `new`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(builder, args[0], _I64)
        result = builder.cmpxchg(pointer, args[1], args[2], "acquire", "monotonic")
        return builder.zext(builder.extract_value(result, 1), _I64)

    return types.int64(types.int64, types.int64, types.int64), generate


@intrinsic
def add64(typingctx: Any, address: Any, value: Any) -> Any:
    """Atomic addition; the value before."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", _pointer(builder, args[0], _I64), args[1], "monotonic")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def fence(typingctx: Any) -> Any:
    """A full fence."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def likely(typingctx: Any, condition: Any) -> Any:
    """The condition, which LLVM may take for true when it lays out the code."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        boolean = ir.IntType(1)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(boolean, [boolean, boolean]), "llvm.expect.i1"
        )
        return builder.call(function, [args[0], boolean(1)])

    return types.boolean(types.boolean), generate


@intrinsic
def cold(typingctx: Any) -> Any:
    """Said in a function that is rarely called: LLVM leaves it out of its callers, whose frames stay small."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for attribute in ("noinline", "cold"):
            builder.function.attributes.add(attribute)
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def framed(typingctx: Any) -> Any:
    """Said in a function that is often called, but not always: its callers need no frame where they do without it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def step(typingctx: Any, number: Any) -> Any:
    """Here a step of the protocol follows (STEP).  No code, but for tests."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if loader.hooks:
            prototype = ir.FunctionType(ir.VoidType(), [_I64])
            builder.call(cgutils.get_or_insert_function(builder.module, prototype, steps.HOOK), args)
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def cycles(typingctx: Any) -> Any:
    """The cycle counter: `rdtsc`, or `cntvct_el0` on aarch64.  Not ordered with other instructions."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if _AARCH64:
            return builder.asm(ir.FunctionType(_I64, []), "mrs $0, cntvct_el0", "=r", [], True)
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I64, []), "llvm.readcyclecounter")
        return builder.call(function, [])

    return types.int64(), generate


def _thread_load(bits: int) -> Any:
    kind = ir.IntType(bits)

    @intrinsic
    def load(typingctx: Any, offset: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            if _AARCH64:
                start = builder.asm(ir.FunctionType(_I64, []), "mrs $0, tpidr_el0", "=r", [], False)
                pointer = _pointer(builder, builder.add(start, args[0]), kind)
            else:
                pointer = builder.inttoptr(args[0], ir.PointerType(kind, _BEHIND_FS))
            value = builder.load_atomic(pointer, "monotonic", bits // 8)
            return value if bits == 64 else builder.zext(value, _I64)

        return types.int64(types.int64), generate

    return load


# Relaxed, of a thread's own memory, by the offset from where that is counted.
thread_load32 = _thread_load(32)
thread_load64 = _thread_load(64)


@intrinsic
def settled(typingctx: Any, value: Any) -> Any:
    """The value.  It is worked out ahead of what follows, and that from which it was made needs no registers there."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.asm(ir.FunctionType(_I64, [_I64]), "", "=r,0", args, True)

    return types.int64(types.int64), generate


@intrinsic
def prefetch(typingctx: Any, address: Any) -> Any:
    """The line of this address is to be in the cache, for writing, before long; wherever it lies, nothing fails."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        for_writing, in_all_caches, of_data = _I32(1), _I32(3), _I32(1)
        builder.call(function, [_pointer(builder, args[0], _I8), for_writing, in_all_caches, of_data])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def within(typingctx: Any, value: Any, limit: Any) -> Any:
    """0 <= value <= limit, for a limit that is not negative, in one comparison."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.icmp_unsigned("<=", *args)

    return types.boolean(types.int64, types.int64), generate


@intrinsic
def copy(typingctx: Any, target: Any, source: Any, size: Any) -> Any:
    """Memcpy."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        cgutils.raw_memcpy(builder, _pointer(builder, args[0], _I8), _pointer(builder, args[1], _I8), args[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


def _move(kind: ir.Type) -> Any:
    @intrinsic
    def move(typingctx: Any, target: Any, source: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = builder.load(_pointer(builder, args[1], kind), align=1)
            builder.store(value, _pointer(builder, args[0], kind), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), generate

    return move


# So many bytes, at any address.
move1, move4, move8 = _move(_I8), _move(_I32), _move(_I64)
move16 = _move(ir.VectorType(_I64, 2))


@intrinsic
def clear(typingctx: Any, target: Any, size: Any) -> Any:
    """Memset with zeros."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        cgutils.memset(builder, _pointer(builder, args[0], _I8), args[1], 0)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


def scratch(size: int) -> Any:
    """A function that gives the address of `size` zero bytes in the caller's frame."""

    @intrinsic
    def stack(typingctx: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            memory = cgutils.alloca_once(builder, ir.ArrayType(_I64, (size + 7) // 8), zfill=True)
            return builder.ptrtoint(memory, _I64)

        return types.int64(), generate

    return stack


def room(size: int) -> Any:
    """A function that gives the address of `size` bytes in the caller's frame, which hold anything."""

    @intrinsic
    def stack(typingctx: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            with builder.goto_entry_block():  # cgutils.alloca_once would fill it with zeros, at each call
                memory = builder.alloca(ir.ArrayType(_I64, (size + 7) // 8))
            return builder.ptrtoint(memory, _I64)

        return types.int64(), generate

    return stack


def text(string: str) -> Any:
    """A function that gives the address of a constant C string, which lies beside the code."""

    @intrinsic
    def constant(typingctx: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.ptrtoint(context.insert_const_string(builder.module, string), _I64)

        return types.int64(), generate

    return constant


def address_of(symbol: str) -> Any:
    """A function that gives the address of a C symbol, which the loader fills in."""

    @intrinsic
    def address(typingctx: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            variable = cgutils.get_or_insert_function  # a name is all that is needed; its type does not matter
            function = variable(builder.module, ir.FunctionType(_I64, []), symbol)
            return builder.ptrtoint(function, _I64)

        return types.int64(), generate

    return address


def external(symbol: str, arguments: int, *, result_bits: int = 64, variadic: bool = False) -> Any:
    """A C function that takes `arguments` integers or pointers and gives one, sign-extended.

    With `variadic`, the last of the arguments stand for the ``...`` of the prototype, which has two named ones.
    """
    result = ir.IntType(result_bits)
    named = 2 if variadic else arguments
    prototype = ir.FunctionType(result, [_I64] * named, var_arg=variadic)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = cgutils.get_or_insert_function(builder.module, prototype, symbol)
        value = builder.call(function, args)
        return value if result_bits == 64 else builder.sext(value, _I64)

    int64 = types.int64
    functions = {
        0: lambda typingctx: (int64(), generate),
        1: lambda typingctx, a: (int64(int64), generate),
        2: lambda typingctx, a, b: (int64(int64, int64), generate),
        3: lambda typingctx, a, b, c: (int64(int64, int64, int64), generate),
        4: lambda typingctx, a, b, c, d: (int64(int64, int64, int64, int64), generate),
        5: lambda typingctx, a, b, c, d, e: (int64(int64, int64, int64, int64, int64), generate),
    }
    return intrinsic(functions[arguments])


def entry(symbol: str, arguments: int) -> Any:
    """Another entry of the same unit, as `external`.  Where nothing comes after the call it is a jump."""
    binding.add_symbol(symbol, 1)  # numba looks for it
    return external(symbol, arguments)


@intrinsic
def put64(typingctx: Any, address: Any, value: Any) -> Any:
    """A plain store at any address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[1], _pointer(builder, args[0], _I64), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def get64(typingctx: Any, address: Any) -> Any:
    """A plain load from any address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_pointer(builder, args[0], _I64), align=1)

    return types.int64(types.int64), generate


@intrinsic
def swapped(typingctx: Any, value: Any) -> Any:
    """The bytes of a word in the opposite order."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I64, [_I64]), "llvm.bswap.i64")
        return builder.call(function, args)

    return types.int64(types.int64), generate


@intrinsic
def first_zero(typingctx: Any, word: Any) -> Any:
    """Which of the bytes of a word is the first that is 0; 8: none is."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (value,) = args
        borrowed = builder.sub(value, _I64(0x0101_0101_0101_0101))  # sets the top bit of the first byte that is 0,
        tops = builder.and_(builder.and_(borrowed, builder.not_(value)), _I64(0x8080_8080_8080_8080))  # none below it
        kind = ir.FunctionType(_I64, [_I64, ir.IntType(1)])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.cttz.i64")
        return builder.lshr(builder.call(function, [tops, ir.Constant(ir.IntType(1), 0)]), _I64(3))

    return types.int64(types.int64), generate


@intrinsic
def ones(typingctx: Any, word: Any) -> Any:
    """How many bits are set."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.int64), generate


def _wrapping(operation: str) -> Any:
    @intrinsic
    def wrapping(typingctx: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, operation)(*args)

        return types.int64(types.int64, types.int64), generate

    return wrapping


# Modulo 2**64.  Python's operators are compiled as if they never overflowed.
times, minus, plus = _wrapping("mul"), _wrapping("sub"), _wrapping("add")


@intrinsic
def high(typingctx: Any, a: Any, b: Any) -> Any:
    """The upper 64 bits of an unsigned product."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        return builder.trunc(builder.lshr(product, wide(64)), _I64)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def as_double(typingctx: Any, bits: Any) -> Any:
    """The 64 bits of the double that the float of these 32 bits is."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        single = builder.bitcast(builder.trunc(args[0], _I32), ir.FloatType())
        return builder.bitcast(builder.fpext(single, ir.DoubleType()), _I64)

    return types.int64(types.int64), generate


@intrinsic
def as_single(typingctx: Any, bits: Any) -> Any:
    """The 32 bits of the float that is nearest to the double of these 64 bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        single = builder.fptrunc(builder.bitcast(args[0], ir.DoubleType()), ir.FloatType())
        return builder.zext(builder.bitcast(single, _I32), _I64)

    return types.int64(types.int64), generate


@intrinsic
def double_of(typingctx: Any, number: Any) -> Any:
    """The 64 bits of the double that is nearest to an integer."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(builder.sitofp(args[0], ir.DoubleType()), _I64)

    return types.int64(types.int64), generate


def external_double(symbol: str) -> Any:
    """A C function that takes a pointer and gives a double; its 64 bits."""

    @intrinsic
    def call(typingctx: Any, argument: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            prototype = ir.FunctionType(ir.DoubleType(), [_I64])
            function = cgutils.get_or_insert_function(builder.module, prototype, symbol)
            return builder.bitcast(builder.call(function, args), _I64)

        return types.int64(types.int64), generate

    return call


def pointer_call(arguments: int) -> Any:
    """A function that calls the C function at its first argument with so many more integers."""
    prototype = ir.FunctionType(_I64, [_I64] * arguments)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.call(_pointer(builder, args[0], prototype), args[1:])

    int64 = types.int64
    functions = {
        1: lambda typingctx, f, a: (int64(int64, int64), generate),
        3: lambda typingctx, f, a, b, c: (int64(int64, int64, int64, int64), generate),
        4: lambda typingctx, f, a, b, c, d: (int64(int64, int64, int64, int64, int64), generate),
        5: lambda typingctx, f, a, b, c, d, e: (int64(int64, int64, int64, int64, int64, int64), generate),
    }
    return intrinsic(functions[arguments])


def symbol_address(symbol: str) -> Any:
    """A function that gives the address of data behind a symbol that the linker knows."""

    @intrinsic
    def address(typingctx: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            known = builder.module.globals.get(symbol)
            return builder.ptrtoint(known or ir.GlobalVariable(builder.module, _I64, symbol), _I64)

        return types.int64(), generate

    return address
