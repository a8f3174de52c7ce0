"""What follows from the order of time, in jitted code: the spans and calls that are open, and who is inside of whom."""

from __future__ import annotations

from .. import wire
from . import primitives as do
from . import rows as shared
from .hashed import GOLDEN, find, load_i32
from .primitives import apart, frozen, get64, inlined, load32, load64, store16, store32, store64

ROWS, SPANS, OPEN, OPEN_BYTES = frozen(shared.ROWS), frozen(shared.SPANS), frozen(shared.OPEN), shared.OPEN_BYTES
KIND_BEGIN, KIND_END, KIND_CONTEXT = shared.KIND_BEGIN, shared.KIND_END, shared.KIND_CONTEXT
KIND_FUNCTION, KIND_CALL, KIND_UNWIND = shared.KIND_FUNCTION, shared.KIND_CALL, shared.KIND_UNWIND
NOBODY, MOST_PASSED, BY_THREAD = shared.NOBODY, shared.MOST_PASSED, wire.BY_THREAD
FIRST_NAMELESS = shared.FIRST_NAMELESS
NUMBER_BYTES = 4  # of a function


@inlined
def bucket_of(spans: int, process: int, number: int) -> int:
    """Address of the first of the entries in a bucket.  Spans that follow each other are neighbours: in one line."""
    place = do.plus(do.times(process, GOLDEN) >> 32, number) & load64(spans + SPANS.buckets_mask)
    return load64(spans + SPANS.buckets) + 4 * place


@inlined
def entry_at(spans: int, index: int) -> int:
    """Address of an open span."""
    return load64(spans + SPANS.entries) + OPEN_BYTES * index


@inlined
def find_open(spans: int, process: int, number: int) -> int:
    """The open span of a number; -1: there is none."""
    index = load_i32(bucket_of(spans, process, number))
    while index >= 0:
        entry = entry_at(spans, index)
        if load64(entry + OPEN.number) == number and load64(entry + OPEN.process) == process:
            break
        index = load64(entry + OPEN.next)
    return index


@apart
def close_span(spans: int, index: int) -> None:
    """It is not open any more."""
    entry = entry_at(spans, index)
    following = load64(entry + OPEN.next)
    at = bucket_of(spans, load64(entry + OPEN.process), load64(entry + OPEN.number))
    first = load_i32(at)
    if first == index:
        store32(at, following)
    else:
        other = entry_at(spans, first)
        while load64(other + OPEN.next) != index:
            other = entry_at(spans, load64(other + OPEN.next))
        store64(other + OPEN.next, following)
    before, behind = load64(entry + OPEN.before), load64(entry + OPEN.behind)
    if behind >= 0:
        store64(entry_at(spans, behind) + OPEN.before, before)
    else:
        store32(load64(spans + SPANS.tails) + 4 * load64(entry + OPEN.identity), before)
    if before >= 0:
        store64(entry_at(spans, before) + OPEN.behind, behind)
    older, newer = load64(entry + OPEN.older), load64(entry + OPEN.newer)
    if newer >= 0:
        store64(entry_at(spans, newer) + OPEN.older, older)
    else:
        store64(spans + SPANS.newest, older)
    if older >= 0:
        store64(entry_at(spans, older) + OPEN.newer, newer)
    else:
        store64(spans + SPANS.oldest, newer)
    store64(entry + OPEN.next, load64(spans + SPANS.free))
    store64(spans + SPANS.free, index)


