"""Products in one form, however a text writes them: letters say which axes meet.

permute(M)(i, j), k(i)      einsum("ji,i->j", M, k)     a transpose is an order of letters
sum(M .* spread(k))         einsum("ij,j->i", M, k)     entries that are multiplied and summed
spread(v) .* spread(k)      einsum("i,j->ij", v, k)     an outer product
(2 M) k                     2 (M k)                     where no more entries are scaled
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nldsl.core.build import Builder, number
from nldsl.core.nodes import Node, Tree
from nldsl.schedule.square import by_parts

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
Factor = tuple[str, Node]  # with the letters of its axes


class Products(Builder):
    """Makes nodes, products among them in one form."""

    def apply(self, op: str, *args: Node) -> Node:
        made = super().apply(op, *args)
        if made.op != "mul" or isinstance(made.type, Tree):
            return made
        (a, x), (b, y) = map(factor, made.args)
        whole = LETTERS[: len(made.shape)]
        if set(a) <= set(b) or set(b) <= set(a) or set(a + b) != set(whole):
            return made
        return self.einsum(f"{a},{b}->{whole}", x, y)

    def sum(self, x: Node, dims: Iterable[int]) -> Node:
        dims = tuple(dims)
        if x.op == "mul":
            (a, p), (b, q) = map(factor, x.args)
            summed = {LETTERS[d] for d in dims}
            out = "".join(c for c in LETTERS[: len(x.shape)] if c not in summed)
            apart = set(a) - summed != set(b) - summed
            if apart and summed <= set(a) & set(b) and set(out) <= set(a + b):
                return self.einsum(f"{a},{b}->{out}", p, q)
        return super().sum(x, dims)

    def permute(self, x: Node, dims: Sequence[int]) -> Node:
        if x.op == "permute":
            return self.permute(x.args[0], [x["dims"][d] for d in dims])
        if x.op == "einsum":
            left, out = x["eq"].split("->")
            return self.einsum(f"{left}->{''.join(out[d] for d in dims)}", *x.args)
        return super().permute(x, dims)

    def einsum(self, eq: str, a: Node, b: Node) -> Node:
        left, out = eq.split("->")
        (p, a), (q, b) = map(turned, left.split(","), (a, b))
        if p[:-1] == q[:-1] and out == q + p[-1:]:  # u z^T, in the order of its axes
            p, a, q, b = q, b, p, a
        for x, y in (((p, a), (q, b)), ((q, b), (p, a))):
            if (found := by_parts(self, x, y, out)) is not None:
                return found
        (m, x), (n, y) = scaled(a), scaled(b)
        matrices = set(p) - set(q) and set(q) - set(p) and not set(p + q) <= set(out)
        if m * n == 1 or not matrices:
            return super().einsum(f"{p},{q}->{out}", a, b)
        return self.mul(self.const(m * n), super().einsum(f"{p},{q}->{out}", x, y))


def factor(x: Node) -> Factor:
    """Of what is broadcast, what it is made of, with its letters in the product."""
    if x.op == "spread" and x.args[0].op not in ("const", "eye"):
        return "".join(LETTERS[d] for d in x["dims"]), x.args[0]
    return LETTERS[: len(x.shape)], x


def turned(letters: str, x: Node) -> Factor:
    """What was permuted, with the letters of its own axes."""
    while x.op == "permute":
        places = {d: c for c, d in zip(letters, x["dims"], strict=True)}
        letters, x = "".join(places[d] for d in range(len(letters))), x.args[0]
    return letters, x


def scaled(x: Node) -> tuple[float, Node]:
    """A number, and what it multiplies."""
    if x.op == "mul":
        for p, q in (x.args, x.args[::-1]):
            if (value := number(p)) is not None and q.type == x.type:
                return value, q
    return 1.0, x
