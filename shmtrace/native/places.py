"""Which span is open where a task is: its PLACE, as the jitted code finds and changes it.  See place.py.

A thread remembers the PLACE that it found last (tables.HERE), which is right as long as the thread's state is the same
one, and says that its context has not changed, and no Python code has set the variable.
"""

from __future__ import annotations

from .. import wire
from . import intrinsics as do
from . import tables
from .access import (
    BYTES_DATA,
    CONTEXT_AT,
    CONTEXT_VARIABLES,
    HAS_GIL,
    LEVEL_BITS,
    LEVEL_MASK,
    LEVELS,
    NODE_BITS,
    NODE_ITEMS,
    REFERENCE_AT,
    TUPLE_ITEMS,
    TYPE_ITEM_BYTES,
    VAR_SIZE,
    VARIABLES_ROOT,
    VERSION_AT,
    WIDE_ITEMS,
    Py_DecRef,
    PyErr_Clear,
    count_of,
    item_of,
    new_reference,
    pointer_out,
    py_none,
    type_of,
)
from .intrinsics import frozen, likely, load32, load64, read64, store32, store64
from .lanes import BLOCK, CONTEXT, HERE, apart, inlined
from .writers import block_here

EVENT, PLACE, THREADS = frozen(tables.EVENT), frozen(tables.PLACE), frozen(tables.THREADS)
PLACE_BYTES, PLACE_SPANS, SPANS_AT_ONCE = tables.PLACE_BYTES, tables.PLACE_SPANS, tables.SPANS_AT_ONCE
PLACE_WORD_BYTES, BEGIN_BYTES = wire.KIND_BYTES["event"], wire.KIND_BYTES["begin"]  # ahead of a class' own fields
U32_MASK = 0xFFFF_FFFF
PyContextVar_Get = do.external("PyContextVar_Get", 3, result_bits=32)
PyContextVar_Set = do.external("PyContextVar_Set", 2)
PyTuple_Pack = do.external("PyTuple_Pack", 3, variadic=True)
PyWeakref_NewRef = do.external("PyWeakref_NewRef", 2)
PyThreadState_Get = do.external("PyThreadState_Get", 0)
PyThreadState_GetID = do.external("PyThreadState_GetID", 1)
PyBytes_FromStringAndSize = do.external("PyBytes_FromStringAndSize", 2)


@apart
def look_up_place(cell: int, state: int, here: int) -> int:
    """Address of this task's PLACE, 0 if it has none, asked of the interpreter; and kept in HERE, if there is one.

    Its context keeps it, so it is there as long as that is the current one and the variable is not set.
    """
    threads = read64(cell + EVENT.threads)
    out = pointer_out()
    PyContextVar_Get(read64(cell + EVENT.variable), 0, out)
    found = load64(out)
    if found != 0:
        Py_DecRef(found)
        found = item_of(found, 0) + BYTES_DATA
    if here != 0:
        remember(threads, here, state, found)
    return found


@inlined
def remember(threads: int, here: int, state: int, place: int) -> None:
    """This is the PLACE, until something changes."""
    store64(here + HERE.place, place)
    store64(here + HERE.state, state)
    store64(here + HERE.version, load64(state + VERSION_AT))
    store64(here + HERE.changes, load64(threads + THREADS.changes))
    store64(here + HERE.identity, PyThreadState_GetID(state))


@inlined
def here_of(cell: int) -> int:
    """Address of this thread's HERE; 0: it has no block yet, or a change of context could not be noticed."""
    context = load64(cell + EVENT.context)
    if VERSION_AT == 0 or not likely(read64(context + CONTEXT.blocks) != 0):
        return 0  # the channel is closed, for one
    block = block_here(context)
    return block + BLOCK.here if block != 0 else 0


@inlined
def find_place(cell: int, state: int) -> int:
    """Address of this task's PLACE, 0 if it has none."""
    threads = read64(cell + EVENT.threads)
    here = here_of(cell)
    if likely(
        here != 0
        and load64(here + HERE.state) == state
        and load64(here + HERE.version) == load64(state + VERSION_AT)
        and load64(here + HERE.changes) == load64(threads + THREADS.changes)
        and load64(here + HERE.identity) == PyThreadState_GetID(state)
    ):
        return load64(here + HERE.place)
    return look_up_place(cell, state, here)


@inlined
def place_word(place: int) -> int:
    """`span` and `context` of a record, as it stands ahead of its fields."""
    return (load64(place + PLACE.current) & U32_MASK) | (load32(place + PLACE.context) << 32)


