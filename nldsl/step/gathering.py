"""A COMPILED GRAPH -> the same with fewer products of matrices, for PyTorch's compiler.

    W x, W y             W [x y]              a matrix is read once
    u z^T + v y^T        [u v] [z y]^T        a sum of matrices is written once
    low(wide(x))         x                    of a low number, seen otherwise in between

So the gradient of a memory that is asked several times is one product, whose result lies as what
is added to it. Only where what is put side by side is smaller than the matrices that are not read
or written again. What else asks for a part of what is side by side takes it from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch._inductor.pattern_matcher import stable_topological_sort
from torch.fx import Graph, Node
from torch.fx.node import Argument, Target, map_arg

aten = torch.ops.aten
CAST = torch.ops.prims.convert_element_type.default
PRODUCTS = (aten.bmm.default, aten.mm.default)
VIEWS = (
    aten.permute.default,
    aten.reshape.default,
    aten.squeeze.dim,
    aten.t.default,
    aten.transpose.int,
    aten.unsqueeze.default,
    aten.view.default,
)
Axis = tuple[str, int] | None  # of a product: "batch", "row" or "column", in steps of so many


class Gathering(CustomGraphPass):
    """The pass, as the compiler calls it on each graph."""

    def __call__(self, graph: Graph) -> None:
        stay_low(graph)
        add_as_one(graph)
        ask_as_one(graph)

    def uuid(self) -> object:
        return get_hash_for_files((__file__,))


@dataclass(frozen=True)
class Term:
    """A term of a sum, which is a view of a product that nothing else takes; its axes, and whether
    the last of them is one of the product's rows.
    """

    value: Node
    product: Node
    views: tuple[Node, ...]
    axes: tuple[Axis, ...]
    turned: bool

    @property
    def kind(self) -> object:
        """What it shares with those that it can be added to as one product."""
        *batch, rows, columns = shape(self.product)
        sizes = (columns, rows) if self.turned else (rows, columns)
        return tuple(batch), sizes, self.axes, self.product.meta["val"].dtype

    @property
    def factors(self) -> tuple[Node, Node]:
        left, right = self.product.args
        assert isinstance(left, Node) and isinstance(right, Node)
        return left, right


# -- numbers that are widened, and rounded again


def stay_low(graph: Graph) -> None:
    """What is widened and then rounded to what it was is itself."""
    for node in [node for node in graph.nodes if node.target is CAST]:
        views, x = list[Node](), node.all_input_nodes[0]
        while x.target in VIEWS:
            views.append(x)
            x = x.all_input_nodes[0]
        if x.target is not CAST:
            continue
        was = x.all_input_nodes[0]
        low, wide = was.meta["val"].dtype, x.meta["val"].dtype
        if node.args[1] is not low or torch.promote_types(low, wide) is not wide:
            continue
        with graph.inserting_before(node):
            for view in reversed(views):
                was = call(graph, view.target, was, *view.args[1:])
        node.replace_all_uses_with(was)
    graph.eliminate_dead_code()


# -- sums


def add_as_one(graph: Graph) -> None:
    """Products that are added become one over a longer axis."""
    for top in [*graph.nodes]:
        if not adds(top) or any(adds(user) and alone(top) for user in top.users):
            continue
        terms = terms_of(top)
        alike: dict[object, list[Term]] = {}
        for x in terms:
            if (term := term_of(x)) is not None:
                alike.setdefault((term.product.target, term.kind), []).append(term)
        some = [same for same in alike.values() if len(same) > 1 and smaller(same)]
        if not some:
            continue
        with graph.inserting_before(top):
            made = [summed(graph, same) for same in some]
            gone = {term.value for same in some for term in same}
            total, *others = [x for x in terms if x not in gone] + made
            for x in others:
                total = call(graph, aten.add.Tensor, total, x)
        top.replace_all_uses_with(total)
        graph.eliminate_dead_code()


def adds(node: Node) -> bool:
    return (
        node.target is aten.add.Tensor
        and not node.kwargs
        and all(isinstance(x, Node) and shape(x) == shape(node) for x in node.args)
    )


def alone(node: Node) -> bool:
    return len(node.users) == 1


def terms_of(top: Node) -> list[Node]:
    """What a sum adds, sums in it that nothing else takes taken apart."""
    found, stack = list[Node](), [*top.all_input_nodes[::-1]]
    if len(top.all_input_nodes) != len(top.args):  # x + x
        return []
    while stack:
        x = stack.pop()
        if adds(x) and alone(x) and len(x.all_input_nodes) == len(x.args):
            stack += x.all_input_nodes[::-1]
        else:
            found.append(x)
    return found


def term_of(value: Node) -> Term | None:
    views: list[Node] = []
    x = value
    while x.target in VIEWS and alone(x):
        views.append(x)
        x = x.all_input_nodes[0]
    if x.target not in PRODUCTS or not alone(x):
        return None
    axes = axes_of(x, views[::-1])
    if axes is None:
        return None
    last = next((axis for axis in reversed(axes) if axis), None)
    turned = last is not None and last[0] == "row"
    if turned:
        other = {"row": "column", "column": "row"}
        axes = tuple(axis and (other.get(axis[0], axis[0]), axis[1]) for axis in axes)
    return Term(value, x, tuple(views[::-1]), axes, turned)


def axes_of(product: Node, views: Sequence[Node]) -> tuple[Axis, ...] | None:
    """Which axis of the product each axis of a view is; None if the view is a copy."""
    *_, m, n = shape(product)
    whole = seen = torch.empty(shape(product), device="meta")
    for view in views:
        seen = view.target(seen, *view.args[1:])  # type: ignore[operator]
    if seen.untyped_storage()._cdata != whole.untyped_storage()._cdata:
        return None
    sizes = {"batch": m * n, "row": n, "column": 1}
    found: list[Axis] = []
    for size, step in zip(seen.shape, seen.stride(), strict=True):
        name = next(name for name, unit in sizes.items() if step >= unit)
        found.append(None if size == 1 else (name, step // sizes[name]))
    return tuple(found)


def smaller(same: Sequence[Term]) -> bool:
    """Are the factors side by side smaller than the products?"""
    *_, m, n = shape(same[0].product)
    summed_over = sum(shape(term.factors[0])[-1] for term in same)
    return summed_over * (m + n) <= m * n * len(same)


def summed(graph: Graph, same: Sequence[Term]) -> Node:
    """One product for all, whose columns are the last axis of the sum; seen as the first was."""
    first, lefts, rights = same[0], list[Node](), list[Node]()
    for term in same:
        left, right = term.factors
        if term.turned:
            left, right = transposed(graph, right), transposed(graph, left)
        lefts.append(left)
        rights.append(right)
    rank = len(shape(first.product))
    sides = beside(graph, lefts, rank - 1), beside(graph, rights, rank - 2)
    whole = call(graph, first.product.target, *sides)
    if first.turned:
        whole = transposed(graph, whole)
    for view in first.views:
        whole = call(graph, view.target, whole, *view.args[1:])
    return whole


# -- matrices that are asked several times


def ask_as_one(graph: Graph) -> None:
    """Products with one matrix become one, if none of them waits for another."""
    for side in (1, 0):
        asked: dict[object, list[Node]] = {}
        for node in graph.nodes:
            if node.target in PRODUCTS:
                asked.setdefault((node.target, node.args[side], shape(node)), []).append(node)
        for same in asked.values():
            while same:
                group: list[Node] = []
                for node in same:
                    if not any(waits(node, other) for other in group):
                        group.append(node)
                same = [node for node in same if node not in group]
                if len(group) > 1 and few(group, side):
                    answer_together(graph, group, side)


def few(group: Sequence[Node], side: int) -> bool:
    """Is what they ask the matrix with smaller than the matrix?"""
    *_, rows, columns = shape(group[0])
    asks, across = (rows, columns) if side else (columns, rows)
    return asks * len(group) <= across


def waits(node: Node, other: Node) -> bool:
    """Is a node made of another?"""
    seen, stack = {node}, [node]
    while stack:
        for x in stack.pop().all_input_nodes:
            if x is other:
                return True
            if x not in seen:
                seen.add(x)
                stack.append(x)
    return False


def answer_together(graph: Graph, group: Sequence[Node], side: int) -> None:
    matrix = group[0].args[side]
    axis = len(shape(group[0])) - (2 if side else 1)
    asked = [node.args[1 - side] for node in group]
    with graph.inserting_before(group[-1]):
        asks = as_they_lie(graph, asked, axis)
        whole = call(graph, group[0].target, *((asks, matrix) if side else (matrix, asks)))
        begin = 0
        for node, part in zip(group, asked):
            end = begin + shape(node)[axis]
            node.replace_all_uses_with(call(graph, aten.slice.Tensor, whole, axis, begin, end))
            if len({*asked}) == len(asked):
                taken_from(graph, part, asks, (axis, begin, end), group)
            begin = end
    for node in group:
        graph.erase_node(node)
    stable_topological_sort(graph)


def as_they_lie(graph: Graph, parts: Sequence[Argument], axis: int) -> Node:
    """Side by side, each written in the order in which it lies."""
    nodes = [x for x in parts if isinstance(x, Node)]
    if not all(lies_turned(x) for x in nodes):
        return beside(graph, parts, axis)
    rank = len(shape(nodes[0]))
    other = 2 * rank - 3 - axis
    return transposed(graph, beside(graph, [transposed(graph, x) for x in nodes], other))


def lies_turned(x: Node) -> bool:
    strides = x.meta["val"].stride()
    return bool(strides[-2] == 1 and strides[-1] != 1)


def taken_from(
    graph: Graph, part: Argument, asks: Node, place: tuple[int, int, int], group: Sequence[Node]
) -> None:
    """What else takes a part takes it, on a GPU, from what stands side by side."""
    assert isinstance(part, Node)
    mine = {*group, asks}
    others = [user for user in part.users if user not in mine and not waits(asks, user)]
    if others and part.meta["val"].is_cuda:
        here = call(graph, aten.slice.Tensor, asks, *place)
        for user in others:
            user.replace_input_with(part, here)


# -- nodes


def shape(node: Node) -> tuple[int, ...]:
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def beside(graph: Graph, parts: Sequence[Argument], axis: int) -> Node:
    return call(graph, aten.cat.default, [*parts], axis)


def transposed(graph: Graph, x: Node) -> Node:
    rank = len(shape(x))
    return call(graph, aten.permute.default, x, [*range(rank - 2), rank - 1, rank - 2])


def call(graph: Graph, target: Target, *args: Argument) -> Node:
    """A new node, which knows what its value is like."""
    assert callable(target)
    made = graph.call_function(target, args)
    values = map_arg(args, lambda x: x.meta["val"])
    with made.all_input_nodes[0].meta["val"].fake_mode:
        made.meta["val"] = target(*values)
    return made
