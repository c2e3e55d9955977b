"""Recurrences on the token clock: what stands between a memory's read and its tick, and how a piece of tokens is computed.

Each program is held against the slow interpreter (streams, memories, held copies, gradients, two steps), cut at every token,
and edited at later tokens and in other lanes.
"""
from __future__ import annotations

import pytest
import torch

from nldsl.graph.equations import Program
from nldsl.pipeline import load_text
from nldsl.testing import data, laws

torch.set_num_threads(1)

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
    memory W: rest = random
    context ids
    minimize mean(loss over period)
    W <- W + adamw(W, clip(grad(W), 1), lr = 0.01, decay = 0.1)
}
"""


def model(body: str, top: str = "") -> Program:
    return load_text(HEAD.replace("def mixer", top + "\ndef mixer") + body + TAIL)


def memory(kind: str, update: str, clauses: str = "bptt full", rate: str = "token", objective: str = "") -> str:
    """One memory per head, a net or a matrix, its update, and a fresh read of it."""
    net = kind == "net"
    return f"""
    level recall per head every {rate} {{
        memory M: {'net' if net else '[e, e]'} = learned
        context k, v
        minimize {objective or ('|M(k) - v|^2' if net else '|M * k - v|^2 / 2')}
        {update}
        {clauses}
    }}
    return linear(rmsnorm(recall.M@now{'(q)' if net else ' * q'}), [d])"""


def holds(program: Program, length: int = 7, splits: bool = True) -> set[str]:
    """Every law, and the ways in which the recurrences are computed."""
    subject = laws.Subject(program)
    found = laws.agreement(subject, [data(program, 2, length, i) for i in range(2)])
    assert not {name: x for name, x in found.items() if not x <= laws.EXACT}
    assert any(name.startswith("gradient ") for name in found)
    batch = data(program, 2, length, 2)
    assert not splits or laws.splits(subject, batch) <= laws.EXACT
    assert laws.causality(subject, batch, length // 2) == 0.0
    assert laws.independence(subject, batch) == 0.0
    return set(subject.step.emitted.lowering.values())


OPTIMIZERS = {
    "sgd": "sgd(G, rate)",
    "momentum": "momentum(G, rate, 0.9)",
    "nesterov": "nesterov(G, 0.1, 0.9)",
    "adam": "rate * adam(G)",
    "adamw": "adamw(M, G, 0.1, 0.1)",
    "adagrad": "adagrad(G, 0.1, 1e-3)",
    "muon": "muon(G, 0.1)",
    "orthogonalise": "-0.1 * orthogonalise(0.3 * G)",
    "delta_momentum": "delta_momentum(0.3 * G, 0.3 * G, 0.1, 0.9)",
    "deep_momentum": "0.1 * deep_momentum(G, 0.1, 0.9)",
    "m3": "m3(G, 0.1, 0.5, 0.1, 0.1, 0.1, 1e-3, 2)",
    "clip": "-0.1 * clip(G, 0.5)",
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("kind,at", [("net", "M"), ("matrix", "M@chunk")])
def test_library_optimizers_inside_a_memory(name: str, kind: str, at: str) -> None:
    """The optimizers of the library are levels: within a sequence they restart with the memory whose update calls them."""
    step = OPTIMIZERS[name].replace("G", f"grad({at})")
    holds(model(memory(kind, f"M <- keep * M + {step}")))


def test_ticks_are_counted_from_the_reset() -> None:
    """Adam's corrections begin again with its memory, and count the ticks of a level that ticks every second token."""
    body = memory("matrix", "M <- 0.9 * M + 0.1 * adam(mean(grad(M) over period))", "reset every 4 token bptt full", "2 token")
    holds(model(body), length=9)