@inlined
def current_context(state: int) -> int:
    """Address of the thread's Context; 0: it has none yet, or it cannot be known."""
    return load64(state + CONTEXT_AT) if CONTEXT_AT != 0 else 0


@inlined
def is_of(place: int, context: int) -> bool:
    """The PLACE belongs to this Context.  Its address alone would not say so: an ended one's may be used again."""
    whose = load64(place + PLACE.whose)
    return whose != 0 and load64(whose + REFERENCE_AT) == context


@apart
def search_tree(cell: int, context: int, place: int) -> bool:
    """`is_unshared`, by the way that the variable's hash says.  If it is the root that has it, that is remembered."""
    variable = read64(cell + EVENT.variable)
    left = read64(read64(cell + EVENT.threads) + THREADS.hashed)
    tree = load64(context + CONTEXT_VARIABLES)
    node = load64(tree + VARIABLES_ROOT)
    if count_of(tree) != 1:
        return False
    for level in range(LEVELS):
        if count_of(node) != 1:
            return False
        if load64(type_of(node) + TYPE_ITEM_BYTES) == 0:
            node = load64(node + WIDE_ITEMS + 8 * (left & LEVEL_MASK))
        else:
            used, bit, size = load32(node + NODE_BITS), 1 << (left & LEVEL_MASK), load64(node + VAR_SIZE)
            number = 2 * do.ones(used & (bit - 1))
            if used & bit == 0 or number + 1 >= size:  # the second: not such a node
                return False
            at = node + NODE_ITEMS + 8 * number
            key, value = load64(at), load64(at + 8)
            if key == variable:
                if level == 0:
                    store64(place + PLACE.value, value)
                    store32(place + PLACE.size, size)
                    store32(place + PLACE.at, at + 8 - node)
                return count_of(value) == 1
            node = value if key == 0 else 0
        if node == 0:
            return False
        left >>= LEVEL_BITS
    return False


@inlined
def is_unshared(cell: int, context: int, place: int) -> bool:
    """This Context's PLACE is in no other one, which is a copy of it, or was made of one.

    A copy is one more owner of the tree that the variables hang in; what it sets later leaves it with nodes of its own,
    which own what they do not change: other nodes, and values.  As a rule our value hangs at the root, where it did.
    """
    if CONTEXT_VARIABLES == 0 or TUPLE_ITEMS == 0:
        return False
    value = load64(place + PLACE.value)
    tree = load64(context + CONTEXT_VARIABLES)
    root = load64(tree + VARIABLES_ROOT)
    if likely(
        value != 0
        and count_of(tree) == 1
        and count_of(root) == 1
        and load64(root + VAR_SIZE) == load32(place + PLACE.size)  # a node of 32 has an address there, or 0
        and load64(root + load32(place + PLACE.at)) == value
    ):
        return count_of(value) == 1
    return search_tree(cell, context, place)


@apart
def set_place(cell: int, new: int, whose: int) -> bool:
    """The variable of the current Context is this `bytes`, with what keeps PLACE.whose."""
    value = PyTuple_Pack(2, new, whose)
    token = PyContextVar_Set(read64(cell + EVENT.variable), value) if value != 0 else 0
    if value != 0:
        Py_DecRef(value)
    if token != 0:
        Py_DecRef(token)
    else:
        PyErr_Clear()
    return token != 0


@apart
def refer_to_context(cell: int, new: int, state: int) -> int:
    """A weak reference to the current Context, which is made now if the thread has none; 0: there is no memory."""
    if current_context(state) == 0 and not set_place(cell, new, py_none()):
        return 0
    whose = PyWeakref_NewRef(current_context(state), 0)
    if whose == 0:
        PyErr_Clear()
    return whose


