"""One program for each form of recurrence, with a decay of any size and sign."""

from __future__ import annotations

import torch
from torch import Tensor

from nldsl.core.program import ENDS

TOKENS = 9


HEAD = """nldsl 1
import optimizers
dim n = 3, head = 2, time = 9
clock chunk = 4 token
input pos: index(time)
input a: [AXES]
input k: [head, n]
input v: [head, n]
keep = a + weight([time, AXES], init = 0)[pos]
key = linear(k, [head, n])
"""


TAIL = """
loss = |y - next(v)|^2
level training every step {
    memory W: weights
    context CONTEXT
    minimize mean(loss over period)
    W <- W - 0.01 * grad(W)
}
"""


SUM = "memory S: [n] = learned  context key, v  S <- DECAY * S + v .* key"


RATE = "rate = 0.3 * sigmoid(weight([head], init = 0))"


OUTER = (
    "memory M: [n, n] = learned  context key, v  minimize -<M * key, v>  "
    "M <- DECAY - rate * grad(M)"
)


DELTA = (
    "memory M: [n, n] = learned  context key, v  minimize |M * key - v|^2 / 2  "
    "M <- DECAY - rate * grad(M)"
)


STEPS = """memory M: [n, n] = learned  context key, v  minimize |M * key - v|^2 / 2
    S = momentum(grad(M@chunk), rate, keep)  M <- DECAY + S"""


MATRIX_READS = "y = (m.M@after * key + m.M * k) + m.M@chunk * v"


# axes of the decay, the level, what is read of it, and words of how it is computed
FORMS = {
    "a sum": (
        "head",
        SUM.replace("DECAY", "keep"),
        "y = m.S@after + 0.5 * m.S",
        "chunked recurrence",
    ),
    "a sum, the complement": (
        "head",
        SUM.replace("DECAY", "(1 - keep)"),
        "y = m.S@after",
        "chunked recurrence",
    ),
    "a sum, one gate for all heads": (
        "",
        SUM.replace("DECAY", "keep"),
        "y = m.S@after",
        "chunked recurrence",
    ),
    "a sum, an open or closed gate": (
        "head",
        SUM.replace("DECAY", "max(keep, 0)"),
        "y = m.S@after + m.S",
        "chunked recurrence",
    ),
    "a sum, the gate's slope straight through": (
        "head",
        SUM.replace("DECAY", "(keep + stop(where(a >= 0.5, 1 + 0 * a, 0 * a) - keep))"),
        "y = m.S@after",
        "chunked recurrence",
    ),
    "a sum of parts": (
        "head, n",
        SUM.replace("DECAY * S", "keep .* S"),
        "y = m.S@after + 0.5 * m.S",
        "chunked recurrence",
    ),
    "outer products": (
        "head",
        OUTER.replace("DECAY", "keep * M"),
        "y = m.M@after * key + m.M * k",
        "chunked recurrence",
    ),
    "outer products, channels": (
        "head, n",
        OUTER.replace("DECAY", "M * diag(keep)"),
        MATRIX_READS,
        "a decay for each channel",
    ),
    "the delta rule": (
        "head",
        DELTA.replace("DECAY", "keep * M"),
        MATRIX_READS,
        "erases solved in WY form",
    ),
    "the delta rule, channels": (
        "head, n",
        DELTA.replace("DECAY", "M * diag(keep)"),
        "y = m.M@after * key + m.M * k",
        "a decay for each channel, erases",
    ),
    "momentum under a decay": (
        "head",
        STEPS.replace("DECAY", "keep * M"),
        MATRIX_READS,
        "dual form",
    ),
}


DECAYS = {
    "one zero": [1, 0.5, 0, 1, 0.9, 1, 0.5, 1, 1],
    "zeros beside each other and at both ends": [0, 0.5, 0, 0, 0.9, 0, 0, 1, 0],
    "all zero": [0.0] * TOKENS,
    "tiny": [1e-30, 0.5, 1e-300, 1, 1e-30, 1e-200, 1e-200, 0.5, 5e-324],
    "negative": [-1, 0.5, -0.5, -2, 1, -1e-30, -0.5, 1, -1],
    "zero, tiny, negative and more than one": [0.5, -1, 0, 1e-30, -0.5, 2, 0, -1e-30, 1],
}


def text(form: str, clauses: str = "bptt full") -> str:
    axes, level, read, _ = FORMS[form]
    head = HEAD.replace("time, AXES", f"time, {axes}" if axes else "time").replace("AXES", axes)
    body = "\n    ".join(level.split("  "))
    rate = RATE + "\n" if "rate" in level else ""
    tail = TAIL.replace("CONTEXT", "k, v" if "k" in read else "v")
    return (
        f"{head}{rate}level m per head every token {{\n    {body}\n    {clauses}\n}}\n{read}{tail}"
    )


def batches(axes: str, decays: list[float], ends: bool = False) -> list[dict[str, Tensor]]:
    """Two batches of two sequences; another head, channel or lane has the decays in another
    order.
    """
    shape = {"": (), "head": (2,), "head, n": (2, 3)}[axes]
    found = []
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        k, v = (
            torch.randn(2, TOKENS, 2, 3, dtype=torch.float64, generator=generator) for _ in range(2)
        )
        rows = [
            torch.tensor(decays, dtype=torch.float64).roll(2 * i)
            for i in range(2 * max(1, torch.Size(shape).numel()))
        ]
        batch = {
            "pos": torch.arange(TOKENS).expand(2, TOKENS),
            "k": k,
            "v": v,
            "a": torch.stack(rows).reshape(2, *shape, TOKENS).movedim(-1, 1),
        }
        found.append(
            batch | ({ENDS: torch.rand(2, TOKENS, generator=generator) < 0.3} if ends else {})
        )
    return found
