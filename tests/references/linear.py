"""Linear attention, decayed and exact, one token at a time:

S is [B, H, v, k] and is read as S q. Table 1 of arXiv 2504.13173; each from its recurrence.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from references.layers import Weights, gate, heads, joined, mul, norm, outer, project, rotate, unit


def read(step: Callable[[Tensor, int], Tensor], q: Tensor, wide: int) -> Tensor:
    S, out = q.new_zeros(q.shape[0], q.shape[2], wide, q.shape[3]), []
    for t in range(q.shape[1]):
        S = step(S, t)
        out.append(mul(S, q[:, t]))  # after the token's own write
    return torch.stack(out, 1)


def linear_attention(x: Tensor, w: Weights) -> Tensor:
    q, k, v = (heads(x, w[n]) for n in "qkv")
    y = read(lambda S, t: S + outer(v[:, t], k[:, t]), q, v.shape[-1])  # 2512.24695 Eq. 17
    return joined(norm(y, w["rmsnorm"]), w["linear"])


def retnet(x: Tensor, w: Weights) -> Tensor:
    q, k, v = (
        rotate(heads(x, w["q"])),
        rotate(heads(x, w["k"])) / w["k"].shape[1] ** 0.5,
        heads(x, w["v"]),
    )
    gamma = (
        1 - 2.0 ** (-5 - torch.arange(k.shape[2], dtype=x.dtype))[:, None, None]
    )  # 2307.08621 Eq. 8
    y = read(lambda S, t: gamma * S + outer(v[:, t], k[:, t]), q, v.shape[-1])  # Eq. 6
    return joined(F.silu(heads(x, w["linear2"])) * norm(y, w["y"]), w["linear"])


def gla(x: Tensor, w: Weights) -> Tensor:
    q, k, v = heads(x, w["q"]), heads(x, w["k"]) / w["k"].shape[1] ** 0.5, heads(x, w["v"])
    a = torch.sigmoid(heads(x @ w["keep"].T, w["keep.affine"]) + w["keep.affine.bias"]) ** (1 / 16)
    y = read(
        lambda S, t: S * a[:, t, :, None] + outer(v[:, t], k[:, t]), q, v.shape[-1]
    )  # 2312.06635, sec. 4.1
    return joined(F.silu(heads(x, w["linear2"])) * norm(y, w["y"]), w["linear"])


def hgrn2(x: Tensor, w: Weights) -> Tensor:
    q, v, a = F.silu(heads(x, w["q"])), heads(x, w["v"]), torch.sigmoid(gate(x, w, "keep") + 4)
    y = read(lambda S, t: S * a[:, t, :, None] + outer(v[:, t], 1 - a[:, t]), q, v.shape[-1])
    return joined(norm(y, w["rmsnorm"]), w["linear"])


def mesa(x: Tensor, w: Weights) -> Tensor:
    q, k, v = unit(project(x, w, "q")), unit(project(x, w, "k")), project(x, w, "v")

    def minimiser(_: Tensor, t: int) -> Tensor:  # 2505.23735 Eq. 14, solved anew at each token
        K, V = k[:, : t + 1], v[:, : t + 1]
        hessian = torch.eye(k.shape[-1], dtype=x.dtype) + torch.einsum("bthe,bthf->bhef", K, K)
        return torch.linalg.solve(hessian, torch.einsum("bthk,bthv->bhkv", K, V)).mT

    return joined(norm(read(minimiser, q, v.shape[-1]), w["rmsnorm"]), w["linear"])
