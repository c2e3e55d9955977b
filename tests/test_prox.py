"""`prox` inside a recurrence minimises an objective over a stretch of time exactly."""

from __future__ import annotations

import pytest
import torch
from recurrences import holds, model

from nldsl.pipeline import load_text
from nldsl.testing import data, laws

torch.set_num_threads(1)

SOLVED = {
    "all pairs so far": (
        "0",
        "sum(|M * k - v|^2 / 2 over sequence)",
        "0, 1",
        "M@after",
        "chunked recurrence, a state per token, a linear system for each token",
    ),
    "a rate from the data": (
        "0",
        "sum(|M * k - v|^2 over sequence)",
        "0, rate",
        "M",
        "chunked recurrence, a state per token, a linear system for each token",
    ),
    "near the moving memory": (
        "learned",
        "mean(|M * k - v|^2 / 2 over chunk)",
        "M, 0.5",
        "M@after",
        "scan",
    ),
    "the last pairs": (
        "learned",
        "sum(|M * k - v|^2 / 2 over 2 token)",
        "M, rate",
        "M@after",
        "scan",
    ),
    "near an anchor": (
        "learned",
        "0.5 * sum(|M * k - v|^2 / 2 over 3 token)",
        "M@chunk, keep",
        "M@after",
        "dual form",
    ),
}


@pytest.mark.parametrize("name", SOLVED)
def test_the_minimiser_of_a_stretch(name: str) -> None:
    """Nested Learning 2512.24695, sec. 4: an objective solved exactly; with P = 0, ridge regression
    on all pairs so far.
    """
    start, objective, near, read, way = SOLVED[name]
    ways = holds(
        model(f"""
    level recall per head every token {{
        memory M: [e, e] = {start}
        context k, v
        minimize {objective}
        M <- prox({near})
        bptt full
    }}
    return linear(rmsnorm(recall.{read} * q), [d])""")
    )
    assert any(found.startswith(way) for found in ways)


def test_ridge_regression_of_all_pairs() -> None:
    """Against torch.linalg.lstsq of the same pairs."""
    text = """nldsl 1
dim e = 3
input k: [e]
input v: [e]
level recall every token {
    memory M: [e, e] = 0
    context k, v
    minimize sum(|M * k - v|^2 over sequence)
    M <- prox(0, 0.25)
}
y = recall.M@after * k
a = weight([])
level training every step {
    memory W: weights
    context k
    minimize mean(a * <y, k> over period)
    W <- W - 0.1 * grad(W)
}
"""
    subject = laws.Subject(load_text(text))
    batch = data(subject.program, 2, 5, 0)
    found = subject.forward(batch)[0]["y"]
    for lane in range(2):
        for t in range(5):
            k, v = (
                torch.cat([batch[n][lane, : t + 1].double(), pad])
                for n, pad in (("k", 2**0.5 * torch.eye(3)), ("v", torch.zeros(3, 3)))
            )
            W = torch.linalg.lstsq(k.double(), v.double()).solution.T
            assert torch.allclose(found[lane, t], W @ batch["k"][lane, t].double(), atol=1e-9)
