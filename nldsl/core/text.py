"""The core as text: every equation once, arguments first, by its qualified name or a number.

loss.x = gather(weight loss.x, ids)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nldsl.core.nodes import Constant, Node, Tree, Type
from nldsl.core.program import Clock, Level, Memory, Program, Weight

LEAVES = {
    "input",
    "weight",
    "plain",
    "read",
    "now",
    "held",
    "const",
    "tick",
    "ticks",
    "eye",
    "random",
    "load",
}


def dump(program: Program) -> str:
    """Deterministic text of a whole program."""
    page = Page(program.nodes())
    lines = [f"dim {name} = {size}" for name, size in program.dims.items()]
    lines += [f"clock {name} = {rate(clock)}" for name, clock in program.clocks.items()]
    lines += [
        f"input {name}: "
        + (f"index({program.vocab[name]})" if name in program.vocab else typed(node.type))
        for name, node in program.inputs.items()
    ]
    lines += ["", "weights"]
    lines += [
        f"  {w.name}: {typed(w.shape)} {initial(w)}, owner {w.owner}"
        for w in program.weights.values()
    ]
    lines += ["", "equations", *page.lines]
    for level in program.levels.values():
        lines += ["", *page.level(level, [program.memories[name] for name in level.memories])]
    lines += ["", *(f"output {name} = {page.name(node)}" for name, node in program.outputs.items())]
    return "\n".join(lines) + "\n"


class Page:
    """Names for nodes and one line for each."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.names: dict[Node, str] = {}
        self.taken: set[str] = set()
        self.lines: list[str] = []
        for node in nodes:
            if node.op not in LEAVES:
                self.line(node)

    def line(self, node: Node) -> None:
        """Names a node and appends its line."""
        name = node.name
        if not name or name in self.taken:
            name = f"%{len(self.names)}"
        self.taken.add(name)
        self.names[node] = name
        args = [
            *map(self.name, node.args),
            *(f"{key}={self.attr(value)}" for key, value in node.attrs),
        ]
        self.lines.append(f"  {name} = {node.op}({', '.join(args)}): {typed(node.type)}")

    def name(self, node: Node) -> str:
        """The name of a node, or a leaf written out."""
        if node.op == "const":
            return number(node["value"])
        if node.op == "input":
            return str(node["name"])
        if node.op in ("eye", "random", "load", "held"):
            said = [self.attr(value) for _, value in node.attrs]
            return f"{node.op}({', '.join(said or [typed(node.type)])})"
        if node.op in LEAVES:
            return f"{node.op}({node.attrs[0][1]})"
        return self.names[node]

    def level(self, level: Level, memories: Iterable[Memory]) -> Iterator[str]:
        """The clauses of a level, a line each, and its memories."""
        yield (
            f"level {level.name}"
            + (f" per {level.per.name}" if level.per else "")
            + f" every {rate(level.clock)}, reset {rate(level.reset)}"
            + (f", in {level.parent}" if level.parent else "")
        )
        for b in level.bptt:
            depth = rate(b.depth) if isinstance(b.depth, Clock) else b.depth
            yield f"  bptt {depth}" + (f" to {b.viewer}" if b.viewer else "")
        if level.context:
            yield "  context " + ", ".join(map(self.name, level.context))
        for node in level.objectives:
            yield f"  minimize {self.name(node)}"
        for memory in memories:
            yield f"  memory {memory.name}: {typed(memory.type)}"
            start = "its slots" if memory.start is None else self.name(memory.start)
            yield f"    start {start}"
            if memory.reset is not None:
                yield f"    reset {rate(memory.reset)}"
            if memory.next is not None:
                yield f"    next {self.name(memory.next)}"

    def attr(self, value: object) -> str:
        """An attribute: nodes and clocks by name, numbers in ten digits."""
        if isinstance(value, Node):
            return self.name(value)
        if isinstance(value, Clock):
            return value.name or rate(value)
        if isinstance(value, tuple):
            return "(" + ", ".join(map(self.attr, value)) + ")"
        return number(value) if isinstance(value, float) else str(value)


def number(value: Constant) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(map(number, value)) + ")"
    return f"{value:.10g}"


def typed(type_: Type) -> str:
    """`[head, e]`, `{W1: [h, e]}`; of a large tree the number of leaves."""
    if isinstance(type_, Tree):
        if len(type_.leaves) > 8:
            return "{" + f"{len(type_.leaves)} leaves" + "}"
        return "{" + ", ".join(f"{path}: {typed(shape)}" for path, shape in type_.leaves) + "}"
    return "[" + ", ".join(axis.name for axis in type_) + "]"


def rate(clock: Clock) -> str:
    if clock.unit == "never":
        return "never"
    return f"{clock.period} {clock.unit}" + (f" phase {clock.phase}" if clock.phase else "")


def initial(weight: Weight) -> str:
    return f"N(0, {weight.scale:.6g})" if weight.init == "normal" else f"= {weight.fill}"
