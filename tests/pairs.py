"""Pairs of texts with one meaning: as it may be written at first, and as who knows the language
would write it. Each is a mixer in the library's language model, or edits more of the text.

    PAIRS["a gate by where"].texts      both texts, whole
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

TEXT = """nldsl 1
import layers, optimizers
dim d = 16, head = 2, e = d / head, f = e, hidden = 2 * e, vocab = 11
depth = 1
clock chunk = 16 token
input ids: index(vocab)
DEFS
def mixer(x: [d]) -> [d] {
    q = unit(linear(x, [head, e]))
    k = unit(linear(x, [head, e]))
    v = linear(x, [head, f])
    rate = sigmoid(affine(x, [head]))
    keep = sigmoid(affine(x, [head]) + 4)
    MIXER
    return linear(rmsnorm(READ), [d])
}
LOSS
LEARN
"""
EDITS = {
    "DEFS": "",
    "MIXER": """level recall PER every token {
        memory M: TYPE
        CONTEXT
        GOAL
        UPDATE
        bptt full
    }""",
    "PER": "per head",
    "TYPE": "[f, e] = 0",
    "CONTEXT": "context k, v",
    "GOAL": "minimize |M * k - v|^2 / 2",
    "UPDATE": "M <- keep * M - rate * grad(M)",
    "READ": "recall.M@after * q",
    "LOSS": "loss = cross_entropy(language_model(ids, mixer, d, depth, vocab), next(ids))",
    "LEARN": """level training every step {
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W + adamw(W, clip(grad(W), 1), lr = 0.01, decay = 0.1)
}""",
}
Edits = dict[str, str]


def written(edits: Edits) -> str:
    """The text, the words in capitals replaced; a word that is no such place is replaced last."""
    text = TEXT
    for word, new in {**EDITS, **edits}.items():
        text = text.replace(word, new)
    return "\n".join(line for line in text.splitlines() if line.strip())


@dataclass(frozen=True)
class Pair:
    """`first` and `then` edit the text of each; `both` edits both."""

    first: Edits
    then: Edits = field(default_factory=dict)
    both: Edits = field(default_factory=dict)

    @cached_property
    def texts(self) -> tuple[str, str]:
        return written({**self.both, **self.first}), written({**self.both, **self.then})


BY_HAND = {"CONTEXT": "", "GOAL": ""}
HEBB = {"GOAL": "minimize -<M * k, v>", "UPDATE": "M <- keep * M - grad(M)"}
STALE = {"UPDATE": "M <- keep * M - rate * grad(M@chunk)"}
NET = {
    "DEFS": """def net(z: [e]) -> [e] {
    W2 = weight([hidden, e])
    W1 = weight([e, hidden])
    return z + W1 * silu(W2 * z)
}""",
    "TYPE": "net = learned",
    "GOAL": "minimize |M(k) - v|^2",
    "READ": "recall.M@after(q)",
    "[head, f]": "[head, e]",
} | STALE

PAIRS: dict[str, Pair] = {
    "a rate by where": Pair(
        {"UPDATE": "M <- keep * M - where(rate >= 0.5, rate, 0) * grad(M)"},
        {"UPDATE": "M <- keep * M - (rate >= 0.5) * rate * grad(M)"},
    ),
    "a write by where": Pair(
        {"UPDATE": "M <- keep * M - where(rate >= 0.5, rate * grad(M), 0)"},
        {"UPDATE": "M <- keep * M - (rate >= 0.5) * rate * grad(M)"},
    ),
    "a tick by where": Pair(
        {"UPDATE": "M <- where(rate >= 0.5, M - rate * grad(M), M)"},
        {"UPDATE": "M <- M - (rate >= 0.5) * rate * grad(M)"},
    ),
    "another tick by where": Pair(
        {"UPDATE": "M <- where(rate >= 0.5, keep * M - rate * grad(M), M)"},
        {
            "UPDATE": "M <- where(rate >= 0.5, keep, 1) * M - (rate >= 0.5) * rate * grad(M)",
        },
    ),
    "a reset by where": Pair(
        {"UPDATE": "M <- where(keep >= 0.98, M, 0) - rate * grad(M)"},
        {"UPDATE": "M <- (keep >= 0.98) * M - rate * grad(M)"},
    ),
    "heads without per": Pair(
        {
            "PER": "",
            "TYPE": "[head, f, e] = 0",
            "UPDATE": "M <- keep .* M - rate .* grad(M)",
        },
    ),
    "heads without per, from a copy": Pair(
        {
            "PER": "",
            "TYPE": "[head, f, e] = 0",
            "UPDATE": "M <- keep .* M - rate .* grad(M@chunk)",
        },
        STALE,
    ),
    "copies by hand": Pair(
        {
            "MIXER": "\n    ".join(
                f"""level {name} per head every token {{
        memory M: [f, e] = 0
        context k, v
        minimize |M * k - v|^2 / 2
        M <- keep * M - {rate} * grad(M)
        bptt full
    }}"""
                for name, rate in (("near", "rate"), ("far", "(0.5 * rate)"))
            ),
            "READ": "near.M@after * q + far.M@after * q",
        },
        {
            "MIXER": """y = 0 * v
    for i in range(2) {
        level recall[i] per head every token {
            memory M: [f, e] = 0
            context k, v
            minimize |M * k - v|^2 / 2
            M <- keep * M - 0.5 ^ i * rate * grad(M)
            bptt full
        }
        y <- y + recall[i].M@after * q
    }""",
            "READ": "y",
        },
    ),
    "a def, unfolded": Pair(
        {},
        {
            "DEFS": "def moved(M, a, g) = a * M - g",
            "UPDATE": "M <- moved(M, keep, rate * grad(M))",
        },
    ),
    "forgetting as a difference": Pair(
        {"UPDATE": "M <- M - (1 - keep) * M - rate * grad(M)"},
    ),
    "a gradient by hand": Pair(
        {**BY_HAND, "UPDATE": "M <- keep * M - rate * (M * k - v) * k^T"},
    ),
    "a difference of products": Pair(
        {**BY_HAND, "UPDATE": "M <- keep * M + rate * v * k^T - rate * (M * k) * k^T"},
    ),
    "a product with a matrix": Pair(
        {**BY_HAND, "UPDATE": "M <- M * (keep * I - rate * k * k^T) + rate * v * k^T"},
    ),
    "one equation for two ticks": Pair(
        {**BY_HAND, "UPDATE": "M <- keep * M * (I - rate * k * k^T) + rate * v * k^T"},
        {"UPDATE": "M <- keep * M\n        M <- M - rate * grad(M)"},
    ),
    "a transposed memory": Pair(
        {
            "TYPE": "[e, f] = 0",
            "GOAL": "minimize |M^T * k - v|^2 / 2",
            "READ": "recall.M@after^T * q",
        },
        both={"f = e": "f = e + 1"},
    ),
    "a transposed memory by hand": Pair(
        {
            **BY_HAND,
            "TYPE": "[e, f] = 0",
            "UPDATE": "M <- keep * M - rate * k * (M^T * k - v)^T",
            "READ": "recall.M@after^T * q",
        },
        both={"f = e": "f = e + 1"},
    ),
    "a transposed sum of pairs": Pair(
        {
            **BY_HAND,
            "TYPE": "[e, f] = 0",
            "UPDATE": "M <- keep * M + k * v^T",
            "READ": "recall.M@after^T * q",
        },
        HEBB,
        both={"f = e": "f = e + 1"},
    ),
    "a square without its half": Pair(
        {"GOAL": "minimize |M * k - v|^2", "UPDATE": "M <- keep * M - rate / 2 * grad(M)"},
    ),
    "a mean of squares": Pair(
        {
            "GOAL": "minimize mean((M * k - v) .^ 2)",
            "UPDATE": "M <- keep * M - rate * (f / 2) * grad(M)",
        },
    ),
    "a square, multiplied out": Pair(
        {"GOAL": "minimize <M * k, M * k> / 2 - <M * k, v>"},
    ),
    "entries multiplied and summed": Pair(
        {
            "GOAL": "minimize |sum(M .* k, e) - v|^2 / 2",
            "READ": "sum(recall.M@after .* q, e)",
            "f = e": "f = e + 2",
        },
        {"f = e": "f = e + 2"},
    ),
    "channels by entries": Pair(
        {"UPDATE": "M <- M .* a - grad(M)"},
        {"UPDATE": "M <- M * diag(a) - grad(M)"},
        {
            "GOAL": "minimize -<M * k, v>",
            "keep = sigmoid(affine(x, [head]) + 4)": "a = sigmoid(affine(x, [head, e]) + 4)",
        },
    ),
    "a quotient": Pair(
        {"UPDATE": "M <- M / 1.25 - rate * grad(M)", "READ": "recall.M@after * (q / sqrt(e))"},
        {"UPDATE": "M <- 0.8 * M - rate * grad(M)", "READ": "recall.M@after * (e ^ (-0.5) * q)"},
    ),
    "a memory that is scaled": Pair(
        {"READ": "(rate .* recall.M@after) * q"},
        {"READ": "recall.M@after * (rate .* q)"},
    ),
    "an answer that is scaled": Pair(
        {"READ": "rate .* (recall.M@after * q)"},
        {"READ": "recall.M@after * (rate .* q)"},
    ),
    "two questions": Pair(
        {"READ": "recall.M@after * q - recall.M@after * k"},
        {"READ": "recall.M@after * (q - k)"},
    ),
    "momentum as a memory": Pair(
        {
            "TYPE": "[f, e] = 0\n        memory S: [f, e] = 0",
            "UPDATE": "S <- 0.9 * S - rate * grad(M@chunk)\n        M <- keep * M + S",
        },
        {"UPDATE": "M <- keep * M + momentum(grad(M@chunk), rate, 0.9)"},
    ),
    "a sum over the sequence": Pair(
        {
            "DEFS": "def answer(q: [e], k: [e], v: [f]) = sum(v * k^T over sequence) * q",
            "MIXER": "",
            "READ": "answer(q, k, v)",
        },
        {**BY_HAND, "UPDATE": "M <- M + v * k^T"},
    ),
    "one projection": Pair(
        {},
        {
            "q = unit(linear(x, [head, e]))": "all = linear(x, [3, head, e])",
            "k = unit(linear(x, [head, e]))": "q = unit(all[0])\n    k = unit(all[1])",
            "v = linear(x, [head, e])": "v = all[2]",
        },
        {"f = e, ": "", "[f, e]": "[e, e]", "[head, f]": "[head, e]"},
    ),
    "a net by its parts": Pair(
        {"READ": "q + recall.M@after.W1 * silu(recall.M@after.W2 * q)"}, both=NET
    ),
    "silu by hand": Pair({"silu(W2 * z)": "(W2 * z .* sigmoid(W2 * z))"}, both=NET),
    "a norm by hand": Pair(
        {
            "return linear(rmsnorm(recall.M@after * q), [d])": """y = recall.M@after * q
    return linear(weight([f], init = 1) .* y ./ sqrt(mean(y .* y, f) + 1e-6), [d])""",
        },
    ),
    "a stream twice": Pair(
        {"k = unit(linear(x, [head, e]))": "K = weight([head, e, d])\n    k = unit(K * x)"}
        | {"READ": "recall.M@after * (q + unit(K * x))"},
        {"k = unit(linear(x, [head, e]))": "K = weight([head, e, d])\n    k = unit(K * x)"}
        | {"READ": "recall.M@after * (q + k)"},
    ),
    "layers by hand": Pair(
        {
            "LOSS": """x0 = embed(ids, [d])
