"""An operator that a user registers can be called in a spec; the laws hold of it, or the call of
`register` says which does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

import nldsl
from nldsl.core.ops import OPS
from nldsl.diagnostic import Diagnostics
from nldsl.graph.built_in import FUNCTIONS
from nldsl.oracle.operators import APPLY
from nldsl.pipeline import load_text
from nldsl.testing import data, laws

SOFTSIGN = {
    "text": "{0} / (1 + {0}.abs())",
    "rule": lambda x: x / (1 + x.abs()),
    "derivative": lambda y, x: (1 - abs(y)) ** 2,
    "fold": lambda x: x / (1 + abs(x)),
}
HYPOT = {
    "arity": 2,
    "text": "torch.hypot({0}, {1})",
    "rule": lambda x, y: (x * x + y * y).sqrt(),
    "derivative": lambda r, x, y: (x / r, y / r),
    "sign": "positive",
}
PROGRAM = """nldsl 1
import optimizers
dim d = 4, vocab = 5
input ids: index(vocab)

def mixer(x) {
    k = softsign(linear(x, [d]))
    v = linear(x, [d])
    rate = 0.3 * hypot(0.5, sigmoid(affine(x, [])))
    level recall every token {
        memory M: [d, d] = learned
        context k, v
        minimize |softsign(M * k) - v|^2
        M <- 0.9 * M - rate * grad(M)
        bptt full
    }
    return softsign(recall.M@after * k)
}

def model(ids) {
    x = embed(ids, [d])
    y = x + mixer(x)
    return cross_entropy(linear(y, [vocab]), next(ids))
}

loss = model(ids)
level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W + sgd(grad(W), softsign(0.1))
}
"""


@pytest.fixture
def registered() -> Iterator[None]:
    nldsl.register("softsign", **SOFTSIGN)
    nldsl.register("hypot", **HYPOT)
    yield
    for name in ("softsign", "hypot"):
        del OPS[name], APPLY[name], FUNCTIONS[name]


@pytest.mark.usefixtures("registered")
def test_the_laws_hold_of_a_registered_operator() -> None:
    """Values, gradients, and the inner gradient that a slower learner differentiates through."""
    program = load_text(PROGRAM, "own.nl")
    subject = laws.Subject(program)
    batches = [data(program, 2, 6, seed) for seed in range(3)]
    assert not laws.beyond(laws.agreement(subject, batches))
    assert laws.causality(subject, batches[0], 3) == 0.0
    assert laws.independence(subject, batches[0]) == 0.0
    assert laws.splits(subject, batches[0]) <= laws.EXACT
    assert laws.slope(subject, batches[0]) <= laws.DIFFERENCE
    assert ".abs())" in subject.step.source and "torch.hypot(" in subject.step.source


@pytest.mark.usefixtures("registered")
def test_numbers_fold_before_the_run() -> None:
    text = "nldsl 1\ninput x: []\ny = softsign(1) * x + hypot(3, 4)\n"
    program = load_text(text, "own.nl")
    assert [n["value"] for n in program.nodes() if n.op == "const" and n["value"] == 0.5]
    assert any(n.op == "hypot" for n in program.nodes())  # without `fold` it is a node


@pytest.mark.usefixtures("registered")
def test_a_call_is_checked_as_any_other() -> None:
    with pytest.raises(Diagnostics) as found:
        load_text("nldsl 1\ninput x: []\ny = hypot(x)\n", "own.nl")
    assert [d.code for d in found.value.diagnostics] == ["N107"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"derivative": lambda y, x: 1 - abs(y)}, "the derivative is"),
        ({"derivative": lambda y, x: (1, x)}, "2 derivatives for 1 arguments"),
        ({"text": "{0} / (1 + {0})"}, "the code is"),
        ({"text": "({0} / (1 + {0}.abs())).detach()"}, "torch's slope of the code is 0"),
        ({"rule": lambda x: (x / (1 + x.abs())).float()}, "the rule makes"),
        ({"fold": math.tanh}, "the folding is"),
        ({"sign": "positive"}, "all are said to be positive"),
    ],
)
def test_what_does_not_hold_is_told(wrong: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        nldsl.register("softsign", **(SOFTSIGN | wrong))
    assert "softsign" not in OPS and "softsign" not in FUNCTIONS


@pytest.mark.parametrize("name", ["tanh", "linear", "einsum", "level", "2x"])
def test_a_name_of_the_language_stays_what_it_is(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        nldsl.register(name, **SOFTSIGN)


def test_a_slope_that_is_infinite_somewhere_is_kept_out_of_branches_not_chosen() -> None:
    """`where(x >= 1, acosh(x), 0)` has the derivative 0 where x < 1, and not nan."""
    nldsl.register(
        "acosh",
        text="torch.acosh({0})",
        rule=torch.acosh,
        derivative=lambda y, x: 1 / (x * x - 1) ** 0.5,
        safe=(0, 2.0),
        points=(1.2, 2.0, 3.5),
    )
    try:
        text = PROGRAM.replace("softsign(linear(x, [d]))", "where(v >= 1.1, acosh(v), v)")
        text = text.replace("    v = linear(x, [d])\n", "").replace(
            "    k = where", "    v = 2 * linear(x, [d])\n    k = where"
        )
        for name in ("softsign", "hypot"):
            text = text.replace(f"{name}(", "max(" if name == "hypot" else "tanh(")
        program = load_text(text, "own.nl")
        subject = laws.Subject(program)
        assert not laws.beyond(laws.agreement(subject, [data(program, 2, 6, 0)]))
    finally:
        del OPS["acosh"], APPLY["acosh"], FUNCTIONS["acosh"]