@apart
def renew_place(cell: int, before: int, context: int, state: int) -> int:
    """A new PLACE for this task, set; its address, 0 if there is no memory.

    A task that has none of its own begins where the one that it was made by was; one of whose Context there are copies
    goes on in another PLACE, so that who runs in these keeps what was true when they were made.
    """
    threads = read64(cell + EVENT.threads)
    is_mine = before != 0 and (CONTEXT_AT == 0 or is_of(before, context))
    spans = PLACE_SPANS
    depth = load64(before + PLACE.depth) if is_mine else 0
    if depth >= spans:
        spans = 2 * depth
    new = PyBytes_FromStringAndSize(0, PLACE_BYTES + 8 * spans)
    if new == 0:
        PyErr_Clear()
        return 0
    place = new + BYTES_DATA
    if is_mine:
        do.copy(place, before, PLACE_BYTES + 8 * depth)
    else:
        do.clear(place, PLACE_BYTES)
        store32(place + PLACE.task, do.add64(threads + THREADS.tasks, 1) + 1)
        if before != 0:
            store64(place + PLACE.current, load64(before + PLACE.current))
            store32(place + PLACE.context, load32(before + PLACE.context))
            store64(place + PLACE.told, load64(before + PLACE.told))
            store64(place + PLACE.page, load64(before + PLACE.page))
    if CONTEXT_AT == 0:
        whose = new_reference(py_none())
    elif is_mine:
        whose = new_reference(load64(before + PLACE.whose))
    else:
        whose = refer_to_context(cell, new, state)
        store64(place + PLACE.whose, whose)
    store64(place + PLACE.value, 0)
    is_set = whose != 0 and set_place(cell, new, whose)
    if not is_set:
        store64(place + PLACE.whose, 0)  # the context may have it all the same, with nothing that would keep this
    if whose != 0:
        Py_DecRef(whose)
    Py_DecRef(new)  # the context has it
    if not is_set:
        return 0
    here = here_of(cell)
    if here != 0:
        remember(threads, here, state, place)
    return place


@inlined
def own_place(cell: int, spans: int) -> int:
    """The PLACE of this task, which may be changed, with room for so many more spans; 0: there is no memory."""
    state = PyThreadState_Get()
    place = find_place(cell, state)
    context = current_context(state)
    if likely(place != 0 and context != 0 and is_of(place, context)):
        room = (load64(place - BYTES_DATA + VAR_SIZE) - PLACE_BYTES) >> 3
        if likely(load64(place + PLACE.depth) + spans <= room and is_unshared(cell, context, place)):
            return place
    return renew_place(cell, place, context, state)


@apart
def more_numbers(threads: int, place: int) -> int:
    """The first of the next numbers of spans for this task."""
    first = (do.add64(threads + THREADS.spans, SPANS_AT_ONCE) + 1) & U32_MASK
    store32(place + PLACE.end, first + SPANS_AT_ONCE)
    return first


@inlined
def count_open(cell: int, more: int) -> None:
    """Spans of this class that are open: where there is a GIL, this thread holds it."""
    if HAS_GIL:
        store64(cell + EVENT.open, load64(cell + EVENT.open) + more)
    else:
        do.add64(cell + EVENT.open, more)


@inlined
def push(cell: int, place: int, identifier: int) -> int:
    """A span begins here: its number."""
    span = load32(place + PLACE.next)
    if not likely(span != load32(place + PLACE.end)):
        span = more_numbers(read64(cell + EVENT.threads), place)
    store32(place + PLACE.next, span + 1)
    depth = load64(place + PLACE.depth)
    store64(place + PLACE_BYTES + 8 * depth, load64(place + PLACE.current))
    store64(place + PLACE.depth, depth + 1)
    store64(place + PLACE.current, span | (identifier << 32))
    count_open(cell, 1)
    return span


@apart
def pull(place: int, wanted: int, shift: int) -> int:
    """The innermost span that is not the current one and matches leaves the place; its number, or 0."""
    at = place + PLACE_BYTES
    number = load64(place + PLACE.depth) - 1
    while number >= 1:  # what lies outermost is the span that the task was made in, which is not its own
        found = load64(at + 8 * number)
        if (found >> shift) & U32_MASK == wanted:
            last = load64(place + PLACE.depth) - 1
            while number < last:
                store64(at + 8 * number, load64(at + 8 * (number + 1)))
                number += 1
            store64(place + PLACE.depth, last)
            return found & U32_MASK
        number -= 1
    return 0


@inlined
def pop(cell: int, place: int, wanted: int, shift: int) -> int:
    """A span ends: the innermost one of this class (shift 32), or of this number (shift 0); its number, 0: none."""
    depth = load64(place + PLACE.depth)
    current = load64(place + PLACE.current)
    span = 0
    if likely(depth > 0 and (current >> shift) & U32_MASK == wanted):
        store64(place + PLACE.current, load64(place + PLACE_BYTES + 8 * (depth - 1)))
        store64(place + PLACE.depth, depth - 1)
        span = current & U32_MASK
    else:
        span = pull(place, wanted, shift)
        if span == 0 and shift == 0:
            span = wanted  # of a generator that went on in another task
    if likely(span != 0):
        count_open(cell, -1)
    return span
