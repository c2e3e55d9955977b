"""LEVEL GRAPH -> BOXES: every associative memory of a program with the attributes that the paper
gives one (2512.24695v1, Fig. 5).

Three kinds: a level's memory, learning by its equation; attention, which has no parameters and
keeps its pairs; and each weight of a level that learns from a loss of the whole model, which maps
what is put into it to the local error signal there (Eqs. 7-13, 29-31). Boxes that differ in their
names alone are one, with several names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import networkx as nx

from nldsl.core.nodes import Node, Tree, Type, walk
from nldsl.core.program import Clock, Level, Memory, Program
from nldsl.view.associations import (
    ERROR,
    Attention,
    Layer,
    associations,
    attentions,
    is_linear,
    is_task,
    layers,
)
from nldsl.view.express import called, clock_text, last, numbers, type_text
from nldsl.view.folding import anywhere, folded, natural, relative
from nldsl.view.level_graph import data_of, level_graph, node_data
from nldsl.view.retention import EUCLIDEAN, Rule, rules
from nldsl.view.transfer import KINDS, depth

FIGURES = {
    "einsum": "W x",
    "conv": "conv(x, W)",
    "gather": "W[x]",
    "mul": "w .* x",
    "div": "x ./ w",
    "add": "x + b",
    "sub": "x - b",
    "attend": "pairs",
}


@dataclass(frozen=True)
class Box:
    """One associative memory with the attributes of the table, each as short text."""

    rank: int  # place in the order of Def. 2; equal ranks are one level
    kind: str  # "memory", "attention" or "layer"
    clock: str  # when it is updated, when it restarts
    frequency: str
    chunk: str  # how long the value that gradients are taken at stays the same
    bptt: str  # how far slower learners see through its updates
    memory: tuple[str, ...]
    numbers: int
    start: str
    pairs: tuple[str, ...]  # key -> value
    objective: tuple[str, ...]
    retention: tuple[str, ...]
    step: tuple[str, ...]
    geometry: tuple[str, ...]
    # the problem of which the update is the solution, where it is a step of the gradient alone
    # (Eq. 2)
    solves: tuple[str, ...]
    transfer: tuple[str, ...]  # what it takes from others


def boxes(program: Program) -> list[tuple[tuple[str, ...], Box]]:
    """Names and box, fastest first; the layers of a level follow it."""
    graph = level_graph(program)
    nodes = list(program.nodes())
    attention = {a.node: a for a in attentions(program, nodes)}
    found: dict[Box, list[str]] = {}
    for name, data in sorted(
        ((n, d) for n, d in node_data(graph) if "rank" in d), key=lambda item: item[1]["rank"]
    ):
        if data["kind"] == "attention":
            found.setdefault(_attention(attention[data["node"]], graph, name), []).append(name)
            continue
        box = _level(program, data["level"], graph, nodes)
        found.setdefault(box, []).append(name)
        for names, layer in _layers(program, data["level"], box, nodes):
            found.setdefault(layer, []).extend(names)
    return [(tuple(names), box) for box, names in found.items()]


def _attention(attention: Attention, graph: nx.MultiDiGraph[str], name: str) -> Box:
    value = [pair.value for pair in attention.pairs]
    return Box(
        0,
        "attention",
        f"every token, {attention.window}",
        "infinite",
        "1 token",
        "1",
        ("its pairs, no parameters",),
        0,
        "empty",
        tuple(map(str, attention.pairs)),
        (
            f"sum over the pairs of exp(<q, key>) |{value[0] if len(value) == 1 else 'value'} - "
            "M|^2",
        ),
        ("all pairs",),
        ("none: solved at each read",),
        (f"read at q = {attention.query}",),
        (),
        _transfer(graph, name),
    )


def _level(program: Program, level: Level, graph: nx.MultiDiGraph[str], nodes: list[Node]) -> Box:
    memories = [program.memories[name] for name in level.memories]
    own = {m.name: rules(program, m.name) for m in memories}
    found = [
        (last(m.name) if len(memories) > 1 else "", rule)
        for m in memories
        for rule in _parts(own[m.name])
    ]
    return Box(
        data_of(graph, level.name)["rank"],
        "memory",
        _clock(program, level),
        _frequency(level.clock),
        _chunk(level, nodes),
        _bptt(program, level),
        tuple(f"{last(m.name)}: {type_text(m.type)}" for m in memories)
        + ((f"one for each {level.per.name}",) if level.per else ()),
        sum(numbers(m.type) for m in memories),
        "; ".join(dict.fromkeys(map(_start, memories))),
        tuple(map(str, associations(level))),
        tuple(dict.fromkeys(map(_spoken, level.objectives))),
        _lines((part, rule.retention or "none") for part, rule in found),
        _lines((part, rule.step or "none") for part, rule in found),
        _lines((part, rule.geometry) for part, rule in found),
        _solves(level, own),
        _transfer(graph, level.name),
    )


def _parts(own: dict[str, Rule]) -> Iterable[Rule]:
    """The rules of a memory, one for each that differs, with the parts that it moves."""
    groups: dict[Rule, list[str]] = {}
    for part, rule in own.items():
        groups.setdefault(rule, []).append(part)
    for rule, parts in groups.items():
        lead = f"{', '.join(parts)}: " if len(groups) > 1 else ""
        whole = f" ({rule.whole} counting the gradient's own pull)" if rule.whole else ""
        geometry = rule.geometry if rule.geometry == EUCLIDEAN else lead + rule.geometry
        yield replace(rule, retention=lead + (rule.retention or "none") + whole, geometry=geometry)


def _solves(level: Level, rules_of: dict[str, dict[str, Rule]]) -> tuple[str, ...]:
    """min over M of <grad(M), M> + |M - keep M_t|^2 / (2 eta); an objective that is linear stands
    for <grad(M), M> as it is written.
    """
    goals = [_spoken(node) if is_linear(level, node) else "" for node in level.objectives]
    found = []
    for name in level.memories:
        memory, own = (
            last(name),
            {(rule.retention, rule.size, rule.geometry) for rule in rules_of[name].values()},
        )
        if len(own) != 1 or "" in next(iter(own)) or EUCLIDEAN not in next(iter(own)):
            continue
        keep, size, _ = next(iter(own))
        kept = (
            f"{memory}_t"
            if keep == "1"
            else f"({keep}) {memory}_t"
            if " " in keep
            else f"{keep} {memory}_t"
        )
        goal = goals[0] if len(goals) == 1 and goals[0] else f"<grad({memory}), {memory}>"
        found.append(f"{goal} + |{memory} - {kept}|^2 / {'2' if size == '1' else f'(2 {size})'}")
    return tuple(found)


def _lines(found: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    texts = list(dict.fromkeys(found))
    if len({text for _, text in texts}) == 1:
        return (texts[0][1],)
    return tuple(f"{part}: {text}" if part else text for part, text in texts)


def _layers(
    program: Program, level: Level, box: Box, nodes: list[Node]
) -> Iterable[tuple[list[str], Box]]:
    if not is_task(level):
        return
    shapes = dict(_shapes(program, level))
    for layer in layers(program, level, nodes):
        yield (
            [layer.weight],
            replace(
                box,
                kind="layer",
                memory=(type_text(shapes[layer.weight]),),
                numbers=numbers(shapes[layer.weight]),
                start="",
                pairs=(f"{layer.key} -> {ERROR}",),
                objective=(FIGURES[layer.figure],),
                solves=_layer_solves(box, layer),
                transfer=(),
            ),
        )


def _layer_solves(box: Box, layer: Layer) -> tuple[str, ...]:
    """Eq. 31: the level's problem with <grad(W), W> written as <W x, dL/dy>."""
    rest = box.solves[0].partition("> + ")[2] if box.solves and layer.figure == "einsum" else ""
    return (f"<W x, {ERROR}> + {rest}",) if rest else ()


