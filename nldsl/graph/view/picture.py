"""LEVEL GRAPH -> PICTURE: a Mermaid flowchart, or SVG with the fastest boxes below and the slowest on top."""
from __future__ import annotations

import io
from typing import Any

import networkx as nx

from nldsl.graph.view.express import path

COLOURS = {"direct": "#555555", "non-parametric": "#b03a8c", "backpropagation": "#1a6fc2", "initialisation": "#7a4fbf", "generation": "#c2571a",
           "context": "#2c8a4b"}
SHAPES = {"input": ('[/"', '"/]'), "level": ('["', '"]'), "attention": ('(["', '"])')}
LONGEST = 24                                                 # characters of a name in a picture before only its last two parts are shown


def caption(name: str, data: dict[str, Any], newline: str) -> str:
    """What stands in a box: its name and how often it is updated."""
    if data["kind"] == "input":
        return name
    if data["kind"] == "attention":
        return f"{name}{newline}non-parametric"
    clock = data["level"].clock
    layers = f"{newline}{data['layers']} layers" if data.get("layers", 0) > 1 else ""
    return f"{name}{newline}" + ("never" if clock.unit == "never" else f"every {clock.period} {clock.unit}") + layers


def handed_on(data: dict[str, Any]) -> str:
    """What is written at an edge: the kind, and the BPTT length where there is one."""
    return data["kind"] + (f", bptt {data['depth']}" if data["depth"] else "")


def mermaid(graph: nx.MultiDiGraph) -> str:
    """The graph as a Mermaid flowchart."""
    ids = {name: f"n{i}" for i, name in enumerate(graph.nodes)}
    lines = ["flowchart TB"]
    for name, data in graph.nodes(data=True):
        left, right = SHAPES[data["kind"]]
        lines.append(f"    {ids[name]}{left}{caption(name, data, '<br/>')}{right}")
    for a, b, data in graph.edges(data=True):
        lines.append(f'    {ids[a]} -->|"{handed_on(data)}"| {ids[b]}')
    return "\n".join(dict.fromkeys(lines)) + "\n"


def svg(graph: nx.MultiDiGraph) -> str:
    """The graph as a picture: inputs below, then boxes from fastest to slowest upwards."""
    import matplotlib
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "nldsl"
    from matplotlib import pyplot as plt
    layers = {name: data.get("rank", -1) + 1 for name, data in graph.nodes(data=True)}
    flat: nx.DiGraph = nx.DiGraph()
    for name, layer in layers.items():
        flat.add_node(name, layer=layer)
    place = nx.multipartite_layout(flat, subset_key="layer", align="horizontal")
    widest = max(list(layers.values()).count(layer) for layer in set(layers.values()))
    figure, axes = plt.subplots(figsize=(max(7, 2.6 * widest), 1.6 * (1 + max(layers.values()))))
    seen: dict[tuple[str, str], int] = {}
    for a, b, data in graph.edges(data=True):
        bend = 0.12 * seen.setdefault((a, b), 0)
        seen[a, b] += 1
        axes.annotate("", xy=place[b], xytext=place[a], arrowprops={
            "arrowstyle": "-|>", "color": COLOURS[data["kind"]], "alpha": 0.6, "shrinkA": 16, "shrinkB": 16,
            "connectionstyle": f"arc3,rad={0.08 + bend}"})
    for name, data in graph.nodes(data=True):
        text = caption(".".join(path(name)[-2:]) if len(name) > LONGEST else name, data, "\n")
        axes.text(*place[name], text, ha="center", va="center", fontsize=8,
                  bbox={"boxstyle": "round,pad=0.4", "fc": "#f4f1ea" if data["kind"] == "input" else "#ffffff", "ec": "#333333",
                        "linestyle": "--" if data["kind"] == "attention" else "-"})
    for kind, colour in COLOURS.items():
        axes.plot([], [], color=colour, label=kind)
    axes.legend(loc="lower right", fontsize=7, frameon=False)
    axes.margins(0.15)
    axes.axis("off")
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)
    return out.getvalue()
