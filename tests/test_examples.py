"""The two main examples are short, and every clause cites its equation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

# Equations and sections that the specs cite, in a line each. 2512.24695v1 for hope.nl, 2501.00663v1
# for titans.nl.
EQUATIONS = {
    "hope.nl": {
        "Eq. 1": "W_{t+1} = W_t - eta grad L(W_t; x_t)",
        "Eq. 28": "the start of a level minimises the loss of the levels that run from it: "
        "transfer by initialisation",
        "Eq. 70": "y = MLP^(f_k)( .. MLP^(f_1)(x)): the chain of a continuum, fastest first",
        "Eq. 71": "theta_{i+1} = theta_i - sum over the chunk of eta err(theta; x), if i = 0 mod "
        "C; theta_i otherwise",
        "Eq. 73": "sequential continuum: all starts are learned in the lowest-frequency level",
        "Eq. 76": "k, v, q, eta, alpha as projections of x",
        "Eq. 83": "k, v, eta, alpha = M_box,t-1(x), y = M_mem,t-1(q)",
        "Eq. 84": "each memory makes its own target, M_box,t-1(v)",
        "Eq. 85": "min over M_box of L(M_box; k, target)",
        "Eq. 88": "M_t = M_{t-1} (alpha I - eta k k^T) - eta grad L(M_{t-1}; k, target)",
        "Eq. 89": "M(z) = z + W_1 sigma(W_2 z)",
        "Eq. 90": "Eq. 88 with gradient, target and read at the last state of the previous chunk",
        "Eq. 94": "o = self-modifying Titans(x)",
        "Eq. 97": "y = continuum(o)",
        "Eq. 105": "Adam's form: W - eta M / (sqrt(H) + eps)",
        "sec. 8.2": "two chunk lengths: one for M_mem, one for the other memories",
        "sec. 8.3": "local convolutions of window 4",
    },
    "titans.nl": {
        "Eq. 8": "M_t = M_{t-1} - theta_t grad l(M_{t-1}; x_t), at every token",
        "Eq. 11": "k = x W_K, v = x W_V, q = x W_Q",
        "Eq. 12": "l(M; x) = |M(k) - v|^2",
        "Eq. 13": "M_t = (1 - alpha_t) M_{t-1} + S_t",
        "Eq. 14": "S_t = eta_t S_{t-1} - theta_t grad l(M_{t-1}; x_t)",
        "Eq. 15": "y = M(q), a forward pass without update",
        "Eq. 18": "Eq. 14 with the gradient at the start of the chunk",
        "sec. 3.1": "the memory is an MLP with L_M >= 1 layers; projections, gates and starts are "
        "trained in the outer loop",
        "sec. 4.4": "SiLU, convolution of 4, unit queries and keys, a gate before the output "
        "projection",
        "sec. 5.1": "next-token loss, AdamW, cosine schedule, weight decay 0.1",
    },
}
CLAUSE = re.compile(r"^\s*(level |memory |context |minimize |bptt |\S+ <- |S = |target = )")


def cited(comment: str) -> list[str]:
    """`Eqs. 83-85, 90: ..` -> Eq. 83, Eq. 84, Eq. 85, Eq. 90; sections as they stand."""
    found = re.findall(r"secs?\. \d+\.\d+", comment)
    for group in re.findall(r"Eqs?\. ([\d, -]+)", comment):
        for part in filter(None, (p.strip() for p in group.split(","))):
            low, _, high = part.partition("-")
            found += [f"Eq. {n}" for n in range(int(low), int(high or low) + 1)]
    return found


@pytest.mark.parametrize("name", EQUATIONS)
def test_a_spec_is_short(name: str) -> None:
    lines = (EXAMPLES / name).read_text().splitlines()
    assert len(lines) <= 80
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("name", EQUATIONS)
def test_every_clause_cites_an_equation(name: str) -> None:
    inside = 0
    for number, line in enumerate((EXAMPLES / name).read_text().splitlines(), 1):
        text, _, comment = line.partition("#")
        if re.match(r"\s*level ", text):
            inside = 1
        if inside and CLAUSE.match(text):
            assert cited(comment), f"{name}:{number} cites nothing: {line}"
        inside = inside and inside + text.count("{") * (
            not re.match(r"\s*level ", text)
        ) - text.count("}")


@pytest.mark.parametrize("name", EQUATIONS)
def test_every_citation_resolves(name: str) -> None:
    known, seen = EQUATIONS[name], set()
    for number, line in enumerate((EXAMPLES / name).read_text().splitlines(), 1):
        if number > 3:
            for equation in cited(line.partition("#")[2]):
                assert equation in known, f"{name}:{number} cites {equation}"
                seen.add(equation)
    assert seen | {"sec. 8.2", "sec. 4.4"} >= set(known), f"cited by nothing: {set(known) - seen}"
