"""Arithmetic on arrays and trees with named axes: elementwise operators, sums and products.

rate [head] hidden, k [head, e]  ->  mul(spread(rate), k)
0 * x -> 0      x + 0 -> x      1 * x -> x
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nldsl.core.build import number
from nldsl.core.nodes import Axis, Node, Shape, Tree
from nldsl.core.ops import OPS
from nldsl.graph.axes import fits
from nldsl.graph.shapes import Shapes
from nldsl.graph.values import Array, shape_text


class Arrays:
    """Makes the nodes of array expressions."""

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        self.elaborator, self.node = shapes.elaborator, shapes.node

    # ---- elementwise

    def numbers(self, *values: Array) -> None:
        """An index says which, not how much: only comparisons take it as a number."""
        for value in values:
            if value.vocab is not None:
                said = value.node["name"] if value.node.op == "input" else "this"
                self.elaborator.fail(
                    "N202",
                    f"a number is needed here, `{said}` is an index: one of {value.vocab.text} "
                    "things",
                    help=f"`embed({said}, [d])` makes an array of it, `{said} == 3` compares it",
                )

    def apply(self, op: str, *args: Node) -> Node:
        """An elementwise operator, simplified; a tree of one number has it in each leaf."""
        node = self.elaborator.build.apply(op, *args)
        if node.op != "spread" or not isinstance(node.type, Tree):
            return node
        leaves = [
            self.shapes.spread(node.args[0], shape, node["dims"]) for _, shape in node.type.leaves
        ]
        return self.node("tree", *leaves, type=node.type)

    def unary(self, op: str, a: Array) -> Array:
        self.numbers(a)
        return Array(self.apply(op, a.node), a.hidden)

    def several(self, op: str, *arrays: Array) -> Array:
        """An operator of several arrays, or trees with the same weights."""
        self.numbers(*arrays)
        if any(a.is_tree for a in arrays):
            return self.leaf_by_leaf(op, arrays)
        nodes, hidden = self.shapes.aligned(arrays)
        return Array(self.apply(op, *nodes), hidden)

    def binary(self, op: str, a: Array, b: Array) -> Array:
        """An operator of two arrays whose visible axes meet by name, or of trees leaf by leaf."""
        if not OPS[op].test:
            self.numbers(a, b)
        if a.is_tree or b.is_tree:
            return self.trees(op, a, b)
        hidden = self.shapes.union((a.hidden, b.hidden))
        found = self.shapes.merge(a.seen, b.seen)
        x, y = (
            v.node if v.node.type == () else self.shapes.expand(v, hidden, found.shape, places)
            for v, places in ((a, found.left), (b, found.right))
        )
        return Array(self.apply(op, x, y), hidden)

    def trees(self, op: str, a: Array, b: Array) -> Array:
        """An operator of a tree and a tree of the same weights, or of a tree and an array."""
        if a.is_tree and b.is_tree:
            if a.node.tree.paths() != b.node.tree.paths():
                self.elaborator.fail(
                    "N203",
                    f"two trees with different weights: {_some(a.tree)} and {_some(b.tree)}",
                    help="trees with the weights of one def; `M.W` is one array of a tree",
                )
            if a.node.type == b.node.type and a.hidden == b.hidden:
                return Array(self.apply(op, a.node, b.node), a.hidden)
            return self.shapes.tree(
                [
                    (path, self.binary(op, x, y))
                    for (path, x), (_, y) in zip(
                        self.shapes.leaves(a), self.shapes.leaves(b), strict=True
                    )
                ]
            )
        tree, array = (a, b) if a.is_tree else (b, a)
        if array.is_scalar and set(array.hidden) <= set(tree.hidden):
            node = array.node if not array.node.type else self.shapes.expand(array, tree.hidden, ())
            args = (tree.node, node) if a.is_tree else (node, tree.node)
            return Array(self.apply(op, *args), tree.hidden)
        return self.shapes.tree(
            [
                (path, self.binary(op, leaf, array) if a.is_tree else self.binary(op, array, leaf))
                for path, leaf in self.shapes.leaves(tree)
            ]
        )

    def where(self, c: Array, a: Array, b: Array) -> Array:
        """`where(c, a, b)` entry by entry; a condition that is known chooses one branch."""
        self.numbers(a, b)
        if any(value.is_tree for value in (c, a, b)):
            return self.leaf_by_leaf("where", (c, a, b))
        if (value := number(c.node)) is not None and c.node.type == ():
            return a if value else b
        nodes, hidden = self.shapes.aligned([c, a, b])
        return Array(self.node("where", *nodes, type=nodes[0].type), hidden)

    def leaf_by_leaf(self, op: str, values: Sequence[Array]) -> Array:
        """An array beside a tree meets every leaf."""
        parts = [dict(self.shapes.leaves(v)) if v.is_tree else None for v in values]
        paths = next(tuple(part) for part in parts if part is not None)
        if any(part is not None and tuple(part) != paths for part in parts):
            self.elaborator.fail(
                "N203",
                f"trees with different weights in `{op}`",
                help="trees with the weights of one def; `M.W` is one array of a tree",
            )
        rows = [
            [part[path] if part is not None else v for part, v in zip(parts, values, strict=True)]
            for path in paths
        ]
        return self.shapes.tree(
            [
                (path, self.where(*row) if op == "where" else self.several(op, *row))
                for path, row in zip(paths, rows, strict=True)
            ]
        )

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
            return value if op == "sum" else self.binary("div", value, self.shapes.const(count))
        if not a.seen:
            return a
        dims = tuple(range(len(hidden), len(a.shape)))
        return Array(self.node(op, a.node, type=hidden, dims=dims), a.hidden)

    def along(self, op: str, a: Array, axis: Axis) -> Array:
        """`sum(a, n)`, `mean(a, n)`, `softmax(a, n)`; of a tree, leaf by leaf."""
        if a.is_tree:
            return self.shapes.tree(
                [(path, self.along(op, leaf, axis)) for path, leaf in self.shapes.leaves(a)]
            )
        places = [i for i, own in enumerate(a.seen) if own == axis]
        if not places:
            axes = " or ".join(f"`{op}(x, {own.name})`" for own in a.seen)
            self.elaborator.fail(
                "N204",
                f"{shape_text(a.seen)} has no axis `{axis.name}`",
                help=f"an axis is told by its name: {axes}" if axes else "a number has no axes",
            )
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
        hidden = self.shapes.union((a.hidden, b.hidden))
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
            self.elaborator.fail(
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
        return self.contracted(a, b, meets)

    def contracted(self, a: Array, b: Array, meets: int) -> Array:
        """The last axis of a meets axis `meets` of b; axes of both in front are mapped over."""
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
