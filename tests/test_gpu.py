"""The fused step where it is meant to run: both examples on an accelerator, each capture against
the emitted source on the same device.
"""

from __future__ import annotations

import pytest
import torch
from family import program, tiny

from nldsl.pipeline import compile_program
from nldsl.testing import data, laws
from nldsl.testing.captures import apart

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="needs an accelerator: torch.cuda.is_available() is False",
    ),
]


@pytest.mark.parametrize("capture", ["whole", "split"])
@pytest.mark.parametrize("name", ["titans", "hope"])
def test_the_step_on_an_accelerator_computes_the_same(name: str, capture: str) -> None:
    made = tiny(name, d=16)
    fast, slow = (
        compile_program(made, device="cuda", precision="float32", capture=c)
        for c in (capture, "eager")
    )
    values, kept = apart(fast, slow, [data(made, 2, 9, i) for i in range(3)])
    assert values <= laws.VALUES
    assert kept <= laws.GRADIENTS


@pytest.mark.parametrize("name", ["deltanet", "gated_deltanet", "gla", "titans"])
def test_memories_on_the_chip_are_those_of_the_torch_form(name: str) -> None:
    made = tiny(name, d=32)
    fast, slow = (
        compile_program(made, device="cuda", capture=c, kernels=on)
        for c, on in (("split", True), ("eager", False))
    )
    assert fast.kernels and not slow.kernels
    values, kept = apart(fast, slow, [data(made, 2, 131, i) for i in range(2)])
    assert values <= laws.VALUES
    assert kept <= laws.GRADIENTS


@pytest.mark.parametrize("name", ["titans", "hope"])
def test_the_accelerator_computes_what_the_processor_does(name: str) -> None:
    made = program(name)
    on_gpu, on_cpu = (
        compile_program(made, device=d, precision="float64", capture="eager")
        for d in ("cuda", "cpu")
    )
    states = [on_gpu.init(0), on_cpu.init(0)]
    for i in range(2):
        batch = data(made, 2, 9, i)
        found, wanted = (
            step(state, [batch])["loss"].cpu() for step, state in zip((on_gpu, on_cpu), states)
        )
        assert laws.deviation(found, wanted) <= laws.EXACT
    for kept, tensor in states[1].tensors.items():
        assert laws.deviation(states[0].tensors[kept].cpu(), tensor) <= laws.EXACT, kept


def test_the_compiler_takes_one_graph_a_kind_where_it_can_be_afforded() -> None:
    step = compile_program(program("titans"), device="cuda")
    assert step.capture == ("whole" if step.predict("whole") <= 120 else "split")
    assert "cuda" in step.why or "compile" in step.why
