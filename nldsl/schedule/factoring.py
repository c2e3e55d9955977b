"""Products with one matrix that are added are one product: M x - M y = M (x - y).

An objective |M(k) - M(v)|^2 asks a memory twice, and its gradient needs only the difference. Here
sums are taken apart, and put together with one product for each matrix. A value that something else
takes too is left as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from nldsl.core.build import Builder
from nldsl.core.nodes import Node
from nldsl.core.ops import OPS

Term = tuple[bool, Node]  # is it subtracted?
SUMS = {"add": (False, False), "sub": (False, True), "neg": (True,)}  # which are subtracted


def factored(nodes: Sequence[Node], roots: Sequence[Node]) -> dict[Node, Node]:
    """What stands for each of the nodes, arguments first, where the `roots` are asked for."""
    return Factoring(nodes, Counter([*roots, *(a for n in nodes for a in n.args)])).whole()


class Anew(ABC):
    """Nodes made anew, arguments first: in another way, or as they were of what they take now."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes, self.al = nodes, Builder(OPS)
        self.made: dict[Node, Node] = {}

    @abstractmethod
    def other(self, node: Node) -> Node | None:
        """A node in another way, if there is one."""

    def whole(self) -> dict[Node, Node]:
        for node in self.nodes:
            self.al.span, self.al.iteration = node.span, node.iteration
            self.made[node] = self.other(node) or self.again(node)
        return self.made

    def now(self, node: Node) -> Node:
        return self.made.get(node, node)

    def again(self, node: Node) -> Node:
        args = [self.now(a) for a in node.args]
        same = all(a is b for a, b in zip(args, node.args, strict=True))
        return node if same else self.al.again(node, args)


class Factoring(Anew):
    """Sums with one product for each matrix. `uses` counts who takes a node."""

    def __init__(self, nodes: Sequence[Node], uses: Mapping[Node, int]) -> None:
        super().__init__(nodes)
        self.uses, self.known = uses, set(nodes)
        self.inner = {a for a in parts_of_sums(nodes) if uses[a] == 1 and a in self.known}

    def other(self, node: Node) -> Node | None:
        return self.together(node) if node.op in SUMS and node not in self.inner else None

    def together(self, node: Node) -> Node | None:
        """The sum with one product for each matrix, or None if it has no two of one."""
        products: dict[tuple[str, Node], list[Term]] = {}
        rest: list[Term] = []
        for minus, x in terms(node, self.inner):
            if x.shape != node.shape:
                return None
            if x.op == "einsum" and x in self.known and self.uses[x] == 1:
                matrix, vector = map(self.now, x.args)
                products.setdefault((x["eq"], matrix), []).append((minus, vector))
            else:
                rest.append((minus, self.now(x)))
        if all(len(vectors) == 1 for vectors in products.values()):
            return None
        rest += [
            (False, self.al.einsum(eq, matrix, added(self.al, vectors)))
            for (eq, matrix), vectors in products.items()
        ]
        return added(self.al, rest)


def parts_of_sums(nodes: Sequence[Node]) -> Iterator[Node]:
    """The sums that other sums take."""
    return (a for n in nodes if n.op in SUMS for a in n.args if a.op in SUMS)


def terms(node: Node, inner: Collection[Node]) -> Iterator[Term]:
    """What a value adds and subtracts, sums among `inner` taken apart."""
    stack = [(False, node)]
    while stack:
        minus, top = stack.pop()
        if top.op in SUMS and (top is node or top in inner):
            signs = SUMS[top.op]
            stack += [(minus != s, a) for s, a in zip(signs[::-1], top.args[::-1])]
        else:
            yield minus, top


def added(al: Builder, terms: Sequence[Term]) -> Node:
    """The sum, one that is not subtracted first."""
    (minus, total), *rest = sorted(terms, key=lambda term: term[0])
    total = al.neg(total) if minus else total
    for minus, x in rest:
        total = al.sub(total, x) if minus else al.add(total, x)
    return total
