"""`with load(3):` in a kernel: the begin and the end of the span, written out in numba's code before it gets types.

numba asks what stands behind a `with` to change the code of the block, and then looks for the next one, inside of it or
elsewhere, in the changed code.  This puts a call of `begin` where the block is entered, and one of `end` wherever it is
left.  What stands there has to be a global, or of a closure: numba must know it then.

The interpreter leaves a block, in whatever way, by a call with three times None.  numba drops the call and keeps these,
which nothing else uses: by them the exits are found.  Its own marks of them, PopBlock, it makes up from Python 3.11 on,
and often for another block or not for all exits, so that it would not find the next `with`: they are put right, too.
"""

from __future__ import annotations

import collections
from types import SimpleNamespace
from typing import TYPE_CHECKING

from numba.core import ir
from numba.core.analysis import compute_cfg_from_blocks
from numba.core.errors import CompilerError
from numba.core.ir_utils import build_definitions, find_outer_value, get_definition, guard

from ..spans import Span

if TYPE_CHECKING:
    from typing import Any

    Blocks = dict[int, Any]  # by label
    Exits = dict[int, Any]  # the first statement of each, by its id

EXIT_ARGUMENTS = 3
COMMON = "$cp"  # a variable of numba's


# For numba, which takes a block to be a function of its own, on some line.  Cached kernels have it, so nothing of ours
# is in it, which may have another name in a later version.
IN_PLACE = SimpleNamespace(can_cache=True, overloads={}, get_source_location=int)


def compile_with(func_ir: Any, blocks: Blocks, head: int) -> object:
    """Write out the `with` that begins at `head`."""
    is_ours = all(isinstance(_manager(func_ir, enter)[0], Span) for enter in _enters(blocks).values())
    if is_ours:
        _part_exits(blocks)
    exits = _exits(blocks)
    _write_out(func_ir, blocks, head, exits)
    if is_ours:
        _mark_exits(func_ir, blocks, exits)
    func_ir._definitions = build_definitions(blocks)  # noqa: SLF001  (as numba's own do)
    return IN_PLACE


def _enters(blocks: Blocks) -> dict[int, Any]:
    """What begins each `with`, by the label of its block."""
    return {
        label: statement
        for label, block in blocks.items()
        for statement in block.body
        if isinstance(statement, ir.EnterWith)
    }


def _manager(func_ir: Any, enter: Any) -> tuple[Any, Any, Any]:
    """What stands behind `with`: the object, if it is known, its variable, and the call that makes a use of it."""
    variable, call = enter.contextmanager, guard(get_definition, func_ir, enter.contextmanager)
    if isinstance(call, ir.Expr) and call.op == "call":
        variable = call.func
    else:
        call = None
    return guard(find_outer_value, func_ir, variable), variable, call


def _write_out(func_ir: Any, blocks: Blocks, head: int, exits: Exits) -> None:
    block, enter = blocks[head], _enters(blocks)[head]
    span, variable, call = _manager(func_ir, enter)
    ends = _ends(blocks, head, exits, span.name)
    at = block.body.index(enter)
    if call is None:
        block.body[at : at + 1] = _call(block, variable, "begin", enter.loc)
    else:
        del block.body[at]
        _begin_use(blocks, call, span)
    for block, first in ends:
        at = block.body.index(first)
        block.body[at : at + EXIT_ARGUMENTS] = _call(block, variable, "end", first.loc)


def _begin_use(blocks: Blocks, call: Any, span: Span) -> None:
    """What makes a use with these fields begins the span with them."""
    for block in blocks.values():
        for at, statement in enumerate(block.body):
            if isinstance(statement, ir.Assign) and statement.value is call:
                if not statement.target.is_temp:
                    raise CompilerError(
                        f"shmtrace: a use of a span in a variable cannot be compiled: write `with {span.name}(...):`",
                        loc=call.loc,
                    )
                begin, begin_use = _method(block, call.func, "begin", call.loc)
                value = ir.Expr.call(begin, call.args, call.kws, call.loc, vararg=call.vararg)
                block.body[at : at + 1] = [begin_use, ir.Assign(value, statement.target, call.loc)]
                return


def _method(block: Any, span: Any, name: str, loc: Any) -> tuple[Any, Any]:
    """A variable with a method of the span, and the statement that makes it one."""
    method = block.scope.redefine(f"$shmtrace_{name}", loc)
    return method, ir.Assign(ir.Expr.getattr(span, name, loc), method, loc)


