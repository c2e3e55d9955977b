"""A budget: what a step keeps for its backward pass, and computes again. It changes no number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import family
import pytest
import torch
from commands import nldsl
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nldsl.diagnostic import Diagnostics
from nldsl.pipeline import compile_program
from nldsl.step import recompute
from nldsl.step.compile import CompiledStep
from nldsl.step.functions import Kind
from nldsl.step.recompute import Budget, Calls, Cost
from nldsl.train.bench import random_batch

torch.set_num_threads(1)
SPECS = ("titans", "hope", "gated_deltanet", "transformer")


def trained(
    step: CompiledStep, again: int, steps: int = 3
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Losses and state, where so many calls of each function run again."""
    step.budget.measures = False
    for function in step.budget.functions.values():
        function.again = again
    state = step.init(0)
    batch = random_batch(step.program, 2, 12, "cpu")
    step.budget.sizes = [(name, x.shape) for name, x in batch.items()]
    step.budget.before = 0
    return [step(state, [batch])["loss"] for _ in range(steps)], state.tensors


@pytest.mark.parametrize("name", SPECS)
def test_it_changes_no_number(name: str) -> None:
    step = compile_program(family.tiny(name), capture="eager")
    losses, states = trained(step, 0)
    for again in (1, 3, 1000):
        others, after = trained(step, again)
        assert [float(x) for x in losses] == [float(x) for x in others]
        assert all(torch.equal(states[n], after[n]) for n in states)


@contextmanager
def kept() -> Iterator[list[int]]:
    """Bytes that calls keep which are not run again."""
    found: list[int] = []
    run = Calls.kept

    def counted(self: Calls, args: tuple[object, ...]) -> object:
        made, cost = recompute.counted(self.run, args)
        found.append(cost.kept)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Calls, "kept", counted)
        yield found
    assert Calls.kept is run


def test_what_runs_again_keeps_what_it_was_given_alone() -> None:
    step = compile_program(family.tiny("titans"), capture="eager")
    with kept() as everything:
        trained(step, 0, 1)
    with kept() as nothing:
        trained(step, 1000, 1)
    assert sum(everything) > 0 and not nothing


COSTS = st.lists(
    st.builds(Cost, st.integers(0, 100), st.floats(0, 1, allow_subnormal=False)), max_size=6
)


@given(st.lists(COSTS, min_size=1, max_size=4), st.integers(0, 600), st.integers(0, 100))
def test_what_fits_is_kept(costs: list[list[Cost]], asked: int, least: int) -> None:
    budget = Budget("cpu", asked)
    budget.least = least
    for i, row in enumerate(costs):
        function = budget.function(str(i), lambda: None)
        for j, cost in enumerate(row):
            kind = Kind((j,), "", True)
            function.met.append(kind)
            budget.known[function, kind] = cost
    if least > asked:
        with pytest.raises(Diagnostics, match="N804"):
            budget.divide()
        return
    budget.divide()
    left = asked - budget.predicted
    assert left >= 0
    for function, row in zip(budget.functions.values(), costs, strict=True):
        again = row[: function.again]
        assert not again or again[-1].kept > left, "one more would have fitted"


def measured(asked: int | None, monkeypatch: pytest.MonkeyPatch) -> Budget:
    """Of a process that holds nothing but what is kept, and a million bytes."""
    step = compile_program(family.tiny("titans"), capture="eager", budget=asked)
    monkeypatch.setattr(recompute, "held", lambda device: 0)
    monkeypatch.setattr(recompute, "peak", lambda device: 10**6 + step.budget.spent)
    step.measure(random_batch(step.program, 2, 12, "cpu"))
    return step.budget


def test_the_first_step_measures_and_the_next_ones_keep_what_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = measured(None, monkeypatch)
    assert whole.least == 10**6 and "all is kept" in whole.described()
    asked = (whole.least + whole.predicted) // 2
    half = measured(asked, monkeypatch)
    assert half.least < half.predicted <= asked < whole.predicted
    assert "computed again for the backward pass: " in half.described()
    nothing = measured(10**6, monkeypatch)
    assert nothing.predicted == 10**6
    assert all(f.again == len(f.met) for f in nothing.functions.values() if f.again)


@pytest.mark.soak
def test_a_process_takes_what_was_predicted() -> None:
    program = family.tiny("hope", d=128, head=2, near=64, depth=2)
    batch = random_batch(program, 4, 512, "cpu")
    step = compile_program(program, capture="split", budget=10**10)
    step.warm(step.init(0), batch)
    step.measure(batch)
    all_kept = step.budget.predicted
    asked = (2 * step.budget.least + all_kept) // 3
    step = compile_program(program, capture="split", budget=asked)
    step.measure(batch)
    assert step.budget.predicted <= asked and step.budget.measured <= 1.1 * asked < all_kept


def test_less_than_a_step_takes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Diagnostics, match="N804"):
        measured(1000, monkeypatch)


@pytest.mark.parametrize(("name", "capture"), [("titans", "whole"), ("ttt_e2e", "eager")])
def test_what_is_not_bounded_is_refused(name: str, capture: str) -> None:
    with pytest.raises(Diagnostics, match="N805"):
        compile_program(family.tiny(name), capture=capture, budget=1 << 30)


@pytest.mark.parametrize(
    ("text", "size"),
    [("8G", 8 * 10**9), ("1200M", 12 * 10**8), ("1.5GiB", 3 << 29), ("64k", 64000)],
)
def test_sizes(text: str, size: int) -> None:
    from nldsl.cli.options import budget_of

    assert budget_of(text) == size


@pytest.mark.parametrize("text", ["much", "", "-1G", "0"])
def test_what_is_no_size_is_a_usage_error(text: str) -> None:
    status, _, err = nldsl("train", "examples/titans.nl", "--budget", text)
    assert status == 2 and "--budget" in err
