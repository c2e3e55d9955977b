"""The same step under other compilers: how often Dynamo traced it, and how far its results are from
the emitted source.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from unittest import mock

import torch
from torch import Tensor

from nldsl.core.program import Program
from nldsl.pipeline import compile_program
from nldsl.step.compile import CompiledStep
from nldsl.step.functions import Job, Run, Tell
from nldsl.step.loading import Files
from nldsl.testing.laws import Batch, deviation


class Counted:
    """A backend of torch.compile that runs graphs as they are, and counts them."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: Sequence[Tensor]) -> object:
        self.graphs += 1
        return graph.forward


def traced(
    program: Program,
    capture: str,
    precision: str = "float64",
    files: Files | None = None,
    at_once: bool | None = None,
) -> tuple[CompiledStep, Counted]:
    """A step whose functions are traced whole (`fullgraph`: a graph break is an error) and then run
    without a code generator.
    """
    torch._dynamo.reset()
    counted = Counted()
    compiler = partial(torch.compile, fullgraph=True, dynamic=False, backend=counted)

    def obtain(jobs: Sequence[Job], tell: Tell) -> list[Run]:
        return [compiler(job.function()) for job in jobs]

    with (
        mock.patch.object(torch, "compile", lambda run, **how: compiler(run)),
        mock.patch.object(CompiledStep, "obtain", staticmethod(obtain)),
    ):
        step = compile_program(
            program, precision=precision, capture=capture, files=files, at_once=at_once
        )
    return step, counted


def apart(
    one: CompiledStep, other: CompiledStep, batches: Sequence[Batch], seed: int = 0
) -> tuple[float, float]:
    """Steps of both from one start: the largest deviation of the losses, and of all that is
    kept.
    """
    states = [step.init(seed) for step in (one, other)]
    values = kept = 0.0
    for batch in batches:
        a, b = (step(state, [batch]) for step, state in zip((one, other), states))
        values = max(values, *(deviation(a[name], b[name]) for name in b))
        kept = max(
            kept, *(deviation(x, states[1].tensors[name]) for name, x in states[0].tensors.items())
        )
    return values, kept


def traced_once(
    plain: CompiledStep, capture: str, batches: Sequence[Batch], seed: int = 0
) -> float:
    """The deviation of a traced step from the emitted one.

    Run over the same batches once more it must trace nothing anew.
    """
    step, counted = traced(plain.program, capture, files=plain.files)
    worst = max(apart(step, plain, batches, seed))
    before = counted.graphs
    apart(step, plain, batches, seed)
    assert counted.graphs == before, "traced again"
    return worst
