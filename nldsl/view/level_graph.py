"""PROGRAM -> LEVEL GRAPH: levels, attention, what is handed from one to another, and the paper's
order relation.

Edges go from the one that gives to the one that takes; `kind` is one of the paper's five kinds of
knowledge transfer (transfer.py) or `context`, an input that a level learns from. Boxes are ordered
as in 2512.24695v1, Def. 2: A is faster than B if it ticks more often, or equally often and B needs
A's state first; the boxes left are one level. Attention, which keeps nothing but its pairs and is
solved anew at each read, is faster than all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, TypedDict, cast

import networkx as nx

from nldsl.core.nodes import Node, walk
from nldsl.core.program import Level, Program
from nldsl.view.express import called
from nldsl.view.transfer import Transfers, names_of_attention, owner

if TYPE_CHECKING:
    from nldsl.view.boxes import Box


class NodeData(TypedDict, total=False):
    """Attributes of a box of the graph. `family_graph` adds the last four."""

    kind: Literal["input", "level", "attention"]
    level: Level
    node: Node
    rank: int
    members: tuple[str, ...]
    boxes: tuple[Box, ...]
    layers: int
    callers: frozenset[str]


class EdgeData(TypedDict, total=False):
    """Attributes of an edge. `family_graph` adds `count`."""

    kind: str
    of: str
    depth: str
    count: int


def node_data(graph: nx.MultiDiGraph[str]) -> Iterator[tuple[str, NodeData]]:
    """Each box with its attributes."""
    yield from cast("Iterator[tuple[str, NodeData]]", graph.nodes(data=True))


def edge_data(graph: nx.MultiDiGraph[str]) -> Iterator[tuple[str, str, EdgeData]]:
    """Each edge, giver and taker, with its attributes."""
    yield from cast("Iterator[tuple[str, str, EdgeData]]", graph.edges(data=True))


def data_of(graph: nx.MultiDiGraph[str], name: str) -> NodeData:
    """The attributes of a box."""
    return cast(NodeData, graph.nodes[name])


def level_graph(program: Program) -> nx.MultiDiGraph[str]:
    """Nodes are inputs, levels (attribute `level`) and attention (attribute `node`), the last two
    with a `rank`; edges carry `kind`, `of`, the name of what is handed on, and `depth`, the BPTT
    length.
    """
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for name in program.inputs:
        graph.add_node(name, kind="input")
    for level in program.levels.values():
        graph.add_node(level.name, kind="level", level=level)
    nodes = list(program.nodes())
    attention = names_of_attention(nodes)
    transfers = Transfers(program, attention)
    for node in nodes:
        if node in attention:
            graph.add_node(attention[node], kind="attention", node=node)
            for arg in node.args:
                for giver in transfers.producers(arg):
                    graph.add_edge(
                        giver, attention[node], kind="generation", of=called(arg, 32), depth=""
                    )
    for edge in transfers.all():
        graph.add_edge(edge.giver, edge.taker, kind=edge.kind, of=edge.of, depth=edge.depth)
    for level in program.levels.values():
        for name in dict.fromkeys(
            part["name"] for node in level.context for part in walk(node) if part.op == "input"
        ):
            graph.add_edge(name, level.name, kind="context", of=name, depth="")
    for rank, names in enumerate(ordered(program, list(attention.values()))):
        for name in names:
            data_of(graph, name)["rank"] = rank
    return graph


def _near(root: Node | None) -> Iterator[Node]:
    """The nodes of an update, within its iteration of the loops: the same box of every layer of a
    stack stands in one level.
    """
    if root is None:
        return
    seen: set[Node] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            yield node
            stack.extend(
                arg for arg in node.args if arg.iteration[: len(root.iteration)] == root.iteration
            )


def ordered(program: Program, attention: list[str]) -> list[list[str]]:
    """From fastest to slowest; a list holds those that are equal in the sense of Def. 2."""
    ranks: dict[tuple[int, int], list[str]] = {}
    for level in program.levels.values():
        ranks.setdefault(level.clock.pace, []).append(level.name)
    out = [attention] if attention else []
    for key in sorted(ranks):
        needs: nx.DiGraph[str] = nx.DiGraph()
        needs.add_nodes_from(ranks[key])
        for name in ranks[key]:
            for memory in program.levels[name].memories:
                for part in _near(program.memories[memory].next):
                    giver = owner(program, part) if part.op == "now" else None
                    if giver is not None and giver in needs and giver != name:
                        needs.add_edge(giver, name)
        out += [list(group) for group in nx.topological_generations(needs)]
    return out
