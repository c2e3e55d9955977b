"""TNT, one token at a time; arXiv 2511.07343, secs. 4.1, App. C and D."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from references.layers import Weights, gate, joined, mul, norm, outer, project, unit


def net(W: list[Tensor], z: Tensor) -> Tensor:
    return mul(W[0], F.silu(mul(W[1], z)))


def slope(at: list[Tensor], k: Tensor, v: Tensor, rate: Tensor) -> list[Tensor]:
    at = [a.clone() for a in at]
    return list(
        torch.autograd.grad((rate * (net(at, k) - v).square().sum(-1)).sum(), at, create_graph=True)
    )


def minus(W: list[Tensor], G: list[Tensor]) -> list[Tensor]:
    return [a - g for a, g in zip(W, G, strict=True)]


def tnt(x: Tensor, w: Weights, shard: int, wide: int, narrow: list[int]) -> Tensor:
    q, k, v = unit(project(x, w, "q")), unit(project(x, w, "k")), project(x, w, "v")
    rate, lanes = 0.1 * torch.sigmoid(gate(x, w, "rate")), x.shape[0]

    def start(name: str) -> list[Tensor]:
        return [w[f"{name}.start.{n}"].expand(lanes, -1, -1, -1) for n in ("W1", "W2")]

    V, pending, out = start("shared.V"), [], []
    W: dict[int, list[Tensor]] = {}
    anchor: dict[int, list[Tensor]] = {}
    for t in range(x.shape[1]):
        if t % wide == 0:
            for G in pending:  # Eq. 5: all gradients at the chunk's start
                V = minus(V, G)
            pending = []
        if t % shard == 0:  # Eq. 6: t = 0 mod S_L
            W, P = {C: start(f"local[{C}].W") for C in narrow}, 0
        P = P + outer(k[:, t], k[:, t])  # App. C
        read = net(V, q[:, t])  # Eq. 7: stale
        pending.append(slope(V, k[:, t], v[:, t], rate[:, t]))
        for C in narrow:
            if t % C == 0 or t % shard == 0:
                anchor[C] = W[C]
            W[C] = minus(W[C], slope(anchor[C], k[:, t], v[:, t], rate[:, t]))  # Eq. 6, from W_xi
            read = read + net(W[C], mul(P, q[:, t]))  # Eq. 7: fresh
        out.append(read)
    return joined(norm(torch.stack(out, 1), w["rmsnorm"]), w["linear"])
