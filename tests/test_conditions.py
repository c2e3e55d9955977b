"""Comparisons give 0 or 1, and `where` chooses by one. The branch that `where` does not choose
affects neither values nor gradients.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from texts import training
from torch import Tensor

from nldsl.diagnostic import Diagnostics
from nldsl.pipeline import load_text
from nldsl.testing import laws

torch.set_num_threads(1)

X = torch.tensor(
    [[[0.0, -1.0, 2.0, 1e3], [4.0, 0.0, -2.0, -1e3], [1.0, 1.0, 0.25, 0.0]]], dtype=torch.float64
)


def subject(body: str, context: str = "x") -> laws.Subject:
    return laws.Subject(load_text("nldsl 1\nimport layers\ndim c = 4\n" + body + training(context)))


def gradient(body: str) -> tuple[Tensor, Tensor, laws.Subject]:
    """The loss and its gradient in `w`, the same from the interpreter."""
    made = subject("input x: [c]\nw = weight([c], init = 1)\ny = w .* x\n" + body)
    found = laws.agreement(made, [{"x": X}, {"x": X + 1}])
    assert not laws.beyond(found)
    made.restart()
    return made.forward({"x": X})[0]["loss"], made.gradients({"x": X})["w"], made


def by_hand(f: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Of a loss of y at each token, entry by entry: nothing unchosen is ever computed."""
    w = torch.ones(4, dtype=torch.float64, requires_grad=True)
    loss = torch.stack(
        [torch.stack([f(w[c] * X[0, t, c], X[0, t, c]) for c in range(4)]).sum() for t in range(3)]
    )
    return loss.detach()[None], torch.autograd.grad(loss.mean(), w)[0]


