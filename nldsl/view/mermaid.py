"""LEVEL GRAPH -> MERMAID: a flowchart as text, for pages that draw it themselves."""

from __future__ import annotations

from typing import Any

import networkx as nx

SHAPES = {"input": ('[/"', '"/]'), "level": ('["', '"]'), "attention": ('(["', '"])')}


def caption(name: str, data: dict[str, Any], newline: str) -> str:
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


def handed_on(data: dict[str, Any]) -> str:
    """The label of an edge: its kind, and the BPTT length where there is one."""
    return f"{data['kind']}" + (f", bptt {data['depth']}" if data["depth"] else "")


def mermaid(graph: nx.MultiDiGraph[str]) -> str:
    """The graph as a Mermaid flowchart."""
    ids = {name: f"n{i}" for i, name in enumerate(graph.nodes)}
    lines = ["flowchart TB"]
    for name, data in graph.nodes(data=True):
        left, right = SHAPES[data["kind"]]
        lines.append(f"    {ids[name]}{left}{caption(name, data, '<br/>')}{right}")
    for a, b, data in graph.edges(data=True):
        lines.append(f'    {ids[a]} -->|"{handed_on(data)}"| {ids[b]}')
    return "\n".join(dict.fromkeys(lines)) + "\n"