def _shapes(program: Program, level: Level) -> Iterable[tuple[str, Type]]:
    for name in level.memories:
        memory = program.memories[name]
        yield name, memory.type
        if isinstance(memory.type, Tree):
            for path, shape in memory.type.leaves:
                yield f"{name}.{path}", shape
                yield path, shape


def _clock(program: Program, level: Level) -> str:
    when = "never" if level.clock.unit == "never" else f"every {clock_text(level.clock)}"
    memories = [program.memories[name] for name in level.memories]
    begins = [("", level.reset), *((f"{last(m.name)} ", m.reset) for m in memories if m.reset)]
    again = [(name, clock) for name, clock in begins if clock.unit != "never"]
    return when + "".join(f", reset {name}every {clock_text(clock)}" for name, clock in again)


def _frequency(clock: Clock) -> str:
    return (
        "0"
        if clock.unit == "never"
        else f"1/{clock.period} per {clock.unit}"
        if clock.period > 1
        else f"1 per {clock.unit}"
    )


def _chunk(level: Level, nodes: list[Node]) -> str:
    """The period of the copy that the level's gradients are taken at, else its own."""
    held = [
        node.args[1]["clock"]
        for node in nodes
        if node.op == "grad" and node["memory"] in level.memories and node.args[1].op == "held"
    ]
    slowest = max([level.clock, *held], key=lambda clock: clock.pace)
    return "infinite" if slowest.unit == "never" else f"{slowest.period} {slowest.unit}"