BRANCHES: dict[str, tuple[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "a root": ("where(y <= 0, 0, sqrt(y))", lambda y, x: 0 * y if y <= 0 else y.sqrt()),
    "a logarithm": ("where(y <= 0, 0, log(y))", lambda y, x: 0 * y if y <= 0 else y.log()),
    "a quotient": ("where(y == 0, 0, 1 ./ y)", lambda y, x: 0 * y if y == 0 else 1 / y),
    "an exponential": (
        "where(y >= -2, y, exp(2000 * y))",
        lambda y, x: y if y >= -2 else (y * 2000).exp(),
    ),
    "a power": ("where(y <= 0, y, y .^ (-1.5))", lambda y, x: y if y <= 0 else y**-1.5),
    "a chain": (
        "where(y <= 0, 0, sqrt(log(1 + 1 ./ y)))",
        lambda y, x: 0 * y if y <= 0 else (1 + 1 / y).log().sqrt(),
    ),
    "the other branch": (
        "where(y >= 1, sqrt(y - 1), y)",
        lambda y, x: y if y < 1 else 0 * y if y == 1 else (y - 1).sqrt(),
    ),
    "within another": (
        "where(x >= 0, where(y == 0, 1, 2 ./ y), sqrt(-y))",
        lambda y, x: (-y).sqrt() if x < 0 else 1 + 0 * y if y == 0 else 2 / y,
    ),
    "the greater": (
        "max(log(y), -3)",
        lambda y, x: y.log() if y > 0 and y.log() >= -3 else 0 * y - 3,
    ),
    "the smaller": (
        "min(2, 1 ./ abs(2 * x - y))",
        lambda y, x: 0 * y + 2 if x.abs() <= 0.5 else 1 / (2 * x - y).abs(),
    ),
    "conditions joined": (
        "where(max(y <= 0, x <= 1), 0, log(y - 1))",
        lambda y, x: 0 * y if x <= 1 else (y - 1).log(),
    ),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_the_branch_that_is_not_taken_has_no_part(name: str) -> None:
    text, chosen = BRANCHES[name]
    loss, slope, _ = gradient(f"loss = sum({text})\n")
    wanted, expected = by_hand(chosen)
    assert torch.allclose(loss, wanted, atol=1e-9)
    assert torch.allclose(slope, expected, atol=1e-9)


def test_a_condition_for_all_entries() -> None:
    """The mask reaches through sums, products and broadcasts to what is not chosen."""
    w = torch.ones(4, dtype=torch.float64, requires_grad=True)
    y = w * X[0]
    rows = [
        0 * y[t].sum() if X[0, t].min() <= 0 else y[t].sum() * (1 / y[t]).sum() + y[t].log().sum()
        for t in range(3)
    ]
    loss, slope, _ = gradient(
        "least = min(min(x[0], x[1]), min(x[2], x[3]))\n"
        "loss = where(least <= 0, 0, sum(y) * sum(1 ./ y) + sum(log(y)))\n"
    )
    assert torch.allclose(loss, torch.stack(rows).detach()[None], atol=1e-9)
    expected = torch.autograd.grad(torch.stack(rows).mean(), w)[0]
    assert torch.allclose(slope, expected, atol=1e-9)


def test_a_product_of_matrices_behind_a_condition() -> None:
    """Rows are not chosen whose entries have no value at 0."""
    rows = torch.tensor(
        [[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64
    )
    w = torch.ones(4, dtype=torch.float64, requires_grad=True)
    chosen = torch.stack(
        [
            torch.stack([x / (w[c] * x * w[c]) if x != 0 else 0 * w[c] for c, x in enumerate(row)])
            for row in X[0]
        ]
    )
    loss, slope, _ = gradient(
        f"A = weight([c, 4], init = {rows.tolist()})\n"
        "loss = sum(where(x == 0, 0, x .* (diag(1 ./ y) * (1 ./ w))))\n"
    )
    assert torch.allclose(loss, chosen.sum(-1).detach()[None], atol=1e-12)
    assert torch.allclose(slope, torch.autograd.grad(chosen.sum(-1).mean(), w)[0], atol=1e-12)


def test_a_condition_in_the_objective_of_a_memory() -> None:
    """The gradient is made of equations there: x / (2 sqrt(M x)) where M x is above 0."""
    made = subject(
        """input x: [c]
a = weight([], init = 1)
level m every token {
    memory M: [c] = 1
    context x
    z = M .* x
    minimize sum(where(z <= 0, 0, sqrt(z)))
    M <- M - 0.5 * a * grad(M)
    bptt full
}
loss = |m.M@after - next(x)|^2
""".replace(
            "    z = M .* x\n    minimize sum(where(z <= 0, 0, sqrt(z)))",
            "    minimize sum(where(M .* x <= 0, 0, sqrt(M .* x)))",
        )
    )
    found = laws.agreement(made, [{"x": X}, {"x": X}])
    assert not laws.beyond(found)
    made.restart()
    _, carry = made.forward({"x": X})
    memory = torch.ones(4, dtype=torch.float64)
    for t in range(3):
        z = memory * X[0, t]
        memory = memory - torch.where(z > 0, 0.5 * X[0, t] / (2 * z.clamp_min(1e-300).sqrt()), 0.0)
    assert torch.allclose(carry["m.M"][0], memory, atol=1e-12)


NUMBERS = {
    "not": ("sum(1 - (y >= 1))", lambda x: (x < 1).double().sum(-1)),
    "and, or": (
        "sum((y >= 1) + (x <= 0) + (x >= 0) .* (x <= 1))",
        lambda x: ((x >= 1).double() + (x <= 0).double() + ((x >= 0) & (x <= 1)).double()).sum(-1),
    ),
    "a mean": ("mean(y == 0)", lambda x: (x == 0).double().mean(-1)),
    "negated, a square": (
        "|-(y <= 0)|^2 + <(x >= 0), x>",
        lambda x: (x <= 0).double().sum(-1) + x.clamp_min(0).sum(-1),
    ),
    "two numbers": (
        "sum(where(y >= 1, 2, 3) + 1)",
        lambda x: torch.where(x >= 1, 3.0, 4.0).double().sum(-1),
    ),
    "for all": (
        "sum(where(x[0] >= 1, y, 2 * y))",
        lambda x: torch.where(x[..., :1] >= 1, x, 2 * x).sum(-1),
    ),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_comparison_is_a_number(name: str) -> None:
    text, wanted = NUMBERS[name]
    loss, _, _ = gradient(f"u = weight([], init = 0)\nloss = {text} + sum(u * y)\n")
    assert torch.allclose(loss, wanted(X), atol=1e-12)


def test_comparisons_of_the_step_clock_and_of_an_index() -> None:
    made = subject(
        """input ids: index(5)
w = weight([c], init = 1)
known = 1 - (ids == 3)
loss = |w|^2 * known + mean(w >= 1)
""",
        "ids",
    )
    ids = torch.tensor([[0, 3, 4]])
    found = laws.agreement(made, [{"ids": ids}] * 2)
    assert not laws.beyond(found)
    made.restart()
    assert made.forward({"ids": ids})[0]["loss"].tolist() == [[5.0, 1.0, 5.0]]


@pytest.mark.parametrize(
    "condition", ["x", "y - x", "tanh(y)", "(x >= 0) + (y >= 0)", "0.5 * (x >= 0)"]
)
def test_a_condition_that_is_a_number(condition: str) -> None:
    with pytest.raises(Diagnostics) as found:
        subject(f"input x: [c]\ny = weight([c]) .* x\nloss = sum(where({condition}, y, 2))\n")
    (finding,) = found.value.diagnostics
    assert finding.code == "N202" and finding.span is not None and finding.span.text() == condition


@pytest.mark.parametrize(
    "condition",
    [
        "x >= 0",
        "(x >= 0) .* (y <= 1)",
        "1 - (x == y)",
        "max(x >= 0, y >= 0)",
        "where(x >= 0, y >= 0, x >= y)",
    ],
)
def test_what_a_condition_may_be(condition: str) -> None:
    gradient(f"loss = sum(where({condition}, y, 2 * y))\n")
