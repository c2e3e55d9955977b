"""The oracle on the language: the examples against independent references, the library of
optimizers against torch.optim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest
import torch
from equations_by_hand import close, draw
from references import hope, network, titans
from torch import Tensor

from nldsl.core.initial import initial
from nldsl.core.program import Program
from nldsl.frontend.parse import parse
from nldsl.graph.desugar import elaborate
from nldsl.oracle.interpreter import Oracle
from nldsl.source import Source

ROOT = Path(__file__).parent.parent
Losses = Callable[[dict[str, Tensor], Tensor], Tensor]


def program(text: str, **sets: object) -> Program:
    source = Source("spec.nl", text)
    return elaborate(
        parse(source),
        source,
        sets={name: str(value) for name, value in sets.items()},
        search=[ROOT / "nldsl" / "std"],
    )


def example(name: str, **sets: object) -> Program:
    return program((ROOT / "examples" / name).read_text(), d=8, head=2, vocab=11, depth=2, **sets)


def tokens(*sizes: int, seed: int = 0) -> Tensor:
    return torch.randint(11, sizes, generator=torch.Generator().manual_seed(seed))


def titans_of(chunk: int) -> Losses:
    return partial(network.losses, mixer=partial(titans.gated, chunk=chunk), depth=2)


CASES: Mapping[str, tuple[Callable[[], Program], Losses]] = {
    "titans": (partial(example, "titans.nl", chunk=4), titans_of(4)),
    "titans, token by token": (partial(example, "titans.nl", chunk=1), titans_of(1)),
    "hope": (
        partial(example, "hope.nl", near=2, span=4, periods=[1, 2]),
        partial(
            network.continuum,
            mixer=partial(hope.self_modifying, near=2, length=4, beta=0.0),
            name="self_modifying_titans",
            periods=[1, 2],
            depth=2,
        ),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_examples_against_references(case: str) -> None:
    make, losses = CASES[case]
    oracle, ids = Oracle(make()), tokens(2, 11)
    w = {name: x.requires_grad_() for name, x in oracle.weights.items()}
    want = losses(w, ids)
    close(oracle.run({"ids": ids}).outputs["loss"], want)
    found = oracle.gradients({"ids": ids})
    assert found.keys() == w.keys()
    for name, slope in zip(w, torch.autograd.grad(want.mean(), list(w.values())), strict=True):
        assert slope.abs().max() > 1e-6, name
        close(found[name], slope)


@pytest.mark.parametrize("case", ["titans", "hope"])
def test_examples_cut_anywhere(case: str) -> None:
    oracle, ids = Oracle(CASES[case][0]()), tokens(2, 9)
    whole = oracle.run({"ids": ids})
    state, parts = None, []
    for cut in (1, 3, 4, 8, 9):
        part = oracle.run({"ids": ids[:, sum(p.shape[1] for p in parts) : cut]}, state)
        parts.append(ids[:, sum(p.shape[1] for p in parts) : cut])
        state = part.state
        begin = max(0, sum(p.shape[1] for p in parts[:-1]) - 1)
        assert torch.equal(part.outputs["loss"], whole.outputs["loss"][:, begin : cut - 1])
    for name, memory in whole.memories.items():
        for path, value in memory.items():
            assert torch.equal(part.memories[name][path], value)


def test_hope_trains_as_torch_would() -> None:
    """Four steps, blocks of period 1 and 2:

    AdamW, clipping and the schedule by torch.optim on the losses of the reference.
    """
    make, losses = CASES["hope"]
    oracle = Oracle(make(), planned_steps=100)
    w = {name: x.requires_grad_() for name, x in oracle.weights.items()}
    groups = {
        p: [
            [x for n, x in w.items() if f"layer[{layer}].continuum.ffn[{p}]." in n]
            for layer in range(2)
        ]
        for p in (1, 2)
    }
    owned = {id(x) for blocks in groups.values() for block in blocks for x in block}
    training = [x for x in w.values() if id(x) not in owned]
    optimizers = {
        id(xs): torch.optim.AdamW(xs, 1e-3, eps=1e-8, weight_decay=0.1)
        for xs in [training, *groups[1], *groups[2]]
    }

    def tick(xs: list[Tensor], slopes: list[Tensor]) -> None:
        length = torch.sqrt(sum((s * s).sum() for s in slopes))
        for x, slope in zip(xs, slopes, strict=True):
            x.grad = slope * min(1.0, 1 / (float(length) + 1e-6))
        optimizers[id(xs)].step()

    waiting: dict[int, list[Tensor]] = {}
    for step in range(4):
        ids = tokens(2, 7, seed=step)
        total = losses(w, ids).mean()
        slopes = {
            id(xs): torch.autograd.grad(total, xs, retain_graph=True)
            for xs in [training, *groups[1], *groups[2]]
        }
        s = (step + 1) / 100
        optimizers[id(training)].param_groups[0]["lr"] = 3e-3 * (
            s / 0.02
            if s <= 0.02
            else (
                1
                + torch.cos(torch.tensor(torch.pi * (s - 0.02) / 0.98, dtype=torch.float64)).item()
            )
            / 2
        )
        for xs in [training, *groups[1]]:
            tick(xs, list(slopes[id(xs)]))
        for xs in groups[2]:
            before = waiting.pop(id(xs), None)
            if before is None:
                waiting[id(xs)] = list(slopes[id(xs)])
            else:
                tick(xs, [(a + b) / 2 for a, b in zip(before, slopes[id(xs)], strict=True)])
        oracle.step({"ids": ids})
        for name, value in oracle.weights.items():
            close(value, w[name])


LINEAR = """nldsl 1
import optimizers
dim n = 3
input x: [n]
y = weight([n]) .* x
loss = |y - 1|^2
level training every step {
    memory W: weights
    context x
    minimize mean(loss over period)
    W <- W + %s
}
"""


@pytest.mark.parametrize(
    "text, make",
    [
        (
            "adamw(W, grad(W), lr = 0.01, decay = 0.1)",
            partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1),
        ),
        ("0.01 * adam(grad(W))", partial(torch.optim.Adam, lr=0.01)),
        ("adagrad(grad(W), lr = 0.01)", partial(torch.optim.Adagrad, lr=0.01, eps=1e-10)),
        ("0.01 * momentum(grad(W), 1, 0.9)", partial(torch.optim.SGD, lr=0.01, momentum=0.9)),
        (
            "nesterov(grad(W), 0.01, 0.9)",
            partial(torch.optim.SGD, lr=0.01, momentum=0.9, nesterov=True),
        ),
    ],
)
def test_optimizers_of_the_library(text: str, make: Callable[..., torch.optim.Optimizer]) -> None:
    oracle = Oracle(program(LINEAR % text))
    ((name, w),) = oracle.weights.items()
    optimizer = make([w.requires_grad_()])
    for step in range(20):
        x = draw(2, 4, 3, seed=step)
        (w.grad,) = torch.autograd.grad(((w * x - 1) ** 2).sum(-1).mean(), w)
        optimizer.step()
        oracle.step({"x": x})
        close(oracle.weights[name], w)


def test_a_reset_of_weights_draws_them_anew() -> None:
    text = program(LINEAR.replace("W <- W + %s", "W <- W - 0.1 * grad(W)\n reset every 3 step"))
    oracle = Oracle(text, seed=5)
    ((name, weight),) = text.weights.items()
    starts = [initial(weight, 5, reset) for reset in range(3)]
    assert not torch.equal(starts[0], starts[1])
    for step in range(9):
        if step % 3 == 0:
            close(oracle.weights[name], starts[step // 3])
        oracle.step({"x": draw(2, 4, 3, seed=step)})
