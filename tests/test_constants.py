"""Every operator accepts a stream that folds to a constant."""

from __future__ import annotations

import pytest

from nldsl.pipeline import load_text
from nldsl.testing import data, laws

TEXT = """nldsl 1
dim d = 4
input ids: index(d)
y = weight([d, d], init = 1)[ids]
z = y * 0
loss = |y|^2 + {term} + 0 * cross_entropy(y, next(ids))
level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W - 0.1 * grad(W)
}
"""
TERMS = (
    "cross_entropy(z, next(ids))", "z[next(ids)]", "sum(softmax(z))", "sum(exp(z))", "mean(z)",
    "|z|^2", "<z, y>", "sum(max(z, y))", "sum(rope(z))", "sum(attend(y, z -> y over 3 token))",
    "sum(attend(y, y -> z over 3 token))", "sum(join(z, y))", "sum(where(y >= 0, z, y))",
    "sum(linear(z, [d]))", "sum(rmsnorm(z))", "sum(sqrt(z + 1))",
)  # fmt: skip


@pytest.mark.parametrize("term", TERMS)
def test_an_operator_of_a_constant(term: str) -> None:
    made = load_text(TEXT.replace("{term}", term).replace("nldsl 1", "nldsl 1\nimport layers"))
    found = laws.agreement(laws.Subject(made), [data(made, 2, 5, i) for i in range(2)])
    assert not laws.beyond(found)
