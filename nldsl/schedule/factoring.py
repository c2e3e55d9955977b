"""Products with one matrix that are added are one product: M x - M y = M (x - y).

An objective |M(k) - M(v)|^2 asks a memory twice, and its gradient needs only the difference. Here
sums are taken apart, and put together with one product for each matrix. A value that something else
takes too is left as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nldsl.core.build import Builder
from nldsl.core.nodes import Node
from nldsl.core.ops import OPS

Term = tuple[bool, Node]  # is it subtracted?
SUMS = ("add", "sub", "neg")


def factored(nodes: Sequence[Node], roots: Sequence[Node]) -> dict[Node, Node]:
    """What stands for each of the nodes, arguments first, where the `roots` are asked for."""
    uses = Counter([*roots, *(a for n in nodes for a in n.args)])
    known, al = set(nodes), Builder(OPS)
    inner = {a for n in nodes if n.op in SUMS for a in n.args if a.op in SUMS and uses[a] == 1}
    made: dict[Node, Node] = {}

    def terms(node: Node) -> list[Term]:
        found: list[Term] = []
        stack = [(False, node)]
        while stack:
            minus, top = stack.pop()
            if top.op in SUMS and (top is node or top in inner and top in known):
                signs = {"add": (False, False), "sub": (False, True), "neg": (True,)}[top.op]
                stack += [(minus != s, a) for s, a in zip(signs[::-1], top.args[::-1])]
            else:
                found.append((minus, top))
        return found

    def together(node: Node) -> Node | None:
        """The sum with one product for each matrix, or None if it has no two of one."""
        products: dict[tuple[str, Node], list[Term]] = {}
        rest: list[Term] = []
        for minus, x in terms(node):
            if x.shape != node.shape:
                return None
            if x.op == "einsum" and x in known and uses[x] == 1:
                products.setdefault((x["eq"], made.get(x.args[0], x.args[0])), []).append(
                    (minus, made.get(x.args[1], x.args[1]))
                )
            else:
                rest.append((minus, made.get(x, x)))
        if all(len(xs) == 1 for xs in products.values()):
            return None
        rest += [(False, al.einsum(eq, m, added(al, xs))) for (eq, m), xs in products.items()]
        return added(al, rest)

    for node in nodes:
        al.span, al.iteration = node.span, node.iteration
        new = together(node) if node.op in SUMS and node not in inner else None
        if new is None:
            args = [made.get(a, a) for a in node.args]
            same = all(a is b for a, b in zip(args, node.args, strict=True))
            new = node if same else al.again(node, args)
        made[node] = new
    return made


def added(al: Builder, terms: Sequence[Term]) -> Node:
    """The sum, one that is not subtracted first."""
    (minus, total), *rest = sorted(terms, key=lambda term: term[0])
    total = al.neg(total) if minus else total
    for minus, x in rest:
        total = al.sub(total, x) if minus else al.add(total, x)
    return total
