"""The laws that every program keeps, over programs at random and over both examples; each is a
function of `nldsl.testing.laws`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from family import TWO, deeper, program, text, tiny
from lawful import (
    LAWS,
    all_laws,
    both,
    causal,
    independent,
    nameless,
    repeatable,
    steep,
    still,
    whole,
)
from torch import Tensor

from nldsl.core.program import Program
from nldsl.pipeline import compile_program, load_text
from nldsl.testing import Drawn, data, laws
from nldsl.testing.properties import over

torch.set_num_threads(1)
EXAMPLES = ("titans", "hope")


def example(name: str, length: int = 9) -> tuple[laws.Subject, Drawn]:
    return deeper(name).restart(), Drawn(text(name), 2, length, 0)


test_no_token_changes_what_was_said_before_it = over(12)(both(causal))
test_no_sequence_changes_another = over(12)(both(independent))
test_a_cut_sequence_is_one_sequence = over(12)(both(whole))
test_levels_move_at_their_ticks_alone = over(12)(still)
test_one_seed_is_one_run = over(6)(repeatable)
test_names_are_only_names = over(12)(nameless)
test_gradients_are_slopes = over(12)(steep)


test_all_laws_soak = pytest.mark.soak(over(200)(all_laws))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_keep_the_laws(name: str, law: str) -> None:
    LAWS[law](*example(name))


@pytest.mark.parametrize(
    "name, sizes, length",
    [
        ("titans", {"d": 2, "head": 1, "vocab": 3, "depth": 1, "chunk": 2}, 5),
        (
            "hope",
            {"d": 2, "head": 1, "vocab": 3, "depth": 1, "near": 1, "span": 2, "periods": [1]},
            5,
        ),
    ],
)
def test_gradcheck(name: str, sizes: dict[str, object], length: int) -> None:
    """Every slope of every weight, over two chunks and a remainder."""
    subject = laws.Subject(tiny(name, **sizes))
    batch = data(subject.program, 1, length, 0)
    names = list(subject.state.views)
    weights = [subject.state.views[n].detach().clone().requires_grad_() for n in names]
    assert sum(w.numel() for w in weights) <= 300
    assert torch.autograd.gradcheck(
        lambda *w: subject.forward(batch, weights=dict(zip(names, w)))[0]["loss"],
        weights,
        eps=1e-6,
        atol=1e-7,
        rtol=1e-5,
    )


# A mechanism matters: taking it out, with all else bit-equal at the start, moves the outputs after
# three steps.

TAKEN_OUT: dict[tuple[str, str], tuple[dict[str, object], list[tuple[str, str]]]] = {
    ("titans", "momentum"): ({}, [("decay = sigmoid(affine(x, [head]))", "decay = 0")]),
    ("titans", "retention"): ({}, [("forget = sigmoid(affine(x, [head]) - 6)", "forget = 0")]),
    ("titans", "the memory's learning"): (
        {},
        [("rate = 0.01 * (1 - decay) .* sigmoid(affine(x, [head]))", "rate = 0")],
    ),
    ("hope", "DGD"): ({}, [("(keep * I - rate * k * k^T)", "(keep * I)")]),
    ("hope", "self-generated targets"): ({}, [("target = M@chunk(v)", "target = v")]),
    ("hope", "retention"): ({}, [("keep = sigmoid(a + 6)", "keep = 1")]),
    ("hope", "momentum"): ({"beta": 0.9}, [("beta = 0.9", "beta = 0")]),
    **{
        ("hope", f"the level of period {p}"): (
            {},
            [("periods = [1, 2, 3]", f"periods = {[q for q in (1, 2, 3) if q != p]}")],
        )
        for p in (1, 2, 3)
    },
}


def outputs(
    made: Program,
    batches: list[dict[str, Tensor]],
    hold: Callable[[str], bool] = lambda name: False,
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """The logits after three steps, the weights before, and their first gradients.

    Weights that `hold` names stay as they were.
    """
    step = compile_program(made, precision="float64", capture="eager", planned_steps=20)
    subject = laws.Subject(made, step=step)
    first = {n: w.detach().clone() for n, w in subject.state.views.items()}
    slopes = subject.gradients(batches[0])
    for batch in batches:
        step(subject.state, [batch])
        with torch.no_grad():
            for name, w in subject.state.views.items():
                if hold(name):
                    w.copy_(first[name])
    reader = step.reading.module("logits", step.reading.logits())
    with torch.no_grad():
        carry = reader["start"](
            subject.state.views,
            batches[0]["ids"].shape[0],
            next(iter(subject.state.views.values())),
        )
        said, _ = reader["forward"](subject.state.views, batches[0], carry, 0, "loop")
    return said["logits"], first, slopes


@cache
def as_it_is(
    name: str, sets: tuple[tuple[str, object], ...]
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    return outputs(tiny(name, **dict(sets)), [data(program(name), 4, 12, i) for i in range(3)])


def moved(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean().sqrt() / b.square().mean().sqrt())


@pytest.mark.parametrize("name, mechanism", TAKEN_OUT)
def test_each_mechanism_matters(name: str, mechanism: str) -> None:
    sets, edits = TAKEN_OUT[name, mechanism]
    sets = TWO | sets
    edited, without = text(name), dict(sets)
    for old, new in edits:
        key, _, value = new.partition(" = ")
        if old in edited:
            edited = edited.replace(old, new)
        else:
            without[key] = value
    batches = [data(program(name), 4, 12, i) for i in range(3)]
    a, first, slopes = as_it_is(name, tuple(sets.items()))
    b, other, _ = outputs(tiny(name, edited, **without), batches)
    assert all(torch.equal(first[n], other[n]) for n in first if n in other)
    assert moved(b, a) > 1e-3
    own = [n for n in first if n not in other]
    assert all(slopes[n].abs().max() > 0 for n in own), own


@pytest.mark.parametrize(
    "name, start",
    [
        ("titans", "recall.M"),
        *(("hope", f"{box}.recall.M") for box in ("M_k", "M_v", "M_eta", "M_alpha", "M_mem")),
    ],
)
def test_each_learned_start_matters(name: str, start: str) -> None:
    batches = [data(program(name), 4, 12, i) for i in range(3)]
    free, first, slopes = as_it_is(name, tuple(TWO.items()))
    own = [n for n in first if start in n]
    assert own and all(slopes[n].abs().max() > 0 for n in own)
    held, _, _ = outputs(program(name), batches, lambda weight: weight in own)
    assert moved(held, free) > 1e-3


# The library's optimizers, inside the compiled step, against torch.optim.

OPTIMIZERS = {
    "adamw": (
        "adamw(W, grad(W), lr = 0.01, decay = 0.1)",
        lambda w: torch.optim.AdamW(w, 0.01, weight_decay=0.1),
    ),
    "adam": ("0.01 * adam(grad(W))", lambda w: torch.optim.Adam(w, 0.01)),
    "momentum": ("momentum(grad(W), 0.05, 0.9)", lambda w: torch.optim.SGD(w, 0.05, momentum=0.9)),
    "nesterov": (
        "nesterov(grad(W), 0.05, 0.9)",
        lambda w: torch.optim.SGD(w, 0.05, momentum=0.9, nesterov=True),
    ),
    "sgd": ("sgd(grad(W), 0.05)", lambda w: torch.optim.SGD(w, 0.05)),
    "adagrad": ("adagrad(grad(W), 0.05)", lambda w: torch.optim.Adagrad(w, 0.05)),
}
REGRESSION = """nldsl 1
import optimizers
dim c = 3, f = 4
input x: [c]
hidden = tanh(affine(x, [f]))
loss = |affine(hidden, [c]) - next(x)|^2
level training every step {
    memory W: weights
    context x
    minimize mean(loss over period)
    W <- W + STEP
}
"""


def optimizer_agrees(name: str, capture: str) -> None:
    text, make = OPTIMIZERS[name]
    made = load_text(REGRESSION.replace("STEP", text))
    step = compile_program(made, precision="float64", capture=capture)
    state = step.init(0)
    w = {n: x.detach().clone().requires_grad_() for n, x in state.views.items()}
    optimizer = make(list(w.values()))
    hidden, bias, out, out_bias = w.values()
    for i in range(100):
        batch = data(made, 2, 4, i)
        x = batch["x"]
        error = torch.tanh(x @ hidden.T + bias) @ out.T + out_bias
        optimizer.zero_grad()
        (error[:, :-1] - x[:, 1:]).square().sum(-1).mean().backward()
        optimizer.step()
        step(state, [batch])
    for n, x in w.items():
        assert laws.deviation(state.views[n], x) <= laws.EXACT, n


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_of_the_library(name: str) -> None:
    optimizer_agrees(name, "eager")


@pytest.mark.soak
@pytest.mark.parametrize("capture", ["split", "whole"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_of_the_library_compiled(name: str, capture: str) -> None:
    optimizer_agrees(name, capture)
