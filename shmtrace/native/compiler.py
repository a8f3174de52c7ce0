"""From jitted functions to relocatable object code: a few C functions, and no trace of the process that compiled them.

numba infers the types and LLVM does the rest; the result is an ELF object that any process can place with `loader`.
Nothing of numba's runtime is in it, because the core raises, allocates and indexes nothing.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import compiler, config, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from .loader import hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_I64 = ir.IntType(64)
_COUNTED = re.compile(r"B\dv\d+")  # in a mangled name: how many functions the process had compiled, which is no matter
_FUNCTION = re.compile(r"^define .*?^}$", re.MULTILINE | re.DOTALL)
_COLD_GROUP = re.compile(r"^attributes #(\d+) = \{[^}]* cold ", re.MULTILINE)
_ROOM = re.compile(r"^  (%[-\w.]+) = alloca i(?:8|64),", re.MULTILINE)


def compile_object(functions: Sequence[Callable[..., int]]) -> bytes:
    """One ELF object with a C function for each of `functions`, whose arguments and results are int64."""
    llvm.initialize_native_asmparser()  # inline assembly needs it
    for symbol, address in hooks.items():  # numba looks for them although it is the loader that fills them in
        llvm.add_symbol(symbol, address)
    flags = compiler.Flags()
    flags.error_model = "numpy"  # nothing raises
    flags.no_compile = True
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.nrt = False
    target = cpu_target.target_context
    entries = ir.Module("shmtrace")
    entries.triple = llvm.get_process_triple()
    compiled = []
    for function in functions:
        arguments = (types.int64,) * function.__code__.co_argcount
        result = compiler.compile_extra(cpu_target.typing_context, target, function, arguments, types.int64, flags, {})
        compiled.append(result)
        _wrap(entries, result, function.__name__, target)
    whole = llvm.parse_assembly(str(entries))
    for result in compiled:
        with global_compiler_lock:
            result.library.finalize()
        whole.link_in(llvm.parse_assembly(result.library.get_llvm_str()))
    names = {function.__name__ for function in functions}
    for symbol in (*whole.functions, *whole.global_variables):
        if not symbol.is_declaration and symbol.name not in names:
            symbol.linkage = "internal"
            symbol.name = _COUNTED.sub("", symbol.name)
    return _emit(whole)


def _wrap(module: Any, result: Any, name: str, target: Any) -> None:
    """A function with the C convention around one with numba's (which returns a status beside the value)."""
    description = result.fndesc
    count = len(description.argtypes)
    wrapper = ir.Function(module, ir.FunctionType(_I64, [_I64] * count), name)
    wrapper.attributes.add("noinline")  # into another entry
    builder = ir.IRBuilder(wrapper.append_basic_block())
    inner = ir.Function(module, target.call_conv.get_function_type(types.int64, description.argtypes),
                        description.llvm_func_name)  # fmt: skip
    _, value = target.call_conv.call_function(builder, inner, types.int64, description.argtypes, wrapper.args)
    builder.ret(value)


def _emit(module: Any) -> bytes:
    """Optimise and translate.  The large code model knows only 64-bit absolute addresses, so code can lie anywhere."""
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=config.CPU_NAME or llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten() if config.CPU_FEATURES is None else config.CPU_FEATURES,
        opt=3,
        reloc="static",
        codemodel="large",
    )
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    module = llvm.parse_assembly(keeping_registers(without_zeros(str(module))))
    module.verify()
    code: bytes = machine.emit_object(module)
    return code


def keeping_registers(text: str) -> str:
    """A module whose cold functions save all the registers that they use.

    Else whoever might call one has to keep what it needs then in registers that it must save itself, on each call of
    its own, also where it calls nobody.
    """
    groups = "|".join(_COLD_GROUP.findall(text))
    for name in re.findall(rf"^define internal .*@([-\w.$]+)\(.*\) .*#(?:{groups}) ", text, re.MULTILINE):
        use = rf"\b(define internal|call) (?:fastcc )?(?=[^@\n]*@{re.escape(name)}\()"
        text = re.sub(use, r"\1 preserve_mostcc ", text)
    return text


def without_zeros(text: str) -> str:
    """A module without the zeros that numba puts into the room of a result, where the caller begins.

    Nobody reads them, as the called function writes the room.  But LLVM does not see that, and the caller has a frame
    even where it calls nobody: a call that records nothing takes a tenth more.
    """
    return _FUNCTION.sub(lambda found: functools.reduce(_without_zeros_in, _ROOM.findall(found[0]), found[0]), text)


def _without_zeros_in(function: str, room: str) -> str:
    """As it was, if the room is used for anything but results, each of which is read in the block of its call."""
    name = rf"{re.escape(room)}(?![-\w.])"
    used, passed = re.compile(name), re.compile(rf" call .*@_ZN\w+\(ptr (?:[\w()]+ )*{name}[,)]")
    lines = function.split("\n")
    zeros, is_written = set(), False
    for number, line in enumerate(lines):
        if not line.startswith(" "):  # another block begins
            is_written = False
        elif not used.search(line) or "@llvm.lifetime." in line or line.startswith(f"  {room} = alloca "):
            pass
        elif line.startswith(("  store i64 0, ptr ", "  store i8 0, ptr ")):
            zeros.add(number)
        elif passed.search(line):
            is_written = True
        elif not (is_written and re.match(r"  \S+ = load i(?:8|64), ptr ", line)):
            return function
    return "\n".join(line for number, line in enumerate(lines) if number not in zeros)
