"""What a held matrix answers, of which only a weighed sum is taken: the matrix is weighed, once for
all tokens of a piece, and not each answer.

    w . (M h)      (M^T w) . h

w is a value without a time, M a copy that stands still, h a vector of each token: a product with a
vector is left of one with a matrix. An answer that something else takes too is left as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from nldsl.core.nodes import Node
from nldsl.schedule.factoring import Anew, Term, added, parts_of_sums, terms
from nldsl.schedule.products import LETTERS, Factor, factor


class Sum(NamedTuple):
    """sum of weight times value, over the letters that are not in `out`."""

    weight: Factor
    value: Factor
    out: str


def weighed(
    nodes: Sequence[Node], roots: Sequence[Node], fixed: Collection[Node], copies: Collection[str]
) -> dict[Node, Node]:
    """What stands for each of the nodes, arguments first, where the `roots` are asked for; `fixed`
    are values without a time, `copies` the names of those that stand still.
    """
    uses = Counter([*roots, *(a for n in nodes for a in n.args)])
    return Weighing(nodes, uses, fixed, copies).whole()


class Weighing(Anew):
    """`uses` counts who takes a node."""

    def __init__(
        self,
        nodes: Sequence[Node],
        uses: Mapping[Node, int],
        fixed: Collection[Node],
        copies: Collection[str],
    ) -> None:
        super().__init__(nodes)
        self.uses, self.fixed, self.copies = uses, fixed, copies
        self.inner = {a for a in parts_of_sums(nodes) if uses[a] == 1}

    def other(self, node: Node) -> Node | None:
        """A weighed sum of answers and of what is left, each weighed; None if it has no answer."""
        whole = self.weighed_sum(node)
        if whole is None:
            return None
        answers, rest = list[Term](), list[Term]()
        for minus, x in terms(whole.value[1], self.inner):
            if x.shape != whole.value[1].shape:
                return None
            found = self.answer(whole, x)
            (rest if found is None else answers).append((minus, found or self.now(x)))
        if not answers:
            return None
        if rest:
            value = whole.value[0], added(self.al, rest)
            answers.insert(0, (False, self.total(whole.weight, value, whole.out)))
        return added(self.al, answers)

    def weighed_sum(self, node: Node) -> Sum | None:
        """A node as the sum of a value of each token, weighed with what has no time."""
        if node.op == "sum" and node.args[0].op == "mul" and self.uses[node.args[0]] == 1:
            x = node.args[0]
            pair = [factor(a) for a in x.args]
            axes = range(len(x.shape))
            out = "".join(LETTERS[d] for d in axes if d not in node["dims"])
        elif node.op == "einsum":
            left, out = node["eq"].split("->")
            pair = [*zip(left.split(","), node.args, strict=True)]
        else:
            return None
        for weight, value in (pair, pair[::-1]):
            if weight[1] in self.fixed and self.uses[value[1]] == 1:
                return Sum(weight, value, out)
        return None

    def answer(self, whole: Sum, x: Node) -> Node | None:
        """The weighed sum of what a held matrix answers."""
        if x.op != "einsum" or self.uses[x] != 1:
            return None
        left, out = x["eq"].split("->")
        renamed = self.renamed(left, out, whole)
        pair = [*zip(renamed.split(","), x.args, strict=True)]
        w, weight = whole.weight
        summed = set(w) - set(whole.out)
        for (m, matrix), (h, vector) in (pair, pair[::-1]):
            held = matrix.op == "read" and matrix["memory"] in self.copies
            if held and summed and summed <= set(m) - set(h) and set(w) <= set(m):
                kept = "".join(c for c in dict.fromkeys(h + m) if c in m and c not in summed)
                head = self.al.einsum(f"{w},{m}->{kept}", self.now(weight), self.now(matrix))
                return self.total((kept, head), (h, self.now(vector)), whole.out)
        return None

    def renamed(self, letters: str, out: str, whole: Sum) -> str:
        """Letters of a product, those of its result as the sum has them, the others new."""
        taken = set(whole.weight[0] + whole.value[0])
        free = (c for c in LETTERS if c not in taken)
        names = dict(zip(out, whole.value[0], strict=True))
        names |= {c: next(free) for c in dict.fromkeys(letters) if c.isalpha() and c not in names}
        return "".join(names.get(c, c) for c in letters)

    def total(self, weight: Factor, value: Factor, out: str) -> Node:
        """A weighed sum, entry by entry where both have the same axes."""
        (w, a), (v, b) = weight, value
        if w == v and out == "".join(c for c in v if c in out):
            return self.al.sum(self.al.mul(a, b), [v.index(c) for c in v if c not in out])
        return self.al.einsum(f"{w},{v}->{out}", a, b)
