"""Code without a time: the values of the step clock. A tree is one flat vector, so that an
elementwise rule such as AdamW is one fused kernel over all of a level's weights, however many
tensors they are.

    flat     v = a * b                          both vectors hold the same leaves
    leaves   v.W1, v.W2                          where a rule speaks of them: Newton-Schulz on each
                                                 matrix, one number a head
    alike    one number that stands for all of them

Where ranks hold a part each, a flat vector is the part of one rank, and leaves are whole: an array
is gathered when a rule speaks of it, and what becomes of it is parted where it meets a vector.
"""

from __future__ import annotations

from dataclasses import replace

from nldsl.core.nodes import Node, Shape, Tree, Type, numel
from nldsl.core.ops import OPS
from nldsl.core.program import WORKER
from nldsl.step.shards import Shards, arrays
from nldsl.step.source import Fn, Ref

WHOLE = Shards()
# what the workers of a step have in common is made by these alone
OVER_WORKERS = {"sum": "sum_of_workers", "mean": "mean_of_workers"}


def of_workers(node: Node) -> bool:
    """Is a sum or a mean one over the workers?"""
    return [node.args[0].shape[d].name for d in node["dims"]] == [WORKER]


def size(type: Type) -> int:
    return sum(numel(s) for _, s in type.leaves) if isinstance(type, Tree) else numel(type)


def shape_of(type: Type) -> tuple[int, ...]:
    """Sizes of the tensor that holds a value between steps; a number is a vector of one, which is
    written in place like any other.
    """
    return (size(type),) if isinstance(type, Tree) else tuple(a.size for a in type) or (1,)


def stored(text: str, type: Type) -> str:
    """A kept value as the equations see it."""
    return f"{text}.view(())" if type == () else text


def sizes_of(shape: Shape) -> str:
    """The text of the sizes of an array."""
    return f"[{', '.join(str(a.size) for a in shape)}]"


