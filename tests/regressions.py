"""Programs in which the emitted source once said something else than it should, each as small as it
could be made.

A row: what is declared before the level, the level, and what is read. All stand in one frame; `why`
says what went wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

FRAME = """nldsl 1
import layers, optimizers
dim d = 3, SIZES, vocab = 3
clock chunk = 2 token phase 1
input ids: index(vocab)
x = embed(ids, [d])
k = unit(linear(x, [head, e]))
v = linear(x, [head, e])
BEFORE
LEVEL
loss = cross_entropy(linear(READ, [vocab]), next(ids))
level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W - 0.1 * grad(W)
}
"""
DELTA = "minimize |M * k - v|^2 / 2"


@dataclass(frozen=True)
class Row:
    why: str
    level: str
    before: str = ""
    read: str = "recall.M * k"
    lengths: tuple[int, ...] = (1, 5)
    sizes: str = "head = 2, e = 2"

    @property
    def text(self) -> str:
        return (
            FRAME.replace("SIZES", self.sizes)
            .replace("BEFORE", self.before)
            .replace("LEVEL", self.level)
            .replace("READ", self.read)
        )


def recall(
    *lines: str,
    rate: str = "every token",
    context: str = "k, v",
    memory: str = "[e, e] = learned",
    end: str = "bptt full",
) -> str:
    return "\n".join(
        [
            f"level recall per head {rate} {{",
            f"    memory M: {memory}",
            f"    context {context}",
            *("    " + x for x in lines),
            f"    {end}",
            "}",
        ]
    )


ROWS = {
    "cut between ticks": Row(
        "reads before a cut were cut, and what a period gathers was gathered uncut",
        recall(
            "minimize sum(|M * k - v|^2 over period)",
            "M <- M - 0.05 * grad(M)",
            rate="every 3 token phase 1",
            end="bptt 1 chunk",
        ),
        lengths=(4, 6, 9),
    ),
    "copies over a cut": Row(
        "a copy that is kept over a cut was cut in the emitted source alone",
        recall(DELTA, "M <- M - 0.05 * grad(M)", end="bptt 1 token"),
        read="recall.M@chunk * k",
        lengths=(4, 9),
    ),
    "a start at a cut": Row(
        "a start that begins where a cut stands was cut in the emitted source alone",
        recall(DELTA, "M <- M - 0.05 * grad(M@chunk)", "reset every 4 token", end="bptt 2 token"),
        lengths=(5, 9),
    ),
    "a document that ends with a sequence": Row(
        "what starts anew there began with the sequence that ended, from what was learned before "
        "the step",
        recall(DELTA, "M <- M - 0.05 * grad(M)", "reset every document"),
        lengths=(5, 11),
    ),
    "a copy that restarts within a stretch": Row(
        "the terms of a stretch since the tick of a clock were gathered at a copy that had "
        "restarted since",
        recall(
            "minimize sum(|M * k - v|^2 over chunk)",
            "M <- M - 0.05 * grad(M@chunk)",
            "reset every document",
        ),
        lengths=(6, 12),
    ),
    "a number that has axes": Row(
        "a cotangent of ones beside a scalar weight lost its axes",
        recall(
            "minimize sum(w * |M * k - v|^2 over 2 token)",
            "M <- M - 0.05 * grad(M)",
            context="k, v, w",
        ),
        before="w = sigmoid(weight([]))",
    ),
    "a copy that nothing takes": Row(
        "a copy that only a term which came out as 0 took had no memory to copy",
        recall(
            "minimize |M(k) - v|^2 / 2",
            "M <- 0 * M",
            "M <- M - speed * grad(M)",
            memory="net([e]) = learned",
        ),
        before="""level maker per head every token {
    memory N: [e, e] = learned
    context k, v
    minimize |N * k - v|^2 / 2
    N <- N - 0.05 * grad(N)
    bptt full
}
def net(z) {
    W1 = weight([2 * e, e])
    W2 = weight([e, 2 * e])
    return W2 * tanh(W1 * z)
}
speed = |maker.N@chunk * k|^2""",
        read="(recall.M(k) + k)",
    ),
    "axes of size 1": Row(
        "a gate that is as small as what it is spread over was not found",
        recall("minimize |M - v|^2 / 2", "M <- M - rate * grad(M)", context="v", memory="[e] = 0"),
        before="rate = 0.1 * sigmoid(affine(x, [head]))",
        read="recall.M@after",
        sizes="head = 1, e = 1",
    ),
    "a count before the first tick": Row(
        "a rule divides by what its count of ticks makes: before the first tick the branch that is "
        "not taken divided by zero, and its slope was not a number",
        """level recall per head every 3 token phase 1 {
            memory M: [e, e] = learned
            context k, v
            minimize sum(|M * k - v|^2 over period)
            M <- M + mean(r over period) * adam(grad(M), eps = 0.1)
            bptt 4 token
        }""",
        before="r = sigmoid(linear(x, [head]))",
        lengths=(1, 9),
    ),
    "sums over a caller's ticks": Row(
        "the sum over an optimizer's period took a term at every token, not at every tick of its "
        "caller",
        recall(
            "minimize sum(|M * k - v|^2 over period)",
            "M <- M + traced(grad(M))",
            rate="every 2 token",
        ),
        before="def traced(g) {\n    level trace every 2 update {\n        memory m: like g = 0\n  "
        "      m <- 0.5 * m - 0.05 * sum(g over period)\n    }\n"
        "    return trace.m@after\n}",
        lengths=(4, 9),
    ),
    "kept at nothing": Row(
        "the gradient at a memory that keeps nothing had no value for it",
        recall(
            "minimize sum(|M * k - v|_4 ^ 4 over period)",
            "M <- 0 * M",
            "M <- M - 0.05 * grad(M)",
            rate="every 2 token",
        ),
    ),
    "the length of nothing": Row(
        "a root had no derivative at 0 for the levels of the step clock",
        recall(
            "minimize |M * k - z|",
            "M <- M + 0.05 * adam(grad(M), eps = 0.1)",
            context="k, z",
            memory="[e, e] = 0",
        ),
        before="z = v * weight([], init = 0)",
        read="recall.M * k + v",
    ),
    "the norm of nothing": Row(
        "a root of another order than 2 had no derivative at 0 in an objective",
        recall(
            "minimize |M * k - z|_3",
            "M <- M - 0.05 * clip(grad(M), 1)",
            context="k, z",
            memory="[e, e] = 0",
        ),
        before="z = v * weight([], init = 0)",
        read="recall.M * k + v",
    ),
    "cosines": Row(
        "`cos` had no derivative in an objective",
        recall("minimize |cos(M * k) - v|^2", "M <- M - 0.05 * grad(M)"),
    ),
    "joined": Row(
        "`join` had no derivative in an objective",
        recall("minimize |join(M * k, k) - join(v, tanh(M * k))|^2", "M <- M - 0.05 * grad(M)"),
    ),
    "on the diagonal": Row(
        "`diag` had no derivative in an objective",
        recall("minimize |diag(M * k) * k - v|^2", "M <- M - 0.05 * grad(M)"),
    ),
    "one label for all heads": Row(
        "`cross_entropy` had no derivative in an objective, and several rows with one label had no "
        "meaning",
        recall(
            "minimize cross_entropy(M * k, ids)",
            "M <- M - 0.05 * grad(M)",
            context="k, ids",
            memory="[vocab, e] = learned",
        ),
    ),
    "a matrix of one entry": Row(
        "a gate made by another memory stands in a matrix that the region took whole",
        recall(DELTA, "M <- M * (-rate * k * k^T) - 0.05 * grad(M)"),
        before="""level maker per head every token {
    memory A: [e, e] = learned
    context k, v
    minimize |A * k - v|^2 / 2
    A <- A - 0.05 * grad(A@chunk)
    bptt full
}
rate = 0.05 * sigmoid(sum(weight([head, e]) .* (maker.A@chunk * k), e))""",
        sizes="head = 2, e = 1",
    ),
    "a value without a time": Row(
        "what the memory should say was taken for a stream",
        recall("minimize |M * k - w|^2 / 2", "M <- 0.9 * M - 0.1 * grad(M)", context="k, w"),
        before="w = weight([head, e])",
    ),
    "a window of what is known": Row(
        "the window of a gradient had the shape of the objective",
        recall(
            "minimize mean(-<M * a, b> over 3 token)",
            "M <- M - 0.1 * clip(grad(M@chunk), 1)",
            context="a, b",
        ).replace(" per head", ""),
        before="h = conv(linear(recall.M * linear(x, [e]), [d]), 2)\na = unit(linear(h, [e]))\nb = "
        "linear(h, [e])",
        read="recall.M * a",
    ),
    "a look back at what ticks slowly": Row(
        "a convolution of what changes at ticks alone was taken to have a value at those ticks "
        "alone",
        recall(
            "minimize sum(|M * a - b|^2 over period)",
            "M <- M - 0.05 * grad(M)",
            rate="every 2 token",
            context="a, b",
        ),
        before="h = conv(linear(recall.M * unit(weight([head, e])), [d]), 2)\na = unit(linear(h, "
        "[head, e]))\nb = linear(h, [head, e])",
        lengths=(2, 5),
    ),
    "terms at ticks alone": Row(
        "the gradient of a sum took a term at every token, not at every tick of what its terms are "
        "made of",
        recall(
            "minimize sum(|M * a - b|^2 over period)",
            "M <- M - 0.05 * grad(M)",
            rate="every 4 token",
            context="a, b",
        ),
        before="""level maker per head every 2 token {
    memory A: [e, e] = learned
    context k, v
    minimize mean(|A * k - v|^2 over period)
    A <- A - 0.05 * grad(A)
    bptt full
}
a = unit(maker.A * weight([head, e]))
b = maker.A * a""",
        lengths=(5, 9),
    ),
}