@apart
def open_span(spans: int, process: int, number: int, identity: int, name: int) -> None:
    """It is, from now on; if there are too many, the oldest is forgotten."""
    known = find_open(spans, process, number)
    if known >= 0:
        close_span(spans, known)
    index = load64(spans + SPANS.free)
    if index < 0 and load64(spans + SPANS.count) >= load64(spans + SPANS.limit):
        close_span(spans, load64(spans + SPANS.oldest))
        index = load64(spans + SPANS.free)
    if index < 0:
        index = load64(spans + SPANS.count)
        store64(spans + SPANS.count, index + 1)
    else:
        store64(spans + SPANS.free, load64(entry_at(spans, index) + OPEN.next))
    entry = entry_at(spans, index)
    store64(entry + OPEN.process, process)
    store64(entry + OPEN.number, number)
    store64(entry + OPEN.identity, identity)
    store64(entry + OPEN.name, name)
    bucket = bucket_of(spans, process, number)
    store64(entry + OPEN.next, load_i32(bucket))
    store32(bucket, index)
    tail = load64(spans + SPANS.tails) + 4 * identity
    before = load_i32(tail)
    store64(entry + OPEN.before, before)
    store64(entry + OPEN.behind, -1)
    if before >= 0:
        store64(entry_at(spans, before) + OPEN.behind, index)
    store32(tail, index)
    older = load64(spans + SPANS.newest)
    store64(entry + OPEN.older, older)
    store64(entry + OPEN.newer, -1)
    if older >= 0:
        store64(entry_at(spans, older) + OPEN.newer, index)
    else:
        store64(spans + SPANS.oldest, index)
    store64(spans + SPANS.newest, index)


@apart
def end_call(calls: int, identity: int, function: int) -> int:
    """A thread's last call of a function ends, and those inside of it; its number, 0: there is none."""
    tail = load64(calls + SPANS.tails) + 4 * identity
    index = load_i32(tail)
    for _ in range(MOST_PASSED):
        if index < 0:
            return 0
        entry = entry_at(calls, index)
        if load64(entry + OPEN.name) == function:
            number = load64(entry + OPEN.number)
            while load_i32(tail) != index:
                close_span(calls, load_i32(tail))
            close_span(calls, index)
            return number
        index = load64(entry + OPEN.before)
    return 0


@apart
def innermost_of(spans: int, index: int, name: int) -> int:
    """The number of the innermost of a thread's open spans that a kernel began under this name; 0: none.

    `index` is the thread's last one.
    """
    for _ in range(MOST_PASSED):
        if index < 0:
            return 0
        entry = entry_at(spans, index)
        if load64(entry + OPEN.name) == name and load64(entry + OPEN.number) >= FIRST_NAMELESS:
            return load64(entry + OPEN.number)
        index = load64(entry + OPEN.before)
    return 0


@inlined
def begin_call(calls: int, process: int, identity: int, function: int) -> tuple[int, int]:
    """Numbers of a call that begins, and of the one around it."""
    around = load_i32(load64(calls + SPANS.tails) + 4 * identity)
    parent = load64(entry_at(calls, around) + OPEN.number) if around >= 0 else 0
    number = load64(calls + SPANS.nameless)
    store64(calls + SPANS.nameless, number + 1)
    open_span(calls, process, number, identity, function)
    return number, parent


