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
MOST = 8  # parts of a matrix that is never made


def by_parts(al: Builder, left: Factor, right: Factor, out: str) -> Node | None:
    """The product of a value with such a matrix, or None where the second is none."""
    (own, x), (square, y) = left, right
    met = "".join(set(square[-2:]) & set(own) - set(out))
    other = square[-2:].replace(met, "")
    if len(met) != 1 or len(other) != 1 or other in own or out != own.replace(met, other):
        return None
    parts = parts_of(y)
    if parts is None or x.op == "eye" or not sparse(parts, x):
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


def sparse(parts: list[Part], x: Node) -> bool:
    """Is a product part by part less than the whole? Outer products alone are not taken by each
    other: their number would grow with each product.
    """
    return any(part.op in ("eye", "diag") for *_, part in parts) or (
        len(parts) == 1 and not is_outer(x)
    )


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


def parts_of(matrix: Node) -> list[Part] | None:
    """The parts of such a matrix, or None; of a few at most, for a sum may hold one many times."""
    found: list[Part] = []
    stack: list[Part] = [([], False, matrix)]
    while stack:
        gates, minus, y = stack.pop()
        if y.op in ("add", "sub"):
            a, b = y.args
            stack += [(gates, minus != (y.op == "sub"), b), (gates, minus, a)]
        elif y.op == "neg":
            stack.append((gates, not minus, y.args[0]))
        elif y.op == "mul" and (scaled := gate_of(y)) is not None:
            stack.append(([*gates, scaled[0]], minus, scaled[1]))
        else:
            part = y.args[0] if y.op == "spread" else y
            if part.op != "eye" and y.op != "diag" and not is_outer(y) or len(found) == MOST:
                return None
            found.append((gates, minus, part))
    return found


def gate_of(product: Node) -> tuple[Node, Node] | None:
    """A number for each of the matrices, and the matrices that it weighs."""
    for gate, x in (product.args, product.args[::-1]):
        if is_gate(gate, product) and not is_gate(x, product):
            return gate, x
    return None


def is_gate(x: Node, matrix: Node) -> bool:
    """One number for each of the matrices."""
    return not x.type or x.op == "spread" and all(d < len(matrix.shape) - 2 for d in x["dims"])


def is_outer(y: Node) -> bool:
    """u z^T for each head."""
    if y.op != "einsum":
        return False
    left, out = y["eq"].split("->")
    a, b = ({*out[-2:]} & {*letters} for letters in left.split(","))
    return len(a) == len(b) == 1 and a != b and {*left} - {","} <= {*out}
