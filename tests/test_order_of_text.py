"""Statements take effect in the order of the text: the interpreter against a second reading
of it.
"""

from __future__ import annotations

from random import Random

import pytest
import torch
from drawn_levels import layers, read
from textual import Writer, program, values

from nldsl.diagnostic import Diagnostics
from nldsl.oracle.interpreter import Oracle
from nldsl.pipeline import load_text
from nldsl.testing import Drawn, data, laws, sample
from nldsl.testing.programs import ONWARD, edged

NEAR = 1e-9


def apart(text: str, tokens: int = 4, edges: bool = False) -> float:
    """How far the interpreter is from the text, over all memories and tokens."""
    made = load_text(text)
    x = 0.7 * data(made, 1, tokens, 0, edges)["x"]
    found, wanted = Oracle(made).run({"x": x}).outputs, values(text, x[0])
    return max(laws.deviation(found[f"after_{name}"][0], value) for name, value in wanted.items())


HEADS = ["memory A: [e] = 1", "memory B: [e] = 1", "context x"]
WRITTEN = {
    "an update, the objective, another memory": [
        "A <- A + 2",
        "minimize |A .* B - x|^2 * 0.5",
        "B <- B - 0.5 * grad(B)",
    ],
    "the objective, an update, another memory": [
        "minimize |A .* B - x|^2 * 0.5",
        "A <- A + 2",
        "B <- B - 0.5 * grad(B)",
    ],
    "a definition under the update": [
        "A <- A + 2",
        "a = A",
        "minimize |a .* B - x|^2",
        "B <- B - 0.1 * grad(B) + a",
    ],
    "a definition above the update": [
        "a = A",
        "A <- A + 2",
        "minimize |a .* B - x|^2",
        "B <- B - 0.1 * grad(B) + a",
    ],
    "an update that reads the other": [
        "A <- A + 2 * B",
        "minimize |A .* B - x|^2",
        "B <- B - 0.1 * grad(B)",
    ],
    "its own memory, moved above": [
        "B <- B + 1",
        "minimize |A .* B - x|^2",
        "B <- B - 0.1 * grad(B)",
        "A <- A + B",
    ],
    "its own memory, moved below": [
        "minimize |A .* B - x|^2",
        "B <- B + 1",
        "B <- B - 0.1 * grad(B)",
        "A <- A + B",
    ],
    "two objectives": [
        "minimize |A - x|^2",
        "A <- A - 0.1 * grad(A)",
        "minimize |B - tanh(A + x)|^2",
        "B <- B - 0.1 * grad(B)",
    ],
    "the closed form, moved above": ["A <- A + 2", "minimize |B - (A + x)|^2", "B <- prox(B, 0.5)"],
    "the closed form, moved below": ["minimize |B - (A + x)|^2", "A <- A + 2", "B <- prox(B, 0.5)"],
}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_order_of_the_text(name: str) -> None:
    assert apart(program([*HEADS, *WRITTEN[name], "bptt full"], ["A", "B"])) <= NEAR


def test_an_objective_reads_what_the_text_above_it_made() -> None:
    """A is 3 when the objective is met, so B = 1 - 0.5 * (3 * 1 - 5) * 3."""
    text = """nldsl 1
input x: []
level l every token {
    memory A: [] = 1
    memory B: [] = 1
    context x
    A <- A + 2
    minimize (A * B - x)^2 / 2
    B <- B - 0.5 * grad(B)
}
a = l.A@after
b = l.B@after
loss = (a + weight([], init = 1) * b - next(x))^2
level training every step {
    memory W: weights
    context x
    minimize mean(loss over period)
    W <- W - 0.1 * grad(W)
}
"""
    subject = laws.Subject(load_text(text))
    batch = {"x": torch.full((1, 2), 5.0, dtype=torch.float64)}
    found = subject.forward(batch)[0]
    assert (float(found["a"][0, 0]), float(found["b"][0, 0])) == (3.0, 4.0)
    assert max(laws.agreement(subject, [batch]).values()) <= laws.EXACT


CURVED = """    memory A: [e] = 0.5
    memory B: [e, e] = 0.1 * I
    context x
    {first}
    {second}
    B <- {step}
    bptt full"""


