"""LEVEL GRAPH -> MERMAID: a flowchart as text, for pages that draw it themselves."""

from __future__ import annotations

import networkx as nx

from nldsl.view.level_graph import EdgeData, NodeData, edge_data, node_data

SHAPES = {"input": ('[/"', '"/]'), "level": ('["', '"]'), "attention": ('(["', '"])')}


def caption(name: str, data: NodeData, newline: str) -> str:
    """The caption of a box: its name and how often it is updated."""
    if data["kind"] == "input":
        return name
    if data["kind"] == "attention":
        return f"{name}{newline}non-parametric"
    clock = data["level"].clock
    layers = f"{newline}{data['layers']} layers" if data.get("layers", 0) > 1 else ""
    return (
        f"{name}{newline}"
        + ("never" if clock.unit == "never" else f"every {clock.period} {clock.unit}")
        + layers
    )


def handed_on(data: EdgeData) -> str:
    """The label of an edge: its kind, and the BPTT length where there is one."""
    return f"{data['kind']}" + (f", bptt {data['depth']}" if data["depth"] else "")


def mermaid(graph: nx.MultiDiGraph[str]) -> str:
    """The graph as a Mermaid flowchart."""
    ids = {name: f"n{i}" for i, name in enumerate(graph.nodes)}
    lines = ["flowchart TB"]
    for name, data in node_data(graph):
        left, right = SHAPES[data["kind"]]
        lines.append(f"    {ids[name]}{left}{caption(name, data, '<br/>')}{right}")
    for a, b, edge in edge_data(graph):
        lines.append(f'    {ids[a]} -->|"{handed_on(edge)}"| {ids[b]}')
    return "\n".join(dict.fromkeys(lines)) + "\n"
