"""Axes of arrays: hidden and visible ones, spreading, permuting, trees and their leaves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nldsl.core.nodes import Node, Shape, Tree
from nldsl.diagnostic import Advice
from nldsl.graph.axes import Match, match, sizes
from nldsl.graph.elaborator import Elaborator, did_you_mean
from nldsl.graph.values import Array, Hidden, shape_text


class Shapes:
    """Makes the nodes that move, add and drop axes."""

    def __init__(self, elaborator: Elaborator) -> None:
        self.elaborator = elaborator
        self.node = elaborator.node

    # ---- constants

    def const(self, value: float) -> Array:
        return Array(self.node("const", type=(), value=float(value)))

    # ---- shape

    def tree(self, leaves: Sequence[tuple[str, Array]]) -> Array:
        """The tree of these leaves; hidden axes that one has, all have."""
        hidden = self.union(array.hidden for _, array in leaves)
        full = [(path, self.expand(array, hidden, array.seen)) for path, array in leaves]
        type_ = Tree(tuple((path, node.shape) for path, node in full))
        if full and all(
            n.op == "leaf" and n["path"] == p and n.args[0] is full[0][1].args[0] for p, n in full
        ):
            if full[0][1].args[0].type == type_:
                return Array(full[0][1].args[0], hidden)
        return Array(self.node("tree", *(node for _, node in full), type=type_), hidden)

    def leaf(self, array: Array, path: str) -> Array:
        """One leaf of a tree."""
        node = array.node
        assert isinstance(node.type, Tree)
        if node.op == "tree":
            return Array(node.args[node.tree.paths().index(path)], array.hidden)
        return Array(self.node("leaf", node, type=node.type.shape(path), path=path), array.hidden)

    def leaves(self, array: Array) -> list[tuple[str, Array]]:
        """The leaves of a tree by path."""
        node = array.node
        assert isinstance(node.type, Tree)
        if node.op == "tree":
            return [
                (path, Array(arg, array.hidden))
                for path, arg in zip(node.tree.paths(), node.args, strict=True)
            ]
        return [
            (path, Array(self.node("leaf", node, type=shape, path=path), array.hidden))
            for path, shape in node.type.leaves
        ]

    def field(self, array: Array, name: str, instead: Advice | None = None) -> Array:
        """`M.W2`, or the part `M.gate` of a deeper tree; `instead` is the help where the part is a
        word of another language.
        """
        if not array.is_tree:
            self.elaborator.fail(
                "N203",
                f"an array has no part `{name}`",
                **instead or {"help": "only the weights of a definition have parts"},
            )
        paths = array.node.tree.paths()
        if name in paths:
            return self.leaf(array, name)
        part = [path for path in paths if path.startswith(name + ".")]
        if not part:
            self.elaborator.fail(
                "N101",
                f"there is no weight `{name}` here: {', '.join(paths)}",
                help=did_you_mean(name, paths),
            )
        return self.tree([(path[len(name) + 1 :], self.leaf(array, path)) for path in part])

    def union(self, hiddens: Iterable[tuple[Hidden, ...]]) -> tuple[Hidden, ...]:
        found = {h.order: h for hidden in hiddens for h in hidden}
        return tuple(found[order] for order in sorted(found))

    def permute(self, node: Node, dims: Sequence[int]) -> Node:
        """Axis i of the result is axis dims[i]; two permutations are one."""
        if list(dims) == list(range(len(dims))):
            return node
        if node.op == "permute":
            return self.permute(node.args[0], [node["dims"][d] for d in dims])
        return self.node("permute", node, type=tuple(node.shape[d] for d in dims), dims=tuple(dims))

    def spread(self, node: Node, to: Shape, dims: Sequence[int]) -> Node:
        """`node` with axis i at dims[i] of shape `to`."""
        order = sorted(range(len(dims)), key=lambda i: dims[i])
        node, dims = self.permute(node, order), sorted(dims)
        if node.type != (own := tuple(to[d] for d in dims)):  # an axis without a name takes one
            node = self.node("reshape", node, type=own)
        if len(to) == len(dims):
            return node
        if node.op == "spread":
            return self.spread(node.args[0], to, [dims[d] for d in node["dims"]])
        return self.node("spread", node, type=to, dims=tuple(dims))

    def expand(
        self,
        array: Array,
        hidden: tuple[Hidden, ...],
        seen: Shape,
        places: Sequence[int] | None = None,
    ) -> Node:
        """The node with exactly these axes; visible axis i is places[i] of `seen`."""
        to = tuple(h.axis for h in hidden) + tuple(seen)
        places = range(len(array.seen)) if places is None else places
        dims = [hidden.index(h) for h in array.hidden] + [len(hidden) + p for p in places]
        return self.spread(array.node, to, dims)

    def expose(self, array: Array, which: Sequence[Hidden]) -> Array:
        """Hidden axes become visible, in front of the others."""
        which = [h for h in array.hidden if h in which]
        if not which:
            return array
        kept = tuple(h for h in array.hidden if h not in which)
        if array.is_tree and array.hidden != (*kept, *which):
            return self.tree(
                [(path, self.expose(leaf, which)) for path, leaf in self.leaves(array)]
            )
        if array.is_tree:
            return Array(array.node, kept)
        order = [array.hidden.index(h) for h in (*kept, *which)]
        return Array(
            self.permute(array.node, [*order, *range(len(order), len(array.shape))]),
            kept,
            array.vocab,
        )

    def absorb(self, array: Array, hidden: Hidden, at: int | None = None) -> Array:
        """The visible axis of that name (or at that place) becomes hidden; without one, nothing
        changes.
        """
        if array.is_tree:
            leaves = self.leaves(array)
            if any(hidden.axis in leaf.seen for _, leaf in leaves):
                if all(leaf.seen[:1] == (hidden.axis,) for _, leaf in leaves):
                    return Array(array.node, (*array.hidden, hidden))
                return self.tree([(path, self.absorb(leaf, hidden)) for path, leaf in leaves])
            return array
        if at is None:
            if hidden.axis not in array.seen:
                return array
            at = array.seen.index(hidden.axis)
        k = len(array.hidden)
        dims = [*range(k), k + at, *(i for i in range(k, len(array.shape)) if i != k + at)]
        return Array(self.permute(array.node, dims), (*array.hidden, hidden), array.vocab)

    def merge(self, a: Shape, b: Shape) -> Match:
        """The axes of two shapes together. Fails with N201 for axes of one size and two names, or
        one name and two sizes.
        """
        found = match(a, b)
        if found.clash:
            left, right = found.clash
            if left.name == right.name:
                self.elaborator.fail(
                    "N201",
                    f"axis `{left.name}` has two sizes here, {left.size} and {right.size}",
                    help="two names for two sizes",
                )
            self.elaborator.fail(
                "N201",
                f"{shape_text(a)} and {shape_text(b)} do not mix: `{left.name}` and `{right.name}` "
                "have one size, "
                "but they are different axes",
                help="give the axis one name in both places",
            )
        return found

    def aligned(self, arrays: Sequence[Array]) -> tuple[list[Node], tuple[Hidden, ...]]:
        """All with the same axes."""
        hidden = self.union(array.hidden for array in arrays)
        shape: Shape = ()
        for array in arrays:
            shape = self.merge(shape, array.seen).shape
        return [
            self.expand(array, hidden, shape, self.merge(shape, array.seen).right)
            for array in arrays
        ], hidden

    def conform(self, array: Array, hidden: tuple[Hidden, ...], seen: Shape, what: str) -> Node:
        """The node with exactly these axes; a scalar fills them."""
        found = match(seen, array.seen)
        if (
            found.clash
            or sizes(found.shape) != sizes(seen)
            or (array.seen and len(array.seen) != len(seen))
        ):
            self.elaborator.fail(
                "N204",
                f"{what} has the axes {shape_text(seen)}, the value {shape_text(array.seen)}",
                help="`sum(x, a)` takes the axis `a` away, `linear(x, [a])` makes it",
            )
        if extra := [h.axis.name for h in array.hidden if h not in hidden]:
            self.elaborator.fail(
                "N204",
                f"the value has one entry for each `{extra[0]}`, {what} has not",
                help=f"`mean(x, {extra[0]})` for one of all",
            )
        return self.expand(array, hidden, seen, found.right)

    def rename(self, array: Array, seen: Shape) -> Array:
        """An axis without a name takes the declared one."""
        to = tuple(h.axis for h in array.hidden) + seen
        return (
            array
            if array.node.type == to
            else Array(self.node("reshape", array.node, type=to), array.hidden, array.vocab)
        )
