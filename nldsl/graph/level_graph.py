"""PROGRAM -> LEVEL GRAPH: levels, what flows between them, and the paper's order relation.

Edges go from the level that gives to the one that takes; `kind` is one of the paper's five kinds of knowledge transfer (2512.24695v1,
sec. 3.3) or `context`, the data a level learns from. Levels are ordered as in Def. 2: A is faster than B if it ticks more often, or
equally often and B needs A's state first; what is left is one level.
"""
from __future__ import annotations

import io
from collections.abc import Iterable

import networkx as nx

from nldsl.graph.equations import Clock, Level, Node, Program, Tree, numel, walk

STATE = ("read", "now", "held")
UNITS = {"update": 0, "token": 1, "sequence": 2, "document": 3, "step": 4, "never": 5}
COLOURS = {"initialisation": "#7a4fbf", "generation": "#c2571a", "backpropagation": "#1a6fc2", "direct": "#555555", "context": "#2c8a4b"}


def speed(clock: Clock) -> tuple[int, int]:
    """Sort key: the faster the smaller; every period on `token` is shorter than every one on `step`."""
    return UNITS[clock.unit], clock.period


def level_graph(program: Program) -> nx.MultiDiGraph:
    """Nodes are levels (attribute `level`, `rank`) and inputs; edges carry `kind` and `of`, the name of what is handed on."""
    graph: nx.MultiDiGraph = nx.MultiDiGraph()
    for name in program.inputs:
        graph.add_node(name, kind="input")
    for level in program.levels.values():
        graph.add_node(level.name, kind="level", level=level)
    for level in program.levels.values():
        for giver, kind, of in dict.fromkeys(_taken(program, level)):
            if giver != level.name:
                graph.add_edge(giver, level.name, kind=kind, of=of)
    for rank, names in enumerate(ordered(program, graph)):
        for name in names:
            graph.nodes[name]["rank"] = rank
    return graph


def _owner(program: Program, node: Node) -> str | None:
    if node.op in STATE:
        return program.memories[node["memory"]].level
    if node.op == "weight":
        memory = program.weights[node["name"]].owner
        return program.memories[memory].level if memory in program.memories else None
    return None


def _reach(roots: Iterable[Node], stop: Iterable[Node] = ()) -> list[Node]:
    seen, stack, out = {id(n) for n in stop}, list(roots), []
    while stack:
        node = stack.pop()
        if id(node) not in seen:
            seen.add(id(node))
            out.append(node)
            stack.extend(node.args)
    return out


def _taken(program: Program, level: Level) -> Iterable[tuple[str, str, str]]:
    own = {m.name for m in program.memories.values() if m.level == level.name}
    family = {level.name, level.parent} | {l.name for l in program.levels.values() if l.parent == level.name}
    for name in level.memories:
        start = program.memories[name].start
        for node in walk(start) if start is not None else ():
            giver = _owner(program, node)
            if giver:
                yield giver, "initialisation", name
    for node in level.context:
        label = node.name or (node.span.text() if node.span else node.op)
        for part in _reach([node]):
            if part.op == "input":
                yield part["name"], "context", label
            elif part.op in STATE and (giver := _owner(program, part)) not in family and giver:
                yield giver, "generation", label
    if level.parent:
        yield level.parent, "context", "gradient"
    folds = [f for o in level.objectives for f in walk(o) if f.op == "fold"]
    for part in _reach([f.args[0] for f in folds]):
        giver = _owner(program, part)
        if giver and giver not in family and part.op in STATE:
            yield giver, "backpropagation" if _sees(program.levels[giver], level) else "direct", part["memory"]
    if level.clock.unit == "token":
        for part in _reach([program.memories[n].next for n in level.memories if program.memories[n].next is not None], level.context):
            if part.op in STATE and part["memory"] not in own and (giver := _owner(program, part)) not in family and giver:
                yield giver, "generation", part["memory"]


def _sees(fast: Level, slow: Level) -> bool:
    """Does learner `slow` see through the updates of `fast`, or share one gradient flow with it?"""
    if fast.clock.unit != "token":
        return True
    depths = [b.depth for b in fast.bptt if b.viewer in (None, slow.name)]
    return any(d != "none" for d in depths)


