"""Queries that the rules ask of a program: which values reach which, through time and through
derivatives.
"""

from __future__ import annotations

import graphlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

from nldsl.core.nodes import Node, reach, walk
from nldsl.core.ops import active
from nldsl.core.program import (
    NEVER,
    READS,
    STATE,
    TOKEN,
    Clock,
    Level,
    Memory,
    Program,
    by_worker,
)
from nldsl.diagnostic import Diagnostic

SHAPE_ONLY = ("permute", "reshape", "spread", "leaf")
REORDERED = ("permute", "reshape")


def equations(program: Program) -> dict[str, list[Node]]:
    """By level, the next values of its memories, those of the optimizers that it calls included."""
    found: dict[str, list[Node]] = {name: [] for name in program.levels}
    for memory in program.memories.values():
        if memory.next is not None:
            for name in dict.fromkeys((memory.level, program.levels[memory.level].parent)):
                if name is not None:
                    found[name].append(memory.next)
    return found


def first_of_each(findings: Iterable[Diagnostic]) -> Iterator[Diagnostic]:
    """The findings, each once: a def that is called many times has it once."""
    seen: set[object] = set()
    for finding in findings:
        key = (finding.code, finding.span) if finding.span else (finding.code, finding.message)
        if key not in seen:
            seen.add(key)
            yield finding


def in_every_instance(
    program: Program, judge: Callable[[Level], Iterable[Diagnostic] | None]
) -> Iterator[Diagnostic]:
    """Findings that hold of a level's text wherever it is called: one call with a constant makes no
    fault of the library.

    The judge gives None for an instance that does not decide about the text.
    """
    instances: dict[object, list[Level]] = {}
    for level in program.levels.values():
        instances.setdefault(level.span or level.name, []).append(level)
    for levels in instances.values():
        judged = [
            {(d.code, d.span): d for d in found}
            for level in levels
            if (found := judge(level)) is not None
        ]
        for key, finding in judged[0].items() if judged else ():
            if all(key in other for other in judged[1:]):
                yield finding


def beneath(
    roots: Iterable[Node],
    mark: Callable[[Node], int],
    into: Callable[[Node], Iterable[Node]] | None = None,
) -> dict[Node, int]:
    """Of every node met from `roots`, the marks (bits of a number) of itself and of all that lies
    beneath it.

    Equations that share their streams share the search. `into` may not lead in a circle.
    """
    into = into or (lambda node: node.args)
    found: dict[Node, int] = {}
    stack = [(root, False) for root in roots]
    while stack:
        node, ready = stack.pop()
        if node in found:
            continue
        parts = tuple(into(node))
        if ready:
            bits = mark(node)
            for part in parts:
                bits |= found[part]
            found[node] = bits
        else:
            stack.append((node, True))
            stack.extend((part, False) for part in parts if part not in found)
    return found


T = TypeVar("T", bound=Hashable)


def knots(needs: Mapping[T, Iterable[T]]) -> list[set[T]]:
    """The sets of things that need each other in a circle; an empty list if there is an order."""
    try:
        graphlib.TopologicalSorter(needs).prepare()
        return []
    except graphlib.CycleError:
        import networkx as nx  # most programs have no circle, and it takes long to import

        graph: nx.DiGraph[T] = nx.DiGraph()
        graph.add_edges_from((node, other) for node, others in needs.items() for other in others)
        return [
            knot
            for knot in nx.strongly_connected_components(graph)
            if len(knot) > 1 or any(graph.has_edge(n, n) for n in knot)
        ]


def shortest_ring(needs: Mapping[T, Iterable[T]]) -> list[T]:
    """The shortest circle of things that need each other."""
    import networkx as nx

    graph: nx.DiGraph[T] = nx.DiGraph()
    graph.add_edges_from((node, other) for node, others in needs.items() for other in others)
    edges = [edge for knot in knots(needs) for edge in graph.subgraph(knot).edges]
    return min(([a] if a == b else nx.shortest_path(graph, b, a) for a, b in edges), key=len)


