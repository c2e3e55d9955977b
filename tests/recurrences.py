"""Programs with one memory in the library's language model, and the laws that every recurrence
keeps.
"""

from __future__ import annotations

from nldsl.core.program import Program
from nldsl.pipeline import load_text
from nldsl.testing import data, laws

HEAD = """nldsl 1
import layers, optimizers, associative_optimizers, retention
dim d = 4, head = 2, e = d / head, vocab = 5
depth = 1
clock chunk = 3 token
input ids: index(vocab)
def net(z: [e]) -> [e] {
    W2 = weight([2 * e, e])
    W1 = weight([e, 2 * e])
    return z + W1 * silu(W2 * z)
}
def mixer(x: [d]) -> [d] {
    q = unit(linear(x, [head, e]))
    k = unit(linear(x, [head, e]))
    v = linear(x, [head, e])
    rate = 0.1 * sigmoid(affine(x, [head]))
    keep = sigmoid(affine(x, [head]) + 4)
"""


TAIL = """
}
loss = cross_entropy(language_model(ids, mixer, d, depth, vocab), next(ids))
level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W + adamw(W, clip(grad(W), 1), lr = 0.01, decay = 0.1)
}
"""


def model(body: str, top: str = "") -> Program:
    return load_text(HEAD.replace("def mixer", top + "\ndef mixer") + body + TAIL)


def memory(
    kind: str, update: str, clauses: str = "bptt full", rate: str = "token", objective: str = ""
) -> str:
    """One memory per head, a net or a matrix, its update, and a fresh read of it."""
    net = kind == "net"
    return f"""
    level recall per head every {rate} {{
        memory M: {"net" if net else "[e, e]"} = learned
        context k, v
        minimize {objective or ("|M(k) - v|^2" if net else "|M * k - v|^2 / 2")}
        {update}
        {clauses}
    }}
    return linear(rmsnorm(recall.M@after{"(q)" if net else " * q"}), [d])"""


def holds(program: Program, length: int = 7, splits: bool = True) -> set[str]:
    """Every law, and the ways in which the recurrences are computed."""
    subject = laws.Subject(program)
    lengths = length, 1 + length // 2
    found = laws.agreement(subject, [data(program, 2, n, i) for i, n in enumerate(lengths)])
    assert not laws.beyond(found)
    assert any(name.startswith("gradient ") for name in found)
    batch = data(program, 2, length, 2)
    assert not splits or laws.splits(subject, batch) <= laws.EXACT
    assert laws.causality(subject, batch, length // 2) == 0.0
    assert laws.independence(subject, batch) == 0.0
    return set(subject.step.emitted.lowering.values())
