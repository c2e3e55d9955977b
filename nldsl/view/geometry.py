"""THE OUTERMOST FUNCTION OF AN UPDATE -> ITS CONSTRAINT: f of `M <- f(a M - b g)`, by its form.

softmax(z)                          each row sums to 1: KL (2504.13173v1, Eqs. 19-21)
sigmoid(z)                          entries in (0, 1): binary entropy
sign(z) max(|z| - gamma, 0)         soft threshold: elastic net (Eq. 22)
z / |z|, and scaled back            fixed norms (2505.23884, Eqs. 8, 9)
z / |z|_q^(q - 2)                   a power of its own norm: Lq (2504.13173v1, Eq. 24)
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from nldsl.core.build import number
from nldsl.core.nodes import Node, walk
from nldsl.view.express import SILENT

TINY = 1e-3  # a constant this small beside a norm only keeps it from zero


def curved(node: Node) -> tuple[Node, str] | None:
    """The argument of f, and the constraint that f keeps."""
    node = stripped(node)
    if node.op == "softmax":
        return node.args[0], f"KL: sums to 1 along `{node.shape[node['dim']].name}`"
    if node.op == "sigmoid":
        return node.args[0], "binary entropy: entries in (0, 1)"
    if (
        node.op == "mul"
        and (inside := threshold(*node.args) or threshold(*node.args[::-1])) is not None
    ):
        return inside, "soft threshold: L1 beside L2"
    if node.op in ("mul", "div"):
        for value, scale in (node.args, node.args[::-1])[: 2 if node.op == "mul" else 1]:
            power = degree(scale, value)
            if power:
                power = power if node.op == "mul" else -power
                axes = ", ".join(f"`{name}`" for name in dict.fromkeys(summed(scale, value)))
                if power == -1:
                    return value, f"fixed norms along {axes}"
                return value, f"its own norm to the power {power} along {axes}"
    return None


def stripped(node: Node) -> Node:
    while node.op in SILENT:
        node = node.args[0]
    return node


def threshold(sign: Node, size: Node) -> Node | None:
    """sign(z) * max(|z| - gamma, 0)  ->  z"""
    if (
        sign.op != "sign"
        or size.op != "max"
        or size.args[0].op != "sub"
        or size.args[0].args[0].op != "abs"
    ):
        return None
    return sign.args[0] if size.args[0].args[0].args[0] is sign.args[0] else None


def degree(node: Node, of: Node) -> Fraction | None:
    """The power by which the node grows when `of` is scaled by a positive number; None where it
    grows by no power.
    """
    found: dict[Node, Fraction | None] = {}
    for part in walk(node):
        found[part] = (
            Fraction(1) if part is of else _degree(part, [found[arg] for arg in part.args])
        )
    return found[node]


def _degree(node: Node, powers: list[Fraction | None]) -> Fraction | None:
    if all(d == 0 for d in powers):
        return Fraction(0)
    below = [d for d in powers if d is not None]
    if len(below) < len(powers):
        return None
    if node.op in ("mul", "einsum"):
        return below[0] + below[1]
    if node.op == "div":
        return below[0] - below[1]
    if node.op == "pow" and below[1] == 0 and (power := number(node.args[1])) is not None:
        return below[0] * Fraction(power).limit_denominator(1000)
    if node.op == "sqrt":
        return below[0] / 2
    if node.op in ("add", "sub", "max"):
        kept = [
            d
            for d, arg in zip(below, node.args, strict=True)
            if (value := number(arg)) is None or abs(value) > TINY
        ]
        return kept[0] if len(set(kept)) == 1 else None
    if node.op in (*SILENT, "neg", "abs", "sum", "mean", "amax", "total", "leaf", "stop"):
        return below[0]
    return None


def summed(scale: Node, value: Node) -> Iterator[str]:
    """The axes along which a scale measures the value."""
    for part in walk(scale):
        if part.op in ("sum", "mean", "amax") and degree(part, value):
            yield from (part.args[0].shape[dim].name for dim in part["dims"])
