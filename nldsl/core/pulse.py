"""At which tokens a stream has its instants: those are the terms of a window over it.

sum(g over period), g the gradient of a level that ticks every 3 token     one term every 3 token
"""

from __future__ import annotations

from nldsl.core.equations import Clock, Node, Program, walk

TOKEN = Clock("token", 1)
OF_EVERY_TOKEN = (
    "input",
    "rope",
    "conv",
    "window",
    "held_stream",
)  # what looks back sees something else at each token


def pulses(program: Program, root: Node) -> set[Clock]:
    """The clocks at whose ticks a stream has its instants; every token, for what depends on nothing
    slower alone.
    """
    found: dict[int, set[Clock]] = {}
    for node in walk(root):
        here = set().union(*(found[id(a)] for a in node.args))
        if node.op in ("read", "now", "held"):
            here = {program.levels[program.memories[node["memory"]].level].clock}
        elif node.op == "fold" and not isinstance(node["since"], Clock):
            here = {program.levels[node["since"]].clock}
        elif node.op == "grad":
            here = set(found[id(node.args[0])])
        elif (
            node.op in OF_EVERY_TOKEN
            or node.op == "attend"
            and any(span is not None for _, _, span in node["groups"])
        ):
            here = {TOKEN}
        found[id(node)] = here
    here = {c for c in found[id(root)] if c.unit not in ("step", "never")}
    return {TOKEN} if TOKEN in here or not here else here