def finish(rows: int, spans: int, calls: int, at: int, kept: int) -> int:
    """Numbers of spans and contexts as the order of time tells them, and names of calls, of the rows from `at` on.

    Rows that define a context or function do not stay: `kept` are left of those before `at`.  Stops at one, and at a
    call of a function that is not known, in front of `SPANS.at`; otherwise that is the number of rows.  Gives how many
    are left.
    """
    count = load64(rows + ROWS.count)
    all_classes, all_threads = load64(rows + ROWS.classes), load64(rows + ROWS.threads)
    all_starts, all_sizes = load64(rows + ROWS.starts), load64(rows + ROWS.sizes)
    all_spans, all_parents = load64(rows + ROWS.spans), load64(rows + ROWS.parents)
    all_tasks, all_contexts = load64(rows + ROWS.tasks), load64(rows + ROWS.contexts)
    data = load64(rows + ROWS.data)
    own, kinds, names = load64(spans + SPANS.own), load64(spans + SPANS.kinds), load64(spans + SPANS.names)
    processes, identities = load64(spans + SPANS.processes), load64(spans + SPANS.identities)
    tails, contexts, named = load64(spans + SPANS.tails), load64(spans + SPANS.contexts), load64(spans + SPANS.named)
    nameless, before = load64(spans + SPANS.nameless), load64(spans + SPANS.before)
    functions, steps = load64(spans + SPANS.functions), load64(spans + SPANS.steps)
    latest = load64(spans + SPANS.latest)
    while at < count:
        made, thread = load32(all_classes + 4 * at), load_i32(all_threads + 4 * at)
        numbers, kind = do.load8(own + made), do.load8(kinds + made)
        body = data + load32(all_starts + 4 * at)
        span = context = parent = task = 0
        found = -1
        if numbers > 0:  # there are 8 bytes more behind the last body
            pair = get64(body)
            span = pair & 0xFFFF_FFFF
            if numbers > 1:
                context = (pair >> 32) & 0xFFFF_FFFF
            if numbers > 2:
                pair = get64(body + 8)
                parent = pair & 0xFFFF_FFFF
                if numbers > 3:
                    task = (pair >> 32) & 0xFFFF_FFFF
        if thread >= 0 and numbers > 0:
            process, identity = load_i32(processes + 4 * thread), load_i32(identities + 4 * thread)
            inner = load_i32(tails + 4 * identity)
            if context == BY_THREAD:
                context = load32(latest + 4 * identity)
            elif numbers > 1:
                store32(latest + 4 * identity, context)
            if kind == KIND_CONTEXT:
                store64(spans + SPANS.number, context)
                break
            if context != 0:
                found = find(contexts, process << 32 | context)
                if found >= 0:
                    store64(named + 8 * found, before + at)
            if span != 0:
                number = load64(entry_at(spans, inner) + OPEN.number) if inner >= 0 else 0
                name = load_i32(names + 4 * made)
                if kind == KIND_BEGIN:
                    if parent == BY_THREAD:
                        parent = number
                    if span == BY_THREAD:
                        span = nameless
                        nameless += 1
                    open_span(spans, process, span, identity, name)
                else:
                    if span == BY_THREAD:
                        span = number if kind != KIND_END else innermost_of(spans, inner, name)
                    if kind == KIND_END and span != 0:
                        known = find_open(spans, process, span)
                        if known >= 0:
                            close_span(spans, known)
        elif kind == KIND_CONTEXT:
            store64(spans + SPANS.number, 0)
            break
        elif kind >= KIND_FUNCTION:
            process, function = load_i32(processes + 4 * thread) if thread >= 0 else NOBODY, load32(body)
            known = find(functions, process << 32 | function)
            if known < 0 or kind == KIND_FUNCTION:
                store64(spans + SPANS.number, function)
                break
            steps += 1
            store64(load64(spans + SPANS.called) + 8 * known, before + at)
            made = load32(load64(spans + SPANS.begins) + 4 * known)
            if kind == KIND_CALL:
                if thread >= 0:
                    span, parent = begin_call(calls, process, load_i32(identities + 4 * thread), function)
            else:
                made += 1
                if thread >= 0:
                    span = end_call(calls, load_i32(identities + 4 * thread), function)
                if kind == KIND_UNWIND:  # what is left is the exception
                    store32(all_starts + 4 * at, load32(all_starts + 4 * at) + NUMBER_BYTES)
                    store32(all_sizes + 4 * at, load32(all_sizes + 4 * at) - NUMBER_BYTES)
                else:  # there is none
                    do.store8(body, 0)
                    store32(all_sizes + 4 * at, 1)
            store32(all_classes + 4 * at, made)
        if kept != at:
            move_row(rows, at, kept)
        store64(all_spans + 8 * kept, span)
        store64(all_parents + 8 * kept, parent)
        store64(all_tasks + 8 * kept, task)
        store32(all_contexts + 4 * kept, found)
        kept += 1
        at += 1
    store64(spans + SPANS.nameless, nameless)
    store64(spans + SPANS.steps, steps)
    store64(spans + SPANS.at, at)
    return kept


@apart
def move_row(rows: int, source: int, target: int) -> None:
    """A row takes the place of another; its body stays where it is."""
    for column in (ROWS.cycles, ROWS.time, ROWS.monotonic):
        array = load64(rows + column)
        do.move8(array + 8 * target, array + 8 * source)
    for column in (ROWS.classes, ROWS.threads, ROWS.starts, ROWS.sizes):
        array = load64(rows + column)
        do.move4(array + 4 * target, array + 4 * source)
    for column in (ROWS.cpus, ROWS.lanes):
        array = load64(rows + column)
        store16(array + 2 * target, do.load16(array + 2 * source))
