"""Moneta, Yaad and Memora, one token at a time; arXiv 2504.13173, sec. 5.3."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from references.layers import Weights, heads, joined, mul, norm, project, standardise, unit

NAMES = ("W1", "W2")


def net(W: list[Tensor], z: Tensor) -> Tensor:
    return z + standardise(mul(W[0], F.gelu(mul(W[1], z), approximate="tanh")))


def low(x: Tensor, w: Weights, name: str) -> Tensor:
    return heads(x @ w[f"{name}.linear"].T, w[f"{name}.affine"]) + w[f"{name}.affine.bias"]


def run(
    x: Tensor,
    w: Weights,
    state: list[Tensor],
    weights: Callable[[list[Tensor]], list[Tensor]],
    loss: Callable[[Tensor, int], Tensor],
    step: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    chunk: int,
    base: float = 0.1,
) -> Tensor:
    """`state` moves by `step(state, slope, rate, keep)`; what is read and differentiated is
    `weights(state)`.
    """
    q, k, v = unit(project(x, w, "q")), unit(project(x, w, "k")), project(x, w, "v")
    rate, keep = base * torch.sigmoid(low(x, w, "rate")), torch.sigmoid(low(x, w, "keep") + 4)
    out = []
    for t in range(x.shape[1]):
        if t % chunk == 0:
            anchor = weights(state)
        at = [a.clone() for a in anchor]
        slopes = torch.autograd.grad(
            loss(net(at, k[:, t]) - v[:, t], t).sum(), at, create_graph=True
        )
        state = [
            step(s, g, rate[:, t, :, None, None], keep[:, t, :, None, None])
            for s, g in zip(state, slopes, strict=True)
        ]
        out.append(net(weights(state), q[:, t]))
    y = norm(torch.stack(out, 1), w["rmsnorm"])
    return joined(y * torch.sigmoid(heads(x, w["linear2"])), w["linear"])


def starts(x: Tensor, w: Weights, memory: str) -> list[Tensor]:
    return [w[f"recall.{memory}.start.{n}"].expand(x.shape[0], -1, -1, -1) for n in NAMES]


def moneta(x: Tensor, w: Weights, chunk: int) -> Tensor:
    def normalised(
        A: list[Tensor],
    ) -> list[Tensor]:  # Eq. 24: A / |A|_4^2, each matrix by its own norm
        return [a / torch.sqrt((a**4).sum((-2, -1), keepdim=True)) for a in A]

    return run(
        x,
        w,
        starts(x, w, "A"),
        normalised,
        lambda e, t: e.abs() ** 3,
        lambda a, g, rate, keep: keep * a - rate * g,
        chunk,
    )


def yaad(x: Tensor, w: Weights, chunk: int) -> Tensor:
    delta = w["q.linear"].shape[1] ** 0.5 * F.softplus(low(x, w, "delta") + 1)

    def huber(e: Tensor, t: int) -> Tensor:  # Eqs. 16, 26
        far = e.detach().square().sum(-1).sqrt() > delta[:, t]
        return torch.where(far, delta[:, t] * e.abs().sum(-1), e.square().sum(-1))

    return run(
        x, w, starts(x, w, "W"), list, huber, lambda a, g, rate, keep: keep * a - rate * g, chunk
    )


def memora(x: Tensor, w: Weights, chunk: int) -> Tensor:
    born = [torch.softmax(s, -1) for s in starts(x, w, "W")]
    return run(
        x,
        w,
        born,
        list,
        lambda e, t: e.square(),
        lambda a, g, rate, keep: torch.softmax(keep * a.log() - rate * g, -1),
        chunk,
        0.01,
    )  # Eq. 27
