"""Arithmetic on arrays and trees with named axes: constants folded, elementwise operators, sums and
products.

rate [head] hidden, k [head, e]  ->  mul(spread(rate), k)          0 * x -> 0      x + 0 -> x      1 * x -> x
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from nldsl.core.nodes import Axis, Node, Shape, Tree
from nldsl.graph.axes import fits
from nldsl.graph.shapes import Shapes
from nldsl.graph.values import Array, shape_text

FOLDS: dict[str, Callable[..., float]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "max": max,
    "min": min,
    "le": lambda a, b: float(a <= b),
    "ge": lambda a, b: float(a >= b),
    "eq": lambda a, b: float(a == b),
    "neg": lambda a: -a,
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "abs": abs,
    "sign": lambda a: float((a > 0) - (a < 0)),
    "tanh": math.tanh,
    "sigmoid": lambda a: 1 / (1 + math.exp(-a)),
    "silu": lambda a: a / (1 + math.exp(-a)),
    "softplus": lambda a: math.log1p(math.exp(a)),
    "cos": math.cos,
    "floor": math.floor,
    "gelu": lambda a: a * (1 + math.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3))) / 2,
    "where": lambda c, a, b: a if c else b,
}


def fold(op: str, *values: float) -> float | None:
    """The value of a constant expression, None where it has none that is a finite real number."""
    try:
        value = FOLDS[op](*values)
    except (ArithmeticError, ValueError):
        return None
    return value if isinstance(value, int | float) and math.isfinite(value) else None


class Arrays(Shapes):
    """Makes the nodes of array expressions."""

    # ---- elementwise

    def numbers(self, *values: Array) -> None:
        """An index says which, not how much: only comparisons take it as a number."""
        for value in values:
            if value.vocab is not None:
                said = value.node["name"] if value.node.op == "input" else "this"
                self.world.fail(
                    "N202",
                    f"a number is needed here, `{said}` is an index: one of {value.vocab.text} "
                    "things",
                    help=f"`embed({said}, [d])` makes an array of it, `{said} == 3` compares it",
                )

    def unary(self, op: str, a: Array) -> Array:
        self.numbers(a)
        value = self.number(a.node)
        if value is not None and a.node.op == "const" and (folded := fold(op, value)) is not None:
            return self.const(folded)
        if op == "neg" and a.node.op == "neg":
            return Array(a.node.args[0], a.hidden)
        return Array(self.node(op, a.node, type=a.node.type), a.hidden)

    def binary(self, op: str, a: Array, b: Array) -> Array:
        if op not in ("le", "ge", "eq"):
            self.numbers(a, b)
        if a.is_tree or b.is_tree:
            return self.simplify(op, a, b) or self.trees(op, a, b)
        hidden = self.union((a.hidden, b.hidden))
        found = self.merge(a.seen, b.seen)
        x, y = (
            v.node if v.node.type == () else self.expand(v, hidden, found.shape, places)
            for v, places in ((a, found.left), (b, found.right))
        )
        if (
            short := self.simplify(
                op, Array(x, hidden if x.type else ()), Array(y, hidden if y.type else ())
            )
        ) is not None:
            return short
        return Array(self.node(op, x, y, type=x.type if x.type else y.type), hidden)

    def simplify(self, op: str, a: Array, b: Array) -> Array | None:
        """Of operands that have one shape, or one is ()."""
        x, y = self.number(a.node), self.number(b.node)
        if x is not None and y is not None and (folded := fold(op, x, y)) is not None:
            return self.filled(folded, a if a.node.type else b)
        fits_a = a.is_tree or a.node.type or not b.node.type  # the result has the shape of a
        fits_b = b.is_tree or b.node.type or not a.node.type
        if fits_a and (
            (op in ("add", "sub") and y == 0) or (op in ("mul", "div", "pow") and y == 1)
        ):
            return a
        if fits_b and ((op == "add" and x == 0) or (op == "mul" and x == 1)):
            return b
        if fits_b and op == "sub" and x == 0:
            return self.unary("neg", b)
        if (op == "mul" and 0 in (x, y)) or (op == "div" and x == 0):
            return self.filled(0.0, a if a.node.type else b)
        return None

    def filled(self, value: float, like: Array) -> Array:
        const = self.const(value)
        if like.is_tree:
            return self.tree(
                [
                    (path, Array(self.spread(const.node, shape, ()), like.hidden))
                    for path, shape in like.node.tree.leaves
                ]
            )
        return Array(self.spread(const.node, like.shape, ()), like.hidden)

    def trees(self, op: str, a: Array, b: Array) -> Array:
        if a.is_tree and b.is_tree:
            if a.node.tree.paths() != b.node.tree.paths():
                self.world.fail(
                    "N203",
                    f"two trees with different weights: {_some(a.tree)} and {_some(b.tree)}",
                )
            if a.node.type == b.node.type and a.hidden == b.hidden:
                return Array(self.node(op, a.node, b.node, type=a.node.type), a.hidden)
            return self.tree(
                [
                    (path, self.binary(op, x, y))
                    for (path, x), (_, y) in zip(self.leaves(a), self.leaves(b), strict=True)
                ]
            )
        tree, array = (a, b) if a.is_tree else (b, a)
        if array.is_scalar and set(array.hidden) <= set(tree.hidden):
            node = array.node if not array.node.type else self.expand(array, tree.hidden, ())
            args = (tree.node, node) if a.is_tree else (node, tree.node)
            return Array(self.node(op, *args, type=tree.node.type), tree.hidden)
        return self.tree(
            [
                (path, self.binary(op, leaf, array) if a.is_tree else self.binary(op, array, leaf))
                for path, leaf in self.leaves(tree)
            ]
        )

    def where(self, c: Array, a: Array, b: Array) -> Array:
        self.numbers(a, b)
        for value in (c, a, b):
            if value.is_tree:
                parts = [self.leaves(v) if v.is_tree else None for v in (c, a, b)]
                paths = value.node.tree.paths()
                if any(p is not None and tuple(path for path, _ in p) != paths for p in parts):
                    self.world.fail("N203", "trees with different weights in `where`")
                picked = [
                    [p[i][1] if p else v for p, v in zip(parts, (c, a, b), strict=True)]
                    for i in range(len(paths))
                ]
                return self.tree(
                    [(path, self.where(*row)) for path, row in zip(paths, picked, strict=True)]
                )
        if (known := self.number(c.node)) is not None and c.node.type == ():
            return a if known else b
        nodes, hidden = self.aligned([c, a, b])
        return Array(self.node("where", *nodes, type=nodes[0].type), hidden)

    # ---- sums and products

    def total(self, op: str, a: Array) -> Array:
        """`sum(a)` or `mean(a)` over all visible axes and leaves."""
        self.numbers(a)
        hidden = tuple(h.axis for h in a.hidden)
        if a.is_tree:
            value = Array(self.node("total", a.node, type=hidden, keep=len(hidden)), a.hidden)
            count = sum(
                math.prod(axis.size for axis in shape[len(hidden) :])
                for _, shape in a.node.tree.leaves
            )
            return value if op == "sum" else self.binary("div", value, self.const(count))
        if not a.seen:
            return a
        dims = tuple(range(len(hidden), len(a.shape)))
        return Array(self.node(op, a.node, type=hidden, dims=dims), a.hidden)

    def along(self, op: str, a: Array, axis: Axis) -> Array:
        """`sum(a, n)`, `mean(a, n)`, `softmax(a, n)`; of a tree, leaf by leaf."""
        if a.is_tree:
            return self.tree([(path, self.along(op, leaf, axis)) for path, leaf in self.leaves(a)])
        places = [i for i, own in enumerate(a.seen) if own == axis]
        if not places:
            self.world.fail("N204", f"{shape_text(a.seen)} has no axis `{axis.name}`")
        dim = len(a.hidden) + places[-1]
        if op == "softmax":
            return Array(self.node(op, a.node, type=a.node.type, dim=dim), a.hidden)
        type_ = tuple(own for i, own in enumerate(a.shape) if i != dim)
        return Array(self.node(op, a.node, type=type_, dims=(dim,)), a.hidden)

    def inner(self, a: Array, b: Array) -> Array:
        return self.total("sum", self.binary("mul", a, b))

    def outer(self, a: Array, b: Array) -> Array:
        """`u * v^T`; a scalar factor of u stays outside."""
        if a.node.op == "mul":
            for factor, vector in (a.node.args, a.node.args[::-1]):
                k = len(a.hidden)
                if (
                    vector.type == a.node.type
                    and factor.op == "spread"
                    and all(d < k for d in factor["dims"])
                ):
                    scale = Array(factor.args[0], tuple(a.hidden[d] for d in factor["dims"]))
                    return self.binary("mul", scale, self.outer(Array(vector, a.hidden), b))
                if vector.type == a.node.type and factor.type == () and a.node.type != ():
                    return self.binary("mul", Array(factor), self.outer(Array(vector, a.hidden), b))
        return self.einsum(
            a,
            b,
            range(len(a.seen)),
            range(len(a.seen), len(a.seen) + len(b.seen)),
            range(len(a.seen) + len(b.seen)),
            (*a.seen, *b.seen),
        )

    def einsum(
        self,
        a: Array,
        b: Array,
        left: Sequence[int],
        right: Sequence[int],
        out: Sequence[int],
        seen: Shape,
    ) -> Array:
        """Visible axis i of a has letter left[i], of b right[i]; the result has the letters `out`
        and the axes `seen`.
        """
        hidden = self.union((a.hidden, b.hidden))
        letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
        code = {h: letters[i] for i, h in enumerate(hidden)}
        own = letters[len(hidden) :]
        eq = "{},{}->{}".format(
            "".join(code[h] for h in a.hidden) + "".join(own[i] for i in left),
            "".join(code[h] for h in b.hidden) + "".join(own[i] for i in right),
            "".join(code[h] for h in hidden) + "".join(own[i] for i in out),
        )
        type_ = tuple(h.axis for h in hidden) + tuple(seen)
        return Array(self.node("einsum", a.node, b.node, type=type_, eq=eq), hidden)

    def matmul(self, a: Array, b: Array) -> Array:
        """`a * b` of two arrays, a with two or more visible axes."""
        last = a.seen[-1]
        meets = next((i for i, axis in enumerate(b.seen) if axis == last), None)
        if meets is None:
            meets = next(
                (i for i, axis in enumerate(b.seen) if axis.size == last.size and fits(axis, last)),
                None,
            )
        if meets is None:
            fitting = [
                path for path, shape in leaves_beside(a.node) if shape[-1:] and shape[-1] in b.seen
            ]
            turned = len(a.seen) > 1 and a.seen[-2] in b.seen
            self.world.fail(
                "N204",
                f"the left side ends in axis `{last.name}`, the right side has "
                f"{shape_text(b.seen)}",
                help=f"this fits the part `{fitting[0]}`"
                if fitting
                else f"the axes of the left side the other way round: `{a.seen[-2].name}`, which "
                "is summed over, stands last"
                if turned
                else "`.*` multiplies entry by entry",
            )
        left, right, out, seen = list(range(len(a.seen))), [], [], []
        batch = {axis: i for i, axis in enumerate(a.seen[:-2])}
        fresh = len(a.seen)
        for i, axis in enumerate(b.seen):
            if i == meets:
                right.append(len(a.seen) - 1)
            elif axis in batch:
                right.append(batch.pop(axis))
            else:
                right.append(fresh)
                fresh += 1
        for letter, axis in [
            *zip(left[:-1], a.seen[:-1], strict=True),
            *((r, axis) for r, axis in zip(right, b.seen, strict=False) if r >= len(a.seen)),
        ]:
            out.append(letter)
            seen.append(axis)
        return self.einsum(a, b, left, right, out, tuple(seen))


def _some(tree: Tree) -> str:
    paths = tree.paths()
    return ", ".join(paths[:4]) + (", .." if len(paths) > 4 else "")


def leaves_beside(node: Node) -> tuple[tuple[str, Shape], ...]:
    """All leaves of the tree that this one is a leaf of."""
    tree = node.args[0].type if node.op == "leaf" else None
    return tree.leaves if isinstance(tree, Tree) else ()
