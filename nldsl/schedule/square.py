"""Square matrices that are sums of gate * I, gate * u z^T and gate * diag(a): a product with one is
taken part by part, and no such matrix is made.

    M (g I - u z^T)      g M - (M u) z^T
    M diag(a)            M .* a
"""

from __future__ import annotations

from nldsl.core.build import Builder
from nldsl.core.nodes import Node

Factor = tuple[str, Node]  # with the letters of its axes
Part = tuple[list[Node], bool, Node]  # gates, whether it is subtracted, and I, u z^T or diag(a)


def by_parts(al: Builder, left: Factor, right: Factor, out: str) -> Node | None:
    """The product of a value with such a matrix, or None where the second is none."""
    (own, x), (square, y) = left, right
    met = "".join(set(square[-2:]) & set(own) - set(out))
    other = square[-2:].replace(met, "")
    parts = parts_of(y) if len(met) == len(other) == 1 and x.op != "eye" else None
    if parts is None or other in own or out != own.replace(met, other):
        return None
    total = None
    for gates, minus, part in parts:
        piece = times(al, left, (square, part), out, met)
        for gate in gates:
            if gate.type:
                dims = [out.index(square[d]) for d in gate["dims"]]
                gate = al.spread(gate.args[0], piece.type, dims)
            piece = al.mul(gate, piece)
        if total is None:
            total = al.neg(piece) if minus else piece
        else:
            total = al.sub(total, piece) if minus else al.add(total, piece)
    return total


def times(al: Builder, left: Factor, right: Factor, out: str, met: str) -> Node:
    """The product with one part, over the axis in which they meet."""
    (own, x), (square, part) = left, right
    if part.op == "eye":
        return x
    if part.op == "diag":
        dims = [own.index(c) for c in (*square[:-2], met)]
        return al.mul(x, al.spread(part.args[0], x.type, dims))
    (u, a), (z, b) = sorted(factors(part, square), key=lambda of: met not in of[0])
    rest = own.replace(met, "")
    return al.einsum(f"{rest},{z}->{out}", al.einsum(f"{own},{u}->{rest}", x, a), b)


def factors(part: Node, square: str) -> list[Factor]:
    """Those of an outer product, with the letters that the product has here."""
    left, out = part["eq"].split("->")
    here = dict(zip(out, square, strict=True))
    return [("".join(here[c] for c in s), x) for s, x in zip(left.split(","), part.args)]


def parts_of(y: Node) -> list[Part] | None:
    """The parts of such a matrix, or None."""
    if y.op in ("add", "sub"):
        a, b = map(parts_of, y.args)
        if a is None or b is None:
            return None
        return a + [(gates, minus != (y.op == "sub"), part) for gates, minus, part in b]
    if y.op == "neg":
        inner = parts_of(y.args[0])
        return inner and [(gates, not minus, part) for gates, minus, part in inner]
    if y.op == "mul":
        for x, gate in (y.args, y.args[::-1]):
            if is_gate(gate, y) and (inner := parts_of(x)) is not None:
                return [([*gates, gate], minus, part) for gates, minus, part in inner]
        return None
    if y.op == "spread" and y.args[0].op == "eye":
        return [([], False, y.args[0])]
    return [([], False, y)] if y.op in ("eye", "diag") or is_outer(y) else None


def is_gate(x: Node, matrix: Node) -> bool:
    """One number for each of the matrices."""
    return not x.type or x.op == "spread" and all(d < len(matrix.shape) - 2 for d in x["dims"])


def is_outer(y: Node) -> bool:
    """u z^T for each head."""
    if y.op != "einsum":
        return False
    left, out = y["eq"].split("->")
    return sorted(len(set(out[-2:]) & set(s)) for s in left.split(",")) == [1, 1] and (
        set(left) - {","} <= set(out) and out[-2] != out[-1]
    )
