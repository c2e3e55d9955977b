"""What sequence layers are made of: norms, projections, products. [B, T, ..] throughout; weights by
what is left of their names.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = dict[str, Tensor]


def norm(x: Tensor, weight: Tensor) -> Tensor:
    return weight * x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6)


def unit(x: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).sum(-1, keepdim=True) + 1e-6)


def standardise(x: Tensor) -> Tensor:
    c = x - x.mean(-1, keepdim=True)
    return c / torch.sqrt((c * c).mean(-1, keepdim=True) + 1e-6)


def heads(x: Tensor, weight: Tensor) -> Tensor:
    """[.., d] and [.., d] -> [.., H, e]"""
    return torch.tensordot(x, weight, ([-1], [-1]))


def joined(y: Tensor, weight: Tensor) -> Tensor:
    """[.., H, e] and [d, H, e] -> [.., d]"""
    return torch.tensordot(y, weight, ([-2, -1], [1, 2]))


def gate(x: Tensor, w: Weights, name: str) -> Tensor:
    return heads(x, w[name]) + w[f"{name}.bias"]


def project(x: Tensor, w: Weights, name: str) -> Tensor:
    """SiLU of a projection, then a causal convolution of 4: kernel[3] weighs the present."""
    z, kernel = F.silu(heads(x, w[f"{name}.linear"])), w[f"{name}.conv"]
    past = [
        torch.cat([torch.zeros_like(z[:, :j]), z[:, : z.shape[1] - j]], 1)
        for j in range(min(4, z.shape[1]))
    ]
    return sum(kernel[3 - j] * shifted for j, shifted in enumerate(past))


def rotate(x: Tensor) -> Tensor:
    """Rotary positions, on halves of the last axis of [B, T, H, e]."""
    m = x.shape[-1] // 2
    angle = torch.arange(x.shape[1])[:, None, None] * 1e4 ** (-torch.arange(m, dtype=x.dtype) / m)
    a, b = x[..., :m], x[..., m:]
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


def outer(a: Tensor, b: Tensor) -> Tensor:
    return a[..., :, None] * b[..., None, :]


def mul(W: Tensor, x: Tensor) -> Tensor:
    return (W @ x[..., None])[..., 0]


def under(w: Weights, at: str) -> Weights:
    """The weights below a qualified name, by what is left of theirs."""
    return {name.removeprefix(f"{at}."): x for name, x in w.items() if name.startswith(f"{at}.")}
