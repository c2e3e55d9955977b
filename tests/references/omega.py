"""OmegaNet and Atlas, one token at a time; arXiv 2505.23735."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from references.layers import Weights, gate, heads, joined, mul, norm, outer, project, unit

NAMES = ("W0", "W1", "W2")


def features(k: Tensor, a: Tensor) -> Tensor:  # Eq. 5, degree 2
    return torch.cat([a[0] * k, a[1] * outer(k, k).flatten(-2)], -1)


def net(W: list[Tensor], z: Tensor) -> Tensor:  # Eq. 42
    return mul(W[0], z) + mul(W[1], F.gelu(mul(W[2], z), approximate="tanh"))


def run(
    x: Tensor,
    w: Weights,
    step: Callable[[int, list[Tensor], list[Tensor]], list[Tensor]],
    chunk: int,
    c: int,
) -> Tensor:
    q, k = (features(unit(project(x, w, n)), w["a"]) for n in "qk")
    v, gamma = project(x, w, "v"), torch.sigmoid(gate(x, w, "gamma"))
    M, out = [w[f"recall.M.start.{n}"].expand(x.shape[0], -1, -1, -1) for n in NAMES], []
    for t in range(x.shape[1]):
        if t % chunk == 0:
            anchor = M
        at = [a.clone() for a in anchor]
        loss = sum(
            (gamma[:, i] * (net(at, k[:, i]) - v[:, i]).square().sum(-1)).sum()
            for i in range(max(0, t + 1 - c), t + 1)
        )  # Eq. 9
        M = step(t, M, list(torch.autograd.grad(loss, at, create_graph=True)))
        out.append(net(M, q[:, t]))
    y = norm(torch.stack(out, 1), w["rmsnorm"])
    return joined(y * torch.sigmoid(heads(x, w["linear2"])), w["linear"])


def omeganet(x: Tensor, w: Weights, chunk: int, c: int) -> Tensor:
    keep, rate = torch.sigmoid(gate(x, w, "keep") + 4), 0.1 * torch.sigmoid(gate(x, w, "rate")) / c
    return run(
        x,
        w,
        lambda t, M, G: [
            keep[:, t, :, None, None] * m - rate[:, t, :, None, None] * g
            for m, g in zip(M, G, strict=True)
        ],
        chunk,
        c,
    )  # Eq. 10


def orthogonal(S: Tensor) -> Tensor:
    """Five Newton-Schulz steps with Muon's coefficients; arXiv 2505.23884, Eq. 16."""
    X = S / (S.square().sum((-2, -1), keepdim=True).sqrt() + 1e-7)
    for _ in range(5):
        A = X @ X.mT
        X = 3.4445 * X - 4.7750 * A @ X + 2.0315 * A @ A @ X
    return X


def atlas(x: Tensor, w: Weights, chunk: int, c: int) -> Tensor:
    keep, beta = (
        torch.sigmoid(gate(x, w, "keep") + 4)[..., None, None],
        torch.sigmoid(gate(x, w, "beta"))[..., None, None],
    )
    S = [torch.zeros(x.shape[0], *w[f"recall.M.start.{n}"].shape, dtype=x.dtype) for n in NAMES]

    def step(t: int, M: list[Tensor], G: list[Tensor]) -> list[Tensor]:
        S[:] = [beta[:, t] * s - g for s, g in zip(S, G, strict=True)]  # Eqs. 32, 57
        return [
            keep[:, t] * m + 0.1 * orthogonal(s) for m, s in zip(M, S, strict=True)
        ]  # Eqs. 33, 58

    return run(x, w, step, chunk, c)