def ordered(program: Program, graph: nx.MultiDiGraph) -> list[list[str]]:
    """Levels from fastest to slowest; a list of one rank holds levels that are equal in the sense of Def. 2."""
    ranks: dict[tuple[int, int], list[str]] = {}
    for level in program.levels.values():
        ranks.setdefault(speed(level.clock), []).append(level.name)
    out: list[list[str]] = []
    for key in sorted(ranks):
        needs: nx.DiGraph = nx.DiGraph()
        needs.add_nodes_from(ranks[key])
        for name in ranks[key]:
            level = program.levels[name]
            for memory in level.memories:
                after = program.memories[memory].next
                for part in walk(after) if after is not None else ():
                    if part.op == "now" and (giver := _owner(program, part)) in needs and giver != name:
                        needs.add_edge(giver, name)
        out += [list(group) for group in nx.topological_generations(needs)]
    return out


def state_numbers(program: Program, level: Level) -> int:
    """Numbers in the memories of a level: of one sequence on the token clock, of the run otherwise."""
    total = 0
    for name in level.memories:
        type_ = program.memories[name].type
        total += sum(numel(s) for _, s in type_.leaves) if isinstance(type_, Tree) else numel(type_)
    return total


def mermaid(graph: nx.MultiDiGraph) -> str:
    """The graph as a Mermaid flowchart."""
    ids = {name: f"n{i}" for i, name in enumerate(graph.nodes)}
    lines = ["flowchart TB"]
    for name, data in graph.nodes(data=True):
        if data["kind"] == "input":
            lines.append(f'    {ids[name]}[/"{name}"/]')
        else:
            clock = data["level"].clock
            when = "never" if clock.unit == "never" else f"every {clock.period} {clock.unit}"
            lines.append(f'    {ids[name]}["{name}<br/>{when}"]')
    for a, b, data in graph.edges(data=True):
        lines.append(f'    {ids[a]} -->|"{data["kind"]}"| {ids[b]}')
    return "\n".join(dict.fromkeys(lines)) + "\n"


def svg(graph: nx.MultiDiGraph) -> str:
    """The graph as a picture: inputs below, then levels from fastest to slowest upwards."""
    import matplotlib
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "nldsl"
    from matplotlib import pyplot as plt
    flat: nx.DiGraph = nx.DiGraph()
    for name, data in graph.nodes(data=True):
        flat.add_node(name, layer=data.get("rank", -1) + 1)
    place = nx.multipartite_layout(flat, subset_key="layer", align="horizontal")
    widest = max(list(nx.get_node_attributes(flat, "layer").values()).count(r) for r in set(nx.get_node_attributes(flat, "layer").values()))
    figure, axes = plt.subplots(figsize=(max(7, 2.6 * widest), 1.6 * (1 + max(nx.get_node_attributes(flat, "layer").values()))))
    seen: dict[tuple[str, str], int] = {}
    for a, b, data in graph.edges(data=True):
        bend = 0.12 * seen.setdefault((a, b), len([1 for k in seen if k == (a, b)]))
        seen[a, b] += 1
        axes.annotate("", xy=place[b], xytext=place[a], arrowprops={
            "arrowstyle": "-|>", "color": COLOURS[data["kind"]], "alpha": 0.6, "shrinkA": 16, "shrinkB": 16,
            "connectionstyle": f"arc3,rad={0.08 + bend}"})
    for name, data in graph.nodes(data=True):
        level = data.get("level")
        text = name if level is None else f"{name.split('.')[-1] if len(name) > 24 else name}\n" + (
            "never" if level.clock.unit == "never" else f"every {level.clock.period} {level.clock.unit}")
        axes.text(*place[name], text, ha="center", va="center", fontsize=8,
                  bbox={"boxstyle": "round,pad=0.4", "fc": "#f4f1ea" if level is None else "#ffffff", "ec": "#333333"})
    for i, (kind, colour) in enumerate(COLOURS.items()):
        axes.plot([], [], color=colour, label=kind)
    axes.legend(loc="lower right", fontsize=7, frameon=False)
    axes.margins(0.15)
    axes.axis("off")
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)
    return out.getvalue()
