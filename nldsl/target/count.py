"""COMPILED GRAPH -> what it launches: kernels and library calls, their bytes and FLOPs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch._inductor.graph import GraphLowering
from torch._inductor.ir import (
    Conditional,
    DeviceCopy,
    ExternKernel,
    MultiOutput,
    NopKernel,
    Operation,
    WhileLoop,
)
from torch._inductor.scheduler import BaseSchedulerNode
from torch._inductor.utils import is_cudagraph_unsafe_op
from torch._ops import OpOverload
from torch.fx import Node
from torch.fx.node import map_arg
from torch.utils.flop_counter import flop_registry

from nldsl.step.kernels.operator import sources_of
from nldsl.step.kernels.source import Source

aten = torch.ops.aten
Formula = Callable[..., int]


@dataclass(frozen=True)
class Launch:
    """A kernel that the compiler wrote, or a call of a library. `bytes`: of what it reads and
    writes, each buffer once and whole; `dtype`: of the operands of a product.
    """

    library: bool
    name: str
    bytes: int
    flops: int = 0
    dtype: torch.dtype = torch.float32


@dataclass
class Graph:
    """`refused`: its operators that no CUDA graph holds; `loops` are the host's."""

    backward: bool
    launches: tuple[Launch, ...]
    refused: tuple[str, ...]
    loops: int
    code: str
    calls: int = 0
    sources: tuple[Source, ...] = ()  # kernels of memories


def counted(graph: GraphLowering, backward: bool) -> Graph:
    """A graph that the compiler has lowered, its code written."""
    code, _ = graph.codegen()
    nodes = graph.scheduler.nodes
    inner = [node.get_nodes()[0].node for node in nodes]
    refused = [called(x) for x in inner if x is not None and is_refused(x)]
    made = [x for node in nodes if works(node) for x in launches(node)]
    return Graph(
        backward,
        (*made, *combined(code.value, made)),
        tuple(dict.fromkeys(refused)),
        sum(isinstance(x, Conditional | WhileLoop) for x in inner),
        code.value,
        sources=tuple(dict.fromkeys(x for node in nodes for x, _ in sources(node))),
    )


def combined(code: str, made: Sequence[Launch]) -> list[Launch]:
    """Kernels of different shapes that the compiler combines are more than one: the others, whose
    bytes are counted with the first.
    """
    runs = code[code.index("def call(") :].count(".run(")
    return [Launch(False, "part of one", 0)] * (runs - sum(not x.library for x in made))


def sources(node: BaseSchedulerNode) -> list[tuple[Source, int]]:
    """Kernels that take memories through all pieces, and how often each runs."""
    return sources_at(origin_of(node)) if node.is_extern() else []


def origin_of(node: BaseSchedulerNode) -> Node | None:
    inner = node.get_nodes()[0].node
    return getattr(inner, "fx_node", None) or getattr(inner, "origin_node", None)


def sources_at(node: Node | None) -> list[tuple[Source, int]]:
    if node is None:
        return []
    args = map_arg(node.args, lambda x: x.meta["val"])
    return sources_of(getattr(node.target, "overloadpacket", None), args)


def is_refused(operation: Operation) -> bool:
    """Does no CUDA graph hold it? What the host keeps is not where a replay would read it."""
    return isinstance(operation, DeviceCopy) or is_cudagraph_unsafe_op(operation)


def works(node: BaseSchedulerNode) -> bool:
    """Does it launch anything on the device? It may only name what others made, or a part of it."""
    device = node.get_device()
    names = isinstance(node.get_nodes()[0].node, MultiOutput | NopKernel)
    return device is not None and device.type == "cuda" and not names


def launches(node: BaseSchedulerNode) -> list[Launch]:
    """One, but for memories that programs share: for each piece several, and copies of what the
    first begins with.
    """
    own = sources(node)
    if not any(x.numbers for x, _ in own):
        return [launch(node)]
    name = f"{called(node.get_nodes()[0].node)} in shares"  # type: ignore[arg-type]
    origin = origin_of(node)
    assert origin is not None
    made = [Launch(True, name, size) for size in begun(origin)]
    for x, times in own:
        row = Launch(True, name, x.bytes, x.flops, torch.bfloat16 if x.low else torch.float32)
        made += [row] * times
    return made


def begun(node: Node) -> list[int]:
    """Bytes of what is copied before the first piece: memories, or the gradients in them, which are
    0 where there is none.
    """
    args = cast("tuple[Any, ...]", map_arg(node.args, lambda x: x.meta["val"]))
    if node.target is torch.ops.nldsl.pieces.default:
        return [2 * x.numel() * x.element_size() for x in args[1]]
    starts, count, given = args[1], args[4], args[5]
    sizes = (x.numel() * x.element_size() // count for x in starts)
    return [size * (1 if x is None else 2) for size, x in zip(sizes, given)]


def launch(node: BaseSchedulerNode) -> Launch:
    size, inner = int(node.get_read_write_buffers_sizes()), node.get_nodes()[0].node
    if not node.is_extern():
        return Launch(False, fused(node), size)
    assert isinstance(inner, ExternKernel)
    origin = origin_of(node)
    return Launch(True, called(inner), size, flops(origin), operand(origin))


def fused(node: BaseSchedulerNode) -> str:
    """The operators that a kernel computes, as in `add mul`."""
    made = [inner.node for inner in node.get_nodes() if inner.node is not None]
    targets = {origin.target for x in made for origin in x.get_origins()}
    return " ".join(
        sorted({x.overloadpacket.__name__ for x in targets if isinstance(x, OpOverload)})
    )


def called(operation: Operation) -> str:
    """The operator, as in `bmm`."""
    overload = getattr(operation, "op_overload", None)
    name: str = overload.overloadpacket.__name__ if overload else ""
    name = name or getattr(operation, "python_kernel_name", None) or type(operation).__name__
    return name.rpartition(".")[2].removeprefix("_").replace("_for_cpu", "")


def operand(node: Node | None) -> torch.dtype:
    for own, _ in sources_at(node):
        return torch.bfloat16 if own.low else torch.float32
    values = (x.meta.get("val") for x in node.all_input_nodes) if node else ()
    return next((x.dtype for x in values if isinstance(x, Tensor)), torch.float32)


def flops(node: Node | None) -> int:
    """Of a product of matrices, or what is made of such; what works entry by entry has none."""
    own = sources_at(node)
    if own:
        return sum(x.flops for x, _ in own)
    packet = getattr(node and node.target, "overloadpacket", None)
    formula = FORMULAS.get(packet) or flop_registry.get(packet)
    if node is None or formula is None:
        return 0
    args, others = map_arg((node.args, node.kwargs), lambda x: x.meta["val"])
    return int(formula(*args, **others, out_val=node.meta["val"]))


def attention(q: Tensor, k: Tensor, v: Tensor, *rest: object, **given: object) -> int:
    """Of the pairs that are seen: under a causal mask half of them."""
    pairs = q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2]
    causal = any(x is True for x in (*rest, *given.values()))
    return 2 * pairs * (q.shape[3] + v.shape[3]) // (2 if causal else 1)


def attention_backward(grad: Tensor, *given: object, **others: object) -> int:
    """Five products, where forward there are two."""
    return attention(*given, **others) * 5 // 2  # type: ignore[arg-type]


def triangular(a: Tensor, b: Tensor, **given: object) -> int:
    return b.numel() * a.shape[-1]


FORMULAS: dict[object, Formula] = {
    aten._scaled_dot_product_flash_attention_for_cpu: attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
    aten.linalg_solve_triangular: triangular,
}
