"""SYNTAX TREE -> CORE: `elaborate` runs the passes in order.

files       imports, dims, clocks, defs and literals
declare     every name, level and memory; loops unrolled, defs inlined where they are called
work out    streams and equations, then levels of `weights of X`, then of `weights`, when all
            weights are known
resolve     reads inside a level become the version in force, in its objective `plain`
guard       branches that are not chosen take no part in derivatives
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from nldsl.core.nodes import Axis, Node
from nldsl.core.program import REPORT, Fill, Memory, Program, Weight
from nldsl.diagnostic import Diagnostic, Diagnostics
from nldsl.frontend.syntax import File, Input, Kind, Shape
from nldsl.graph import expressions, levels, statements, templates  # noqa: F401  their forms
from nldsl.graph.arrays import Arrays
from nldsl.graph.elaborator import Elaborator, Heard, Poisoned, unheard
from nldsl.graph.evaluate import axis_of, instantiate, number
from nldsl.graph.files import Files
from nldsl.graph.guards import guarded
from nldsl.graph.memories import MemoryInstance
from nldsl.graph.names import Naming, join
from nldsl.graph.ownership import Owners
from nldsl.graph.reported import changes, composed
from nldsl.graph.scope import Scope, Site, Thunk
from nldsl.graph.shapes import Shapes
from nldsl.graph.values import Array, Definition, MemoryValue
from nldsl.graph.versions import Versions
from nldsl.source import Source, Span

STACK = 512 * 2**20  # address space of the thread, touched only as far as needed
DEPTH = 100_000


def elaborate(
    file: File,
    source: Source,
    *,
    sets: Mapping[str, str] = {},
    search: Sequence[Path] = (),
    heard: Heard = unheard,
) -> Program:
    """The program that a file says; `heard` is told what each name in it means. Raises Diagnostics
    with all independent findings.
    """
    limit, size = sys.getrecursionlimit(), threading.stack_size(STACK)
    sys.setrecursionlimit(DEPTH)
    try:
        with ThreadPoolExecutor(
            1
        ) as thread:  # definitions nest deeper than the caller's stack may allow
            return thread.submit(program, file, source, dict(sets), search, heard).result()
    except RecursionError:
        raise Diagnostics(
            [
                Diagnostic(
                    "N213",
                    "definitions that need each other nest too deep",
                    file.version.span,
                    help="fewer definitions in one chain, or each below those that it needs",
                )
            ]
        ) from None
    finally:
        threading.stack_size(size)
        sys.setrecursionlimit(limit)


def program(
    file: File, source: Source, sets: dict[str, str], search: Sequence[Path], heard: Heard
) -> Program:
    """Runs the passes on the main file."""
    elaborator = Elaborator(sets, heard)
    elaborator.shapes = Shapes(elaborator)
    elaborator.arrays = Arrays(elaborator.shapes)
    elaborator.naming, elaborator.owners = Naming(), Owners(elaborator)
    scope = Files(elaborator, search).main(file, source)
    scope.weights = new_weight
    for statement in file.statements:
        if isinstance(statement, Input):
            try:
                scope.define(statement.name, input_node(statement, scope))
            except Poisoned:
                scope.define(statement.name, statements.poisoned(elaborator))
    instantiate(file.statements, scope)
    elaborator.later(scope.settle)
    elaborator.run()
    elaborator.stop_if_found()
    elaborator.owners.check()
    for level in elaborator.instances.values():
        level.check_objectives()
    elaborator.stop_if_found()
    return close(elaborator, scope, source)


def input_node(statement: Input, scope: Scope) -> Array:
    """`input x: [d]`, `input ids: index(n)`."""
    elaborator, name, kind = scope.elaborator, statement.name.text, statement.type
    statements.hides(statement.name, scope)
    site = Site(scope, ())
    with elaborator.at(statement.span, ()):
        if isinstance(kind, Shape):
            type_ = tuple(axis_of(axis, site) for axis in kind.axes)
            node = elaborator.node("input", type=type_, name=name)
            vocab = None
        elif (
            isinstance(kind, Kind)
            and str(kind.place) == "index"
            and kind.args
            and len(kind.args) == 1
        ):
            vocab = number(kind.args[0], site)
            elaborator.vocab[name] = elaborator.whole(vocab, kind.args[0].span, least=1)
            node = elaborator.node("input", type=(), name=name)
        else:
            elaborator.fail(
                "N202",
                "an input is `index(n)` or a shape",
                kind.span,
                help="`input ids: index(256)` or `input x: [d]`",
            )
    elaborator.inputs[name] = node
    elaborator.heard(statement.name.span, Array(node, (), vocab))
    return Array(node, (), vocab)


def new_weight(
    site: Site, name: str, shape: tuple[Axis, ...], init: str, scale: float, fill: Fill
) -> Array:
    """A slot with a name of its own; a def mapped over the leaves of a tree shares its weights
    between them.
    """
    elaborator = site.elaborator
    known = elaborator.weights.get(name)
    if known is not None and site.scope.leaf:
        if known.shape != shape:
            name = join(name, site.scope.leaf)
    elif known is not None:
        name = next(f"{name}{k}" for k in range(2, 10**6) if f"{name}{k}" not in elaborator.weights)
    if name not in elaborator.weights:
        elaborator.weights[name] = Weight(name, shape, init, scale, fill, elaborator.span)
    return Array(elaborator.node("weight", type=shape, name=name))


def close(elaborator: Elaborator, scope: Scope, source: Source) -> Program:
    """Everything with versions in the place of reads."""
    elaborator.level_of = {
        memory.name: level.name
        for level in elaborator.instances.values()
        for memory in level.memories.values()
    }
    resolve = Versions(elaborator).resolve
    memories = {
        memory.name: recorded(memory, level.name, resolve)
        for level in elaborator.instances.values()
        for memory in level.memories.values()
    }
    found = {name: level.record(resolve) for name, level in elaborator.instances.items()}
    outputs, sums = named_streams(elaborator, scope, resolve)
    if elaborator.reported is not None:
        outputs[REPORT] = resolve(elaborator.reported.force().node)
        sums |= {REPORT} if composed(elaborator.reported) else set()
        ticking = {m.name for m in memories.values() if found[m.level].clock.inner}
        if not changes(outputs[REPORT], ticking):
            of_no_token(elaborator, elaborator.reported.span)
    elaborator.stop_if_found()
    whole = Program(
        elaborator.inputs,
        elaborator.vocab,
        elaborator.weights,
        memories,
        found,
        outputs,
        elaborator.clocks,
        {name: int(num.value) for name, (num, _) in elaborator.dims.items()},
        elaborator.used,
        source,
        composed=frozenset(sums),
        lines=elaborator.lines,
    )
    guarded(elaborator, whole)
    return replace(whole, findings=tuple(uncalled(elaborator, scope, whole)))


def uncalled(elaborator: Elaborator, scope: Scope, program: Program) -> Iterator[Diagnostic]:
    """The defs of the main file that no call reaches. A file without streams and memories is there
    for others.
    """
    if not program.outputs and not program.memories:
        return
    for name, entry in scope.names.items():
        if isinstance(entry.base, Definition) and entry.base not in elaborator.called:
            yield Diagnostic(
                "N119",
                f"no call reaches `{name}`, so what it says was not checked",
                entry.span,
                "not in this program",
                help="call it, or remove it; of defs that stand for a choice: `# meant: N119`",
                severity="warning",
            )


def named_streams(
    elaborator: Elaborator, scope: Scope, resolve: Callable[[Node], Node]
) -> tuple[dict[str, Node], set[str]]:
    """The streams of the file by name, and which of the names are of arithmetic."""
    outputs, sums = {}, set()
    for name, entry in scope.names.items():
        value = entry.versions[-1][1] if entry.versions else entry.base
        sums |= {name} if composed(value) else set()
        value = value.force() if isinstance(value, Thunk) else value
        if isinstance(
            value, MemoryValue
        ):  # a read with a name: it may stand in a level as well, so its words are its own
            value = value.memory.read(value)
            value = replace(value, node=replace(value.node, span=entry.span))
        if isinstance(value, Array) and name not in elaborator.inputs:
            outputs[name] = resolve(value.node)
    return outputs, sums


def recorded(memory: MemoryInstance, level: str, resolve: Callable[[Node], Node]) -> Memory:
    """The memory as the core has it; `resolve` puts versions in the place of reads."""
    start = memory.start.force()
    last = memory.versions[-1][1].force() if memory.versions else None
    return Memory(
        memory.name,
        memory.type.force().core,
        level,
        None if start is None else resolve(start),
        None if last is None else resolve(last),
        memory.slots,
        memory.text.span,
        memory.restart.force(),
    )


def of_no_token(elaborator: Elaborator, span: Span | None) -> None:
    elaborator.report(
        "N202",
        "a report is a stream, this has one value for all tokens",
        span,
        help="something of each token: a loss of what the model says there",
    )
