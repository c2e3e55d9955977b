"""Every stage of the compiler as text: what `nldsl compile --emit STAGE` prints.

    tokens    4:12 name recall                              the words of the text
    ast       File(version=Number(..), statements=(..))     the syntax tree
    graph     rate: [head=4] = sigmoid(v12)                 the core equations, then memories and levels
    schedule  block layer: 3 streams, region recall ..      what is computed in what order
    python    def region_1(..)                              the step's source
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.pretty import pretty_repr

from nldsl.frontend import lex
from nldsl.frontend.lex import Places
from nldsl.frontend.parse import parse
from nldsl.graph.equations import Node, Program, Tree, Type, walk
from nldsl.schedule.plan import Region
from nldsl.source import Source
from nldsl.step.compile import CompiledStep
from nldsl.step.report import when

WIDTH = 120


def tokens(source: Source) -> str:
    places = Places.of(source)
    words, _ = lex.scan(places)
    return "".join(f"{span.line}:{span.column} {word.kind} {word.text}\n"
                   for word in words for span in [places.span(word.start, word.end)])


def ast(source: Source) -> str:
    return pretty_repr(parse(source), max_width=WIDTH, indent_size=2) + "\n"


def graph(program: Program) -> str:
    return "\n".join(equations(program)) + "\n"


def equations(program: Program) -> Iterator[str]:
    """Each equation once, after those it needs; unnamed ones are numbered."""
    labels: dict[int, str] = {}
    taken: set[str] = set()
    memories = program.memories.values()
    roots = [*program.outputs.values(), *(n for m in memories for n in (m.start, m.next) if n is not None),
             *(n for level in program.levels.values() for n in (*level.objectives, *level.context))]
    for node in walk(*roots):
        label = node.name if node.name and node.name not in taken else f"v{len(labels) + 1}"
        labels[id(node)] = label
        taken.add(label)
        inside = [labels[id(a)] for a in node.args] + [f"{name}={shown(value, labels)}" for name, value in node.attrs]
        yield f"{label}: {typed(node.type)} = {node.op}({', '.join(inside)})"
    for memory in memories:
        first = "its weights" if memory.slots is not None else shown(memory.start, labels)
        yield f"memory {memory.name}: {typed(memory.type)} of {memory.level} first {first} then {shown(memory.next, labels)}"
    for level in program.levels.values():
        per = f" per {level.per}" if level.per else ""
        yield f"level {level.name}{per} {when(level.clock)} minimize {', '.join(shown(o, labels) for o in level.objectives) or 'nothing'}"


def shown(value: Any, labels: dict[int, str]) -> str:
    if isinstance(value, Node):
        return labels.get(id(value), value.op)
    if isinstance(value, tuple):
        return f"({', '.join(shown(v, labels) for v in value)})"
    return str(value)


def typed(type: Type) -> str:
    if isinstance(type, Tree):
        return "{" + ", ".join(f"{path}: {typed(shape)}" for path, shape in type.leaves) + "}"
    return f"[{', '.join(map(str, type))}]"


def schedule(step: CompiledStep) -> str:
    table = step.schedule.table
    lines = [f"repeats every {table.hyperperiod} steps"]
    for i, (kind, first) in enumerate(zip(table.kinds, table.first, strict=True), 1):
        lines.append(f"tick kind {i}, first at step {first}: {', '.join(kind) or 'no level'}")
    for block, function in zip(step.schedule.blocks, step.emitted.block_of, strict=True):
        streams = sum(isinstance(item, Node) for item in block.items)
        lines.append(f"block {block.key or 'once'}: {function}, {streams} streams, {len(block.inputs)} in, {len(block.outputs)} out")
        lines += [f"    region {item.name}: {', '.join(cell.name for cell in item.cells)}; chunk {item.chunk}"
                  f"{'' if item.fixed else ' (any: exact)'}; {step.emitted.lowering[item.name]}" for item in block.items if isinstance(item, Region)]
    return "\n".join(lines) + "\n"
