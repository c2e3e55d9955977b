"""Titans' long-term memory as the sequence layer of a language model, one token at a time; arXiv
2501.00663.

Written from the equations, with nothing shared with the language. Shapes: B lanes, H heads, E width
of a head, D = H E.
"""

from __future__ import annotations

import torch
from torch import Tensor

Weights = dict[str, Tensor]


def unit(x: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).sum(-1, keepdim=True) + 1e-6)


def rmsnorm(x: Tensor, weight: Tensor) -> Tensor:
    return weight * x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6)


def silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def silu_slope(x: Tensor) -> Tensor:
    s = torch.sigmoid(x)
    return s + x * s * (1 - s)


def causal_conv(past: list[Tensor], kernel: Tensor) -> Tensor:
    """past[-1] is the present; kernel[-1] weighs it."""
    n = kernel.shape[0]
    return sum(kernel[n - 1 - j] * past[-1 - j] for j in range(min(n, len(past))))


def heads(x: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("bd,hed->bhe", x, weight)


def memory_layer(xs: list[Tensor], w: Weights, at: str, chunk: int) -> list[Tensor]:
    lanes = xs[0].shape[0]
    M2, M1 = (w[f"{at}.recall.M.start.{name}"].expand(lanes, -1, -1, -1) for name in ("W2", "W1"))
    S2, S1 = torch.zeros_like(M2), torch.zeros_like(M1)
    past: dict[str, list[Tensor]] = {name: [] for name in "qkv"}
    out = []
    for t, x in enumerate(xs):
        for name, stream in past.items():
            stream.append(silu(heads(x, w[f"{at}.{name}.linear"])))  # Eq. 11; sec. 4.4: SiLU
        q, k, v = (
            causal_conv(past[name], w[f"{at}.{name}.conv"]) for name in "qkv"
        )  # sec. 4.4: convolution of width 4
        q, k = unit(q), unit(k)  # sec. 4.4
        gates = {
            name: torch.sigmoid(x @ w[f"{at}.{name}"].T + w[f"{at}.{name}.bias"])
            for name in ("rate", "decay", "forget")
        }
        theta, eta, alpha = (
            g[..., None, None] for g in (0.1 * gates["rate"], gates["decay"], gates["forget"])
        )
        if t % chunk == 0:
            A2, A1 = M2, M1  # sec. 3.2: the gradient at the chunk's start
        h = torch.einsum("bhfe,bhe->bhf", A2, k)
        error = torch.einsum("bhef,bhf->bhe", A1, silu(h)) - v  # Eq. 12: |M(k) - v|^2
        u1 = 2 * error[..., :, None] * silu(h)[..., None, :]
        back = 2 * torch.einsum("bhef,bhe->bhf", A1, error) * silu_slope(h)
        u2 = back[..., :, None] * k[..., None, :]
        S2, S1 = eta * S2 - theta * u2, eta * S1 - theta * u1  # Eqs. 14, 18
        M2, M1 = (1 - alpha) * M2 + S2, (1 - alpha) * M1 + S1  # Eq. 13
        y = torch.einsum(
            "bhef,bhf->bhe", M1, silu(torch.einsum("bhfe,bhe->bhf", M2, q))
        )  # Eq. 15, after the write
        gated = rmsnorm(y, w[f"{at}.rmsnorm"]) * torch.sigmoid(
            heads(x, w[f"{at}.linear2"])
        )  # sec. 4.4: norm and gate
        out.append(torch.einsum("bhe,dhe->bd", gated, w[f"{at}.linear"]))
    return out


def losses(w: Weights, ids: Tensor, depth: int, chunk: int) -> Tensor:
    """[B, T - 1]: the loss of each token that has a successor. Weights by qualified name."""
    xs = [w["loss.x"][ids[:, t]] for t in range(ids.shape[1])]
    for n in range(depth):
        at = f"loss.layer[{n}]"
        mixed = memory_layer([rmsnorm(x, w[f"{at}.rmsnorm"]) for x in xs], w, f"{at}.mixer", chunk)
        xs = [x + y for x, y in zip(xs, mixed, strict=True)]
        zs = [rmsnorm(x, w[f"{at}.rmsnorm2"]) for x in xs]
        gate, up, down = (w[f"{at}.swiglu.{name}"].T for name in ("gate", "up", "down"))
        xs = [x + (silu(z @ gate) * (z @ up)) @ down for x, z in zip(xs, zs, strict=True)]
    logits = [rmsnorm(x, w["loss.rmsnorm"]) @ w["loss.linear"].T for x in xs[:-1]]
    return torch.stack(
        [
            torch.logsumexp(z, -1) - z.gather(-1, i[:, None])[:, 0]
            for z, i in zip(logits, ids.T[1:], strict=True)
        ],
        1,
    )
