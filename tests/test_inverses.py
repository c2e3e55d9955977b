"""Inverses of triangular matrices are made once, and have no solve in their slope."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._functorch import config as functorch
from torch._inductor import config as inductor
from torch._inductor.custom_graph_pass import CustomGraphPass
from torch.fx import Graph

from nldsl.step.functions import compiling
from nldsl.step.inverses import SOLVE
from nldsl.step.runtime.recurrence import decay_kernel, wy_inverse

HEADS, TOKENS = 3, 6
Values = Callable[[Tensor, Tensor], Tensor]


def of_gates(gates: Tensor, below: Tensor) -> Tensor:
    kernel, prefix = decay_kernel(gates)
    return (kernel * below).sin() + prefix[..., None]


def of_erases(gates: Tensor, below: Tensor) -> Tensor:
    return wy_inverse(below.tril(-1) * gates[..., None]) @ below


def of_both(gates: Tensor, below: Tensor) -> Tensor:
    kernel, _ = decay_kernel(gates)
    return wy_inverse((below * kernel).tril(-1))


def of_another_right_side(gates: Tensor, below: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(
        below.tril(-1), gates[..., None] * below, upper=False, unitriangular=True
    )


class Counted(CustomGraphPass):
    """How many solves each graph has."""

    def __init__(self) -> None:
        self.found: list[int] = []

    def __call__(self, graph: Graph) -> None:
        self.found.append(sum(node.target is SOLVE for node in graph.nodes))

    def uuid(self) -> None:
        """It is kept nowhere."""


def slopes(values: Values) -> tuple[Tensor, ...]:
    drawn = torch.Generator().manual_seed(0)
    gates = torch.rand(2, HEADS, TOKENS, generator=drawn, dtype=torch.float64)
    gates[0, 0, 2], gates[1, 1, 3] = 0.0, -0.5
    below = torch.randn(2, HEADS, TOKENS, TOKENS, generator=drawn, dtype=torch.float64)
    given = gates.requires_grad_(), below.requires_grad_()
    made = values(*given)
    weights = torch.randn(made.shape, generator=drawn, dtype=torch.float64)
    return made.detach(), *torch.autograd.grad((made * weights).sum(), given)


@pytest.mark.parametrize(
    ("values", "there", "back"),
    [
        pytest.param(of_gates, 1, 0, marks=pytest.mark.soak),
        pytest.param(of_erases, 1, 0, marks=pytest.mark.soak),
        (of_both, 2, 0),
        (of_another_right_side, 1, 2),
    ],
    ids=lambda x: getattr(x, "__name__", None),
)
def test_solves_there_and_on_the_way_back(values: Values, there: int, back: int) -> None:
    counted = Counted()
    with (
        compiling(again=True),
        functorch.patch(enable_autograd_cache=False),
        inductor.patch(post_grad_custom_post_pass=counted, fx_graph_cache=False),
    ):
        found = slopes(torch.compile(values, fullgraph=True, dynamic=False))
    assert counted.found == [there, back]
    for one, other in zip(found, slopes(values), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
