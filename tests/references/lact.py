"""LaCT, one token at a time; arXiv 2505.23884, sec. 3 and App. A."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from references.layers import Weights, gate, heads, joined, mul, norm, rotate, unit
from references.omega import orthogonal

NAMES = ("W1", "W2", "W3")


def fast(W: list[Tensor], z: Tensor) -> Tensor:  # Eq. 6
    return mul(W[1], F.silu(mul(W[0], z)) * mul(W[2], z))


def renorm(W: Tensor, old: Tensor) -> Tensor:
    """App. A: each row has the length it had."""
    return W * torch.sqrt(old.square().sum(-1, keepdim=True) / W.square().sum(-1, keepdim=True))


def lact(x: Tensor, w: Weights, span: int) -> Tensor:
    q, k, v = (
        unit(F.silu(heads(x, w["q"]))),
        unit(F.silu(heads(x, w["k"]))),
        F.silu(heads(x, w["v"])),
    )
    rates = [F.softplus(gate(x, w, f"r{i}")) for i in (1, 2, 3)]
    b, rq, rk = torch.sigmoid(gate(x, w, "b")), rotate(q), rotate(k)
    W = [w[f"recall.f.start.{n}"].expand(x.shape[0], -1, -1, -1) for n in NAMES]
    S, slopes, out = [torch.zeros_like(m) for m in W], [], []
    for t in range(x.shape[1]):
        read = fast(W, q[:, t])  # Fig. 3: apply, then update
        seen = slice(max(0, t + 1 - span), t + 1)
        a = torch.softmax(
            torch.einsum("bhe,bnhe->bhn", rq[:, t], rk[:, seen]) / q.shape[-1] ** 0.5, -1
        )
        out.append(read + w["y"][:, None] * torch.einsum("bhn,bnhe->bhe", a, v[:, seen]))
        at = [m.clone() for m in W]
        slopes.append(
            torch.autograd.grad(-(fast(at, k[:, t]) * v[:, t]).sum(), at, create_graph=True)
        )  # Eq. 7
        if (t + 1) % span == 0:
            for i in range(3):
                g = sum(
                    rates[i][:, j, :, None, None] * slopes[j][i] for j in range(t + 1 - span, t + 1)
                )  # Eq. 4
                S[i] = b[:, t + 1 - span : t + 1].mean(1)[..., None, None] * S[i] - g  # Eqs. 19, 20
            W = [renorm(m + orthogonal(s), m) for m, s in zip(W, S, strict=True)]  # Eqs. 5, 9
    return joined(norm(torch.stack(out, 1), w["rmsnorm"]), w["linear"])
