"""`next(next(x))` and deeper: losses on several later tokens. The loss has a value at a token only
where each of its parts has one.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from texts import WORDS, training

from nldsl.core.nodes import walk
from nldsl.diagnostic import Diagnostics
from nldsl.pipeline import compile_program, load_text
from nldsl.testing import data, laws
from nldsl.train.sample import sample

torch.set_num_threads(1)

TRAINING = training(update="W + adamw(W, grad(W), lr = 0.01, decay = 0.1)")
LOSSES = {
    "two later alone": ("loss = cross_entropy(linear(x, [vocab]), next(next(ids)))", 2),
    "beside the next": (
        "loss = cross_entropy(linear(x, [vocab]), next(ids))"
        " + 0.5 * cross_entropy(linear(x, [vocab]), next(next(ids)))",
        2,
    ),
    "the later one first": (
        "loss = cross_entropy(linear(x, [vocab]), next(next(ids)))"
        " + cross_entropy(linear(x, [vocab]), next(ids))",
        2,
    ),
    "three": (
        "loss = cross_entropy(linear(x, [vocab]), next(ids))"
        " + cross_entropy(linear(x, [vocab]), next(next(next(ids))))",
        3,
    ),
    "of a value": ("y = tanh(linear(x, [d]))\nloss = |y - next(next(y) + x)|^2", 2),
    "after a difference": ("y = linear(x, [d])\nloss = |next(next(y) - y) - x|^2", 2),
    "of an attention": (
        "def mixer(x: [d]) -> [d] = attention(x, head, e, 64)\n"
        "h = language_model(ids, mixer, d, 1, vocab)\n"
        "loss = cross_entropy(h, next(ids)) + cross_entropy(linear(h, [vocab]), next(next(ids)))",
        2,
    ),
    "of a stream that begins late": (
        "clock chunk = 3 token\n"
        "loss = cross_entropy(linear(x + x@chunk, [vocab]), next(next(ids)))",
        2,
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_every_law(name: str) -> None:
    text, lag = LOSSES[name]
    program = load_text(WORDS + text + TRAINING)
    subject = laws.Subject(program)
    found = laws.agreement(subject, [data(program, 2, 7, i) for i in range(2)])
    assert not laws.beyond(found)
    assert any(name.startswith("gradient ") for name in found)
    batch = data(program, 2, 7, 2)
    first = 3 if "chunk" in text else 0
    assert subject.forward(batch)[0]["loss"].shape == (2, 7 - lag - first)
    assert subject.step.terms(batch)["loss"] == 2 * (7 - lag - first)
    assert laws.splits(subject, batch) <= laws.EXACT
    assert laws.causality(subject, batch, 3) == 0.0
    assert laws.independence(subject, batch) == 0.0
    assert laws.slope(subject, batch) <= laws.DIFFERENCE


def test_multi_token_prediction_by_hand() -> None:
    """2404.19737, Eq. 2: a head for each of the next tokens, on one trunk."""
    program = load_text(WORDS + LOSSES["beside the next"][0] + TRAINING)
    subject = laws.Subject(program)
    batch = data(program, 3, 6, 0)
    W = {n: w.detach().clone().requires_grad_() for n, w in subject.state.views.items()}
    table, near, far = (W[n] for n in sorted(W, key=lambda n: (W[n].shape != (5, 4), n != "x", n)))
    ids = batch["ids"]
    x = table[ids[:, :-2]]

    def entropy(head: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(
            (x @ head.T).flatten(0, 1), target.flatten(), reduction="none"
        ).reshape(target.shape)

    terms = entropy(near, ids[:, 1:-1]) + 0.5 * entropy(far, ids[:, 2:])
    assert torch.allclose(subject.forward(batch)[0]["loss"], terms, atol=1e-12)
    found = subject.gradients(batch)
    for name, slope in zip(W, torch.autograd.grad(terms.mean(), list(W.values())), strict=True):
        assert torch.allclose(found[name], slope.reshape(-1), atol=1e-12)


def test_tokens_one_at_a_time() -> None:
    """The interpreter and the emitted step agree on every way to cut, short sequences included."""
    program = load_text(WORDS + LOSSES["three"][0] + TRAINING)
    subject, batch = laws.Subject(program), data(program, 2, 6, 0)
    whole = subject.forward(batch)[0]["loss"]
    parts, carry = [], None
    for t in range(6):
        out, carry = subject.forward({"ids": batch["ids"][:, t : t + 1]}, carry, t)
        parts.append(out["loss"])
    assert [x.shape[1] for x in parts] == [0, 0, 0, 1, 1, 1]
    assert torch.equal(torch.cat(parts, 1), whole)
    assert subject.forward({"ids": batch["ids"][:, :2]})[0]["loss"].shape == (2, 0)
    assert subject.step.terms({"ids": batch["ids"][:, :2]}) == {"loss": 0}


def test_the_interpreter_reads_on() -> None:
    from nldsl.oracle.interpreter import Oracle

    program = load_text(WORDS + LOSSES["three"][0] + TRAINING)
    batch, oracle = data(program, 2, 6, 0), Oracle(program)
    whole = oracle.run(batch).outputs["loss"]
    state, parts = None, []
    for t in range(6):
        result = oracle.run({"ids": batch["ids"][:, t : t + 1]}, state)
        state = result.state
        parts.append(result.outputs["loss"])
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-12)


@pytest.mark.parametrize("name", ["beside the next", "the later one first"])
def test_what_writes_is_the_prediction_of_the_next_token(name: str) -> None:
    program = load_text(WORDS + LOSSES[name][0] + TRAINING)
    step = compile_program(program, capture="eager")
    losses = [n for n in walk(program.outputs["loss"]) if n.op == "cross_entropy"]
    near = next(n for n in losses if n.args[1].args[0].op == "input")
    assert step.reading.logits() is near.args[0]
    out, _ = sample(step, step.init(0), [1, 2], 3, seed=0)
    assert len(out) == 3


def test_beside_a_memory_that_learns_from_the_loss_it_is_refused() -> None:
    text = TOO_FAR.format(
        rate="token", objective="mean(near over period)", target="next(next(ids))"
    )
    text += "near = cross_entropy(linear(y, [vocab]), next(ids))\n"
    with pytest.raises(Diagnostics) as found:
        compile_program(load_text(WORDS + text + TRAINING), capture="eager")
    assert [d.code for d in found.value.diagnostics if d.severity == "error"] == ["N801"]


TOO_FAR = """
level fast every {rate} {{
    memory F: [d, d] = 0
    context ids
    minimize {objective}
    F <- F - 0.1 * grad(F)
    bptt none
}}
y = x + fast.F * x
loss = cross_entropy(linear(y, [vocab]), {target})
"""


@pytest.mark.parametrize("rate", ["token", "4 token"])
def test_a_level_within_the_sequence_cannot_look_two_tokens_ahead(rate: str) -> None:
    """Its tick would wait for the token after the next, and the next token reads it."""
    far = TOO_FAR.format(rate=rate, objective="mean(loss over period)", target="next(next(ids))")
    with pytest.raises(Diagnostics) as found:
        load_text(WORDS + far + TRAINING)
    assert [d.code for d in found.value.diagnostics if d.severity == "error"] == ["N409"]
    near = TOO_FAR.format(rate=rate, objective="mean(loss over period)", target="next(ids)")
    assert all(d.severity != "error" for d in load_text(WORDS + near + TRAINING).findings)
