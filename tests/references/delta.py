"""Delta rules, one token at a time:

S is [B, H, v, k] and is read as S q. Table 1 of arXiv 2504.13173; each from its recurrence.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from references.layers import Weights, gate, heads, joined, mul, norm, outer, project, unit
from references.linear import read


def deltanet(x: Tensor, w: Weights) -> Tensor:
    q, k, v = unit(project(x, w, "q")), unit(project(x, w, "k")), project(x, w, "v")
    beta = torch.sigmoid(gate(x, w, "beta"))[..., None, None]
    y = read(
        lambda S, t: S - beta[:, t] * outer(mul(S, k[:, t]) - v[:, t], k[:, t]), q, v.shape[-1]
    )
    return joined(norm(y, w["rmsnorm"]), w["linear"])


def gated_deltanet(x: Tensor, w: Weights, slow: float = 4.0) -> Tensor:
    q, k, v = unit(project(x, w, "q")), unit(project(x, w, "k")), project(x, w, "v")
    alpha, beta = (
        torch.sigmoid(gate(x, w, n) + bias)[..., None, None]
        for n, bias in (("alpha", slow), ("beta", 0.0))
    )

    def step(S: Tensor, t: int) -> Tensor:  # alpha S (I - beta k k^T) + beta v k^T
        return alpha[:, t] * (S - beta[:, t] * outer(mul(S, k[:, t]), k[:, t])) + beta[
            :, t
        ] * outer(v[:, t], k[:, t])

    return joined(
        norm(read(step, q, v.shape[-1]), w["y"]) * F.silu(heads(x, w["linear2"])), w["linear"]
    )


def delta_product(x: Tensor, w: Weights) -> Tensor:
    q, k, v = (
        unit(project(x, w, "q")),
        unit(project(x, w, "k")),
        project(x, w, "v"),
    )  # k, v: [B, T, H, sub, e]
    beta = 2 * torch.sigmoid(gate(x, w, "beta"))[..., None, None]

    def step(S: Tensor, t: int) -> Tensor:
        for i in range(k.shape[3]):
            S = S - beta[:, t, :, i] * outer(mul(S, k[:, t, :, i]) - v[:, t, :, i], k[:, t, :, i])
        return S

    return joined(norm(read(step, q, v.shape[-1]), w["rmsnorm"]), w["linear"])


def longhorn(x: Tensor, w: Weights) -> Tensor:
    q, k, v = (project(x, w, n) for n in "qkv")
    beta = F.softplus(gate(x, w, "beta"))
    step_size = (beta / (1 + beta * (k * k).sum(-1)))[..., None, None]  # 2501.00663 Eq. 35
    y = read(
        lambda S, t: S - step_size[:, t] * outer(mul(S, k[:, t]) - v[:, t], k[:, t]), q, v.shape[-1]
    )
    return joined(norm(y, w["rmsnorm"]), w["linear"])


def oja(x: Tensor, w: Weights) -> Tensor:
    q, k, v = unit(project(x, w, "q")), unit(project(x, w, "k")), unit(project(x, w, "v"))
    alpha, eta = (
        torch.sigmoid(gate(x, w, "keep") + 4)[..., None, None],
        torch.sigmoid(gate(x, w, "rate"))[..., None, None],
    )
    y = read(
        lambda S, t: alpha[:, t] * S + eta[:, t] * outer(v[:, t], k[:, t] - mul(S.mT, v[:, t])),
        q,
        v.shape[-1],
    )  # 2512.24695 Eq. 67
    return joined(norm(y, w["rmsnorm"]), w["linear"])
