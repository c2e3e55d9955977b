"""A GRAPH OF VALUES AND THEIR SLOPES -> the same with fewer triangular solves, for PyTorch's
compiler.

    X = solve(A, I)        kept for the backward pass, where it would be made again
    solve(A^T, G)          X^T G

A solve waits for one row after the other, a product does not.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch.fx import Graph, Node
from torch.utils.checkpoint import CheckpointPolicy

from nldsl.step.gathering import call, shape, transposed

aten, prims = torch.ops.aten, torch.ops.prims
SOLVE = aten.linalg_solve_triangular.default
SPREAD = (aten.expand.default, aten._to_copy.default, prims.convert_element_type.default)


class Inverses(CustomGraphPass):
    """The pass, as the compiler calls it on each graph, before it is parted into two."""

    def __call__(self, graph: Graph) -> None:
        for inverse in [node for node in graph.nodes if inverts(node)]:
            inverse.meta["recompute"] = CheckpointPolicy.MUST_SAVE
            for solve, right in turned(inverse):
                with graph.inserting_before(solve):
                    solve.replace_all_uses_with(product(graph, transposed(graph, inverse), right))
        graph.eliminate_dead_code()

    def uuid(self) -> object:
        return get_hash_for_files((__file__,))


def inverts(node: Node) -> bool:
    """Is it the inverse of a triangular matrix?"""
    if node.target is not SOLVE or not node.kwargs.get("left", True):
        return False
    right = node.args[1]
    assert isinstance(right, Node)
    return identity(right)


def identity(node: Node) -> bool:
    """Is it made as the identity is: a row of numbers, where it equals its column?"""
    while node.target in SPREAD:
        node = node.all_input_nodes[0]
    if node.target is not aten.eq.Tensor:
        return False
    column, row = node.args
    return (
        isinstance(column, Node)
        and isinstance(row, Node)
        and (column.target, column.args[1:]) == (aten.unsqueeze.default, (-1,))
        and counts(row)
        and counts(column.all_input_nodes[0])
    )


def counts(node: Node) -> bool:
    """Is it 0, 1, 2, ..?"""
    return node.target is prims.iota.default and (node.kwargs["start"], node.kwargs["step"]) == (
        0,
        1,
    )


def turned(inverse: Node) -> Iterator[tuple[Node, Node]]:
    """The solves with the transposed matrix, and what stands on their right side."""
    matrix = inverse.args[0]
    assert isinstance(matrix, Node)
    rank = len(shape(matrix))
    swapped = [*range(rank - 2), rank - 1, rank - 2]
    options = {**inverse.kwargs, "upper": not inverse.kwargs["upper"]}
    for view in [*matrix.users]:
        if view.target is aten.permute.default and view.args[1] == swapped:
            for solve in [*view.users]:
                right = solve.args[1] if solve.target is SOLVE else None
                if isinstance(right, Node) and solve.args[0] is view and solve.kwargs == options:
                    if shape(right)[:-1] == shape(inverse)[:-1]:
                        yield solve, right


def product(graph: Graph, left: Node, right: Node) -> Node:
    """Of matrices that stand behind equal axes."""
    sizes = shape(right)
    flat = [call(graph, aten.reshape.default, x, [-1, *shape(x)[-2:]]) for x in (left, right)]
    return call(graph, aten.reshape.default, call(graph, aten.bmm.default, *flat), [*sizes])
