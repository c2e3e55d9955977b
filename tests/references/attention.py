"""Softmax attention, one token at a time: the non-parametric memory of arXiv 2512.24695, Eq. 62."""

from __future__ import annotations

import torch
from torch import Tensor

from references.layers import Weights, heads, joined, rotate


def attend(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Each token sees itself and the window - 1 before it; all are [B, T, H, e]."""
    rows = []
    for t in range(q.shape[1]):
        seen = slice(max(0, t + 1 - window), t + 1)
        weights = torch.softmax(
            torch.einsum("bhe,bnhe->bhn", q[:, t], k[:, seen]) / q.shape[-1] ** 0.5, -1
        )
        rows.append(torch.einsum("bhn,bnhe->bhe", weights, v[:, seen]))
    return torch.stack(rows, 1)


def attention(x: Tensor, w: Weights, window: int = 10**9) -> Tensor:
    return joined(
        attend(rotate(heads(x, w["q"])), rotate(heads(x, w["k"])), heads(x, w["v"]), window),
        w["linear"],
    )