x1 = x0 + mixer(rmsnorm(x0))
x2 = x1 + swiglu(rmsnorm(x1), 2 * d)
x3 = x2 + mixer(rmsnorm(x2))
x4 = x3 + swiglu(rmsnorm(x3), 2 * d)
loss = cross_entropy(linear(rmsnorm(x4), [vocab]), next(ids))""",
        },
        {
            "LOSS": """y = embed(ids, [d])
for layer in range(2) {
    y <- y + mixer(rmsnorm(y))
    y <- y + swiglu(rmsnorm(y), 2 * d)
}
loss = cross_entropy(linear(rmsnorm(y), [vocab]), next(ids))""",
        },
    ),
    "adam by hand": Pair(
        {
            "LEARN": """level training every step {
    memory W: weights
    memory m: like W = 0
    memory s: like W = 0
    context ids
    minimize mean(loss over period)
    g = clip(grad(W), 1)
    m <- 0.9 * m + 0.1 * g
    s <- 0.999 * s + 0.001 * g .^ 2
    step_size = 0.01 / (1 - 0.9 ^ tick)
    W <- W - step_size * m ./ (sqrt(s / (1 - 0.999 ^ tick)) + 1e-8) - 0.001 * W
}""",
        },
    ),
    "attention, a head at a time": Pair(
        {
            "DEFS": "def answer(q: [e], k: [e], v: [f]) = attend(q, k -> v over sequence)",
            "READ": "answer(q, k, v)",
        },
        {"READ": "attend(q, k -> v over sequence)"},
        {"MIXER": ""},
    ),
}