class Flat:
    """Writes the lines of one function, `fn`, of values that may be trees. `workers`: has the
    program any? `shards`: in how many parts what is kept is. `rank`: is the number of the rank
    asked for?
    """

    def __init__(self, workers: bool = False, shards: Shards = WHOLE) -> None:
        self.workers, self.shards, self.rank = workers, shards, False
        self.fn = Fn("")
        self.fn.differentiated = False  # what looks through an update does so by equations
        self.fn.write = self.emit

    def emit(self, node: Node, args: list[Ref]) -> Ref:
        if node.op == "stop":
            return args[0]
        if node.op == "leaf":
            tree = node.args[0].tree
            return self.leaves(args[0], tree)[tree.paths().index(node["path"])]
        if node.op == "tree":
            return Ref("", "", (), leaves=tuple(args))
        if node.op == "total":
            return self.total(node, args[0])
        if node.op == "spread" and isinstance(node.type, Tree):
            return self.spread(node.type, args[0])
        if OPS[node.op].elementwise:
            return self.elementwise(node, args)
        if self.workers and node.op in OVER_WORKERS and of_workers(node):
            x = self.whole(args[0], node.args[0].shape).text
            return self.fn.let(f"{OVER_WORKERS[node.op]}({x}, {node['dims'][0]})", "", node.shape)
        assert not isinstance(node.type, Tree), node.op
        return self.fn.emit(
            node,
            [
                self.whole(a, n.type) if isinstance(n.type, tuple) and a.literal is None else a
                for a, n in zip(args, node.args)
            ],
        )

    def elementwise(self, node: Node, args: list[Ref]) -> Ref:
        if not isinstance(node.type, Tree):
            return self.one(node, args, node.type)
        args = [
            Ref(a.text, "", (), alike=True)
            if not a.shape and a.literal is None and not isinstance(n.type, Tree)
            else a
            for a, n in zip(args, node.args)
        ]
        args = [self.meeting(a, args, node.type) for a in args]
        if any(a.leaves is not None for a in args) or any(a.shape for a in args):
            rows = zip(*(self.leaves(a, node.type) for a in args))
            return Ref(
                "",
                "",
                (),
                leaves=tuple(
                    self.one(node, list(row), shape)
                    for row, (_, shape) in zip(rows, node.type.leaves)
                ),
            )
        ref = self.fn.emit(replace(node, type=()), args)
        moving = [a for a in args if a.literal is None and not a.alike]
        return ref if moving else Ref(ref.text, "", (), alike=True)

    def meeting(self, ref: Ref, args: list[Ref], tree: Tree) -> Ref:
        """An argument of an operator on trees: where one of them is the part of a rank, the others
        are parted too.
        """
        vector = any(map(is_vector, args))
        if not self.shards.are or not vector or ref.leaves is None and not ref.shape:
            return ref
        return Ref(self.vector(Ref("", "", (), leaves=tuple(self.leaves(ref, tree))), tree), "", ())

    def one(self, node: Node, args: list[Ref], shape: Shape) -> Ref:
        """An elementwise operator on arrays.

        Its result has the shape of its widest argument, which may be one number.
        """
        ref = self.fn.emit(replace(node, type=shape), args)
        full = all(a.literal is not None for a in args) or any(
            a.shape == shape and a.literal is None for a in args
        )
        return ref if full else Ref(ref.text, "", ())

    def leaves(self, ref: Ref, tree: Tree) -> list[Ref]:
        """Each leaf of a tree; of an array beside a tree, what that leaf meets: the axes that it
        lacks are the last ones.
        """
        if ref.leaves is not None:
            return list(ref.leaves)
        if ref.literal is not None:
            return [Ref(ref.text, "", shape, ref.literal) for _, shape in tree.leaves]
        if ref.alike:
            return [Ref(ref.text, "", ()) for _ in tree.leaves]
        if ref.shape:
            return [self.widened(ref, shape) for _, shape in tree.leaves]
        texts = leaf_texts(ref.text, tree, self.shards)
        return [
            self.fn.let(text, "", shape)
            for text, (_, shape) in zip(texts, tree.leaves, strict=True)
        ]

    def widened(self, ref: Ref, shape: Shape) -> Ref:
        """An array with the axes that it lacks, of size one."""
        missing = len(shape) - ref.rank
        if missing <= 0:
            return ref
        index = ", ".join([":"] * ref.rank + ["None"] * missing)
        return self.fn.let(f"{ref.text}[{index}]", "", shape)

    def total(self, node: Node, x: Ref) -> Ref:
        tree, keep = node.args[0].tree, node["keep"]
        if x.literal is not None:
            return Ref("", "", node.shape, x.literal * size(tree) / numel(node.shape))
        if x.leaves is None and not x.alike and not keep:
            return self.fn.let(self.over_all(x.text, tree), "", ())
        parts = [self.whole(p, shape) for p, (_, shape) in zip(self.leaves(x, tree), tree.leaves)]
        terms = [
            f"{p.text}.flatten({keep}).sum(-1)" if len(shape) > keep else p.text
            for p, (_, shape) in zip(parts, tree.leaves)
        ]
        return self.fn.let(" + ".join(terms), "", node.shape)

    def over_all(self, text: str, tree: Tree) -> str:
        """The sum of all numbers of a vector."""
        if not self.shards.are:
            return f"{text}.sum()"
        count = self.shards.count
        if not self.shards.even(tree):
            numbers, self.rank = [numel(shape) for shape in arrays(tree)], True
            text = f"without_rest({text}, {numbers}, {count}, rank)"
        return f"over_ranks({text}.sum(), {count})"

    def spread(self, tree: Tree, x: Ref) -> Ref:
        if x.literal is not None:
            return Ref(x.text, "", (), x.literal)
        return (
            Ref("", "", (), leaves=tuple(self.leaves(x, tree)))
            if x.shape
            else Ref(x.text, "", (), alike=True)
        )

    def whole(self, ref: Ref, shape: Shape) -> Ref:
        """The value as a tensor of just this shape."""
        if ref.literal is not None:
            return Ref(self.fn.tensor(Ref("", "", shape, ref.literal)), "", shape)
        if ref.shape == shape:
            return ref
        sizes = ", ".join(str(a.size) for a in shape)
        return self.fn.let(f"{ref.text}.expand({sizes or '()'})", "", shape)

    def vector(self, ref: Ref, type: Type) -> str:
        """The value as it is kept: a tree as one vector."""
        if not isinstance(type, Tree):
            return self.own(self.whole(ref, type).text)
        size = self.shards.size(type)
        if ref.literal is not None:
            return self.fn.let(
                f"full({self.fn.like}, {ref.literal!r}, ({size},))", "", (), "filled"
            ).text
        if ref.alike:
            return self.fn.let(f"{ref.text}.expand({size})", "", ()).text
        if ref.leaves is not None:
            value = ref.leaves[0].literal
            if value is not None and all(p.literal == value for p in ref.leaves):
                return self.vector(Ref("", "", (), value), type)
            parts = [
                self.own(self.whole(p, shape).text, ".reshape(-1)")
                for p, (_, shape) in zip(ref.leaves, type.leaves)
            ]
            return self.fn.let(f"torch.cat([{', '.join(parts)}])", "", ()).text
        return ref.text

    def own(self, text: str, flat: str = "") -> str:
        """What is kept of an array: all of it, or the part of a rank."""
        if not self.shards.are:
            return text + flat
        self.rank = True
        return self.fn.let(f"at_rank({text}, {self.shards.count}, rank)", "", ()).text


def is_vector(ref: Ref) -> bool:
    """Is a value of a tree flat, and not one number?"""
    return ref.literal is None and ref.leaves is None and not ref.alike and not ref.shape


def leaf_texts(text: str, tree: Tree, shards: Shards) -> list[str]:
    """The arrays of a flat vector, whole."""
    out, at = [], 0
    for _, shape in tree.leaves:
        part = shards.part(numel(shape))
        if shards.are:
            row = f"from_ranks({text}[{at}:{at + part}], {sizes_of(shape)}, {shards.count})"
        else:
            row = f"{text}[{at}:{at + part}].view({sizes_of(shape)[1:-1] or '()'})"
        out.append(row)
        at += part
    return out