def bare(node: Node) -> Node:
    """Without changes of the order of axes."""
    while node.op in REORDERED:
        node = node.args[0]
    return node


def constants_of(context: Iterable[Node]) -> set[Node]:
    """The nodes that are data for a level: its context, the same streams with their axes in another
    order, a tree's leaves.
    """
    return {
        form
        for node in context
        for part in (node, *(node.args if node.op == "tree" else ()))
        for form in (part, bare(part))
    }


def terms(objective: Node) -> tuple[Node, ...]:
    """The terms of an objective, the same for all levels that take one loss over periods of their
    own.
    """
    return objective.args if objective.op == "fold" else (objective,)


class GradientPaths:
    """The nodes on paths of derivatives from an objective, as the owner of `memory` sees it.

    Paths lead through the updates of faster levels as their `bptt` says. Learners that share the
    objective, the context and the clock see the same, so it is worked out once for all of them.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.named = {b.viewer for level in program.levels.values() for b in level.bptt}
        starts = [memory.start for memory in program.memories.values() if memory.start is not None]
        self.started = {node for node in walk(*starts) if node.op == "now"}
        self.known: dict[object, Reached] = {}

    def __call__(self, objective: Node, memory: Memory, context: Iterable[Node]) -> Reached:
        learner = self.program.levels[memory.level]
        data = frozenset(constants_of(context))
        viewer = learner.name if learner.name in self.named else None
        key = (terms(objective), data, learner.clock.pace, viewer)
        if key not in self.known:
            nodes = reach(terms(objective), data, lambda node: self._into(node, learner)).nodes
            self.known[key] = Reached(nodes, self.reads(nodes))
        return self.known[key]

    def reads(self, nodes: Iterable[Node]) -> dict[str, list[Node]]:
        """By memory, the nodes that are a plain read of it.

        A start takes the newest value, and is one too.
        """
        found: dict[str, list[Node]] = {}
        for node in nodes:
            if node.op in ("plain", "read") or node in self.started:
                found.setdefault(node["memory"], []).append(node)
            elif node.op == "weight" and (owner := self.program.owner(node)):
                found.setdefault(owner, []).append(node)
        return found

    def _into(self, node: Node, learner: Level) -> Iterable[Node]:
        owner = self.program.owner(node)
        if owner is None:
            return active(node)
        other = self.program.memories[owner]
        level = self.program.levels[other.level]
        if level.clock.pace >= learner.clock.pace:
            return ()
        clauses = (level if node.op == "weight" else self.program.root(level)).clauses(learner)
        open_ = any(b.depth != "none" for b in clauses) or (not clauses and node.op != "weight")
        if node.op == "weight" and by_worker(level) and not open_:
            return ()
        return [n for n in (other.next if open_ else None, other.start) if n is not None]


class Reached:
    """The nodes that derivatives reach: by memory those that its gradient is taken in, and the
    memories whose state is read.
    """

    def __init__(self, nodes: list[Node], reads: dict[str, list[Node]]) -> None:
        self.nodes = nodes
        self.reads = reads
        self.states = {node["memory"] for node in nodes if node.op in STATE}


def gradients(program: Program) -> list[Node]:
    return [node for node in walk(*program.roots()) if node.op == "grad"]


def gradients_by_level(program: Program) -> dict[str, list[Node]]:
    """The gradients in the memories of each level."""
    found: dict[str, list[Node]] = {}
    for node in gradients(program):
        found.setdefault(program.memories[node["memory"]].level, []).append(node)
    return found


def clock_of(program: Program, node: Node) -> Clock:
    """The clock of a leaf; `never` of a constant."""
    if node.op in READS and node.op != "held":
        return program.levels[program.memories[node["memory"]].level].clock
    if node.op == "held_stream":
        clock: Clock = node["clock"]
        return clock
    if node.op == "weight":
        owner = program.owner(node)
        return program.level(owner).clock if owner else NEVER
    return TOKEN if node.op in ("input", "rope") else NEVER
