"""A BACKWARD GRAPH -> the same, whose results lie in the order in which they are read, for
PyTorch's compiler.

    cast(transpose(X^T G))        the gradient of a matrix of weights: cast(G^T X)

What is cast is written once more anyway: then it is written in order, or it would be copied once
more to stand in one vector with the others. A processor's graphs stay as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch._inductor.compile_fx import record_original_output_strides
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch.fx import Graph, Node
from torch.fx.node import map_arg

from nldsl.step.gathering import CAST, PRODUCTS, VIEWS, call, transposed


class Results(CustomGraphPass):
    """The pass, as the compiler calls it on each graph."""

    def __call__(self, graph: Graph) -> None:
        if any(node.op == "placeholder" and "tangents" in str(node.target) for node in graph.nodes):
            in_order(graph)

    def uuid(self) -> object:
        return get_hash_for_files((__file__,))


def in_order(graph: Graph) -> None:
    end = graph.output_node()
    for node in {x: None for x in end.all_input_nodes if scattered(x)}:
        turn(graph, node)
    for node in {x: None for x in end.all_input_nodes if scattered(x)}:
        with graph.inserting_before(end):
            made = call(graph, torch.ops.aten.clone.default, node)
        made.kwargs = {"memory_format": torch.contiguous_format}
        value = node.meta["val"]
        with value.fake_mode:
            made.meta["val"] = value.clone(memory_format=torch.contiguous_format)
        end.replace_input_with(node, made)
    if graph.owning_module is not None:
        record_original_output_strides(graph.owning_module)


def turn(graph: Graph, result: Node) -> None:
    """Has the product behind a result written the other way round, if nothing else takes it."""
    chain, x = list[Node](), result
    while len(x.users) == 1 and (x.target is CAST or x.target in VIEWS):
        chain.append(x)
        x = x.all_input_nodes[0]
    if x.target not in PRODUCTS or len(x.users) > 1:
        return
    left, right = x.all_input_nodes
    with graph.inserting_before(x):
        other = call(graph, x.target, transposed(graph, right), transposed(graph, left))
        x.replace_all_uses_with(transposed(graph, other))
    graph.erase_node(x)
    for node in reversed(chain):
        values = map_arg(node.args, lambda y: y.meta["val"])
        with result.meta["val"].fake_mode:
            node.meta["val"] = node.target(*values, **node.kwargs)  # type: ignore[operator]


def scattered(node: Node) -> bool:
    """Is it on a GPU, a view of what is cast, and in another order?"""
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or not value.is_cuda or value.is_contiguous():
        return False
    while node.target in VIEWS:
        node = node.all_input_nodes[0]
    return node.target is CAST
