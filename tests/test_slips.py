"""The compiler refuses mistakes that it once accepted: clauses said twice, an index as a number, a
step that climbs.
"""

from __future__ import annotations

import pytest
import torch
from offenders import codes
from texts import training

from nldsl.pipeline import load_text
from nldsl.testing import laws

torch.set_num_threads(1)


def level(*clauses: str) -> list[str]:
    lines = "".join(f"    {clause}\n" for clause in clauses)
    text = (
        "nldsl 1\ninput x: []\nw = weight([], init = 1)\n"
        "level a every token {\n    memory M: [] = 0\n"
        "    M <- M + w * x\n" + lines + "}\nloss = (a.M@after - next(x))^2" + training("x")
    )
    return codes(text)


@pytest.mark.parametrize(
    "clauses, count",
    [
        (("bptt full", "bptt none"), 1),
        (("bptt full", "bptt full"), 1),
        (("bptt full", "reset every 4 token", "reset every 8 token"), 1),
        (("bptt full by training", "bptt none by training"), 1),
        (("bptt full", "bptt none by training"), 0),
        (("bptt full", "reset every 4 token"), 0),
    ],
)
def test_a_clause_is_said_once(clauses: tuple[str, ...], count: int) -> None:
    assert level(*clauses).count("N309") == count


def test_a_context_is_said_once() -> None:
    text = "nldsl 1\ninput x: []\nw = weight([])\nloss = (w * x - next(x))^2" + training("x")
    assert codes(text) == []
    assert codes(text.replace("context x", "context x\n    context x")) == ["N309"]


INDEX = "nldsl 1\ninput ids: index(5)\nw = weight([], init = 1)\n%s" + training("ids")


@pytest.mark.parametrize(
    "use",
    [
        "w * ids",
        "w + ids",
        "w * -ids",
        "w * tanh(ids)",
        "w * max(ids, 2)",
        "w * sum(ids over 2 token)",
        "w * where(ids == 1, ids, 2)",
        "|ids| * w",
    ],
)
def test_an_index_is_not_a_number(use: str) -> None:
    assert codes(INDEX % f"loss = ({use} - 1)^2") == ["N202"]


@pytest.mark.parametrize(
    "use", ["w * (ids == 3)", "w * (next(ids) == ids)", "w * where(ids <= 2, 1, 2)"]
)
def test_an_index_can_be_compared(use: str) -> None:
    assert codes(INDEX % f"loss = ({use} - 1)^2") == []


def test_two_rows() -> None:
    head = "nldsl 1\ninput u: [4]\ninput v: [3]\n"
    assert codes(head + "y = u^T * v^T") == ["N204"]
    assert codes(head + "y = u * v^T") == []


def test_a_derivative_in_a_later_version() -> None:
    head = "nldsl 1\ninput x: [4]\ns = weight([4], init = 1) .* x\n"
    loss = "\nloss = |s - next(x)|^2" + training("x")
    assert codes(head + "e = |s|^2 / 2\ns <- s - grad(e, s)\ns <- s - grad(e, s)" + loss) == [
        "N511"
    ]
    right = "for i in range(2) {\n    e = |s|^2 / 2\n    s <- s - 0.5 * grad(e, s)\n}"
    subject = laws.Subject(load_text(head + right + loss))
    x = torch.ones(1, 2, 4, dtype=torch.float64)
    assert torch.allclose(
        subject.forward({"x": x})[0]["loss"], torch.tensor([[4 * 0.75**2]]).double()
    )


def test_attention_over_one_pair() -> None:
    head = "nldsl 1\ninput x: [2, 4]\ninput z: [4]\n"
    assert codes(head + "y = attend(z, z -> z)") == ["N410"]
    assert codes(head + "y = attend(z, z -> z over sequence)") == []


def test_ticks_are_of_the_step_clock() -> None:
    head = (
        "nldsl 1\ninput x: []\nlevel a every %s {\n    memory M: [] = 0\n"
        "    M <- M + tick / ticks%s\n}\ny = a.M + x"
    )
    assert codes(head % ("token", " * x")) == ["N310"]
    assert "N310" not in codes(head % ("step", ""))


OPTIMIZERS = [
    "sgd(grad(W), 0.1)",
    "momentum(grad(W), 0.1, 0.9)",
    "nesterov(grad(W), 0.1, 0.9)",
    "0.1 * adam(grad(W))",
    "adamw(W, grad(W), lr = 0.1, decay = 0)",
    "adagrad(grad(W), 0.1)",
]


@pytest.mark.parametrize("step", OPTIMIZERS)
def test_a_step_that_climbs(step: str) -> None:
    """Added, each goes down the objective; subtracted, up, and it is said."""

    def trained(sign: str) -> tuple[list[str], float]:
        text = (
            "nldsl 1\nimport optimizers\ninput x: [4]\nw = weight([4], init = 1)\nloss = |w .* x|^2"
        )
        text += training("x", f"W {sign} {step}")
        program = load_text(text)
        subject = laws.Subject(program)
        x = torch.ones(1, 2, 4, dtype=torch.float64)
        for _ in range(2):
            subject.step(subject.state, [{"x": x}])
        after = subject.forward({"x": x})[0]["loss"].mean().detach()
        return [finding.code for finding in program.findings], after.item()

    assert trained("+")[0] == [] and trained("+")[1] < 4
    assert trained("-")[0] == ["N516"] and trained("-")[1] > 4


@pytest.mark.parametrize("step", OPTIMIZERS)
def test_a_step_in_the_place_of_the_weight(step: str) -> None:
    text = "nldsl 1\nimport optimizers\ninput x: [4]\nw = weight([4], init = 1)\nloss = |w .* x|^2"
    assert codes(text + training("x", step)) == ["N516"]


def test_an_optimizer_of_its_own_is_not_judged() -> None:
    text = (
        "nldsl 1\ninput x: [4]\nw = weight([4], init = 1)\ndef sgd(g, lr) = lr * g\n"
        "loss = |w .* x|^2"
    )
    assert codes(text + training("x", "W - sgd(grad(W), 0.1)")) == []
