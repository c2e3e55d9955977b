"""Reverse-mode derivatives of array equations, as equations.

    gradient(sum(|W k - v|^2), [W])  ->  2 (W k - v) k^T      kept as the outer product that it is

Inner objectives are differentiated here and nowhere else, so the emitted step has no nested
autograd: a slower learner that differentiates through an inner gradient meets plain tensor
operations. The transpose of each operator stands in its row (core/ops.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from nldsl.core.build import Builder
from nldsl.core.nodes import Node, walk
from nldsl.core.ops import OPS
from nldsl.schedule.faults import NoDerivative


def sum_of(build: Builder, a: Node, b: Node) -> Node:
    """Two cotangents of one value; those of leaves stay apart, so that no zeros are added."""
    if a.op == b.op == "tree":
        parts = (build.add(x, y) for x, y in zip(a.args, b.args, strict=True))
        return build.make("tree", *parts, type=a.type)
    return build.add(a, b)


def gradient(
    build: Builder, objective: Node, wrt: Sequence[Node], constant: Collection[Node] = frozenset()
) -> list[Node]:
    """d sum(objective) / d wrt, a node of the shape of each.

    Nodes in `constant` stop the derivative. Raises NoDerivative at an operator that has none.
    """
    nodes = list(walk(objective))
    moving: set[Node] = set(wrt)
    for node in nodes:
        if node not in constant and any(a in moving for a in node.args):
            moving.add(node)
    bars: dict[Node, Node] = {objective: build.const(1, objective.type)}
    for node in reversed(nodes):
        bar = bars.get(node)
        if bar is None or node not in moving or node in wrt:
            continue
        rule = OPS[node.op].vjp
        if rule is None:
            raise NoDerivative(node)
        for arg, part in zip(node.args, rule(build, node, bar), strict=True):
            if part is not None and arg in moving:
                bars[arg] = sum_of(build, bars[arg], part) if arg in bars else part
    return [bars.get(w, build.const(0, w.type)) for w in wrt]