def _call(block: Any, span: Any, name: str, loc: Any) -> list[Any]:
    """A call of one of the span's methods, without arguments."""
    method, make_method = _method(block, span, name, loc)
    result = block.scope.redefine("$shmtrace_recorded", loc)
    return [make_method, ir.Assign(ir.Expr.call(method, [], (), loc), result, loc)]


# -- exits


def _exits(blocks: Blocks) -> Exits:
    """Each three None that are assigned to what nothing uses."""
    named = collections.Counter(
        variable.name for block in blocks.values() for statement in block.body for variable in statement.list_vars()
    )
    exits = {}
    for block in blocks.values():
        before: list[Any] = []
        for statement in block.body:
            match statement:
                case ir.Assign(value=ir.Const(value=None), target=target) if target.is_temp and named[target.name] == 1:
                    before.append(statement)
                case _:
                    before = []
            if len(before) == EXIT_ARGUMENTS:
                exits[id(before[0])] = before[0]
                before = []
    return exits


def _ends(blocks: Blocks, head: int, exits: Exits, name: str) -> list[tuple[Any, Any]]:
    """The exits of one, with their blocks.  Raises CompilerError if a path leads out of it without one."""
    ends: list[tuple[Any, Any]] = []
    depths: dict[int, int] = {}  # so many `with` deep each block begins
    ahead = [(label, 1) for label in blocks[head].terminator.get_targets()]
    while ahead:
        label, depth = ahead.pop()
        if depths.get(label) == depth:
            continue
        block = blocks[label]
        is_wrong = label in depths
        depths[label] = depth
        for statement in block.body:
            depth += isinstance(statement, ir.EnterWith)
            depth -= id(statement) in exits
            if isinstance(statement, ir.Assign) and isinstance(statement.value, ir.Yield):
                raise CompilerError(  # nobody is told when a generator is left there
                    f"shmtrace: `yield` in `with {name}` cannot be compiled: write begin and end by hand",
                    loc=statement.loc,
                )
            if depth == 0:
                ends.append((block, statement))
                break
        else:
            targets = block.terminator.get_targets()
            is_wrong = is_wrong or not targets
            ahead += [(target, depth) for target in targets]
        if is_wrong:
            raise CompilerError(
                f"shmtrace: a way out of `with {name}` cannot be compiled: write begin and end by hand", loc=block.loc
            )
    return ends


def _part_exits(blocks: Blocks) -> None:
    """Undo what numba did where it found several marks for one block: let all ways lead through one place.

    There each way sets COMMON to a number of its own, and a chain of comparisons leads it on.
    """
    for block in blocks.values():
        if len(block.body) > 1 and isinstance(block.body[-1], ir.Jump):
            number, jump = block.body[-2:]
            if isinstance(number, ir.Assign) and number.target.unversioned_name == COMMON:
                label = _way_of(blocks, jump.target, number.value.value)
                block.body[-2:] = [ir.Jump(label, jump.loc)]
    for label in compute_cfg_from_blocks(blocks).dead_nodes():
        del blocks[label]


def _way_of(blocks: Blocks, label: int, number: int) -> int:
    """Where the way of this number leads that goes by this block."""
    seen: set[int] = set()  # a loop may be empty
    while label not in seen:
        seen.add(label)
        match [statement for statement in blocks[label].body if not isinstance(statement, ir.PopBlock)]:
            case [ir.Jump() as jump]:
                label = jump.target
            case [ir.Assign() as compared, ir.Assign(value=ir.Expr() as check), ir.Branch() as branch] if (
                check.op == "binop" and check.lhs.unversioned_name == COMMON
            ):
                label = branch.truebr if compared.value.value == number else branch.falsebr
            case _:
                break
    return label


def _mark_exits(func_ir: Any, blocks: Blocks, exits: Exits) -> None:
    """Put a PopBlock into a block of its own ahead of each exit."""
    for block in blocks.values():
        block.body = [statement for statement in block.body if not isinstance(statement, ir.PopBlock)]
    for label, enter in _enters(blocks).items():
        for block, first in _ends(blocks, label, exits, _manager(func_ir, enter)[0].name):
            at, new = block.body.index(first), max(blocks) + 1
            mark, rest = ir.Block(block.scope, first.loc), ir.Block(block.scope, first.loc)
            mark.body = [ir.PopBlock(first.loc), ir.Jump(new + 1, first.loc)]
            rest.body = block.body[at:]
            block.body[at:] = [ir.Jump(new, first.loc)]
            blocks[new], blocks[new + 1] = mark, rest
