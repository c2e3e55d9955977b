"""A program whose memory outlives a sequence, in each lane of a batch, and batches for it."""

from __future__ import annotations

from nldsl.core.program import Program
from nldsl.pipeline import load_text
from nldsl.testing import data, laws

LENGTHS = (7, 5, 4, 4, 4)


READER = """nldsl 1
import layers, optimizers
dim d = 4, head = 2, e = d / head, vocab = 5
clock near = 3 token
clock whole = sequence
clock pair = 2 sequence
input ids: index(vocab)
def net(z: [e]) -> [e] {
    W2 = weight([2 * e, e])
    W1 = weight([e, 2 * e])
    return z + W1 * gelu(W2 * z)
}
def mixer(x: [d]) -> [d] {
    k = unit(linear(x, [head, e]))
    v = unit(linear(x, [head, e]))
    q = unit(linear(x, [head, e]))
    level recall per head every token {
        memory M: net = learned
        context k, v
        minimize |M(k) - v|^2
        M <- 0.9 * M + momentum(grad(M@near), 0.05, 0.5)
        reset never
        bptt full
    }
    return linear(recall.M@after(q), [d])
}
x = embed(ids, [d])
h = x + mixer(rmsnorm(x))
loss = cross_entropy(linear(h, [vocab]), next(ids))
level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W + adamw(W, clip(grad(W), 1), lr = 3e-2, decay = 0.1)
}
"""


def reader(*edits: tuple[str, str]) -> Program:
    text = READER
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return load_text(text)


def batches(program: Program) -> list[laws.Batch]:
    return [data(program, 2, length, i) for i, length in enumerate(LENGTHS)]
