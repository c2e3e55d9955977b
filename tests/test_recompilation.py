"""How often torch.compile traces a step: once for each tick kind and, in `split`, once for each
distinct block; a piece of a recurrence once more, for the last of a sequence leaves no memory.
"""

from __future__ import annotations

import math

import pytest
import torch
from family import TWO, tiny
from torch._dynamo.utils import clear_compilation_metrics, counters, get_compilation_metrics

from nldsl.core.program import Program
from nldsl.pipeline import load_text
from nldsl.step.compile import CompiledStep
from nldsl.testing import data
from nldsl.testing.captures import traced

torch.set_num_threads(1)
STEPS = 50
NESTED = """nldsl 1
import optimizers
dim c = 3
input x: [c]
def net(z: [c]) -> [c] = linear(tanh(linear(z, [2 * c])), [c])
level slow every 4 step {
    memory S: net = random
    context x
    minimize mean(loss over period)
    S <- S - 0.1 * grad(S)
}
level fast every 2 step {
    memory F: net = slow.S
    context x
    minimize mean(loss over period)
    F <- F + 0.3 * (slow.S - F) .* F - 0.1 * stop(grad(F))
    reset every 8 step
    bptt full by slow
}
loss = |fast.F(linear(x, [c])) - next(x)|^2
level training every step {
    memory W: weights
    context x
    minimize mean(loss over period)
    W <- W + adamw(W, clip(grad(W), 1), lr = cosine(0.01, 0.1), decay = 0.1)
}
"""


def example(name: str, capture: str) -> Program:
    """A `whole` step is small: each of its tick kinds is traced with all its layers. Two chunks, as
    whole as they come: what is left of one has another size, and more than three are a loop that
    only a code generator runs fast.
    """
    if name == "nested":
        return load_text(NESTED)
    small = (
        TWO
        | {"depth": 1 if capture == "whole" else 2}
        | ({"chunk": 4} if name == "titans" else {"near": 4, "span": 4})
    )
    return tiny(
        name,
        **small,
        **({"periods": [1, 2] if capture == "whole" else [1, 2, 3]} if name == "hope" else {}),
    )


def expected(step: CompiledStep) -> int:
    kinds = len(step.schedule.table.events)
    if step.capture == "whole":
        return kinds
    functions, pieces = step.emitted.functions, {*step.emitted.functions} & step.emitted.pieces
    return kinds + len(functions) + len(pieces) + len({tape.body for tape in step.updates.tapes})


@pytest.mark.parametrize("capture", ["split", "whole"])
@pytest.mark.parametrize("name", ["titans", "hope", "nested"])
def test_each_function_is_one_frame(name: str, capture: str) -> None:
    program = example(name, capture)
    step, counted = traced(program, capture)
    counters.clear()
    clear_compilation_metrics()
    table, state, batch = step.schedule.table, step.init(0), data(program, 2, 8, 0)
    met: set[int] = set()
    first = table.start + table.hyperperiod
    for n in range(1, max(STEPS, first + 2 * table.hyperperiod) + 1):
        met.add(table.kind(n))
        step(state, [batch])
        if n == first:
            assert met == set(range(len(table.events)))
            assert counted.graphs == len(get_compilation_metrics()) == expected(step)
    assert counted.graphs == len(get_compilation_metrics()) == expected(step)
    assert all(metric.fail_type is None for metric in get_compilation_metrics())
    assert not counters["graph_break"]
    assert all(math.isfinite(float(x.sum())) for x in state.tensors.values())


def test_after_its_first_step_a_kind_is_not_traced_again() -> None:
    """What would have to be traced again is an error, not a pause in the middle of a run."""
    step, _ = traced(example("nested", "whole"), "whole")
    state, batch = step.init(0), data(step.program, 2, 5, 0)
    for _ in range(2):
        step(state, [batch])
    torch._dynamo.reset()
    with pytest.raises(RuntimeError, match="fail_on_recompile"):
        step(state, [batch])
    step(state, [data(step.program, 1, 5, 0)])  # another size has another graph


def test_a_function_is_asked_for_once() -> None:
    """A step of the same kind with the same sizes asks for nothing, whatever Dynamo forgot."""
    step, counted = traced(example("nested", "split"), "split")
    state, batch = step.init(0), data(step.program, 2, 5, 0)
    for _ in range(8):
        step(state, [batch])
    asked = {name: len(function.made) for name, function in step.compiled.items()}
    assert set(asked.values()) == {1} and len(asked) == counted.graphs == expected(step)
    for _ in range(8):
        step(state, [batch])
    assert asked == {name: len(function.made) for name, function in step.compiled.items()}
    step(state, [data(step.program, 1, 5, 0)])  # another size has another graph
    assert sum(len(function.made) for function in step.compiled.values()) > len(asked)
