"""Gradients of a weight that every token of a memory shares are summed in place."""

from __future__ import annotations

from itertools import accumulate

import torch
from torch.profiler import ProfilerActivity, profile

from nldsl.pipeline import compile_program, load_text
from nldsl.train.bench import random_batch

SIZE = 192
TEXT = f"""nldsl 1
import layers
dim d = 16, e = {SIZE}, vocab = 8
input ids: index(vocab)

def recurrent(x: [d]) -> [d] {{
    v = linear(x, [e])
    A = weight([e, e])
    level recall every token {{
        memory m: [e] = 0
        context v
        bptt full
        m <- 0.5 * tanh(A * m) + v
    }}
    return linear(recall.m@after, [d])
}}
loss = cross_entropy(linear(recurrent(embed(ids, [d])), [vocab]), next(ids))

level training every step {{
    memory W: weights
    context ids
    minimize mean(loss over period)
    W <- W - 0.1 * grad(W)
}}
"""


def held(tokens: int) -> tuple[float, int]:
    """The most that a step holds beside what was there, in such weights, and how many it makes."""
    program = load_text(TEXT)
    step = compile_program(program, capture="eager")
    state, batch = step.init(0), random_batch(program, 1, tokens, "cpu")
    step(state, [batch])
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        step(state, [batch])
    results = watched.profiler.kineto_results  # type: ignore[union-attr]
    events = [event for event in results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    weight = SIZE * SIZE * torch.float32.itemsize
    return max(accumulate(sizes)) / weight, sizes.count(weight)


def test_a_weight_has_one_gradient_however_long_the_text_is() -> None:
    (short, few), (long, many) = held(16), held(128)
    assert many > few + 100  # each token has a share of it
    assert long < short + 4  # streams of more tokens
