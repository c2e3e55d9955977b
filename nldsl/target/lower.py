"""JOB -> TRITON CODE for a GPU that need not be there; nothing is run.

A function is traced and differentiated on the processor, as the compiled step has it, since
autograd asks a GPU for its context; the graphs, forward and backward, are then moved to the GPU and
lowered there.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import GraphModule, Node
from torch.fx.node import Argument, map_aggregate
from torch.utils._mode_utils import no_dispatch
from torch.utils._pytree import tree_map_only

from nldsl.step.functions import Job, Like, Run, compiling, empty
from nldsl.target.absent import DEVICE, present
from nldsl.target.count import Graph, counted
from nldsl.target.devices import Gpu

aten = torch.ops.aten


def lowered(job: Job, gpu: Gpu) -> Lowered:
    """A function of the compiled step, for the arguments of its job."""
    found, given = Lowered(job.function(), gpu), empty(job.args)
    assert isinstance(given, tuple)
    with torch.set_grad_enabled(job.kind.grad), compiling(job.again):
        found.lower(*given)
    return found


class Lowered:
    """A function that gives tensors like its results, and says of its graphs how often they were
    called. It is lowered for the arguments that it meets first.
    """

    def __init__(self, function: Run, gpu: Gpu) -> None:
        self.gpu, self.graphs = gpu, list[Graph]()
        self.run = torch.compile(function, fullgraph=True, dynamic=False, backend=self.backend)

    def lower(self, *args: object) -> object:
        """Forward and backward."""
        with torch._functorch.config.patch(force_non_lazy_backward_lowering=True):
            return self.run(*args)

    def __call__(self, *args: object) -> object:
        with torch.compiler.set_stance("fail_on_recompile", skip_guard_eval_unsafe=True):
            return self.run(*args)

    def backend(self, module: GraphModule, inputs: Sequence[Tensor]) -> Run:
        from torch._inductor.compile_fx import compile_fx

        compiler: Any = compile_fx
        found: Run = compiler(module, inputs, inner_compile=self.written)
        return found

    def written(self, module: GraphModule, inputs: Sequence[Tensor], **how: object) -> Run:
        from torch._inductor.compile_fx import compile_fx_inner
        from torch._inductor.graph import GraphLowering

        compiler: Any = compile_fx_inner
        (results,) = module.graph.output_node().args
        assert isinstance(results, tuple | list)
        like: list[object] = [x.meta["val"] if isinstance(x, Node) else x for x in results]
        backward = bool(how.get("is_backward"))
        move(module)
        there = [n.meta["val"] for n in module.graph.nodes if n.op == "placeholder"]
        made: list[Graph] = []

        def stop(graph: GraphLowering) -> SimpleNamespace:
            made.append(counted(graph, backward))
            like[:] = map(laid, like, graph.graph_outputs)
            return SimpleNamespace(call=list, __file__="", key="")

        with (
            warnings.catch_warnings(),
            present(self.gpu),
            patch.object(GraphLowering, "compile_to_module", stop),
        ):
            warnings.simplefilter("ignore")  # the compiler's own, and its advice about float32
            compiler(module, there, **how)
        self.graphs += made
        return answering(made[0], like)


def laid(x: object, result: object) -> object:
    """What a result is like, as the compiler lays it out."""
    if not isinstance(x, Tensor):
        return x
    strides = tuple(int(n) for n in result.get_stride())  # type: ignore[attr-defined]
    return Like(tuple(x.shape), strides, x.dtype, "cpu", False, 0)


def answering(graph: Graph, like: list[object]) -> Run:
    """Gives tensors like the results of a graph, and counts its calls."""

    def run(args: list[object]) -> object:
        args.clear()
        graph.calls += 1
        return [x.empty() if isinstance(x, Like) else x for x in like]

    run._boxed_call = True  # type: ignore[attr-defined]
    return run


# -- from the processor to the GPU


def move(module: GraphModule) -> None:
    """Moves a graph, and the constants in it, in place."""
    for inner in module.modules():
        if not isinstance(inner, GraphModule):
            continue
        known = [node for node in inner.graph.nodes if node.op == "get_attr"]
        for node in known:
            hand_over(inner, node)
        for node in (node for node in inner.graph.nodes if node not in known):
            node.args, node.kwargs = map_aggregate((node.args, node.kwargs), placed)
            for key in {"val", "example_value"} & node.meta.keys():
                node.meta[key] = tree_map_only(Tensor, moved, node.meta[key])
        inner.recompile()


def placed(value: Argument) -> Argument:
    return DEVICE if isinstance(value, torch.device) else value


def moved(x: Tensor) -> Tensor:
    with x.fake_mode:  # type: ignore[attr-defined]
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=DEVICE)


def hand_over(module: GraphModule, node: Node) -> None:
    """What the host knows: a number is written into the graph, a list is copied to the GPU."""
    value = getattr(module, str(node.target))
    known = value.constant if isinstance(value, FakeTensor) else value
    if not isinstance(known, Tensor):
        return
    setattr(module, str(node.target), known)
    users, graph = [*node.users], module.graph
    with graph.inserting_before(node.next):
        if known.dim():
            listed = graph.call_function(aten.lift_fresh_copy.default, (node,))
            made = graph.call_function(torch.ops.prims.device_put.default, (listed, DEVICE))
        else:
            with no_dispatch():
                number = known.item()
            how: dict[str, Argument] = {"dtype": known.dtype, "device": DEVICE}
            made = graph.call_function(aten.full.default, ([], number), how)
    for user in users:
        user.replace_input_with(node, made)