@pytest.mark.parametrize("above", [True, False])
def test_a_closed_form_sees_one_value_of_what_it_reads(above: bool) -> None:
    """The gradient and the curvature |A|^2 are those of one A: that of the place of the
    objective.
    """
    lines = ["A <- A + x", "minimize |B * A - x|^2"]
    first, second = lines if above else lines[::-1]
    key = "A" if above else "a"
    kept = [] if above else ["a = A"]
    found = []
    for step in ("prox(B, 0.5)", f"B - 0.5 / (1 + <{key}, {key}>) * grad(B)"):
        body = CURVED.format(
            first="\n    ".join([*kept, first]), second=second, step=step
        ).splitlines()
        made = load_text(
            program([line.strip() for line in body], ["A", "B"]).replace(
                "y = after_A + after_B", "y = after_B * x"
            )
        )
        subject = laws.Subject(made)
        batch = data(made, 2, 4, 0)
        assert max(laws.agreement(subject, [batch]).values()) <= laws.EXACT
        found.append(subject.forward(batch)[0]["after_B"][:, 0])
    x, B = batch["x"][:, 0], 0.1 * torch.eye(2, dtype=torch.float64)
    A = 0.5 + x if above else torch.full_like(x, 0.5)
    error = (B * A[:, None]).sum(-1) - x
    wanted = B - error[..., None] * A[:, None] / (1 + A.square().sum(-1)[:, None, None])
    assert max(laws.deviation(one, wanted) for one in found) <= NEAR


def judged(count: int, seed: int, edges: bool) -> None:
    random = Random(seed)
    for _ in range(count):
        text = Writer(random, edges).level()
        assert apart(text, edges=edges) <= NEAR, text


@pytest.mark.parametrize("edges", [False, True])
def test_drawn_levels_mean_what_their_text_says(edges: bool) -> None:
    judged(60, 0, edges)


@pytest.mark.soak
@pytest.mark.parametrize("edges", [False, True])
@pytest.mark.parametrize("part", range(20))
def test_two_thousand_drawn_levels(part: int, edges: bool) -> None:
    """Once of ordinary numbers, once of decays, rates and inputs that are 0, 1, negative, tiny, and
    of kinks.
    """
    judged(100, 1 + part, edges)


@pytest.mark.parametrize("seed", range(12))
def test_the_step_computes_what_drawn_levels_mean(seed: int) -> None:
    made = load_text(Writer(Random(1000 + seed)).level())
    found = laws.agreement(laws.Subject(made), [data(made, 2, 5, i) for i in range(2)])
    assert not laws.beyond(found)


READ = 0.6  # of the levels that are drawn, the share that the second reading knows


def told(layer: str, drawn: Drawn) -> torch.Tensor:
    """Data of a layer: [1, 5, d], with the numbers of the draw among them."""
    generator = torch.Generator().manual_seed(drawn.seed)
    width = load_text(layer.partition("input x")[0] + "input x: [d]\n").dims["d"]
    x = torch.randn(1, 5, width, generator=generator, dtype=torch.float64)
    return edged(x, generator) if drawn.edges else x


def levels_agree(count: int, seed: int, edges: bool) -> None:
    """Of the programs of `nldsl.testing`; what is not read is counted."""
    seen: list[bool] = []
    for drawn in sample(count, seed, ONWARD, edges=edges):
        for layer in layers(drawn):
            try:
                found = read(layer, dict(drawn.files), told(layer, drawn))
            except Diagnostics:  # what ends at documents has none in a layer alone
                continue
            wrong = {name: x for name, x in found.items() if isinstance(x, float) and not x <= NEAR}
            assert not wrong, (wrong, layer)
            seen += [isinstance(x, float) for x in found.values()]
    print(f"{sum(seen)} levels of {len(seen)} read")
    assert sum(seen) >= READ * len(seen)


@pytest.mark.parametrize("edges", [False, True])
def test_levels_of_drawn_programs_mean_what_their_text_says(edges: bool) -> None:
    levels_agree(25, 3, edges)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(20))
def test_levels_of_two_thousand_drawn_programs_at_edges(part: int) -> None:
    levels_agree(100, 14 + part, True)
