"""Matrix memories, one token at a time: S is [B, H, v, k] and is read as S q. Table 1 of arXiv 2504.13173; each from its recurrence."""
from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from references.network import Weights, gate, heads, joined, mul, norm, outer, project, rotate, unit


def read(step, q: Tensor, wide: int) -> Tensor:
    S, out = q.new_zeros(q.shape[0], q.shape[2], wide, q.shape[3]), []
    for t in range(q.shape[1]):
        S = step(S, t)
        out.append(mul(S, q[:, t]))                                   # after the token's own write
    return torch.stack(out, 1)


def linear_attention(x: Tensor, w: Weights) -> Tensor:
    q, k, v = (heads(x, w[n]) for n in "qkv")
    y = read(lambda S, t: S + outer(v[:, t], k[:, t]), q, v.shape[-1])                   # 2512.24695 Eq. 17
    return joined(norm(y, w["rmsnorm"]), w["linear"])


def retnet(x: Tensor, w: Weights) -> Tensor:
    q, k, v = rotate(heads(x, w["q"])), rotate(heads(x, w["k"])) / w["k"].shape[1] ** 0.5, heads(x, w["v"])
    gamma = 1 - 2.0 ** (-5 - torch.arange(k.shape[2], dtype=x.dtype))[:, None, None]     # 2307.08621 Eq. 8
    y = read(lambda S, t: gamma * S + outer(v[:, t], k[:, t]), q, v.shape[-1])           # Eq. 6
    return joined(F.silu(heads(x, w["linear2"])) * norm(y, w["y"]), w["linear"])


def gla(x: Tensor, w: Weights) -> Tensor:
    q, k, v = heads(x, w["q"]), heads(x, w["k"]) / w["k"].shape[1] ** 0.5, heads(x, w["v"])
    a = torch.sigmoid(heads(x @ w["keep.linear"].T, w["keep.affine"]) + w["keep.affine.bias"]) ** (1 / 16)
    y = read(lambda S, t: S * a[:, t, :, None] + outer(v[:, t], k[:, t]), q, v.shape[-1])  # 2312.06635, sec. 4.1
    return joined(F.silu(heads(x, w["linear2"])) * norm(y, w["y"]), w["linear"])


def deltanet(x: Tensor, w: Weights) -> Tensor:
    q, k, v = unit(project(x, w, "q")), unit(project(x, w, "k")), project(x, w, "v")
    beta = torch.sigmoid(gate(x, w, "beta"))[..., None, None]
    y = read(lambda S, t: S - beta[:, t] * outer(mul(S, k[:, t]) - v[:, t], k[:, t]), q, v.shape[-1])
    return joined(norm(y, w["rmsnorm"]), w["linear"])


def gated_deltanet(x: Tensor, w: Weights) -> Tensor:
    q, k, v = unit(project(x, w, "q")), unit(project(x, w, "k")), project(x, w, "v")
    alpha, beta = (torch.sigmoid(gate(x, w, n))[..., None, None] for n in ("alpha", "beta"))

    def step(S: Tensor, t: int) -> Tensor:                            # alpha S (I - beta k k^T) + beta v k^T
        return alpha[:, t] * (S - beta[:, t] * outer(mul(S, k[:, t]), k[:, t])) + beta[:, t] * outer(v[:, t], k[:, t])
    return joined(norm(read(step, q, v.shape[-1]), w["y"]) * F.silu(heads(x, w["linear2"])), w["linear"])


def delta_product(x: Tensor, w: Weights) -> Tensor:
    q, k, v = unit(project(x, w, "q")), unit(project(x, w, "k")), project(x, w, "v")     # k, v: [B, T, H, sub, e]
    beta = 2 * torch.sigmoid(gate(x, w, "beta"))[..., None, None]

    def step(S: Tensor, t: int) -> Tensor:
        for i in range(k.shape[3]):
            S = S - beta[:, t, :, i] * outer(mul(S, k[:, t, :, i]) - v[:, t, :, i], k[:, t, :, i])
        return S
    return joined(norm(read(step, q, v.shape[-1]), w["rmsnorm"]), w["linear"])


def longhorn(x: Tensor, w: Weights) -> Tensor:
    q, k, v = (project(x, w, n) for n in "qkv")
    beta = F.softplus(gate(x, w, "beta"))
    step_size = (beta / (1 + beta * (k * k).sum(-1)))[..., None, None]                   # 2501.00663 Eq. 35
    y = read(lambda S, t: S - step_size[:, t] * outer(mul(S, k[:, t]) - v[:, t], k[:, t]), q, v.shape[-1])
    return joined(norm(y, w["rmsnorm"]), w["linear"])


def oja(x: Tensor, w: Weights) -> Tensor:
    q, k, v = unit(project(x, w, "q")), unit(project(x, w, "k")), unit(project(x, w, "v"))
    alpha, eta = torch.sigmoid(gate(x, w, "keep") + 4)[..., None, None], torch.sigmoid(gate(x, w, "rate"))[..., None, None]
    y = read(lambda S, t: alpha[:, t] * S + eta[:, t] * outer(v[:, t], k[:, t] - mul(S.mT, v[:, t])), q, v.shape[-1])  # 2512.24695 Eq. 67
    return joined(norm(y, w["rmsnorm"]), w["linear"])
