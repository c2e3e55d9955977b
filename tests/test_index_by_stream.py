"""`p[i]`, where `i` is a stream of `index(n)`: each token takes the entry of its own `p`, and
gradients go back through it.
"""

from __future__ import annotations

import pytest
import torch
from texts import WORDS, training

from nldsl.diagnostic import Diagnostics
from nldsl.pipeline import load_text
from nldsl.testing import data, laws

torch.set_num_threads(1)


def subject(body: str, batches: int = 7) -> laws.Subject:
    """With more sequences than entries: what is read from another sequence shows."""
    made = laws.Subject(load_text(WORDS + body + training()))
    found = laws.agreement(made, [data(made.program, batches, 6, i) for i in range(2)])
    assert not laws.beyond(found)
    assert any(name.startswith("gradient ") for name in found)
    batch = data(made.program, batches, 6, 2)
    assert laws.independence(made, batch) == 0.0
    assert laws.causality(made, batch, 3) == 0.0
    assert laws.splits(made, batch) <= laws.EXACT
    assert laws.slope(made, batch) <= laws.DIFFERENCE
    return made.restart()


def test_the_probability_of_the_token_that_came() -> None:
    """Its logarithm is what `cross_entropy` says, with the same gradients."""
    picked = subject("p = softmax(linear(x, [vocab]))\nloss = -log(p[next(ids)])")
    named = subject("p = linear(x, [vocab])\nloss = cross_entropy(p, next(ids))")
    batch = data(picked.program, 7, 6, 0)
    assert torch.allclose(
        picked.forward(batch)[0]["loss"], named.forward(batch)[0]["loss"], atol=1e-12
    )
    pairs = zip(picked.gradients(batch).values(), named.gradients(batch).values(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in pairs)


def test_an_entry_by_hand() -> None:
    made = subject("q = linear(x, [vocab, e])\nr = q[ids]\nloss = |r - 1|^2 + |q[next(ids)]|^2")
    batch = data(made.program, 7, 6, 0)
    out = made.forward(batch)[0]
    q, ids = out["q"], batch["ids"]
    for lane in range(7):
        for t in range(5):
            assert torch.equal(out["r"][lane, t], q[lane, t, ids[lane, t]])
            wanted = (out["r"][lane, t] - 1).square().sum() + q[
                lane, t, ids[lane, t + 1]
            ].square().sum()
            assert torch.allclose(out["loss"][lane, t], wanted, atol=1e-12)


ENTRIES = {
    "of a table": "E = weight([vocab, d])\nloss = |E[ids] - E[next(ids)]|^2",
    "of an entry": "E = weight([vocab, vocab, d])\nloss = |E[ids][ids] - E[next(ids)][ids] - x|^2",
    "of a row": "E = weight([vocab, vocab])\nq = tanh(E[ids])\nloss = (q[next(ids)] - 1)^2",
    "of each head": """
def at(q: [vocab], i) = q[i]
q = linear(x, [head, vocab])
loss = |at(q, next(ids))|^2""",
    "of a memory": """
k = softmax(linear(x, [vocab]))
level table every token {
    memory M: [vocab, d] = 0
    context k, x
    minimize |M^T * k - x|^2
    M <- M - 0.3 * grad(M)
    bptt full
}
loss = |table.M@after[ids] - next(x)|^2""",
    "of a memory that it moves": """
level table every token {
    memory M: [vocab, d] = learned
    context ids, x
    minimize |M[ids] - x|^2
    M <- M - 0.3 * grad(M)
    bptt full
}
loss = |table.M[ids] - next(x)|^2""",
    "in an equation of a memory": """
p = softmax(linear(x, [vocab]))
level sum_ every token {
    memory M: [d] = 0
    M <- 0.9 * M + p[ids] * x
    bptt full
}
loss = |sum_.M@after - next(x)|^2""",
    "in an equation that is not linear": """
level sum_ every token {
    memory M: [vocab] = 0
    M <- tanh(0.9 * M + M[ids] + linear(x, [vocab]))
    bptt full
}
loss = (sum_.M@after[ids] - 1)^2 + |x - next(x)|^2""",
    "of what the next token is": """
q = linear(x, [vocab])
level value every token {
    memory M: [vocab] = 0
    context q, ids
    minimize (M[next(ids)] - q[next(ids)])^2
    M <- M - 0.3 * grad(M)
    bptt full
}
loss = (value.M[ids] - 1)^2 + |x - next(x)|^2""",
}


@pytest.mark.parametrize("name", ENTRIES)
def test_every_law(name: str) -> None:
    subject(ENTRIES[name])


PLACES = [
    ("q[x]", "N203"),
    ("q[-1]", "N206"),
    ("q[9]", "N211"),
    ("x[ids]", "N204"),
    ("sum(x)[ids]", "N204"),
]


@pytest.mark.parametrize("place, code", PLACES)
def test_a_place_that_is_not_there(place: str, code: str) -> None:
    with pytest.raises(Diagnostics) as found:
        load_text(
            WORDS
            + f"q = linear(x, [vocab])\nloss = |x - next(x)|^2 + sum(q) + {place}"
            + training()
        )
    assert [d.code for d in found.value.diagnostics if d.severity == "error"] == [code]