def _bptt(program: Program, level: Level) -> str:
    slower = [other for other in program.levels.values() if other.clock.pace > level.clock.pace]
    lengths: dict[str, list[str]] = {}
    for clause in level.bptt:
        for other in slower:
            if clause.viewer in (None, other.name) and other.parent is None:
                lengths.setdefault(depth(level, other), []).append(last(other.name))
    if not lengths:
        return "1"
    named = any(clause.viewer for clause in level.bptt)
    return ", ".join(
        f"{length} to {', '.join(dict.fromkeys(viewers))}" if named or len(lengths) > 1 else length
        for length, viewers in lengths.items()
    )


def _start(memory: Memory) -> str:
    node = memory.start
    if node is None or memory.slots is not None:
        return "random"
    parts = list(walk(node))
    if any(part.op == "weight" for part in parts):
        return (
            "learned"
            if all(part.op in ("weight", "tree") for part in parts)
            else f"{called(node, 32)} of a learned one"
        )
    if any(part.op in ("read", "now") for part in parts):
        read = dict.fromkeys(last(part["memory"]) for part in parts if part.op in ("read", "now"))
        return f"of {', '.join(read)}"
    return called(node, 32)


def _spoken(node: Node) -> str:
    """The words of the text that a node stands for."""
    return " ".join(node.span.text().split()) if node.span is not None else called(node)


def _transfer(graph: nx.MultiDiGraph[str], name: str) -> tuple[str, ...]:
    """The knowledge that a box takes from others, a line for each way and giver."""
    groups: dict[tuple[str, str, str], dict[str, None]] = {}
    level: Level | None = data_of(graph, name).get("level")
    caller = level.parent if level is not None else None
    flows = level.flows if level is not None else ()
    for giver, _, data in graph.in_edges(name, data=True):
        if data["kind"] != "context":
            seen = (
                anywhere(giver, name)
                if data["kind"] in ("backpropagation", "non-parametric")
                else "the caller"
                if giver == caller and data["of"] in flows
                else relative(giver, caller or name)
            )
            groups.setdefault((data["kind"], data["depth"], seen), {})[data["of"]] = None
    givers: dict[tuple[str, str, str], list[str]] = {}
    for (kind, length, giver), of in groups.items():
        givers.setdefault((kind, length, ", ".join(sorted(of))), []).append(giver)
    lines = [
        (
            KINDS.index(kind),
            f"{kind}: {of} of {folded(sorted(names, key=natural))}"
            + (f", bptt {length}" if length else ""),
        )
        for (kind, length, of), names in givers.items()
    ]
    return tuple(text for _, text in sorted(lines))
