"""Decays that are exactly 0, tiny, 1 or negative: values, states and every slope, the decay's own
too, are those of the text.

The decay of each token is a weight of its own, moved from a number that the data gives, so each has
its own slope. The programs run by products over pieces of tokens; the interpreter goes token by
token.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from decays import DECAYS, FORMS, TOKENS, batches, text
from torch import Tensor

from nldsl.pipeline import compile_program, load_text
from nldsl.step.runtime import recurrence
from nldsl.testing import laws
from nldsl.testing.captures import traced_once

torch.set_num_threads(1)


@cache
def subject_of(source: str) -> laws.Subject:
    return laws.Subject(load_text(source))


def agrees(source: str, data: list[dict[str, Tensor]]) -> str:
    """Every value, state and slope, and how it is computed."""
    subject = subject_of(source)
    found = laws.agreement(subject, data)
    assert not laws.beyond(found)
    assert sum(name.startswith("gradient ") for name in found) >= 3
    assert laws.splits(subject, data[1]) <= laws.EXACT
    assert laws.causality(subject, data[1], 5) == 0.0
    return "; ".join(subject.step.emitted.lowering.values())


@pytest.mark.parametrize("decays", DECAYS)
@pytest.mark.parametrize("form", FORMS)
def test_decays_of_any_size_and_sign(form: str, decays: str) -> None:
    axes, *_, way = FORMS[form]
    assert way in agrees(text(form), batches(axes, DECAYS[decays]))


@pytest.mark.parametrize(
    "clauses",
    [
        "reset every 4 token\n    bptt full",
        "reset never\n    bptt full",
        "bptt 2 chunk",
        "reset every document\n    bptt full",
    ],
)
@pytest.mark.parametrize("form", ["a sum", "outer products", "momentum under a decay"])
def test_zeros_beside_resets_and_cuts(form: str, clauses: str) -> None:
    agrees(
        text(form, clauses),
        batches("head", DECAYS["zero, tiny, negative and more than one"], "document" in clauses),
    )


SEVENTEEN = """nldsl 1
dim n = 1
input x: [n]
input a: []
c = weight([], init = 0)
level m every token {
    memory S: [n] = 0
    S <- (a + c) * S + x
    bptt full
}
loss = |m.S@after - next(x)|^2
level training every step {
    memory W: weights
    context x
    minimize mean(loss over period)
    W <- W - grad(W)
}
"""


def test_the_slope_below_a_zero_by_hand() -> None:
    """S_t = (a_t + c) S_{t-1} + x_t of x = 1..5 and a = 1 0 1 1 1: S = 1 2 5 9 and dS/dc = 0 1 3 8
    at the tokens with a next one, so the mean of (S - next)^2 has the slope 2 (-1 * 0 - 1 * 1 + 1 *
    3 + 4 * 8) / 4 = 17.
    """
    subject = laws.Subject(load_text(SEVENTEEN))
    batch = {
        "x": torch.arange(1.0, 6.0, dtype=torch.float64).reshape(1, 5, 1),
        "a": torch.tensor([1.0, 0, 1, 1, 1], dtype=torch.float64).reshape(1, 5),
    }
    assert slope_of(subject, batch) == 17
    batch["a"][0, 3] = 0  # S = 1 2 5 4, dS/dc = 0 1 3 5
    assert slope_of(subject, batch) == 2 * (-1 + 3 - 5) / 4
    batch["a"][0, 1] = -1  # S = 1 1 4 4, dS/dc = 0 1 2 4
    assert slope_of(subject, batch) == 2 * (-2 + 0 - 4) / 4


def slope_of(subject: laws.Subject, batch: dict[str, Tensor]) -> float:
    return float(subject.gradients(batch)["c"])


@pytest.mark.parametrize("decays", DECAYS)
def test_products_of_decays(decays: str) -> None:
    """The products themselves against a plain loop, and their first and second slopes against
    differences.
    """
    c = torch.tensor(DECAYS[decays], dtype=torch.float64)
    kernel, prefix = recurrence.decay_kernel(c)
    for t in range(TOKENS):
        assert float(prefix[t]) == pytest.approx(float(c[: t + 1].prod()), rel=1e-14, abs=0)
        for j in range(TOKENS):
            assert float(kernel[t, j]) == pytest.approx(
                float(c[j + 1 : t + 1].prod()) if j <= t else 0.0, rel=1e-14, abs=0
            )
    c.requires_grad_()
    weights = torch.randn(
        TOKENS, TOKENS, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )

    def total(x: Tensor) -> Tensor:
        kernel, prefix = recurrence.decay_kernel(x)
        return (kernel * weights).sum() + (prefix * weights[0]).sum()

    assert torch.autograd.gradcheck(total, c) and torch.autograd.gradgradcheck(total, c)


@pytest.mark.parametrize("c", [0.0, 1.0, 0.9, -0.5, -1.0, 2.0, 1e-30])
@pytest.mark.parametrize("tokens", [1, 2, 7])
def test_products_of_one_number(c: float, tokens: int) -> None:
    like = torch.zeros(2, 3, tokens, dtype=torch.float64)
    for found, wanted in zip(
        recurrence.powers(like, c), recurrence.decay_kernel(torch.full_like(like, c)), strict=True
    ):
        assert found.shape == wanted.shape
        assert laws.deviation(found, wanted) <= 1e-14


@pytest.mark.parametrize("c", ["0", "-1", "-0.5", "1"])
@pytest.mark.parametrize(
    "form", ["a sum", "outer products", "the delta rule", "momentum under a decay"]
)
def test_a_decay_that_is_a_number_of_the_text(form: str, c: str) -> None:
    source = text(form).replace("keep * ", f"{c} * ").replace("rate, keep", f"rate, {c}")
    agrees(source, batches("head", DECAYS["one zero"]))


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_products_are_made_in_float32(precision: str) -> None:
    """Gates just below 1 over 64 tokens, rounded once and not at every product."""
    dtype = getattr(torch, precision)
    c = torch.full((1, 64), 0.99609375, dtype=dtype)  # a number of bfloat16
    kernel, prefix = recurrence.decay_kernel(c)
    assert kernel.dtype == prefix.dtype == dtype
    assert (
        abs(float(prefix[0, -1]) - 0.99609375**64)
        <= 4 * torch.finfo(torch.float32).eps + (dtype == torch.bfloat16) * torch.finfo(dtype).eps
    )


@pytest.mark.parametrize("capture", ["split", "whole"])
@pytest.mark.parametrize("form", ["momentum under a decay", "the delta rule, channels"])
def test_compiled(form: str, capture: str) -> None:
    program = load_text(text(form))
    data = batches(FORMS[form][0], DECAYS["zero, tiny, negative and more than one"])
    plain = compile_program(program, precision="float64", capture="eager")
    assert traced_once(plain, capture, data) <= laws.EXACT
