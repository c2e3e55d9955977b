"""Products in one form, however a text writes them: letters say which axes meet.

permute(M)(i, j), k(i)      einsum("ji,i->j", M, k)     a transpose is an order of letters
sum(M .* spread(k))         einsum("ij,j->i", M, k)     entries that are multiplied and summed
spread(v) .* spread(k)      einsum("i,j->ij", v, k)     an outer product
(2 M) k                     2 (M k)                     where no more entries are scaled
"""

from __future__ import annotations

from nldsl.core.build import Builder, number
from nldsl.core.nodes import Node, Tree
from nldsl.schedule.square import by_parts

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
Factor = tuple[str, Node]  # with the letters of its axes


def product(al: Builder, node: Node) -> Node | None:
    """The one form of a product, None of what is in it."""
    found = FORMS[node.op](al, node) if node.op in FORMS else None
    return None if found is node else found


def _mul(al: Builder, node: Node) -> Node | None:
    if isinstance(node.type, Tree):
        return None
    (a, x), (b, y) = map(factor, node.args)
    whole = LETTERS[: len(node.shape)]
    if set(a) <= set(b) or set(b) <= set(a) or set(a + b) != set(whole):
        return None
    return al.einsum(f"{a},{b}->{whole}", x, y)


def _sum(al: Builder, node: Node) -> Node | None:
    (x,) = node.args
    if x.op != "mul":
        return None
    (a, p), (b, q) = map(factor, x.args)
    summed = {LETTERS[d] for d in node["dims"]}
    out = "".join(c for c in LETTERS[: len(x.shape)] if c not in summed)
    apart = set(a) - summed != set(b) - summed
    if not apart or not summed <= set(a) & set(b) or not set(out) <= set(a + b):
        return None
    return al.einsum(f"{a},{b}->{out}", p, q)


def _permute(al: Builder, node: Node) -> Node | None:
    (x,), dims = node.args, node["dims"]
    if x.op == "permute":
        return al.permute(x.args[0], [x["dims"][d] for d in dims])
    if x.op != "einsum":
        return None
    left, out = x["eq"].split("->")
    return al.einsum(f"{left}->{''.join(out[d] for d in dims)}", *x.args)


def _einsum(al: Builder, node: Node) -> Node | None:
    letters, out = node["eq"].split("->")
    (p, a), (q, b) = map(turned, letters.split(","), node.args)
    if p and q and p[:-1] == q[:-1] and out == q + p[-1]:  # u z^T, in the order of its axes
        p, a, q, b = q, b, p, a
    for left, right in (((p, a), (q, b)), ((q, b), (p, a))):
        if (found := by_parts(al, left, right, out)) is not None:
            return found
    (m, x), (n, y) = scaled(a), scaled(b)
    matrices = set(p) - set(q) and set(q) - set(p) and not set(p + q) <= set(out)
    if m * n != 1 and matrices:
        return al.mul(al.const(m * n), al.einsum(f"{p},{q}->{out}", x, y))
    eq = renamed(f"{p},{q}->{out}")
    return None if eq == node["eq"] and (a, b) == node.args else al.einsum(eq, a, b)


FORMS = {"mul": _mul, "sum": _sum, "permute": _permute, "einsum": _einsum}


def renamed(eq: str) -> str:
    """The letters in the order in which they are met."""
    met = dict.fromkeys(c for c in eq if c.isalpha())
    return eq.translate({ord(c): new for c, new in zip(met, LETTERS)})


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
