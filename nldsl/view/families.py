"""LEVEL GRAPH -> FAMILIES: boxes that are alike are one node, edges one that counts them.

`family_graph` folds boxes that differ in their names alone; `at_most` folds further, for a picture:
first the iterations of a loop, then what shares a name, then what shares a rank, then a clock,
until few enough are left. No edge is lost: `count` adds up to the level graph's edges.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import networkx as nx

from nldsl.core.program import Program
from nldsl.view.boxes import boxes
from nldsl.view.express import last
from nldsl.view.folding import folded
from nldsl.view.level_graph import EdgeData, NodeData, data_of, edge_data, level_graph, node_data

Key = Callable[[str, NodeData], object]


def family_graph(program: Program) -> nx.MultiDiGraph[str]:
    """Nodes carry `members`, their `boxes` (none of an input), `callers`, the levels in whose
    updates they stand, and `layers`, the weights that learn as layers of them; edges `kind`,
    `depth`, `of` and `count`."""
    graph, found = level_graph(program), boxes(program)
    owner = {memory: level.name for level in program.levels.values() for memory in level.memories}
    for name, data in node_data(graph):
        data["members"], data["boxes"], data["layers"] = (name,), (), 0
        caller = data["level"].parent if "level" in data else None
        data["callers"] = frozenset() if caller is None else frozenset({caller})
    for names, box in found:
        for name in names:
            if box.kind == "layer":
                weight = program.weights.get(name)
                memory = (weight.owner if weight is not None else None) or next(
                    m for m in owner if f"{name}.".startswith(f"{m}.")
                )
                data_of(graph, owner[memory])["layers"] += 1
            else:
                data_of(graph, name)["boxes"] = (box,)
    for *_, edge in edge_data(graph):
        edge["count"] = 1
    return contracted(
        graph,
        {name: folded(names) for names, box in found if box.kind != "layer" for name in names},
    )


def contracted(graph: nx.MultiDiGraph[str], into: Mapping[str, str]) -> nx.MultiDiGraph[str]:
    """Each node in the place of those that go into it, with one edge of each kind and depth."""
    out: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for name, data in node_data(graph):
        new = into.get(name, name)
        if new not in out:
            out.add_node(new, **data)
            continue
        node = data_of(out, new)
        node["members"] += data["members"]
        node["layers"] += data["layers"]
        node["boxes"] = tuple(dict.fromkeys(node["boxes"] + data["boxes"]))
        node["callers"] |= data["callers"]
        node["rank"] = max(node["rank"], data["rank"])
    edges: dict[tuple[str, str, str, str], list[EdgeData]] = {}
    for giver, taker, edge in edge_data(graph):
        ends = into.get(giver, giver), into.get(taker, taker)
        edges.setdefault((*ends, edge["kind"], edge["depth"]), []).append(edge)
    for (giver, taker, kind, depth), found in edges.items():
        of = dict.fromkeys(text for edge in found for text in edge["of"].split(", "))
        out.add_edge(
            giver,
            taker,
            kind=kind,
            depth=depth,
            of=", ".join(of),
            count=sum(edge["count"] for edge in found),
        )
    return out


KEYS: tuple[Key, ...] = (
    lambda name, data: (data["rank"], data["kind"], iterations(name)),
    lambda name, data: (data["rank"], data["kind"], iterations(last(name))),
    lambda name, data: (data["rank"], data["kind"]),
    lambda name, data: data["level"].clock.unit if data["kind"] == "level" else data["kind"],
)


def iterations(name: str) -> str:
    """A name with any iteration in the place of those of its loops."""
    return re.sub(r"\[[\d., ]+\]", "[*]", name)


def at_most(graph: nx.MultiDiGraph[str], most: int) -> nx.MultiDiGraph[str]:
    """The loops folded, and more where that leaves more than `most` boxes beside the inputs."""
    for key in KEYS:
        groups: dict[object, list[str]] = {}
        for name, data in node_data(graph):
            if data["kind"] != "input":
                groups.setdefault(key(name, data), []).append(name)
        into = {
            name: folded([m for n in names for m in data_of(graph, n)["members"]])
            for names in groups.values()
            if len(names) > 1
            for name in names
        }
        graph = contracted(graph, into)
        if sum(data["kind"] != "input" for _, data in node_data(graph)) <= most:
            break
    return graph
