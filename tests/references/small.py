"""Decompositions and kinds of knowledge transfer, one token at a time; arXiv 2512.24695, secs. 3.1,
3.3. Each gives [B, T - 1] losses.
"""

from __future__ import annotations

import torch
from torch import Tensor

from references.attention import attend
from references.layers import Weights, heads, joined, mul, outer, standardise, under, unit
from references.linear import read
from references.network import scored, swiglu


def perceptron(w: Weights, ids: Tensor) -> Tensor:
    return scored(torch.tanh(w["x"][ids]) @ w["loss"].T, ids)  # Eq. 7


def linear_layer(x: Tensor, w: Weights) -> Tensor:
    """Eqs. 14 to 18, 26; from a start of its own if it has one: Eq. 28."""
    q, k, v = unit(heads(x, w["q"])), unit(heads(x, w["k"])), heads(x, w["v"])
    start = w.get("recall.M.start", 0)
    return joined(
        read(lambda S, t: (start if t == 0 else 0) + S + outer(v[:, t], k[:, t]), q, v.shape[-1]),
        w["linear"],
    )


def linear_attention(w: Weights, ids: Tensor) -> Tensor:
    x = w["x"][ids]
    return scored((x + linear_layer(x, under(w, "y"))) @ w["loss"].T, ids)


def block(w: Weights, ids: Tensor) -> Tensor:
    x = w["x"][ids]
    h = x + linear_layer(standardise(x), under(w, "h"))  # Eq. 21
    return scored((h + swiglu(standardise(h), under(w, "y"))) @ w["loss"].T, ids)


def softmax_attention(w: Weights, ids: Tensor, window: int = 10**9) -> Tensor:
    x = w["x"][ids]
    y = joined(
        attend(heads(x, w["q"]), heads(x, w["k"]), heads(x, w["v"]), window), w["y"]
    )  # Eqs. 27, 62
    return scored((x + y) @ w["loss"].T, ids)


def direct(w: Weights, ids: Tensor) -> Tensor:
    x = w["x"][ids]
    k, q, M, rows = (
        unit(x),
        unit(x @ w["y"].T),
        torch.zeros(ids.shape[0], x.shape[-1], x.shape[-1], dtype=x.dtype),
        [],
    )
    for t in range(ids.shape[1]):
        rows.append(mul(M, q[:, t]))  # Eq. 26, before the write
        M = (
            M - 0.5 * outer(mul(M, k[:, t]) - x[:, t], k[:, t])
        ).detach()  # a constant for who reads it
    return scored((x + torch.stack(rows, 1)) @ w["loss"].T, ids)


def backpropagation(w: Weights, ids: Tensor) -> Tensor:
    x = w["x"][ids]
    return scored((x + swiglu(standardise(x), under(w, "slow.F"))) @ w["loss"].T, ids)


def initialisation(w: Weights, ids: Tensor, truncation: int) -> Tensor:
    x = w["x"][ids]
    k, v, M, rows = (
        unit(heads(x, w["k"])),
        heads(x, w["v"]),
        w["fast.M.start"].expand(ids.shape[0], -1, -1, -1),
        [],
    )
    for t in range(ids.shape[1]):
        M = M - 0.5 * outer(mul(M, k[:, t]) - v[:, t], k[:, t])
        rows.append(mul(M, k[:, t]))
        M = M.detach() if (t + 1) % truncation == 0 else M  # Eq. 28 reaches so far
    return scored((x + joined(torch.stack(rows, 1), w["y"])) @ w["loss"].T, ids)


def generation(w: Weights, ids: Tensor) -> Tensor:
    x = w["x"][ids]
    z, v = unit(heads(x, w["z"])), heads(x, w["v"])
    G, M, rows = w["giver.G.start"].expand(ids.shape[0], -1, -1, -1), 0, []
    for t in range(ids.shape[1]):
        made = mul(G, z[:, t])
        G = G - 0.5 * outer(made - z[:, t], z[:, t])
        k, rate = unit(made), torch.sigmoid((w["rate"] * made).sum(-1))[..., None, None]
        error = (mul(M, k) if t else 0) - v[:, t]
        M = M - rate * outer(error, k)
        rows.append(mul(M, k))
    return scored((x + joined(torch.stack(rows, 1), w["y"])) @ w["loss"].T, ids)
