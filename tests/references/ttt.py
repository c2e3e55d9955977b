"""Test-time training layers, one token at a time; arXiv 2407.04620, secs. 2.3, 2.4, 2.7."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from references.layers import Weights, gate, heads, joined, mul, norm, standardise

Net = Callable[[list[Tensor], Tensor], Tensor]


def train(x: Tensor, w: Weights, starts: list[Tensor], f: Net, base: float, chunk: int) -> Tensor:
    q, k, v = (heads(x, w[n]) for n in "qkv")
    rate = base * torch.sigmoid(gate(x, w, "rate")) / k.shape[-1]
    W, out = [s.expand(x.shape[0], *s.shape) for s in starts], []
    for t in range(x.shape[1]):
        if t % chunk == 0:
            anchor = W  # sec. 2.4: W_{t'}, where the mini-batch began
        at = [a.clone() for a in anchor]
        loss = (f(at, k[:, t]) - v[:, t]).square().sum()  # Eq. 4
        slopes = torch.autograd.grad(loss, at, create_graph=True)
        W = [a - rate[:, t, :, None, None] * g for a, g in zip(W, slopes, strict=True)]
        out.append(f(W, q[:, t]))  # Eq. 5: with W_t
    return joined(norm(torch.stack(out, 1), w["rmsnorm"]), w["linear"])


def ttt_linear(x: Tensor, w: Weights, chunk: int) -> Tensor:
    return train(
        x, w, [w["recall.W.start"]], lambda W, z: z + standardise(mul(W[0], z)), 1.0, chunk
    )


def ttt_mlp(x: Tensor, w: Weights, chunk: int) -> Tensor:
    def f(W: list[Tensor], z: Tensor) -> Tensor:
        return z + standardise(mul(W[1], F.gelu(mul(W[0], z), approximate="tanh")))

    return train(x, w, [w["recall.f.start.W1"], w["recall.f.start.W2"]], f, 0.1, chunk)
